"""What `tako init` writes: files that one reads first, so they say what matters and nothing else."""

from __future__ import annotations

CONFIG = "tako.toml"
PACKAGE = "workflows/__init__.py"
WORKFLOW = "workflows/hello.py"
TEST = "tests/test_workflows.py"

_CONFIG = """\
name = "{name}"

# Everything below has a default; take out a # to change it.

# [vars]                      # plain settings for your processes' environment; secrets: `tako secrets set NAME`
# LOG_LEVEL = "info"

# [workflows]
# workers = 0                 # 0: none runs until there is work. 1 or more: always on
# concurrency = 10            # parallel runs of one worker
# idle_timeout = "5m"         # scale to zero after this long without a run
"""

_ASYNC_WORKFLOW = '''\
from tako import AsyncContext, workflow


@workflow(retries=3)
async def hello(ctx: AsyncContext, name: str = "world") -> str:
    """The handler runs again from its first line after a crash or a retry; finished steps are not repeated."""
    greeting = await ctx.step("write", write_greeting, name)
    return await ctx.step("deliver", deliver, greeting)


def write_greeting(name: str) -> str:
    return f"Hello, {name}!"


def deliver(greeting: str) -> str:
    print(greeting)
    return greeting
'''

_TEST = """\
from tako.testing import Engine
from workflows.hello import hello


def test_hello_greets_by_name(engine: Engine) -> None:
    run = hello.enqueue(name="Ada")
    engine.drain()
    assert run.result() == "Hello, Ada!"


def test_a_crash_between_the_steps_repeats_neither_of_them(engine: Engine) -> None:
    with engine.crash(after="write"):
        run = hello.enqueue(name="Ada")
        engine.drain()
    engine.drain()
    assert run.result() == "Hello, Ada!"
"""


def files(*, name: str, is_sync: bool) -> dict[str, str]:
    """Paths and texts, in the order in which they are told."""
    workflow = _ASYNC_WORKFLOW
    if is_sync:
        workflow = workflow.replace("AsyncContext", "Context").replace("async def", "def").replace("await ", "")
    return {CONFIG: _CONFIG.format(name=name), PACKAGE: "", WORKFLOW: workflow, TEST: _TEST}
