"""`concurrency` and `rate`."""

from __future__ import annotations

from typing import Any

import pytest

from tako.engine import invariants, runs
from tako.engine.events import Later, Ready
from tests.support.engine import NO_JITTER, Rig


def claimed(engine: Rig, worker_id: str = "w1", **options: Any) -> list[str]:
    return [run["id"] for run in engine.claim(worker_id, n=100, **options)]


def limited(engine: Rig) -> list[str]:
    rows = engine.store.connection.execute("SELECT id FROM runs WHERE lane = 'limited' ORDER BY seq")
    return [row["id"] for row in rows]


# --- concurrency ----------------------------------------------------------------------------------------------------


def test_no_more_runs_of_a_workflow_run_at_once_than_it_allows(engine: Rig) -> None:
    engine.obey(concurrency=2)
    ids = [engine.enqueue() for _ in range(5)]

    assert claimed(engine) == ids[:2]
    assert [engine.info(run_id)["status"] for run_id in ids[2:]] == ["limited"] * 3

    engine.succeed(ids[0])
    assert Ready("charge", "ready") in engine.events
    assert claimed(engine, "w2") == [ids[2]]
    assert claimed(engine, "w3") == []


def test_a_key_is_a_limit_of_its_own(engine: Rig) -> None:
    engine.obey(concurrency=1, concurrency_key="{tenant}")
    a = [engine.enqueue(concurrency_key="a") for _ in range(3)]
    b = engine.enqueue(concurrency_key="b")

    assert claimed(engine) == [a[0], b]
    engine.succeed(b)
    assert claimed(engine) == []
    engine.succeed(a[0])
    assert claimed(engine) == [a[1]]


def test_who_waits_for_a_permit_keeps_its_place_in_line(engine: Rig) -> None:
    engine.obey(concurrency=1)
    running = engine.start()
    engine.enqueue(id="low", priority=0)
    engine.enqueue(id="high", priority=5)
    engine.enqueue(id="old", priority=0, run_at_ms=engine.now_ms - 1_000)

    order = []
    for _ in range(3):
        engine.succeed(running)
        (running,) = claimed(engine)
        order.append(running)

    assert order == ["high", "old", "low"]


@pytest.mark.parametrize("way", ["succeed", "fail", "dead", "stop", "cancel", "sleep", "wait", "dies thrice"])
def test_every_way_out_of_running_frees_the_permit(engine: Rig, way: str) -> None:
    engine.obey(concurrency=1)
    first = engine.start(retries=0 if way == "dead" else 5)
    second = engine.enqueue()

    if way == "succeed":
        engine.succeed(first)
    elif way in ("fail", "dead"):
        engine.fail(first)
    elif way == "stop":
        engine.finish(first, "stopped", reason="r")
    elif way == "cancel":
        engine.cancel(first)
    elif way == "sleep":
        engine.sleep(first, ms=1_000)
    elif way == "wait":
        engine.wait(first)
    else:
        for _ in range(3):
            engine.die()
            claimed(engine)
        assert engine.status(first) == "dead"
        assert engine.row(second)["status"] == "running"
        return

    assert claimed(engine) == [second]


def test_a_parked_run_needs_a_permit_to_go_on(engine: Rig) -> None:
    engine.obey(concurrency=1)
    first = engine.start()
    engine.wait(first, "go")
    second = engine.start()

    engine.signal(first, "go")
    assert engine.info(first)["status"] == "limited"
    assert claimed(engine) == []
    engine.succeed(second)
    assert claimed(engine) == [first]


def test_a_run_whose_time_has_come_needs_a_permit(engine: Rig) -> None:
    engine.obey(concurrency=1)
    later = engine.enqueue(delay_ms=1_000)
    first = engine.start()
    engine.clock.advance(ms=1_000)
    engine.promote()

    assert limited(engine) == [later]
    engine.succeed(first)
    assert claimed(engine) == [later]


def test_nobody_overtakes_a_run_that_was_handed_back(engine: Rig) -> None:
    engine.obey(concurrency=1)
    first = engine.start()
    engine.enqueue(priority=9)

    assert engine.drain().ready == [first]
    assert claimed(engine) == [first]


