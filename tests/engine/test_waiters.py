"""Sleeps, waits and signals."""

from __future__ import annotations

import pytest

from tako.engine import leases, waiters
from tako.engine.events import Ready
from tako.errors import LeaseLost, RunFinished, RunNotFound, UnknownSignal
from tests.support.engine import Rig

DAY_MS = 24 * 3_600_000


def steps_of(engine: Rig, run_id: str) -> dict[str, str]:
    """What the next claim brings."""
    engine.promote()
    (claimed,) = engine.claim("w9")
    assert claimed["id"] == run_id
    return claimed["steps"]


# --- sleep ----------------------------------------------------------------------------------------------------------


def test_a_sleeping_run_holds_no_worker_and_spends_no_attempt(engine: Rig) -> None:
    run_id = engine.start()

    assert engine.sleep(run_id, ms=60_000) == {"parked": True}
    assert engine.info(run_id)["status"] == "sleeping"
    assert engine.claim() == []

    engine.clock.advance(ms=60_000)
    engine.promote()
    (claimed,) = engine.claim("w2")
    assert (claimed["attempt"], claimed["epoch"], claimed["steps"]) == (1, 2, {"cool-off": "null"})


def test_a_sleep_does_not_end_early(engine: Rig) -> None:
    run_id = engine.start()
    engine.sleep(run_id, ms=60_000)

    engine.clock.advance(ms=59_999)
    assert engine.promote() == 0
    assert engine.status(run_id) == "pending"


def test_a_sleep_that_is_over_does_not_park(engine: Rig) -> None:
    run_id = engine.start()

    assert engine.sleep(run_id, ms=0) == {"parked": False, "value_json": "null"}
    assert engine.status(run_id) == "running"


def test_the_same_sleep_never_parks_twice(engine: Rig) -> None:
    run_id = engine.start()
    engine.sleep(run_id, ms=1_000)
    engine.clock.advance(ms=1_000)
    engine.promote()
    engine.claim()

    assert engine.sleep(run_id, ms=1_000) == {"parked": False, "value_json": "null"}


def test_repeating_a_park_after_a_lost_reply_returns_the_first_outcome(engine: Rig) -> None:
    run_id = engine.start()
    holder = engine.holder(run_id)
    engine.sleep(run_id, ms=1_000)
    before = engine.row(run_id)
    engine.clock.advance(ms=300)

    assert engine.sleep(**holder, ms=1_000) == {"parked": True}
    assert engine.row(run_id) == before


def test_a_worker_that_lost_its_run_cannot_park_it(engine: Rig) -> None:
    run_id = engine.start(worker_id="w1")
    engine.die("w1")
    engine.claim("w2")

    with pytest.raises(LeaseLost):
        engine.sleep(run_id, ms=1_000, worker_id="w1", epoch=1)
    with pytest.raises(LeaseLost):
        engine.wait(run_id, worker_id="w1", epoch=1)
    assert engine.status(run_id) == "running"


def test_a_park_forgives_crashes(engine: Rig) -> None:
    run_id = engine.start()
    engine.die()
    engine.claim()
    engine.sleep(run_id, ms=1_000)

    assert engine.row(run_id)["crashes"] == 0


# --- wait and signal ------------------------------------------------------------------------------------------------


def test_a_signal_wakes_the_run_that_waits_for_it(engine: Rig) -> None:
    run_id = engine.start()
    assert engine.wait(run_id, "shipped") == {"parked": True}
    assert engine.info(run_id)["status"] == "waiting"

    assert engine.signal(run_id, "shipped", {"box": 3}) == {"delivered": True, "kept": False}

    assert Ready("charge", "ready") in engine.events
    assert steps_of(engine, run_id) == {"wait shipped": '{"box": 3}'}


def test_a_wait_without_a_timeout_waits_for_ever(engine: Rig) -> None:
    run_id = engine.start()
    engine.wait(run_id)
    engine.clock.advance(s=10 * 365 * 86_400)

    assert engine.promote() == 0
    assert engine.row(run_id)["run_at_ms"] is None


