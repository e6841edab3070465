"""How runs get to workers."""

from __future__ import annotations

import json

import pytest

from tako.engine import runs, steps
from tako.engine.events import Changed, Later, Ready
from tests.support.engine import Rig


def test_a_claim_gives_the_run_to_one_worker(engine: Rig) -> None:
    run_id = engine.enqueue(payload_json='{"order":7}', key="order:7", retries=5)

    (claimed,) = engine.claim("w1")

    assert claimed == {
        "id": run_id,
        "epoch": 1,
        "workflow": "charge",
        "payload_json": '{"order":7}',
        "attempt": 1,
        "retries": 5,
        "key": "order:7",
        "scheduled_for_ms": None,
        "scheduled_tz": None,
        "enqueued_ms": engine.now_ms,
        "generation": 1,
        "steps": {},
        "steps_next": None,
        "solo": False,
    }
    assert engine.claim("w2") == []
    row = engine.row(run_id)
    assert (row["status"], row["worker_id"], row["epoch"], row["release"]) == ("running", "w1", 1, "r1")


def test_the_longest_due_comes_first_and_higher_priority_before_it(engine: Rig) -> None:
    engine.enqueue(id="b", run_at_ms=engine.now_ms - 5)
    engine.enqueue(id="a", run_at_ms=engine.now_ms - 9)
    engine.enqueue(id="urgent", priority=10)
    engine.enqueue(id="c", run_at_ms=engine.now_ms - 5)
    engine.enqueue(id="idle", priority=-1, run_at_ms=engine.now_ms - 99)

    assert [run["id"] for run in engine.claim(n=10)] == ["urgent", "a", "b", "c", "idle"]


def test_order_holds_across_the_workflows_of_a_worker(engine: Rig) -> None:
    engine.enqueue("refund", id="r1", run_at_ms=engine.now_ms - 5)
    engine.enqueue("charge", id="c1", run_at_ms=engine.now_ms - 9)
    engine.enqueue("charge", id="c2", run_at_ms=engine.now_ms - 1)
    engine.enqueue("refund", id="r2", priority=1)

    assert [run["id"] for run in engine.claim(names=("charge", "refund"), n=3)] == ["r2", "c1", "r1"]


def test_a_worker_gets_at_most_what_it_asked_for_and_only_its_workflows(engine: Rig) -> None:
    for _ in range(5):
        engine.enqueue()
    engine.enqueue("refund")

    assert len(engine.claim(n=3)) == 3
    assert len(engine.claim(n=10)) == 2
    assert engine.claim(n=0, names=("refund",)) == []
    assert engine.claim(names=()) == []


def test_no_run_starts_before_its_time(engine: Rig) -> None:
    run_id = engine.enqueue(delay_ms=5_000)

    engine.clock.advance(ms=4_999)
    assert engine.promote() == 0
    assert engine.claim() == []

    engine.clock.advance(ms=1)
    assert engine.promote() == 1
    assert engine.events == [Ready("charge", "ready")]
    assert [run["id"] for run in engine.claim()] == [run_id]


def test_due_timers_fire_once_after_a_step_of_the_clock_forward(engine: Rig) -> None:
    engine.enqueue(delay_ms=3_600_000)

    engine.clock.step_wall(ms=3_600_000)
    assert engine.promote() == 1
    engine.clock.step_wall(ms=-3_600_000)
    assert engine.promote() == 0
    engine.clock.step_wall(ms=3_600_000)
    assert engine.promote() == 0

    assert len(engine.claim(n=10)) == 1


def test_promotion_goes_in_batches_the_longest_due_first(engine: Rig) -> None:
    for delay_ms in (30, 10, 20):
        engine.enqueue(id=f"after {delay_ms}", delay_ms=delay_ms)
    engine.clock.advance(ms=100)

    assert engine.do(runs.promote_due, now_ms=engine.now_ms, limit=2) == 2
    assert {run["id"] for run in engine.claim(n=10)} == {"after 10", "after 20"}
    assert engine.do(runs.promote_due, now_ms=engine.now_ms, limit=2) == 1