def test_a_run_that_is_tried_again_at_once_keeps_its_permit(engine: Rig) -> None:
    engine.obey(concurrency=1)
    first = engine.start()
    engine.enqueue()
    engine.fail(first, retry=NO_JITTER | {"first_ms": 0})

    assert claimed(engine) == [first]


@pytest.mark.parametrize("way", ["cancel", "withdraw", "expire"])
def test_a_run_that_leaves_the_line_unclaimed_frees_its_permit(engine: Rig, way: str) -> None:
    engine.obey(concurrency=1, rate={"count": 1, "per_ms": 1_000})
    first = engine.enqueue(expires_at_ms=engine.now_ms + 10)
    second = engine.enqueue()
    assert limited(engine) == [second]

    if way == "cancel":
        engine.cancel(first)
    elif way == "withdraw":
        engine.seen.acknowledged.clear()
        engine.do(runs.withdraw, first, now_ms=engine.now_ms)
    else:
        engine.clock.advance(ms=10)
        engine.promote()

    assert claimed(engine) == [second]


def test_a_limited_run_can_be_cancelled(engine: Rig) -> None:
    engine.obey(concurrency=1)
    engine.start()
    second, third = engine.enqueue(), engine.enqueue()

    engine.cancel(second)

    assert limited(engine) == [third]


def test_an_operator_s_retry_needs_a_permit(engine: Rig) -> None:
    engine.obey(concurrency=1)
    first = engine.start()
    engine.succeed(first)
    engine.start()

    engine.retry(first)

    assert limited(engine) == [first]


def test_suspects_hold_their_permits(engine: Rig) -> None:
    engine.obey(concurrency=2)
    ids = [engine.enqueue() for _ in range(3)]
    claimed(engine)

    assert sorted(engine.die().solo) == ids[:2]
    assert claimed(engine) == []
    for _ in range(2):
        (run_id,) = claimed(engine, "solo", solo=True)
        engine.succeed(run_id)
    assert claimed(engine) == [ids[2]]


def test_repeating_an_enqueue_takes_no_second_permit(engine: Rig) -> None:
    engine.obey(concurrency=2)
    new = engine.new()
    for _ in range(3):
        engine.do(runs.enqueue, [new], now_ms=engine.now_ms)

    assert engine.row(engine.enqueue())["lane"] == "ready"


def test_an_alias_shares_the_limit_of_its_workflow(engine: Rig) -> None:
    engine.obey("charge", aliases=("old_charge",), concurrency=1)
    first = engine.enqueue("old_charge")
    second = engine.enqueue("charge")

    assert claimed(engine, names=("charge", "old_charge")) == [first]
    engine.succeed(first)
    assert claimed(engine, names=("charge", "old_charge")) == [second]


# --- rate -----------------------------------------------------------------------------------------------------------


def test_no_window_has_more_claims_than_the_rate_allows(engine: Rig) -> None:
    engine.obey(rate={"count": 3, "per_ms": 1_000})
    for _ in range(20):
        engine.enqueue()
    times: list[int] = []
    for _ in range(120):
        for run_id in claimed(engine):
            times.append(engine.now_ms)
            engine.succeed(run_id)
        engine.clock.advance(ms=70)
        engine.promote()

    assert len(times) == 20
    assert all(later - earlier >= 1_000 for earlier, later in zip(times, times[3:], strict=False))


def test_the_engine_knows_when_the_next_claim_is_allowed(engine: Rig) -> None:
    engine.obey(rate={"count": 1, "per_ms": 60_000})
    engine.start()
    assert Later(engine.now_ms + 60_000) in engine.events
    second = engine.enqueue()
    assert engine.info(second)["status"] == "limited"

    assert runs.next_due_ms(engine.store) == engine.now_ms + 60_000
    engine.clock.advance(ms=60_000)
    engine.promote()
    assert Ready("charge", "ready") in engine.events
    assert claimed(engine) == [second]


def test_a_worker_that_was_away_gets_no_more_than_the_rate_at_once(engine: Rig) -> None:
    engine.obey(rate={"count": 2, "per_ms": 1_000})
    for _ in range(10):
        engine.enqueue()
    for _ in range(10):
        engine.clock.advance(s=60)
        engine.promote()

    assert len(claimed(engine)) == 2


