"""Handles of runs, finding runs, signals: requests and answers, on a real socket."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

import tako
from tako import (
    Context,
    PayloadError,
    RunCancelled,
    RunFailed,
    RunFinished,
    RunNotFound,
    Signal,
    UnknownSignal,
    workflow,
)
from tests.support.fake_engine import FakeEngine, run_info

approval = Signal("approval", datetime)


@pytest.fixture
def fulfil() -> Any:
    @workflow(signals=[approval], name="send_email")
    def fulfil(ctx: Context, day: datetime) -> datetime: ...  # type: ignore[empty-body]

    return fulfil


@pytest.fixture
def run(engine: FakeEngine, fulfil: Any) -> Any:
    engine.answers["get_run"] = run_info(1)
    return tako.get_run(run_info(1)["id"])


def test_a_status_is_asked_for(engine: FakeEngine, run: Any) -> None:
    engine.answers["get_run"] = run_info(1, status="sleeping")

    assert run.status() == "sleeping"
    assert asyncio.run(run.astatus()) == "sleeping"


def test_the_result_is_of_the_workflows_type(engine: FakeEngine, run: Any) -> None:
    engine.answers["wait_run"] = run_info(1, result_json='"2026-01-01T00:00:00+00:00"')

    assert run.result() == datetime(2026, 1, 1, tzinfo=UTC)
    assert asyncio.run(run.aresult(timeout=None)) == datetime(2026, 1, 1, tzinfo=UTC)


def test_the_result_of_an_unknown_workflow_is_plain_json(engine: FakeEngine) -> None:
    engine.answers["get_run"] = run_info(1, workflow="other")
    engine.answers["wait_run"] = run_info(1, workflow="other", result_json='["a"]')

    assert tako.get_run("x").result() == ["a"]


def test_a_dead_run_raises_with_the_remote_traceback(engine: FakeEngine, run: Any) -> None:
    traceback = 'Traceback (most recent call last):\n  File "a.py", line 3\nValueError: no such card'
    engine.answers["wait_run"] = run_info(1, status="dead", error="ValueError: no such card", traceback=traceback)

    with pytest.raises(RunFailed) as caught:
        run.result()

    assert traceback in str(caught.value)
    assert f"tako runs retry {run.id}" in str(caught.value)


def test_a_cancelled_run_raises_with_its_reason(engine: FakeEngine, run: Any) -> None:
    engine.answers["wait_run"] = run_info(1, status="cancelled", reason="withdrawn")

    with pytest.raises(RunCancelled, match="was cancelled: withdrawn"):
        run.result()


def test_a_run_that_has_not_ended_in_time_is_a_timeout_and_goes_on(engine: FakeEngine, run: Any) -> None:
    engine.answers["wait_run"] = run_info(1, status="running")

    with pytest.raises(TimeoutError, match="is running after 0; it goes on"):
        run.result(timeout=0)
    assert engine.asked("wait_run") == [{"id": run.id, "timeout_ms": 0}]


def test_a_long_wait_is_asked_in_pieces(engine: FakeEngine, run: Any) -> None:
    answers = iter([run_info(1, status="running"), run_info(1, result_json="null", status="cancelled")])
    engine.answers["wait_run"] = lambda message: next(answers)

    with pytest.raises(RunCancelled):
        run.result(timeout="10m")
    assert [asked["timeout_ms"] for asked in engine.asked("wait_run")] == [20_000, 20_000]


def test_steps_tell_what_was_saved_and_when(engine: FakeEngine, run: Any) -> None:
    step = {
        "name": "load",
        "status": "saved",
        "attempt": 1,
        "started_ms": 1_767_225_600_000,
        "ended_ms": 1_767_225_601_000,
    }
    child = {**step, "name": "child", "started_ms": None, "child_id": "c1"}
    engine.answers["get_run"] = run_info(1, steps=[step, child])

    first, second = run.steps()

    assert (first.name, first.status, first.attempt, first.child) == ("load", "saved", 1, None)
    assert (first.started, first.ended.second) == (datetime(2026, 1, 1, tzinfo=UTC), 1)
    assert (second.started, second.child.id) == (None, "c1")
    assert [step.name for step in asyncio.run(run.asteps())] == ["load", "child"]


def test_args_are_those_of_the_handler(engine: FakeEngine, run: Any) -> None:
    engine.answers["get_run"] = run_info(1, payload_json='{"day":"2026-01-01T00:00:00+00:00"}')

    assert run.args == {"day": datetime(2026, 1, 1, tzinfo=UTC)}
    assert asyncio.run(run.aargs()) == run.args


def test_args_of_an_older_run_with_the_same_key_are_its_own(engine: FakeEngine, fulfil: Any) -> None:
    engine.answers["enqueue_runs"] = {"runs": [{"id": "older", "is_new": False}]}
    engine.answers["get_run"] = run_info(1, payload_json='{"day":"2020-01-01T00:00:00+00:00"}')

    assert fulfil.enqueue(datetime(2026, 1, 1, tzinfo=UTC)).args == {"day": datetime(2020, 1, 1, tzinfo=UTC)}


def test_the_error_is_the_last_one_and_none_while_all_is_well(engine: FakeEngine, run: Any) -> None:
    assert not run.error
    engine.answers["get_run"] = run_info(1, status="pending", error="OSError: no route")

    assert run.error == "OSError: no route"
    assert asyncio.run(run.aerror()) == "OSError: no route"


def test_cancel_and_retry_say_what_was_asked(engine: FakeEngine, run: Any) -> None:
    engine.answers["cancel"] = engine.answers["retry"] = run_info(1)

    run.cancel(reason="withdrawn")
    asyncio.run(run.acancel())
    run.retry()
    asyncio.run(run.aretry(from_step="send"))

    assert engine.asked("cancel") == [{"id": run.id, "reason": "withdrawn"}, {"id": run.id}]
    assert engine.asked("retry") == [{"id": run.id}, {"id": run.id, "from_step": "send"}]


def test_a_finished_run_cannot_be_cancelled(engine: FakeEngine, run: Any) -> None:
    engine.answers["cancel"] = RunFinished("the run has ended")

    with pytest.raises(RunFinished):
        run.cancel()


def test_handles_of_one_run_are_equal(engine: FakeEngine, run: Any) -> None:
    assert run == tako.get_run(run.id)
    assert len({run, asyncio.run(tako.aget_run(run.id))}) == 1
    assert run != "x"


def test_a_run_that_is_not_there_is_an_error(engine: FakeEngine) -> None:
    engine.answers["get_run"] = RunNotFound("no run has this id")

    with pytest.raises(RunNotFound):
        tako.get_run("x")


# --- finding --------------------------------------------------------------------------------------------------------


def test_find_asks_by_key(engine: FakeEngine, fulfil: Any) -> None:
    engine.answers["find_run"] = run_info(3)

    assert fulfil.find(key="welcome:42").id == run_info(3)["id"]
    assert asyncio.run(fulfil.afind(key="welcome:42")).id == run_info(3)["id"]
    assert engine.asked("find_run")[0] == {"workflow": "send_email", "key": "welcome:42"}


def pages(message: dict[str, Any]) -> dict[str, Any]:
    start = int(message.get("after") or 0)
    count = min(message["limit"], 250 - start)
    more = start + count < 250
    return {"runs": [run_info(start + n) for n in range(count)], "next": str(start + count) if more else None}


def test_runs_are_fetched_page_by_page(engine: FakeEngine) -> None:
    engine.answers["list_runs"] = pages

    found = list(tako.runs(workflow="send_email", status="dead", key="k", group="mail"))

    assert [run.id for run in found] == [run_info(n)["id"] for n in range(250)]
    assert [asked.get("after") for asked in engine.asked("list_runs")] == [None, "100", "200"]
    assert engine.asked("list_runs")[0] == {
        "workflow": "send_email", "status": "dead", "key": "k", "group": "mail", "limit": 100,
    }  # fmt: skip


def test_a_limit_ends_the_list(engine: FakeEngine, fulfil: Any) -> None:
    engine.answers["list_runs"] = pages

    async def main() -> int:
        return len([run async for run in tako.aruns(workflow=fulfil, limit=130)])

    assert len(list(tako.runs(limit=3))) == 3
    assert asyncio.run(main()) == 130


def test_since_is_how_long_ago_or_a_time(engine: FakeEngine) -> None:
    engine.answers["list_runs"] = {"runs": [], "next": None}

    list(tako.runs(since="1h", until=datetime(2026, 1, 1, tzinfo=UTC)))

    asked = engine.asked("list_runs")[0]
    assert asked["until_ms"] == 1_767_225_600_000
    assert abs(asked["since_ms"] / 1000 - datetime.now(UTC).timestamp() + 3_600) < 60


# --- signals --------------------------------------------------------------------------------------------------------


def test_a_signal_is_sent_encoded_with_an_id(engine: FakeEngine, fulfil: Any, run: Any) -> None:
    engine.answers["signal_run"] = {"delivered": True, "kept": False}
    day = datetime(2026, 1, 1, tzinfo=UTC)

    fulfil.signal(run, approval, day, id="evt-1")
    fulfil.signal("welcome:42", approval, day)
    asyncio.run(fulfil.asignal("welcome:42", approval, day, id="evt-2"))

    first, second, third = engine.asked("signal_run")
    text = '"2026-01-01T00:00:00+00:00"'
    assert first == {"id": run.id, "signal": "approval", "payload_json": text, "signal_id": "evt-1"}
    assert (second["workflow"], second["key"], len(second["signal_id"])) == ("send_email", "welcome:42", 36)
    assert third["signal_id"] == "evt-2"


def test_a_signal_that_does_not_fit_is_refused_at_the_sender(engine: FakeEngine, fulfil: Any) -> None:
    with pytest.raises(UnknownSignal, match="declares no signal 'other'; it declares: 'approval'"):
        fulfil.signal("k", Signal("other"), 1)
    with pytest.raises(PayloadError, match="signal approval: expected datetime"):
        fulfil.signal("k", approval, "noon")
    with pytest.raises(TypeError, match="expected a Signal"):
        fulfil.signal("k", "approval", 1)
    assert not engine.asked("signal_run")


def test_a_signal_without_a_type_carries_plain_json() -> None:
    assert Signal("s").decode(Signal("s").encode({"a": [1]})) == {"a": [1]}
    with pytest.raises(ValueError, match="expected a name"):
        Signal("")
