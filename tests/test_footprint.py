"""What cold processes load: by name and by number, since milliseconds lie. Changing a number here is a decision.

Each program runs in an interpreter of its own, without `site`, so that nothing of the test run's environment counts.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import tako
from tests.support.fake_engine import FakeEngine

SOURCE = Path(tako.__file__).parent.parent

# Heavy ones, by name: each costs more than all that Tako needs of it.
FORBIDDEN = {
    "argparse", "asyncio", "concurrent.futures", "contextlib", "dataclasses", "enum", "functools", "inspect", "json",
    "logging", "pathlib", "random", "re", "selectors", "socket", "sqlite3", "ssl", "string", "subprocess", "tempfile",
    "threading", "tomllib", "traceback", "typing", "urllib", "uuid", "zoneinfo",
}  # fmt: skip

DECLARE = """
from tako import Context, Retry, workflow

@workflow(retries=Retry(3, first="5s"), timeout="10m", key="welcome:{user_id}")
def send_email(ctx: Context, user_id: int, template: str = "welcome") -> str: ...
"""


def loaded(program: str, **variables: str) -> list[list[str]]:
    """The modules that each part of a program loads; parts are divided by lines of dashes."""
    parts = program.split("\n---\n")
    lines = ["import sys", f"sys.path.insert(0, {str(SOURCE)!r})", "before = set(sys.modules)"]
    for part in parts:
        lines.append(f"exec({part!r}, globals())")
        lines.append("print(*sorted(set(sys.modules) - before)); before = set(sys.modules)")
    done = subprocess.run(
        [sys.executable, "-S", "-E", "-c", "\n".join(lines)],
        env=variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [line.split(" ") if line else [] for line in done.stdout.splitlines()]


def test_import_tako_loads_exactly_one_module() -> None:
    assert loaded("import tako") == [["tako"]]


def test_an_error_class_costs_one_module_more() -> None:
    assert loaded("import tako\n---\ntako.WorkerUnhealthy") == [["tako"], ["tako.errors"]]


@pytest.mark.parametrize("name", sorted(tako.__all__))
def test_a_name_of_the_front_door_is_what_its_file_defines(name: str) -> None:
    assert getattr(tako, name) is not None
    if name in tako._HOME:
        home = sys.modules[tako._HOME[name]]
        assert getattr(tako, name) is getattr(home, name)
        assert name in dir(tako)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'tako' has no attribute 'job'"):
        _ = tako.job  # type: ignore[attr-defined]


def test_declaring_a_workflow_loads_nothing_heavy() -> None:
    _, found = loaded(f"import tako\n---\n{DECLARE}")

    assert not FORBIDDEN & set(found)
    ours = [name for name in found if name.startswith("tako")]
    assert (len(ours), len(found)) <= (23, 33), found


# What an app pays for its first enqueue beside its declarations: ours, and C modules instead of `socket`, `threading`.
FIRST_ENQUEUE = {
    "_socket", "_struct", "_thread", "atexit", "itertools", "select", "time",
    "tako.protocol.framing", "tako.rpc", "tako.rpc.client", "tako.rpc.link", "tako.rpc.request",
    "tako.sdk.engine", "tako.sdk.handles",
}  # fmt: skip


def test_the_first_enqueue_loads_a_socket_and_little_else(tmp_path: Path) -> None:
    with FakeEngine(tmp_path) as engine:
        engine.answers["enqueue_runs"] = lambda message: {"runs": [{"id": message["runs"][0]["id"], "is_new": True}]}
        _, found = loaded(
            f"{DECLARE}\n---\nsend_email.enqueue(user_id=42)",
            TAKO_APP_NAME=engine.app,
            TAKO_INTERNAL_SOCKET=str(engine.socket),
        )

    assert engine.asked("enqueue_runs")[0]["runs"][0]["payload_json"] == '{"user_id":42}'
    assert not FORBIDDEN & set(found)
    assert set(found) <= FIRST_ENQUEUE, sorted(set(found) - FIRST_ENQUEUE)


def test_asyncio_loads_with_the_first_awaited_call_and_not_before() -> None:
    [found] = loaded(DECLARE.replace("Context", "AsyncContext").replace("def send", "async def send"))

    assert "asyncio" not in found


def test_pydantic_is_looked_up_and_never_imported() -> None:
    program = f"{DECLARE}\nsend_email.check()\nsend_email.signature.dump((1,), {{}})"

    assert not {"pydantic", "attr", "msgspec", "dataclasses"} & set(loaded(program)[0])


# What house.md names for workers; `typing` and `socket` since their wrappers of C modules are all that would be new.
FORBIDDEN_IN_WORKERS = {
    "argparse", "asyncio", "concurrent.futures", "dataclasses", "inspect", "logging", "pathlib", "selectors", "socket",
    "sqlite3", "subprocess", "tomllib", "traceback", "typing",
}  # fmt: skip


def test_a_worker_that_serves_sync_handlers_loads_none_of_these() -> None:
    rooms = ["boot", "loop", "connection", "claims", "execute", "steps", "heart", "overdue", "values"]
    program = "\n".join(f"import tako.worker.{name}" for name in rooms)

    assert not FORBIDDEN_IN_WORKERS & set(loaded(f"{DECLARE}\n{program}")[0])