def test_the_next_due_time_is_known_without_looking_at_runs(engine: Rig) -> None:
    assert runs.next_due_ms(engine.store) is None
    engine.enqueue(delay_ms=9_000)
    engine.enqueue(delay_ms=4_000)
    assert runs.next_due_ms(engine.store) == engine.now_ms + 4_000
    engine.enqueue(expires_at_ms=engine.now_ms + 2_000)
    assert Later(engine.now_ms + 2_000) in engine.events
    assert runs.next_due_ms(engine.store) == engine.now_ms + 2_000


def test_a_run_that_expired_unclaimed_is_cancelled_when_its_time_comes(engine: Rig) -> None:
    run_id = engine.enqueue(expires_at_ms=engine.now_ms + 1_000)

    engine.clock.advance(ms=1_000)
    assert engine.promote() == 1

    info = engine.info(run_id)
    assert (info["status"], info["reason"]) == ("cancelled", "expired before a worker could start it")


def test_a_claim_passes_over_expired_runs_and_still_finds_the_others(engine: Rig) -> None:
    expired = [engine.enqueue(expires_at_ms=engine.now_ms + 1_000) for _ in range(3)]
    fresh = engine.enqueue(run_at_ms=engine.now_ms)
    engine.clock.advance(ms=1_000)

    assert [run["id"] for run in engine.claim(n=2)] == [fresh]
    assert {engine.status(run_id) for run_id in expired} == {"cancelled"}


def test_what_has_begun_does_not_expire(engine: Rig) -> None:
    run_id = engine.start(expires_at_ms=engine.now_ms + 1_000)
    engine.drain()
    engine.clock.advance(ms=5_000)

    assert engine.promote() == 0
    assert [run["id"] for run in engine.claim()] == [run_id]


def test_the_epoch_rises_at_each_claim_and_the_attempt_only_after_a_failure(engine: Rig) -> None:
    run_id = engine.start()
    engine.drain()
    (second,) = engine.claim("w2")
    engine.fail(run_id)
    engine.clock.advance(ms=1_000)
    engine.promote()
    (third,) = engine.claim("w1")

    assert [(run["epoch"], run["attempt"]) for run in (second, third)] == [(2, 1), (3, 2)]


def test_saved_steps_come_with_the_claim(engine: Rig) -> None:
    run_id = engine.start()
    engine.save(run_id, "first", {"a": 1})
    engine.save(run_id, "second", None)
    engine.drain()

    (claimed,) = engine.claim()

    assert claimed["steps"] == {"first": '{"a": 1}', "second": "null"}
    assert list(claimed["steps"]) == ["first", "second"]
    assert claimed["steps_next"] is None


def test_steps_that_are_many_megabytes_come_in_pages(engine: Rig) -> None:
    run_id = engine.start()
    for number in range(7):
        engine.save(run_id, f"step {number}", "x" * 100_000)
    engine.drain()

    (claimed,) = engine.claim()
    found, after = dict(claimed["steps"]), claimed["steps_next"]
    pages = 1
    while after is not None:
        page, after = runs.load_steps(engine.store, **engine.holder(run_id), after=after)
        found.update(page)
        pages += 1

    assert list(found) == [f"step {number}" for number in range(7)]
    assert json.loads(found["step 6"]) == "x" * 100_000
    assert pages == 3
    assert sum(map(len, claimed["steps"].values())) <= steps.PAGE_BYTES + 100_002


def test_a_claim_is_told_to_the_house(engine: Rig) -> None:
    run_id = engine.enqueue()
    engine.claim()

    assert engine.events == [Changed(run_id, "charge", "running", 0)]


@pytest.mark.parametrize("asked", [1, 5])
def test_suspects_are_claimed_one_at_a_time_and_only_by_a_solo_claim(engine: Rig, asked: int) -> None:
    for _ in range(3):
        engine.enqueue()
    engine.claim(n=3)
    engine.die()

    assert engine.claim(n=10) == []
    (claimed,) = engine.claim("solo", n=asked, solo=True)
    assert claimed["solo"] is True
