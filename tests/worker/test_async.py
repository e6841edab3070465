"""What only `async def` handlers have: one loop for all, forgotten awaits, branches."""

from __future__ import annotations

import json

import pytest

from tests.worker.conftest import Start
from tests.worker.engine import Engine, WorkerProcess

FLOWS = """
    import asyncio, contextvars, functools, os, pathlib, threading, time
    from tako import AsyncContext, Context, Signal, workflow

    marks = pathlib.Path(os.environ["TAKO_DATA_DIR"]) / "marks"
    who = contextvars.ContextVar("who", default="nobody")

    async def slow(x):
        await asyncio.sleep(0.01)
        return x

    async def one(x: int) -> int:
        return x

    def thread_name(_=None) -> str:
        return threading.current_thread().name

    def variable() -> str:
        return who.get()

    class Adder:
        async def add(self, x):
            return x + 1

        async def __call__(self, x):
            return x + 2

    @workflow
    async def forgets(ctx: AsyncContext) -> None:
        await ctx.step("first", one, 1)
        ctx.step("second", one, 2)

    @workflow
    async def forgets_a_sleep(ctx: AsyncContext) -> None:
        ctx.sleep("nap", "1h")

    @workflow
    async def branches(ctx: AsyncContext) -> list[int]:
        return await asyncio.gather(*(ctx.step(f"s{i}", slow, i) for i in range(5)))

    @workflow
    async def tasks(ctx: AsyncContext) -> list[int]:
        async with asyncio.TaskGroup() as group:
            found = [group.create_task(ctx.step(f"s{i}", slow, i)) for i in range(3)]
        return [task.result() for task in found]

    @workflow
    async def same_name_at_once(ctx: AsyncContext) -> None:
        await asyncio.gather(ctx.step("same", slow, 1), ctx.step("same", slow, 2))

    @workflow
    async def kinds(ctx: AsyncContext) -> list[int]:
        adder = Adder()
        return [
            await ctx.step("method", adder.add, 1),
            await ctx.step("callable", adder, 1),
            await ctx.step("partial", functools.partial(one, 4)),
            await ctx.step("lambda", lambda: one(5)),
        ]

    @workflow
    async def threads(ctx: AsyncContext) -> list[str]:
        who.set("somebody")
        inside = [await ctx.step("thread", thread_name), await ctx.step("variable", variable)]
        return [*inside, threading.current_thread().name]

    @workflow
    async def parallel_threads(ctx: AsyncContext) -> bool:
        barrier = threading.Barrier(3, timeout=10)
        await ctx.map("meet", lambda _: barrier.wait(), range(3))
        return True

    @workflow
    async def parks_in_a_branch(ctx: AsyncContext) -> str:
        async def work():
            await ctx.step("work", slow, 1)
            return await ctx.step("more", slow, 2)
        await asyncio.gather(ctx.sleep("nap", "1h"), work())
        return "both"

    @workflow
    async def two_naps(ctx: AsyncContext) -> str:
        await asyncio.gather(ctx.sleep("long", "2h"), ctx.sleep("short", "1h"))
        return "rested"

    @workflow
    async def naps_in_a_step(ctx: AsyncContext) -> None:
        async def nap():
            await ctx.sleep("nap", "1h")
        await ctx.step("outer", nap)

    @workflow
    async def order_changes(ctx: AsyncContext) -> list[int]:
        return await asyncio.gather(*(ctx.step(f"s{i}", one, i) for i in (3, 1, 2)))

    @workflow
    async def blocks(ctx: AsyncContext) -> str:
        time.sleep(1.3)
        return "sorry"

    @workflow
    async def cancels_itself(ctx: AsyncContext) -> None:
        asyncio.current_task().cancel()
        await asyncio.sleep(0)

    @workflow
    async def quick(ctx: AsyncContext) -> int:
        return 1

    @workflow
    def sync_awaits(ctx: Context) -> None:
        ctx.step("async", one, 1)
"""


@pytest.fixture
def worker(start: Start) -> WorkerProcess:
    return start(FLOWS)


def test_a_step_without_await_makes_the_run_fail_and_names_the_line(engine: Engine, worker: WorkerProcess) -> None:
    engine.give("forgets")

    finish = engine.wait("finish")

    assert finish["outcome"] == "fatal"
    message = finish["error"]["message"]
    line = next(number for number, text in enumerate(FLOWS.split("\n")) if 'ctx.step("second"' in text)
    assert message.startswith(f"ctx.step('second') at workflows/flows.py:{line + 1} was called without await")
    assert "never awaited" not in worker.output()


def test_a_sleep_without_await_makes_the_run_fail_too(engine: Engine, worker: WorkerProcess) -> None:
    engine.give("forgets_a_sleep")

    assert "ctx.sleep('nap')" in engine.wait("finish")["error"]["message"]