def test_a_signal_that_came_early_is_kept_and_the_wait_does_not_park(engine: Rig) -> None:
    run_id = engine.enqueue()

    assert engine.signal(run_id, "shipped", 7) == {"delivered": False, "kept": True}
    assert engine.info(run_id)["signals"] == [{"name": "shipped", "sent_ms": engine.now_ms}]
    engine.claim()

    assert engine.wait(run_id, "shipped") == {"parked": False, "value_json": "7"}
    assert engine.status(run_id) == "running"
    assert "signals" not in engine.info(run_id)


def test_signals_are_taken_in_the_order_of_sending(engine: Rig) -> None:
    run_id = engine.start()
    for value in (1, 2, 3):
        engine.signal(run_id, "tick", value)

    taken = [engine.wait(run_id, "tick", step_name=f"tick {n}") for n in range(3)]

    assert [answer.get("value_json") for answer in taken] == ["1", "2", "3"]
    assert engine.wait(run_id, "tick", step_name="tick 3") == {"parked": True}


def test_a_signal_of_another_name_wakes_nobody_and_is_kept(engine: Rig) -> None:
    run_id = engine.start()
    engine.wait(run_id, "shipped")

    assert engine.signal(run_id, "approved") == {"delivered": False, "kept": True}
    assert engine.info(run_id)["status"] == "waiting"


def test_a_signal_reaches_one_wait_and_no_other_run(engine: Rig) -> None:
    first, second = engine.start(), engine.start()
    engine.wait(first)
    engine.wait(second)

    engine.signal(second)

    assert engine.info(first)["status"] == "waiting"
    assert engine.info(second)["status"] == "pending"


def test_the_same_signal_id_twice_is_kept_once(engine: Rig) -> None:
    run_id = engine.start()
    engine.signal(run_id, "shipped", 1, signal_id="evt_1")

    assert engine.signal(run_id, "shipped", 1, signal_id="evt_1") == {"delivered": False, "kept": True, "known": True}
    engine.wait(run_id, step_name="a")
    assert engine.signal(run_id, "shipped", 1, signal_id="evt_1") == {"delivered": True, "kept": False, "known": True}
    assert engine.wait(run_id, step_name="b") == {"parked": True}


def test_a_signal_id_is_remembered_when_a_wait_took_it_at_once(engine: Rig) -> None:
    run_id = engine.start()
    engine.wait(run_id, step_name="a")

    assert engine.signal(run_id, "shipped", 1, signal_id="evt_1") == {"delivered": True, "kept": False}
    assert engine.signal(run_id, "shipped", 1, signal_id="evt_1") == {"delivered": True, "kept": False, "known": True}
    engine.claim()
    assert engine.wait(run_id, step_name="b") == {"parked": True}


def test_who_signals_a_run_that_ended_or_never_was_is_told(engine: Rig) -> None:
    run_id = engine.start()
    engine.succeed(run_id)

    with pytest.raises(RunFinished):
        engine.signal(run_id)
    with pytest.raises(RunNotFound):
        engine.signal("nobody")


@pytest.mark.parametrize("name", ["@runs", "@run:x"])
def test_nobody_can_send_the_engine_s_own_signals(engine: Rig, name: str) -> None:
    with pytest.raises(UnknownSignal):
        engine.signal(engine.start(), name)


def test_a_wait_resolves_once_by_its_timeout(engine: Rig) -> None:
    run_id = engine.start()
    engine.wait(run_id, timeout_ms=5_000)
    engine.clock.advance(ms=5_000)
    engine.promote()

    assert engine.signal(run_id, "shipped", 1) == {"delivered": False, "kept": True}
    assert steps_of(engine, run_id) == {"wait shipped": waiters.TIMED_OUT}
    assert engine.wait(run_id, timeout_ms=5_000) == {"parked": False, "value_json": waiters.TIMED_OUT}


def test_a_wait_resolves_once_by_its_signal(engine: Rig) -> None:
    run_id = engine.start()
    engine.wait(run_id, timeout_ms=5_000)
    engine.signal(run_id, "shipped", 1)
    engine.clock.advance(ms=9_000)

    assert engine.promote() == 0
    assert steps_of(engine, run_id) == {"wait shipped": "1"}


