"""A worker among others: idle, drain, cancel, lost leases, a daemon that goes and comes back, a full disk."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from tests.worker.conftest import Start
from tests.worker.engine import Engine, WorkerProcess

FLOWS = """
    import asyncio, os, pathlib, threading, time
    from tako import AsyncContext, Context, workflow

    here = pathlib.Path(os.environ["TAKO_DATA_DIR"])

    def mark(text):
        with open(here / "marks", "a") as file:
            file.write(text + "\\n")

    def wait_for_gate():
        mark("waiting")
        while not (here / "gate").exists():
            threading.Event().wait(0.01)
        return "through"

    async def await_gate():
        mark("waiting")
        while not (here / "gate").exists():
            await asyncio.sleep(0.01)
        return "through"

    @workflow
    def add(ctx: Context, a: int) -> int:
        return a + 1

    @workflow
    def held(ctx: Context) -> str:
        found = ctx.step("gate", wait_for_gate)
        mark("went on")
        ctx.step("after", lambda: mark("second step"))
        return found

    @workflow
    async def aheld(ctx: AsyncContext) -> str:
        try:
            found = await ctx.step("gate", await_gate)
        finally:
            mark("left the gate")
        await ctx.step("after", lambda: mark("second step"))
        return found

    @workflow
    def bare(ctx: Context) -> str:
        return wait_for_gate()