def test_the_kept_time_of_a_branch_that_has_slept_is_no_change_of_code(engine: Engine, worker: WorkerProcess) -> None:
    engine.give("two_naps", steps={"long until": "1", "short": "null", "long": "null"})

    assert "warnings" not in engine.wait("finish")


@pytest.mark.parametrize("flow", ["branches", "tasks"])
def test_steps_of_different_names_run_side_by_side(engine: Engine, worker: WorkerProcess, flow: str) -> None:
    engine.give(flow)

    found = json.loads(engine.wait("finish")["result_json"])

    assert found == list(range(len(found)))
    assert "warnings" not in engine.wait("finish")


def test_two_steps_of_one_name_at_once_are_an_error(engine: Engine, worker: WorkerProcess) -> None:
    engine.give("same_name_at_once")

    assert "'same' was called twice" in engine.wait("finish")["error"]["message"]


def test_methods_callables_partials_and_lambdas_may_be_async(engine: Engine, worker: WorkerProcess) -> None:
    engine.give("kinds")

    assert json.loads(engine.wait("finish")["result_json"]) == [2, 3, 4, 5]


def test_a_sync_step_runs_in_a_thread_with_the_handlers_context_variables(
    engine: Engine, worker: WorkerProcess
) -> None:
    engine.give("threads")

    assert json.loads(engine.wait("finish")["result_json"]) == ["tako-step", "somebody", "tako-async"]


def test_sync_steps_of_one_handler_run_in_threads_of_their_own(engine: Engine, worker: WorkerProcess) -> None:
    engine.give("parallel_threads")

    assert engine.wait("finish")["result_json"] == "true"


def test_a_branch_that_parks_waits_until_the_others_steps_are_saved(engine: Engine, worker: WorkerProcess) -> None:
    engine.give("parks_in_a_branch")

    engine.wait("park")

    assert [save["step_name"] for save in engine.all("save_step")] == ["work", "more"]


def test_of_two_branches_that_park_the_first_due_does_and_the_others_time_is_kept(
    engine: Engine, worker: WorkerProcess
) -> None:
    run = engine.give("two_naps")
    short = engine.wait("park")
    engine.give("quick")
    engine.wait("finish")
    kept = engine.steps[run, "long until"]

    engine.give("two_naps", steps={"long until": kept, "short": "null"})
    long = engine.wait("park", count=2)

    assert len(engine.all("park", id=run)) == 1
    assert (short["step_name"], long["step_name"]) == ("short", "long")
    assert long["wake_at_ms"] == int(kept)
    assert 3_500_000 < int(kept) - short["wake_at_ms"] < 3_700_000


def test_a_branch_that_slept_through_its_time_goes_on(engine: Engine, worker: WorkerProcess) -> None:
    engine.give("two_naps", steps={"long until": "1", "short": "null"})

    finish = engine.wait("finish")

    assert finish["result_json"] == '"rested"'
    assert "warnings" not in finish


def test_a_sleep_inside_of_a_step_is_an_error(engine: Engine, worker: WorkerProcess) -> None:
    engine.give("naps_in_a_step")

    finish = engine.wait("finish")

    assert finish["outcome"] == "fatal"
    assert "'nap' waits inside a step" in finish["error"]["message"]


def test_branches_in_another_order_are_no_change_of_code(engine: Engine, worker: WorkerProcess) -> None:
    engine.give("order_changes", steps={"s1": "1", "s2": "2"})

    finish = engine.wait("finish")

    assert json.loads(finish["result_json"]) == [3, 1, 2]
    assert "warnings" not in finish


def test_a_line_that_blocks_the_loop_is_named_and_def_suggested(engine: Engine, worker: WorkerProcess) -> None:
    engine.give("blocks")
    engine.wait("finish")

    (line,) = [line for line in worker.logged() if "event loop has been blocked" in line["msg"]]

    assert "workflows/flows.py" in line["msg"]
    assert "in blocks: time.sleep(1.3)" in line["msg"]
    assert "`def`" in line["msg"]
    assert "time.sleep(1.3)" in line["traceback"]


def test_a_handler_that_is_cancelled_by_its_own_code_has_failed(engine: Engine, worker: WorkerProcess) -> None:
    engine.give("cancels_itself")

    finish = engine.wait("finish")

    assert (finish["outcome"], finish["error"]["type"]) == ("failed", "asyncio.exceptions.CancelledError")


def test_an_async_step_of_a_def_handler_is_an_error_that_says_so(engine: Engine, worker: WorkerProcess) -> None:
    engine.give("sync_awaits")

    finish = engine.wait("finish")

    assert finish["outcome"] == "fatal"
    assert "its function is async" in finish["error"]["message"]
    assert "never awaited" not in worker.output()