def test_a_signal_that_comes_before_the_timeout_is_noticed_wins(engine: Rig) -> None:
    run_id = engine.start()
    engine.wait(run_id, timeout_ms=5_000)
    engine.clock.advance(ms=9_000)
    engine.signal(run_id, "shipped", 1)

    assert steps_of(engine, run_id) == {"wait shipped": "1"}


def test_a_timeout_that_has_passed_does_not_park(engine: Rig) -> None:
    run_id = engine.start()

    assert engine.wait(run_id, timeout_ms=0) == {"parked": False, "value_json": waiters.TIMED_OUT}


def test_what_is_in_the_mailbox_comes_before_a_timeout_that_has_passed(engine: Rig) -> None:
    run_id = engine.start()
    engine.signal(run_id, "shipped", 1)

    assert engine.wait(run_id, timeout_ms=0) == {"parked": False, "value_json": "1"}


def test_a_parked_run_shows_what_it_waits_for(engine: Rig) -> None:
    run_id = engine.start()
    engine.wait(run_id, "shipped", timeout_ms=5_000, step_name="ship")

    assert engine.info(run_id)["waiting"] == {
        "step": "ship", "signal": "shipped", "until_ms": engine.now_ms + 5_000, "since_ms": engine.now_ms,
    }  # fmt: skip


def test_signals_are_forgotten_after_seven_days_and_told_to_the_log(engine: Rig) -> None:
    run_id = engine.start()
    engine.signal(run_id, "shipped", 1, signal_id="a")
    engine.signal(run_id, "approved", 1)
    engine.wait(run_id)
    engine.do(waiters.signal_all, event_name="late", payload_json="1", now_ms=engine.now_ms)

    engine.clock.advance(ms=7 * DAY_MS)
    assert engine.do(waiters.forget_signals, now_ms=engine.now_ms) == []
    engine.clock.advance(ms=1)
    assert engine.do(waiters.forget_signals, now_ms=engine.now_ms) == [("approved", run_id), ("late", None)]
    assert engine.do(waiters.forget_signals, now_ms=engine.now_ms) == []


# --- v0 -------------------------------------------------------------------------------------------------------------


def test_a_v0_signal_wakes_all_who_wait_for_its_name(engine: Rig) -> None:
    waiting = [engine.start() for _ in range(3)]
    for run_id in waiting:
        engine.wait(run_id, "go", epoch=None)
    engine.wait(engine.start(), "other")

    assert engine.do(waiters.signal_all, event_name="go", payload_json="5", now_ms=engine.now_ms) == 3
    assert {run["id"]: run["steps"] for run in engine.claim(n=9)} == {run_id: {"wait go": "5"} for run_id in waiting}


def test_a_v0_signal_that_nobody_waits_for_goes_to_the_first_who_will(engine: Rig) -> None:
    assert engine.do(waiters.signal_all, event_name="go", payload_json="5", now_ms=engine.now_ms) == 0
    first, second = engine.start(), engine.start()

    assert engine.wait(first, "go") == {"parked": False, "value_json": "5"}
    assert engine.wait(second, "go") == {"parked": True}


def test_a_signal_to_the_run_comes_before_one_to_all(engine: Rig) -> None:
    run_id = engine.start()
    engine.do(waiters.signal_all, event_name="go", payload_json='"all"', now_ms=engine.now_ms)
    engine.signal(run_id, "go", "mine")

    assert engine.wait(run_id, "go")["value_json"] == '"mine"'


def test_a_deferred_run_comes_back_at_its_time_and_nothing_is_saved(engine: Rig) -> None:
    run_id = engine.start()
    engine.do(
        waiters.defer, run_id=run_id, worker_id="w1", wake_at_ms=engine.now_ms + 500, now_ms=engine.now_ms
    )  # fmt: skip
    assert engine.info(run_id)["status"] == "sleeping"
    engine.do(
        waiters.defer, run_id=run_id, worker_id="w1", wake_at_ms=engine.now_ms + 900, now_ms=engine.now_ms
    )  # fmt: skip

    engine.clock.advance(ms=500)
    assert steps_of(engine, run_id) == {}
    with pytest.raises(LeaseLost):
        engine.do(waiters.defer, run_id=run_id, worker_id="w1", wake_at_ms=None, now_ms=engine.now_ms)