"""


@pytest.fixture
def worker(start: Start) -> WorkerProcess:
    return start(FLOWS)


@pytest.fixture
def marks(tmp_path: Path, engine: Engine) -> Marks:
    return Marks(tmp_path, engine)


class Marks:
    """What handlers wrote down, and the gate that they wait at."""

    def __init__(self, folder: Path, engine: Engine) -> None:
        self._folder = folder
        self._engine = engine

    def all(self) -> list[str]:
        path = self._folder / "marks"
        return path.read_text().split("\n")[:-1] if path.exists() else []

    def wait(self, text: str) -> None:
        self._engine.until(lambda: text in self.all(), what=f"mark {text!r}")

    def open_gate(self) -> None:
        (self._folder / "gate").touch()


# --- idle -----------------------------------------------------------------------------------------------------------


def test_a_worker_that_finds_no_work_at_once_asks_whether_it_is_needed(engine: Engine, worker: WorkerProcess) -> None:
    engine.wait("claim_runs", wait_ms=0)
    engine.wait("idle")

    assert engine.wait("claim_runs", wait_ms=60_000)["max"] == 4


def test_a_probe_with_permission_exits_0(engine: Engine, start: Start) -> None:
    engine.idle_exit = True
    worker = start(FLOWS)

    assert worker.exit_code() == 0
    assert [message["command"] for message in engine.messages] == ["hello", "claim_runs", "idle"]


def test_a_worker_that_found_work_asks_only_after_its_idle_timeout(engine: Engine, start: Start) -> None:
    engine.give("add", {"a": 1})
    worker = start(FLOWS, env={"TAKO_WORKER_IDLE_TIMEOUT_MS": "300"})
    engine.wait("finish")
    assert engine.all("idle") == []

    engine.idle_exit = True

    assert worker.exit_code() == 0
    assert len(engine.all("idle")) == 1


def test_a_worker_that_must_stay_asks_again_after_another_idle_timeout(engine: Engine, start: Start) -> None:
    start(FLOWS, env={"TAKO_WORKER_IDLE_TIMEOUT_MS": "100"})

    engine.wait("idle", count=3)
    engine.give("add", {"a": 1})

    assert engine.wait("finish")["result_json"] == "2"


def test_an_idle_worker_may_be_given_work_instead(engine: Engine, start: Start) -> None:
    run = {
        "id": "given", "epoch": 1, "workflow": "add", "payload_json": '{"a": 8}', "attempt": 1, "retries": 0,
        "key": None, "scheduled_for_ms": None, "enqueued_ms": 1, "generation": 1, "steps": {}, "steps_next": None,
        "solo": False,
    }  # fmt: skip
    given = [run]
    engine.answers["idle"] = lambda message: {"status": "ok", "data": {"exit": False, "runs": [given.pop()]}}

    start(FLOWS)

    assert engine.wait("finish", id="given")["result_json"] == "9"


# --- drain ----------------------------------------------------------------------------------------------------------


def test_an_idle_worker_that_is_told_to_drain_exits_0(engine: Engine, worker: WorkerProcess) -> None:
    engine.wait("claim_runs", count=2)

    worker.kill()

    assert worker.exit_code() == 0


def test_a_draining_worker_lets_its_runs_finish(engine: Engine, worker: WorkerProcess, marks: Marks) -> None:
    engine.give("held")
    marks.wait("waiting")

    worker.kill()
    worker.wait_for_output("draining")
    marks.open_gate()

    assert worker.exit_code() == 0
    assert engine.wait("finish")["result_json"] == '"through"'
    assert engine.all("release_runs") == []


def test_a_draining_worker_claims_nothing_and_hands_back_what_still_comes(
    engine: Engine, worker: WorkerProcess, marks: Marks
) -> None:
    engine.give("held")
    marks.wait("waiting")
    worker.kill()
    worker.wait_for_output("draining")

    late = engine.give("add", {"a": 1})

    assert engine.wait("release_runs")["runs"] == [{"id": late, "epoch": 1}]
    marks.open_gate()
    assert worker.exit_code() == 0
    assert [message["id"] for message in engine.all("finish")] != [late]


@pytest.mark.parametrize("flow", ["held", "aheld"])
def test_runs_that_do_not_finish_in_time_are_handed_back_uncounted(
    engine: Engine, start: Start, marks: Marks, flow: str
) -> None:
    worker = start(FLOWS, env={"TAKO_DRAIN_TIMEOUT_MS": "200"})
    run = engine.give(flow)
    marks.wait("waiting")

    worker.kill()

    assert worker.exit_code() == 0
    assert engine.wait("release_runs")["runs"] == [{"id": run, "epoch": 1}]
    assert engine.all("finish") == []


def test_a_new_daemon_that_drains_it_too_does_not_make_it_hand_back(
    engine: Engine, worker: WorkerProcess, marks: Marks
) -> None:
    engine.give("held")
    marks.wait("waiting")
    worker.kill()
    worker.wait_for_output("draining")
    engine.hang_up()
    worker.wait_for_output("reconnected")

    worker.kill()
    marks.open_gate()

    assert worker.exit_code() == 0
    assert engine.wait("finish")["result_json"] == '"through"'
    assert engine.all("release_runs") == []


def test_a_second_signal_hands_back_at_once(engine: Engine, worker: WorkerProcess, marks: Marks) -> None:
    engine.give("held")
    marks.wait("waiting")
    worker.kill()
    worker.wait_for_output("draining")

    worker.kill(signal.SIGINT)

    assert worker.exit_code() == 0
    assert len(engine.all("release_runs")) == 1


# --- cancel and lost leases -----------------------------------------------------------------------------------------


def test_a_cancelled_run_is_acknowledged_and_no_further_step_of_it_starts(
    engine: Engine, worker: WorkerProcess, marks: Marks
) -> None:
    run = engine.give("held")
    marks.wait("waiting")

    engine.push({"push": "cancel", "runs": [{"id": run, "epoch": 1}]})

    assert engine.wait("cancelled")["runs"] == [{"id": run, "epoch": 1}]
    marks.open_gate()
    engine.give("add", {"a": 1})
    assert engine.wait("finish")["id"] != run
    assert marks.all() == ["waiting"]
    assert engine.all("save_step") == []


def test_a_cancelled_async_run_is_cancelled_at_its_await(engine: Engine, worker: WorkerProcess, marks: Marks) -> None:
    run = engine.give("aheld")
    marks.wait("waiting")

    engine.push({"push": "cancel", "runs": [{"id": run, "epoch": 1}]})

    marks.wait("left the gate")
    engine.wait("cancelled")
    assert engine.all("save_step") == []
    assert engine.all("finish") == []


def test_a_cancel_of_an_older_epoch_stops_nothing(engine: Engine, worker: WorkerProcess, marks: Marks) -> None:
    run = engine.give("held", epoch=2)
    marks.wait("waiting")

    engine.push({"push": "cancel", "runs": [{"id": run, "epoch": 1}]})
    engine.wait("cancelled")
    marks.open_gate()

    assert engine.wait("finish")["id"] == run


def test_leases_are_renewed_while_a_handler_runs(engine: Engine, start: Start, marks: Marks) -> None:
    engine.heartbeat_ms = 50
    start(FLOWS)
    run = engine.give("bare")

    assert engine.wait("heartbeat", count=3)["runs"] == [{"id": run, "epoch": 1}]

    marks.open_gate()
    engine.wait("finish")


def test_a_run_that_a_heartbeat_calls_stale_runs_no_further_step(engine: Engine, start: Start, marks: Marks) -> None:
    engine.heartbeat_ms = 50
    worker = start(FLOWS)
    run = engine.give("held")
    marks.wait("waiting")

    engine.stale_in_heartbeat = [{"id": run, "why": "w2 holds it"}]
    worker.wait_for_output("lost the run")
    marks.open_gate()
    engine.give("add", {"a": 1})

    assert engine.wait("finish")["id"] != run
    assert marks.all() == ["waiting"]
    assert "w2 holds it" in worker.output()


def test_a_run_whose_save_is_refused_as_stale_stops_there(engine: Engine, worker: WorkerProcess, marks: Marks) -> None:
    stale = {"status": "error", "code": "stale", "message": "run is no longer owned by this worker"}
    engine.answers["save_step"] = lambda message: stale
    marks.open_gate()

    engine.give("held")
    worker.wait_for_output("lost the run")
    engine.give("add", {"a": 1})

    assert engine.wait("finish")["result_json"] == "2"
    assert len(engine.all("finish")) == 1
    assert marks.all() == ["waiting"]


def test_heartbeats_that_fail_are_errors_in_the_log(engine: Engine, start: Start, marks: Marks) -> None:
    engine.heartbeat_ms = 50
    engine.answers["heartbeat"] = lambda message: {"status": "error", "code": "error", "message": "out of order"}
    worker = start(FLOWS)

    engine.give("bare")

    worker.wait_for_output("heartbeat failed: out of order")
    marks.open_gate()
    engine.wait("finish")


# --- the daemon goes and comes back ---------------------------------------------------------------------------------


def test_a_running_handler_does_not_notice_that_the_daemon_was_away(
    engine: Engine, worker: WorkerProcess, marks: Marks
) -> None:
    run = engine.give("held")
    marks.wait("waiting")

    engine.vanish()
    marks.open_gate()
    worker.wait_for_output("trying to reconnect")
    engine.listen()

    assert engine.wait("hello", count=2)["in_flight"] == [{"id": run, "epoch": 1}]
    assert engine.wait("finish")["id"] == run
    assert [message["step_name"] for message in engine.all("save_step")] == ["gate", "after"]
    assert marks.all().count("waiting") == 1


def test_what_was_not_acknowledged_is_said_again(engine: Engine, worker: WorkerProcess, marks: Marks) -> None:
    swallowed: list[str] = []

    def swallow(message: dict[str, object]) -> dict[str, object] | None:
        if swallowed:
            return None
        swallowed.append(str(message["id"]))
        engine.hang_up()
        return None

    engine.answers["finish"] = swallow
    run = engine.give("add", {"a": 1})

    assert engine.wait("finish", count=2)["id"] == run
    assert engine.wait("hello", count=2)["in_flight"] == [{"id": run, "epoch": 1}]
    engine.give("add", {"a": 5})
    assert engine.wait("finish", count=3)["result_json"] == "6"


def test_a_run_that_hello_calls_stale_is_stopped(engine: Engine, worker: WorkerProcess, marks: Marks) -> None:
    run = engine.give("held")
    marks.wait("waiting")
    engine.stale_in_hello = [run]

    engine.hang_up()
    engine.wait("hello", count=2)
    worker.wait_for_output("lost the run")
    marks.open_gate()
    engine.give("add", {"a": 1})

    assert engine.wait("finish")["id"] != run
    assert engine.all("save_step") == []


def test_a_worker_whose_daemon_stays_away_exits(engine: Engine, start: Start) -> None:
    worker = start(
        """
        import tako.worker.connection
        from tako import Context, workflow

        tako.worker.connection.RECONNECT_S = 0.3

        @workflow
        def flow(ctx: Context) -> None: ...
        """
    )
    engine.wait("claim_runs", count=2)

    engine.vanish()

    assert worker.exit_code() == 0
    assert "did not come back" in worker.output()


# --- the store takes no writes --------------------------------------------------------------------------------------


def test_results_wait_in_memory_while_the_store_is_full(engine: Engine, worker: WorkerProcess, marks: Marks) -> None:
    engine.store_is_full = True
    marks.open_gate()
    engine.give("held")
    engine.give("add", {"a": 1})
    engine.wait("finish", count=3)
    engine.wait("save_step", count=3)

    engine.store_is_full = False

    engine.until(lambda: ("run-1", "after") in engine.steps, what="the second step")
    assert marks.all().count("waiting") == 1
    assert json.loads(engine.until(lambda: engine.all("finish", id="run-1"), what="the end")[0]["result_json"])
    assert "the store takes no writes" in worker.output()


def test_what_a_failing_disk_refuses_is_no_failure_of_the_run(engine: Engine, start: Start, marks: Marks) -> None:
    refusals = [{"status": "error", "code": "store_damaged", "message": "fsync failed"}]
    engine.answers["save_step"] = lambda message: refusals.pop() if refusals else None
    start(FLOWS)
    engine.give("held")
    marks.wait("waiting")
    marks.open_gate()

    assert engine.wait("finish")["outcome"] == "succeeded"
    assert marks.all().count("waiting") == 1


def test_a_claim_that_is_refused_is_asked_again(engine: Engine, start: Start) -> None:
    refusals = [{"status": "error", "code": "store_unavailable", "message": "DISK_FULL"}] * 2
    engine.answers["claim_runs"] = lambda message: refusals.pop() if refusals else None
    engine.give("add", {"a": 1})

    worker = start(FLOWS)

    assert engine.wait("finish")["result_json"] == "2"
    assert "claim failed" in worker.output()


def test_a_park_whose_answer_was_lost_is_said_again_and_nothing_is_lost(engine: Engine, start: Start) -> None:
    worker = start(
        """
        from tako import Context, workflow

        @workflow
        def naps(ctx: Context) -> None:
            ctx.sleep("nap", "1h")
        """
    )
    hung_up: list[bool] = []

    def swallow(message: dict[str, object]) -> dict[str, object] | None:
        if not hung_up:
            hung_up.append(True)
            engine.stale_in_hello = [str(message["id"])]
            engine.hang_up()
        return None

    engine.answers["park"] = swallow
    engine.give("naps")

    engine.wait("park", count=2)
    engine.stale_in_hello = []
    worker.kill()
    assert worker.exit_code() == 0
    assert "lost the run" not in worker.output()
    assert engine.all("release_runs") == []
