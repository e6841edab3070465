"""Runs and steps that take too long: async ones are cancelled, threads reported with their stack and left behind."""

from __future__ import annotations

import pytest

from tests.worker.conftest import Start
from tests.worker.engine import Engine, WorkerProcess

FLOWS = """
    import asyncio, os, pathlib, threading, time
    import tako.worker.attempt, tako.worker.overdue
    from tako import AsyncContext, Context, Retry, Signal, workflow

    tako.worker.overdue.STUCK_AFTER_S = {stuck}
    tako.worker.attempt.SLOW_STEP_S = {slow}
    here = pathlib.Path(os.environ["TAKO_DATA_DIR"])

    def wait_for_gate():
        while not (here / "gate").exists():
            threading.Event().wait(0.01)

    async def await_gate():
        while not (here / "gate").exists():
            await asyncio.sleep(0.01)

    @workflow(timeout=0.2)
    def slow(ctx: Context) -> None:
        wait_for_gate()
        ctx.step("never", lambda: (here / "marks").touch())

    @workflow(timeout=0.2)
    async def aslow(ctx: AsyncContext) -> None:
        await await_gate()

    @workflow(step_timeout=0.2)
    def slow_step(ctx: Context) -> None:
        ctx.step("gate", wait_for_gate)

    @workflow(retries=0)
    async def aslow_step(ctx: AsyncContext) -> str:
        try:
            await ctx.step("gate", await_gate, timeout=0.2)
        except TimeoutError as error:
            return str(error)
        return "through"

    @workflow(retries=0)
    async def athread_step(ctx: AsyncContext) -> str:
        try:
            await ctx.step("gate", wait_for_gate, timeout=0.2)
        except TimeoutError as error:
            return str(error)
        return "through"

    @workflow
    async def retried(ctx: AsyncContext) -> str:
        await ctx.step("gate", await_gate, timeout=0.05, retries=Retry(1, first=0.01))
        return "through"

    @workflow(timeout="60s", signals=[Signal("go", str)])
    def works_and_waits(ctx: Context) -> None:
        ctx.step("work", lambda: bool(threading.Event().wait(0.1)))
        if "work" in ctx._runner.saved:
            wait_for_gate()
        ctx.wait_for(Signal("go", str), timeout="1h")

    @workflow(timeout="60s", signals=[Signal("go", str)])
    async def aworks_and_waits(ctx: AsyncContext) -> None:
        await ctx.step("work", lambda: bool(threading.Event().wait(0.1)))
        if "work" in ctx._runner.saved:
            await await_gate()
        await ctx.wait_for(Signal("go", str), timeout="1h")

    @workflow(timeout="60s")
    def works_for_long(ctx: Context) -> None:
        ctx.step("first", lambda: None)
        ctx.step("second", wait_for_gate)

    @workflow(timeout=0.3)
    def naps(ctx: Context) -> str:
        ctx.sleep("nap", 0.6)
        return "rested"

    @workflow(timeout=0.3)
    async def anaps(ctx: AsyncContext) -> str:
        await ctx.sleep("nap", 0.6)
        return "rested"

    @workflow(timeout=0.2)
    async def ignores_cancel(ctx: AsyncContext) -> None:
        while not (here / "gate").exists():
            try:
                await await_gate()
            except asyncio.CancelledError:
                pass

    @workflow
    def neighbour(ctx: Context) -> None:
        ctx.step("gate", wait_for_gate)

    @workflow
    def add(ctx: Context, a: int) -> int:
        return a + 1
"""


@pytest.fixture
def worker(start: Start) -> WorkerProcess:
    return start(FLOWS.format(stuck=10, slow=0.15))


def open_gate(worker: WorkerProcess) -> None:
    (worker.spool.parent / "gate").touch()


@pytest.mark.parametrize("flow", ["slow", "aslow"])
def test_a_run_that_takes_too_long_has_failed_with_its_stack(engine: Engine, worker: WorkerProcess, flow: str) -> None:
    engine.give(flow)

    finish = engine.wait("finish")

    assert finish["outcome"] == "failed"
    assert finish["retry"]["retries"] == 2
    assert finish["error"]["type"] == "TimeoutError"
    assert finish["error"]["message"].startswith("the attempt did not end within 0.2s (workflows/flows.py:")
    assert "_gate" in finish["error"]["traceback"]
    open_gate(worker)


def test_what_a_timed_out_handler_still_does_is_refused(engine: Engine, worker: WorkerProcess) -> None:
    engine.give("slow")
    engine.wait("finish")

    open_gate(worker)
    for number in range(4):
        engine.give("add", {"a": number})
    engine.wait("finish", count=5)

    assert engine.all("save_step") == []
    assert not (worker.spool.parent / "marks").exists()