def test_defer_without_a_time_means_now(engine: Rig) -> None:
    run_id = engine.start()
    engine.do(waiters.defer, run_id=run_id, worker_id="w1", wake_at_ms=None, now_ms=engine.now_ms)

    (claimed,) = engine.claim("w2")
    assert (claimed["id"], claimed["attempt"]) == (run_id, 1)


# --- several waits at once ------------------------------------------------------------------------------------------


def test_a_signal_for_another_branch_wakes_the_run_and_is_kept_for_that_branch(engine: Rig) -> None:
    run_id = engine.start()
    engine.sleep(run_id, ms=60_000, step_name="nap", branches=[{"event": "go"}])

    assert engine.signal(run_id, "go", 1) == {"delivered": False, "kept": True}

    (claimed,) = engine.claim()
    assert claimed["steps"] == {}
    assert engine.sleep(run_id, ms=60_000, step_name="nap", branches=[{"event": "go"}]) == {
        "parked": False, "branch": 0,
    }  # fmt: skip
    assert engine.wait(run_id, "go") == {"parked": False, "value_json": "1"}
    assert engine.sleep(run_id, ms=60_000, step_name="nap") == {"parked": True}


def test_a_signal_for_no_branch_wakes_nobody(engine: Rig) -> None:
    run_id = engine.start()
    engine.sleep(run_id, ms=60_000, branches=[{"event": "go"}])

    engine.signal(run_id, "stay", 1)

    assert engine.info(run_id)["status"] == "sleeping"


def test_a_run_with_branches_still_wakes_at_its_time_and_once(engine: Rig) -> None:
    run_id = engine.start()
    engine.sleep(run_id, ms=60_000, step_name="nap", branches=[{"event": "go"}])

    engine.clock.advance(ms=60_000)
    engine.promote()
    engine.signal(run_id, "go", 1)

    (claimed,) = engine.claim()
    assert claimed["steps"] == {"nap": "null"}


def test_a_v0_signal_wakes_who_has_a_branch_for_it(engine: Rig) -> None:
    run_id = engine.start()
    engine.sleep(run_id, ms=60_000, branches=[{"event": "go"}])

    assert engine.do(waiters.signal_all, event_name="go", payload_json="5", now_ms=engine.now_ms) == 1

    engine.claim()
    assert engine.wait(run_id, "go") == {"parked": False, "value_json": "5"}


def test_a_cancelled_run_leaves_nothing_that_wakes_it(engine: Rig) -> None:
    run_id = engine.start()
    engine.sleep(run_id, ms=60_000, branches=[{"event": "go"}])

    engine.cancel(run_id)

    assert engine.store.connection.execute("SELECT count(*) FROM wakers").fetchone()[0] == 0


# --- what has been spent of a timeout -------------------------------------------------------------------------------


def test_what_an_attempt_has_spent_is_told_to_the_next_who_goes_on_with_it(engine: Rig) -> None:
    run_id = engine.start()
    engine.wait(run_id, spent_ms=700)
    engine.signal(run_id)

    assert engine.claim()[0]["spent_ms"] == 700
    engine.do(leases.hand_back, worker_id="w1", runs=[(run_id, 2)], spent_ms={run_id: 900}, now_ms=engine.now_ms)
    assert engine.claim()[0]["spent_ms"] == 900
    engine.drain()
    assert engine.claim()[0]["spent_ms"] == 900  # whoever took it back did not know better


@pytest.mark.parametrize("how", ["failed", "crashed", "retried"])
def test_an_attempt_that_begins_anew_has_spent_nothing(engine: Rig, how: str) -> None:
    run_id = engine.start(retries=0 if how == "retried" else 3)
    engine.wait(run_id, spent_ms=700)
    engine.signal(run_id)
    engine.claim()

    if how == "crashed":
        engine.die()
    else:
        engine.fail(run_id)
    if how == "retried":
        engine.retry(run_id)
    engine.clock.advance(ms=10_000)
    engine.promote()

    assert "spent_ms" not in engine.claim()[0]