def test_retries_and_crashes_are_claims_too(engine: Rig) -> None:
    engine.obey(rate={"count": 1, "per_ms": 60_000})
    run_id = engine.start()
    engine.die()

    assert limited(engine) == [run_id]
    engine.clock.advance(s=60)
    engine.promote()
    assert claimed(engine) == [run_id]
    engine.fail(run_id)
    engine.clock.advance(s=1)
    engine.promote()
    assert claimed(engine) == []
    engine.clock.advance(s=59)
    engine.promote()
    assert claimed(engine) == [run_id]


def test_a_rate_has_keys_too(engine: Rig) -> None:
    engine.obey(rate={"count": 1, "per_ms": 1_000, "key": "{tenant}"})
    a, b = engine.enqueue(rate_key="a"), engine.enqueue(rate_key="b")
    engine.enqueue(rate_key="a")

    assert claimed(engine) == [a, b]


def test_a_clock_that_was_put_back_holds_nobody_up_for_longer_than_the_rate(engine: Rig) -> None:
    engine.obey(rate={"count": 1, "per_ms": 1_000})
    engine.start()
    second = engine.enqueue()
    engine.clock.step_wall(ms=-3_600_000)
    engine.promote()
    engine.clock.advance(ms=1_000)
    engine.promote()

    assert claimed(engine) == [second]


def test_both_limits_hold_together(engine: Rig) -> None:
    engine.obey(concurrency=1, concurrency_key="{tenant}", rate={"count": 2, "per_ms": 1_000})
    a = [engine.enqueue(concurrency_key="a") for _ in range(3)]
    b = [engine.enqueue(concurrency_key="b") for _ in range(3)]

    assert claimed(engine) == [a[0], b[0]]
    engine.succeed(a[0])
    assert claimed(engine) == []
    engine.clock.advance(ms=1_000)
    engine.promote()
    assert claimed(engine) == [a[1]]
    engine.succeed(b[0])
    assert claimed(engine) == [b[1]]


# --- limits that change ---------------------------------------------------------------------------------------------


def test_a_limit_that_is_lifted_lets_everybody_in(engine: Rig) -> None:
    engine.obey(concurrency=1)
    engine.start()
    waiting = [engine.enqueue() for _ in range(3)]

    engine.obey()

    assert Ready("charge", "ready") in engine.events
    assert claimed(engine) == waiting


def test_a_limit_that_is_raised_lets_in_as_many_more(engine: Rig) -> None:
    engine.obey(concurrency=1)
    engine.start()
    waiting = [engine.enqueue() for _ in range(3)]

    engine.obey(concurrency=3)

    assert claimed(engine) == waiting[:2]


def test_a_new_limit_counts_what_runs_and_holds_back_what_is_in_line(engine: Rig) -> None:
    running = engine.start()
    waiting = [engine.enqueue(concurrency_key=key) for key in "aabb"]

    engine.obey(concurrency=1, concurrency_key="{tenant}")

    assert claimed(engine) == [waiting[0], waiting[2]]
    engine.succeed(running)
    assert claimed(engine) == []


def test_other_workflows_keep_their_permits_when_one_changes(engine: Rig) -> None:
    engine.obey("charge", concurrency=1)
    engine.obey("refund", concurrency=1)
    engine.start("charge")
    engine.start("refund")
    second = engine.enqueue("refund")

    engine.obey("charge", concurrency=2)

    assert limited(engine) == [second]


def test_limits_hold_for_what_a_store_that_was_opened_again_has(engine: Rig) -> None:
    engine.obey(concurrency=1)
    engine.start()
    engine.enqueue()
    before = engine.store.options

    engine.store._load()

    assert engine.store.options == before
    engine.check()


def test_a_permit_that_was_miscounted_and_a_run_that_waits_for_nothing_are_named(engine: Rig) -> None:
    engine.obey(concurrency=1)
    engine.start()
    engine.enqueue()
    engine.store.connection.execute("UPDATE permits SET n = 0")

    assert [problem.partition(" ")[0] for problem in invariants.check(engine.store)] == ["limits:", "limits:"]
