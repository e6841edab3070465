"""What people do to runs."""

from __future__ import annotations

import pytest

from tako.engine import inspect, runs
from tako.engine.events import Ended, Ready
from tako.errors import DuplicateRun, IllegalMove, LeaseLost, RunFinished, RunNotFound, StepError
from tests.support.engine import Rig

# --- cancel ---------------------------------------------------------------------------------------------------------


def test_a_pending_run_is_cancelled_and_never_starts(engine: Rig) -> None:
    run_id = engine.enqueue()

    assert engine.cancel(run_id, "ordered twice") == []

    assert engine.info(run_id)["reason"] == "ordered twice"
    assert engine.events == [Ended(run_id, "charge", "cancelled")]
    assert engine.claim() == []


def test_the_worker_of_a_running_run_must_be_told(engine: Rig) -> None:
    run_id = engine.start(worker_id="w1")

    assert engine.cancel(run_id) == [runs.Held(run_id, 1, "w1")]

    with pytest.raises(LeaseLost):
        engine.succeed(run_id, "1", worker_id="w1", epoch=1)
    assert engine.info(run_id, "result")["result_json"] is None
    assert [a["outcome"] for a in engine.info(run_id, "attempts")["attempts"]] == ["cancelled"]


@pytest.mark.parametrize("parked", ["sleep", "wait", "later"])
def test_a_run_that_waits_is_cancelled_with_its_wait(engine: Rig, parked: str) -> None:
    run_id = engine.start()
    if parked == "sleep":
        engine.sleep(run_id, ms=1_000)
    elif parked == "wait":
        engine.wait(run_id, timeout_ms=1_000)
    else:
        engine.fail(run_id)

    engine.cancel(run_id)

    engine.clock.advance(s=99)
    assert engine.promote() == 0
    assert engine.status(run_id) == "cancelled"


def test_a_run_that_crashed_is_cancelled_while_it_waits_for_the_next_worker(engine: Rig) -> None:
    run_id = engine.start()
    engine.die()

    engine.cancel(run_id)

    assert [a["outcome"] for a in engine.info(run_id, "attempts")["attempts"]] == ["crashed"]


def test_cancelling_twice_is_harmless(engine: Rig) -> None:
    run_id = engine.start()
    engine.cancel(run_id, "first")

    assert engine.cancel(run_id, "second") == []
    assert engine.info(run_id)["reason"] == "first"


def test_a_finished_run_cannot_be_cancelled(engine: Rig) -> None:
    run_id = engine.start()
    engine.succeed(run_id)

    with pytest.raises(RunFinished):
        engine.cancel(run_id)
    with pytest.raises(RunNotFound):
        engine.cancel("nobody")


def test_children_are_cancelled_too(engine: Rig) -> None:
    parent = engine.start(worker_id="w1")
    done = engine.start("refund", "w2", parent_id=parent)
    engine.succeed(done)
    child = engine.start("refund", "w2", parent_id=parent)
    grandchild = engine.enqueue("refund", parent_id=child)
    stranger = engine.enqueue("refund")

    told = engine.cancel(parent, "enough")

    assert told == [runs.Held(parent, 1, "w1"), runs.Held(child, 1, "w2")]
    assert engine.status(done) == "succeeded"
    assert engine.status(stranger) == "pending"
    assert engine.info(grandchild)["reason"] == f"its parent {parent} was cancelled: enough"


def test_a_cancel_always_has_a_reason(engine: Rig) -> None:
    run_id = engine.enqueue()
    engine.cancel(run_id, "")

    assert engine.info(run_id)["reason"] == "cancelled by its caller"


# --- retry ----------------------------------------------------------------------------------------------------------


def dead(engine: Rig) -> str:
    run_id = engine.start(retries=1)
    engine.save(run_id, "load", 1)
    engine.fail(run_id)
    engine.clock.advance(s=1)
    engine.promote()
    engine.claim()
    engine.save(run_id, "charge", 2)
    engine.save(run_id, "mail", 3)
    engine.fail(run_id)
    assert engine.status(run_id) == "dead"
    return run_id


def test_a_retried_run_goes_on_with_what_was_saved_and_all_its_retries(engine: Rig) -> None:
    run_id = dead(engine)

    engine.retry(run_id)

    assert Ready("charge", "ready") in engine.events
    (claimed,) = engine.claim()
    assert (claimed["epoch"], claimed["attempt"], claimed["generation"]) == (3, 3, 1)
    assert list(claimed["steps"]) == ["load", "charge", "mail"]
    assert engine.fail(run_id).status == "pending"
    assert engine.store.count("charge", "unseen") == 0


