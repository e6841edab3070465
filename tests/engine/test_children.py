"""Child runs: started once for each name, waited for without a worker, cancelled and retried with their parent."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tako.engine import children, runs, wakers
from tako.engine.events import Held
from tako.errors import DuplicateRun, LeaseLost, QueueFull, StepError
from tests.support.engine import Rig


def outcomes(engine: Rig, *ids: str) -> list[children.Outcome]:
    return children.outcomes(engine.store, ids)


def dead_child(engine: Rig, parent: str, name: str = "refund", **fields: Any) -> str:
    """A child that was claimed and is dead."""
    child = engine.start_child(parent, name, retries=0, **fields)
    engine.claim("w2", names=("refund",))
    engine.fail(child)
    return child


# --- started once ---------------------------------------------------------------------------------------------------


def test_a_child_is_a_run_of_its_own_that_knows_its_parent(engine: Rig) -> None:
    parent = engine.start()

    child = engine.start_child(parent, "refund")

    assert engine.info(child)["parent_id"] == parent
    assert engine.info(child)["status"] == "pending"


def test_a_start_under_a_name_that_was_used_gives_the_first_child_and_stores_nothing(engine: Rig) -> None:
    parent = engine.start()
    child = engine.start_child(parent, "refund")

    assert engine.start_child(parent, "refund") == child
    assert engine.start_child(parent, "another") != child
    assert len(runs_of(engine, parent)) == 2


def test_a_start_is_found_by_the_next_attempt(engine: Rig) -> None:
    parent = engine.start()
    child = engine.start_child(parent, "refund")
    engine.die()

    (claimed,) = engine.claim("w2")

    assert json.loads(claimed["steps"]["refund"]) == {"id": child, "is_new": True}
    assert engine.start_child(parent, "refund") == child


def test_a_start_that_is_said_again_after_the_parent_moved_on_gets_its_first_answer(engine: Rig) -> None:
    parent = engine.start()
    holder = engine.holder(parent)
    child = engine.start_child(parent, "refund")
    engine.succeed(parent)

    assert engine.start_child(parent, "refund", worker_id=holder["worker_id"], epoch=holder["epoch"]) == child


def test_who_does_not_hold_the_parent_starts_no_child(engine: Rig) -> None:
    parent = engine.start()
    holder = engine.holder(parent)
    engine.die()
    engine.claim("w2")

    with pytest.raises(LeaseLost):
        engine.start_child(parent, "refund", worker_id=holder["worker_id"], epoch=holder["epoch"])
    assert runs_of(engine, parent) == []


def test_a_child_whose_key_is_taken_is_the_run_that_has_it(engine: Rig) -> None:
    other = engine.enqueue("refund", key="k")
    parent = engine.start()

    assert engine.start_child(parent, "refund", key="k") == other
    assert engine.info(other)["parent_id"] is None
    (step,) = engine.info(parent, "steps")["steps"]
    assert step["child_id"] == other


def test_a_start_that_is_refused_stores_neither_step_nor_child(engine: Rig) -> None:
    engine.obey("refund", max_pending=1)
    engine.enqueue("refund", key="k")
    parent = engine.start()

    with pytest.raises(QueueFull):
        engine.start_child(parent, "refund")
    with pytest.raises(DuplicateRun):
        engine.start_child(parent, "refund", key="k", on_duplicate="raise")
    assert engine.info(parent, "steps")["steps"] == []


def runs_of(engine: Rig, parent: str) -> list[str]:
    from tako.engine import inspect

    return [run["id"] for run in inspect.list_runs(engine.store, parent_id=parent).runs]


# --- waited for -----------------------------------------------------------------------------------------------------


def test_a_parent_waits_for_all_and_wakes_once_with_the_last(engine: Rig) -> None:
    parent = engine.start()
    first, second = engine.start_child(parent, "a"), engine.start_child(parent, "b")
    assert engine.gather(parent, first, second) == {"parked": True}
    engine.claim("w2", names=("refund",), n=2)

    engine.succeed(second)
    assert engine.info(parent)["status"] == "waiting"
    engine.succeed(first)

    assert engine.info(parent)["status"] == "pending"
    (claimed,) = engine.claim()
    assert engine.gather(parent, first, second) == {"parked": False}
    assert claimed["steps"].keys() == {"a", "b"}  # how they ended stands with them


def test_a_parent_does_not_park_for_runs_that_have_ended(engine: Rig) -> None:
    parent = engine.start()
    child = dead_child(engine, parent)

    assert engine.gather(parent, child) == {"parked": False}
    assert engine.gather(parent) == {"parked": False}


def test_a_run_that_is_gone_is_not_waited_for(engine: Rig) -> None:
    parent = engine.start()

    assert engine.gather(parent, "gone") == {"parked": False}
    assert outcomes(engine, "gone") == [{"id": "gone", "workflow": "", "status": "gone", "reason": None}]


@pytest.mark.parametrize("how", ["succeeded", "dead", "cancelled", "expired", "crashed"])
def test_every_end_of_a_child_wakes_its_parent(engine: Rig, how: str) -> None:
    parent = engine.start()
    fields: dict[str, Any] = {"expires_at_ms": engine.now_ms + 10} if how == "expired" else {}
    child = engine.start_child(parent, retries=0, **fields)
    engine.gather(parent, child)

    if how == "expired":
        engine.clock.advance(ms=10)
        engine.promote()
    elif how == "crashed":
        for _ in range(3):
            engine.claim("w2", names=("refund",))
            engine.die("w2")
    else:
        engine.claim("w2", names=("refund",))
        ends: dict[str, Any] = {"succeeded": engine.succeed, "dead": engine.fail, "cancelled": engine.cancel}
        ends[how](child)

    assert engine.info(parent)["status"] == "pending"


def test_two_parents_may_wait_for_one_run(engine: Rig) -> None:
    other = engine.enqueue("refund", key="k")
    parents = [engine.start(), engine.start(worker_id="w2")]
    for parent in parents:
        engine.gather(parent, engine.start_child(parent, "refund", key="k"))

    engine.claim("w3", names=("refund",))
    engine.succeed(other)

    assert [engine.info(parent)["status"] for parent in parents] == ["pending", "pending"]


def test_a_run_that_is_withdrawn_wakes_who_waits_for_it(engine: Rig) -> None:
    other = engine.enqueue("refund", key="k")
    parent = engine.start()
    engine.gather(parent, engine.start_child(parent, "refund", key="k"))
    engine.seen.acknowledged.discard(other)

    engine.do(runs.withdraw, other, now_ms=engine.now_ms)

    assert engine.info(parent)["status"] == "pending"


def test_a_run_does_not_wait_for_itself(engine: Rig) -> None:
    parent = engine.start(key="k")
    assert engine.start_child(parent, workflow="charge", key="k") == parent

    with pytest.raises(StepError, match="this run itself"):
        engine.gather(parent, parent)
    assert engine.status(parent) == "running"


def test_a_circle_of_waits_is_refused_where_it_closes(engine: Rig) -> None:
    parent = engine.start(key="k")
    child = engine.start_child(parent)
    engine.gather(parent, child)
    engine.claim("w2", names=("refund",))
    middle = engine.start_child(child)
    engine.gather(child, middle)
    engine.claim("w3", names=("refund",))
    assert engine.start_child(middle, "again", workflow="charge", key="k") == parent

    with pytest.raises(StepError, match="a run that waits for this one"):
        engine.gather(middle, parent)
    with pytest.raises(StepError, match="a run that waits for this one"):
        engine.sleep(middle, ms=1_000, branches=[{"runs": [parent]}])
    engine.succeed(middle)
    assert engine.info(child)["status"] == "pending"


def test_a_gather_that_is_said_again_is_parked_still(engine: Rig) -> None:
    parent = engine.start()
    holder = engine.holder(parent)
    child = engine.start_child(parent)
    engine.gather(parent, child)

    assert engine.gather(parent, child, worker_id=holder["worker_id"], epoch=holder["epoch"]) == {"parked": True}


def test_a_parked_parent_shows_whom_it_waits_for(engine: Rig) -> None:
    parent = engine.start()
    first, second = engine.start_child(parent, "a"), engine.start_child(parent, "b")
    engine.claim("w2", names=("refund",))
    engine.succeed(first)

    engine.gather(parent, first, second)

    assert engine.info(parent)["waiting"] == {
        "step": "gather", "signal": None, "until_ms": None, "since_ms": engine.now_ms, "runs": [second],
    }  # fmt: skip


def test_other_branches_wake_a_gathering_parent_and_a_gather_wakes_other_branches(engine: Rig) -> None:
    parent = engine.start()
    child = engine.start_child(parent)
    engine.gather(parent, child, branches=[{"event": "go"}])
    engine.signal(parent, "go", 1)
    assert engine.info(parent)["status"] == "pending"
    engine.claim()
    assert engine.gather(parent, child, branches=[{"event": "go"}]) == {"parked": False, "branch": 0}
    engine.wait(parent, "go")
    branches: list[wakers.Branch] = [{"runs": [child]}]
    engine.sleep(parent, ms=60_000, branches=branches)

    engine.claim("w2", names=("refund",))
    engine.succeed(child)

    assert engine.info(parent)["status"] == "pending"
    engine.claim()
    assert engine.sleep(parent, ms=60_000, branches=branches) == {"parked": False, "branch": 0}
    assert engine.gather(parent, child) == {"parked": False}


# --- what became of them --------------------------------------------------------------------------------------------


def test_outcomes_say_how_each_run_ended_in_order(engine: Rig) -> None:
    parent = engine.start()
    dead = dead_child(engine, parent, "a")
    good, none, waiting = (engine.start_child(parent, name) for name in ("b", "c", "d"))
    engine.claim("w2", names=("refund",), n=2)
    engine.succeed(good, '"paid"')
    engine.succeed(none)

    found = outcomes(engine, waiting, dead, good, none)

    assert [one["status"] for one in found] == ["pending", "dead", "succeeded", "succeeded"]
    assert found[1]["reason"] == "ValueError: boom"
    assert found[1]["traceback"] == "Traceback: boom"
    assert [one.get("result_json") for one in found] == [None, None, '"paid"', "null"]


def test_outcomes_come_in_pages_that_have_at_least_one(engine: Rig) -> None:
    parent = engine.start()
    large = [engine.start_child(parent, name) for name in "abc"]
    engine.claim("w2", names=("refund",), n=3)
    for child in large:
        engine.succeed(child, json.dumps("x" * 400_000))

    first = outcomes(engine, *large)
    rest = outcomes(engine, *large[len(first) :])

    assert [one["id"] for one in [*first, *rest]] == large
    assert len(first) == 2


# --- cancelled with the parent --------------------------------------------------------------------------------------


def test_cancelling_a_parent_cancels_all_that_descends_from_it(engine: Rig) -> None:
    parent = engine.start()
    child = engine.start_child(parent, "a")
    engine.claim("w2", names=("refund",))
    grandchild = engine.start_child(child, "b")
    done = engine.start_child(child, "c")
    engine.claim("w3", names=("refund",), n=2)
    engine.succeed(done)
    engine.gather(child, grandchild)
    engine.gather(parent, child)

    told = engine.cancel(parent, "withdrawn")

    assert [engine.status(run_id) for run_id in (parent, child, grandchild, done)] == [
        "cancelled", "cancelled", "cancelled", "succeeded",
    ]  # fmt: skip
    assert told == [Held(grandchild, 1, "w3")]
    assert engine.row(grandchild)["reason"] == f"its parent {parent} was cancelled: withdrawn"


def test_no_child_is_started_once_its_parent_is_cancelled(engine: Rig) -> None:
    parent = engine.start()
    holder = engine.holder(parent)
    engine.cancel(parent)

    with pytest.raises(LeaseLost):
        engine.start_child(parent, "late", worker_id=holder["worker_id"], epoch=holder["epoch"])
    assert runs_of(engine, parent) == []


def test_a_parent_that_stops_itself_cancels_its_children_and_their_workers_are_told(engine: Rig) -> None:
    parent = engine.start()
    waiting, running = engine.start_child(parent, "a"), engine.start_child(parent, "b")
    engine.claim("w2", names=("refund",))

    engine.finish(parent, "stopped", reason="changed my mind")

    assert [engine.status(child) for child in (waiting, running)] == ["cancelled", "cancelled"]
    assert Held(waiting, 1, "w2") in engine.events


@pytest.mark.parametrize("outcome", ["succeeded", "fatal"])
def test_children_outlive_a_parent_that_ends_otherwise(engine: Rig, outcome: str) -> None:
    parent = engine.start()
    child = engine.start_child(parent)

    engine.finish(parent, outcome)

    assert engine.status(child) == "pending"


# --- retried with the parent ----------------------------------------------------------------------------------------


def test_a_retry_of_the_parent_retries_the_children_that_failed_and_no_other(engine: Rig) -> None:
    parent = engine.start(retries=0)
    dead = dead_child(engine, parent, "a")
    good = engine.start_child(parent, "b")
    engine.claim("w2", names=("refund",))
    engine.succeed(good)
    engine.fail(parent)

    engine.retry(parent)

    assert [engine.status(run_id) for run_id in (parent, dead, good)] == ["pending", "pending", "succeeded"]
    from tako.engine import inspect

    (note,) = inspect.interventions(engine.store, dead)
    assert note["what"] == f"retry with run {parent}"


def test_a_retry_of_a_cancelled_parent_retries_what_was_cancelled_with_it(engine: Rig) -> None:
    parent = engine.start()
    child = engine.start_child(parent, "a")
    engine.claim("w2", names=("refund",))
    grandchild = engine.start_child(child, "b")
    engine.cancel(parent)

    engine.retry(parent)

    assert {engine.status(run_id) for run_id in (parent, child, grandchild)} == {"pending"}


def test_a_retry_from_a_step_leaves_the_children_that_will_be_started_anew(engine: Rig) -> None:
    parent = engine.start(retries=0)
    kept = dead_child(engine, parent, "a")
    engine.save(parent, "middle")
    renewed = dead_child(engine, parent, "b")
    engine.fail(parent)

    engine.retry(parent, "middle")

    assert [engine.status(run_id) for run_id in (kept, renewed)] == ["pending", "dead"]
    engine.claim()
    assert engine.start_child(parent, "a") == kept
    assert engine.start_child(parent, "b") != renewed


def test_an_automatic_retry_of_the_parent_leaves_dead_children_dead(engine: Rig) -> None:
    parent = engine.start()
    child = dead_child(engine, parent)

    engine.fail(parent)

    assert engine.status(parent) == "pending"
    assert engine.status(child) == "dead"


def test_a_retry_is_refused_as_a_whole_when_the_key_of_a_child_is_taken(engine: Rig) -> None:
    parent = engine.start(retries=0)
    dead_child(engine, parent, key="k")
    engine.fail(parent)
    other = engine.enqueue("refund", key="k")

    with pytest.raises(DuplicateRun, match=other):
        engine.retry(parent)
    assert engine.status(parent) == "dead"


def test_two_failed_children_of_one_key_are_not_retried_together(engine: Rig) -> None:
    parent = engine.start(retries=0)
    dead_child(engine, parent, "a", key="k")
    dead_child(engine, parent, "b", key="k")
    engine.fail(parent)

    with pytest.raises(DuplicateRun):
        engine.retry(parent)
    assert engine.status(parent) == "dead"


# --- seen and kept --------------------------------------------------------------------------------------------------


def test_an_ack_of_the_parent_covers_its_children(engine: Rig) -> None:
    parent = engine.start()
    dead_child(engine, parent)

    assert engine.do(runs.ack, [parent], now_ms=engine.now_ms) == 1


@pytest.mark.parametrize(("outcome", "is_kept"), [("fatal", True), ("succeeded", False)])
def test_a_child_is_kept_while_its_parent_may_ask_for_it(engine: Rig, outcome: str, is_kept: bool) -> None:
    from tako.engine import retention

    parent = engine.start()
    child = engine.start_child(parent)
    engine.claim("w2", names=("refund",))
    engine.succeed(child)
    engine.clock.advance(ms=5_000)
    engine.finish(parent, outcome)
    engine.seen.acknowledged.clear()

    engine.do(
        retention.sweep,
        now_ms=engine.now_ms,
        retention_ms=1_000_000,
        of_workflow={"refund": 1_000, "charge": 1_000_000},
    )

    found = engine.store.connection.execute("SELECT 1 FROM runs WHERE id = ?", (child,)).fetchone()
    assert (found is not None) is is_kept