def test_a_sync_step_that_takes_too_long_fails_the_run_with_the_stack_of_its_thread(
    engine: Engine, worker: WorkerProcess
) -> None:
    engine.give("slow_step")

    error = engine.wait("finish")["error"]

    assert error["message"].startswith("step 'gate' did not end within 0.2s (workflows/flows.py:")
    assert "in wait_for_gate" in error["traceback"]
    open_gate(worker)


@pytest.mark.parametrize("flow", ["aslow_step", "athread_step"])
def test_a_step_of_an_async_handler_that_takes_too_long_raises_timeout_error_there(
    engine: Engine, worker: WorkerProcess, flow: str
) -> None:
    engine.give(flow)

    assert engine.wait("finish")["result_json"] == "\"step 'gate' did not end within 0.2s\""
    open_gate(worker)


def test_a_step_that_timed_out_is_retried_as_its_retries_say(engine: Engine, worker: WorkerProcess) -> None:
    engine.give("retried")

    assert engine.wait("finish")["error"]["type"] == "TimeoutError"
    assert "try 2 of 2" in worker.output()


@pytest.mark.parametrize("flow", ["naps", "anaps"])
def test_sleeping_does_not_count_for_the_timeout(engine: Engine, worker: WorkerProcess, flow: str) -> None:
    engine.give(flow)

    assert engine.wait("finish")["result_json"] == '"rested"'


@pytest.mark.parametrize("flow", ["works_and_waits", "aworks_and_waits"])
def test_what_was_spent_before_a_park_counts_for_the_timeout(engine: Engine, worker: WorkerProcess, flow: str) -> None:
    engine.give(flow)

    spent_ms = engine.wait("park")["spent_ms"]
    run = engine.give(flow, spent_ms=59_900, steps={"work": "false"})

    assert 100 <= spent_ms < 50_000
    ended = engine.wait("finish", id=run)
    assert ended["error"]["message"].startswith("the attempt did not end within 60s")


def test_what_was_spent_is_told_when_a_run_is_handed_back(engine: Engine, start: Start) -> None:
    worker = start(FLOWS.format(stuck=10, slow=60), env={"TAKO_DRAIN_TIMEOUT_MS": "100"})
    engine.give("works_for_long", spent_ms=1_000)
    engine.give("neighbour")
    engine.until(lambda: engine.all("save_step", step_name="first"), what="the first step")

    worker.kill()

    told = {run["id"]: run.get("spent_ms") for run in engine.wait("release_runs")["runs"]}
    assert 1_000 <= told["run-1"] < 60_000
    assert told["run-2"] is None


@pytest.mark.parametrize("flow", ["neighbour", "aslow_step"])
def test_a_slow_step_is_warned_of_with_its_stack_long_before_its_timeout(
    engine: Engine, worker: WorkerProcess, flow: str
) -> None:
    run = engine.give(flow)

    worker.wait_for_output("has been running for")
    open_gate(worker)
    engine.wait("finish")

    (line,) = [line for line in worker.logged() if "has been running for" in line["msg"]]
    assert (line["level"], line["run_id"], line["step"]) == ("warning", run, "gate")
    assert "_gate" in line["traceback"]


@pytest.mark.parametrize("flow", ["slow", "slow_step", "athread_step", "ignores_cancel"])
def test_a_worker_with_code_that_will_not_end_is_recycled_and_says_why(engine: Engine, start: Start, flow: str) -> None:
    worker = start(FLOWS.format(stuck=0.2, slow=60), env={"TAKO_DRAIN_TIMEOUT_MS": "300"})
    run = engine.give(flow)
    other = engine.give("neighbour")

    assert worker.exit_code() == 75

    assert engine.wait("release_runs")["runs"] == [{"id": other, "epoch": 1}]
    assert [message["id"] for message in engine.all("finish")] == [run]
    (line,) = [line for line in worker.logged() if "recycling" in line["msg"]]
    assert line["level"] == "error"
    assert f"{flow} {run}" in line["msg"]


def test_a_cancelled_handler_that_will_not_end_does_not_hold_its_place_for_ever(engine: Engine, start: Start) -> None:
    worker = start(FLOWS.format(stuck=0.2, slow=60))
    run = engine.give("slow_step")
    engine.until(lambda: engine.all("claim_runs", max=3), what="the run being claimed")

    engine.push({"push": "cancel", "runs": [{"id": run, "epoch": 1}]})

    assert worker.exit_code() == 75
    assert engine.all("finish") == []