def test_a_retry_is_recorded_with_what_the_run_was(engine: Rig) -> None:
    run_id = dead(engine)
    engine.retry(run_id, from_step="charge")

    assert inspect.interventions(engine.store, run_id) == [
        {"at_ms": engine.now_ms, "what": "retry from step charge", "detail": "was dead: ValueError: boom"}
    ]


def test_retry_from_a_step_begins_a_generation_and_keeps_the_old_one(engine: Rig) -> None:
    run_id = dead(engine)

    engine.retry(run_id, from_step="charge")

    (claimed,) = engine.claim()
    assert (claimed["generation"], claimed["steps"]) == (2, {"load": "1"})
    engine.save(run_id, "charge", "anew")
    old = engine.store.all("step_names", run=engine.row(run_id)["seq"], generation=1)
    assert [row["name"] for row in old] == ["load", "charge", "mail"]


def test_retry_from_a_step_that_was_not_saved_names_those_that_were(engine: Rig) -> None:
    run_id = dead(engine)

    with pytest.raises(StepError, match="charge"):
        engine.retry(run_id, from_step="nonsense")
    assert engine.status(run_id) == "dead"


def test_a_succeeded_run_that_is_retried_loses_its_result_and_gets_another(engine: Rig) -> None:
    run_id = engine.start()
    engine.succeed(run_id, '"first"')
    engine.retry(run_id)
    engine.claim()
    engine.succeed(run_id, '"second"')

    assert engine.info(run_id, "result")["result_json"] == '"second"'


def test_a_cancelled_run_can_be_retried(engine: Rig) -> None:
    run_id = engine.enqueue(expires_at_ms=engine.now_ms + 10)
    engine.clock.advance(ms=10)
    engine.promote()
    engine.retry(run_id)

    assert [run["id"] for run in engine.claim()] == [run_id]


@pytest.mark.parametrize("state", ["pending", "running"])
def test_a_run_that_has_not_ended_cannot_be_retried(engine: Rig, state: str) -> None:
    run_id = engine.enqueue() if state == "pending" else engine.start()

    with pytest.raises(IllegalMove) as raised:
        engine.retry(run_id)
    assert raised.value.detail["event"] == "retry"


def test_a_run_whose_key_is_taken_cannot_be_retried(engine: Rig) -> None:
    run_id = engine.start(key="k")
    engine.succeed(run_id)
    other = engine.enqueue(key="k")

    with pytest.raises(DuplicateRun) as raised:
        engine.retry(run_id)
    assert raised.value.detail == {"id": other}


def test_a_run_that_crashed_too_often_can_be_retried(engine: Rig) -> None:
    run_id = engine.start()
    for _ in range(3):
        engine.die()
        engine.claim()
    assert engine.status(run_id) == "dead"

    engine.retry(run_id)
    engine.claim()
    assert engine.die().ready == [run_id]


# --- ack ------------------------------------------------------------------------------------------------------------


def test_a_dead_run_is_unseen_until_it_is_acknowledged(engine: Rig) -> None:
    run_id = dead(engine)

    assert engine.do(runs.ack, [run_id], now_ms=engine.now_ms) == 1
    assert engine.info(run_id)["acknowledged"] is True
    assert engine.do(runs.ack, [run_id], now_ms=engine.now_ms) == 0
    assert engine.store.count("charge", "unseen") == 0


def test_the_ack_of_a_parent_covers_its_children(engine: Rig) -> None:
    parent = engine.start(retries=0)
    child = engine.start("refund", parent_id=parent, retries=0)
    engine.fail(child)
    engine.fail(parent)

    assert engine.do(runs.ack, [parent], now_ms=engine.now_ms) == 2


def test_all_or_those_of_one_workflow_can_be_acknowledged(engine: Rig) -> None:
    for workflow in ("charge", "charge", "refund"):
        engine.fail(engine.start(workflow, retries=0))

    assert engine.do(runs.ack, workflow="refund", now_ms=engine.now_ms) == 1
    assert engine.do(runs.ack, now_ms=engine.now_ms) == 2


def test_a_run_that_succeeded_has_nothing_to_acknowledge(engine: Rig) -> None:
    run_id = engine.start()
    engine.succeed(run_id)

    assert engine.do(runs.ack, [run_id, "nobody"], now_ms=engine.now_ms) == 0
