"""Who may work on a run, and what becomes of runs whose worker is gone."""

from __future__ import annotations

import pytest

from tako.engine import invariants, leases
from tako.engine.events import Ended, Ready
from tests.support.clock import FakeClock
from tests.support.engine import Rig

# --- leases in memory -----------------------------------------------------------------------------------------------


@pytest.fixture
def held(clock: FakeClock) -> leases.Leases:
    return leases.Leases(clock.monotonic)


def test_a_lease_runs_out_on_the_monotonic_clock(held: leases.Leases, clock: FakeClock) -> None:
    held.grant("a", 1, "w1", 30)

    clock.step_wall(ms=3_600_000)
    assert held.expired() == []
    clock.step_wall(ms=-7_200_000)
    clock.advance(ms=29_999)
    assert held.expired() == []
    clock.advance(ms=1)
    assert [lease.run_id for lease in held.expired()] == ["a"]


def test_a_heartbeat_renews_what_its_worker_holds_at_that_epoch(held: leases.Leases, clock: FakeClock) -> None:
    held.grant("a", 2, "w1", 30)
    clock.advance(s=20)

    assert held.renew("a", 2, "w1", 30) is True
    assert held.renew("a", 1, "w1", 30) is False
    assert held.renew("a", 2, "w2", 30) is False
    assert held.renew("b", 1, "w1", 30) is False
    clock.advance(s=29)
    assert held.expired() == []


def test_all_that_a_worker_holds_can_be_renewed_at_once(held: leases.Leases, clock: FakeClock) -> None:
    held.grant("a", 1, "w1", 10)
    held.grant("b", 1, "w1", 10)
    held.grant("c", 1, "w2", 10)
    clock.advance(s=5)
    held.renew_worker("w1", 10)
    held.renew_for("c", 9, 60)
    clock.advance(s=5)

    assert [lease.run_id for lease in held.expired()] == ["c"]


def test_a_v0_worker_chooses_the_length_of_its_lease(held: leases.Leases, clock: FakeClock) -> None:
    held.grant("a", 1, "w1", 30)
    held.renew_for("a", 1, 90)
    clock.advance(s=60)

    assert held.expired() == []


def test_a_stall_of_the_daemon_extends_every_lease(held: leases.Leases, clock: FakeClock) -> None:
    held.grant("a", 1, "w1", 30)
    clock.advance(s=45)
    held.stall(45)

    assert held.expired() == []
    assert held.next_deadline() == clock.monotonic() + 30


def test_dropping_ends_a_lease_and_only_that_of_the_claim_meant(held: leases.Leases) -> None:
    held.grant("a", 1, "w1", 30)
    held.grant("a", 2, "w2", 30)

    held.drop_run("a", epoch=1)
    lease = held.get("a")
    assert lease is not None
    assert (lease.epoch, lease.worker_id) == (2, "w2")
    assert held.of_worker("w1") == []
    held.drop_run("a")
    held.drop_run("a")
    assert len(held) == 0
    assert held.next_deadline() is None


def test_the_leases_of_a_worker_are_counted_and_dropped_together(held: leases.Leases) -> None:
    for run_id, worker_id in (("a", "w1"), ("b", "w1"), ("c", "w2")):
        held.grant(run_id, 1, worker_id, 30)

    assert held.count_by_worker() == {"w1": 2, "w2": 1}
    assert [lease.run_id for lease in held.of_worker("w1")] == ["a", "b"]
    held.drop_worker("w1")
    assert held.count_by_worker() == {"w2": 1}


def test_an_observer_sees_a_run_without_a_lease_and_a_lease_without_a_run(engine: Rig) -> None:
    run_id = engine.start()
    assert "I3" in invariants.check(engine.store, engine.leases)[0]

    engine.leases.grant(run_id, 1, "w1", 30)
    assert invariants.check(engine.store, engine.leases) == []

    engine.succeed(run_id)
    assert "I6" in invariants.check(engine.store, engine.leases)[0]


# --- deaths ---------------------------------------------------------------------------------------------------------


def test_a_dead_worker_s_run_is_in_line_again_at_once_under_the_same_attempt(engine: Rig) -> None:
    run_id = engine.start()

    assert engine.die().ready == [run_id]

    assert Ready("charge", "ready") in engine.events
    (claimed,) = engine.claim("w2")
    assert (claimed["epoch"], claimed["attempt"]) == (2, 1)


def test_three_deaths_while_alone_make_a_run_dead_with_the_last_words(engine: Rig) -> None:
    run_id = engine.start()
    for _ in range(2):
        assert engine.die().ready == [run_id]
        engine.claim()

    released = engine.die(death="SIGKILL, out of memory, peak 1.9 GiB")

    assert released.dead == [run_id]
    assert engine.events == [Ended(run_id, "charge", "dead", 0)]
    info = engine.info(run_id, "attempts")
    assert info["reason"] == "worker died 3 times running it (SIGKILL, out of memory, peak 1.9 GiB)"
    assert [(a["attempt"], a["epoch"], a["outcome"]) for a in info["attempts"]] == [
        (1, 1, "crashed"), (1, 2, "crashed"), (1, 3, "crashed"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("steps", "place"),
    [
        (["render"], " in step 'render'"),
        (["a", "b"], " in steps 'a' and 'b'"),
        (["a", "b", "c"], " in steps 'a', 'b' and 'c'"),
        (["a", "b", "c", "d", "e"], " in steps 'a', 'b', 'c' and 2 more"),
        ([], ""),
    ],
)
def test_a_death_is_told_with_the_steps_that_were_being_executed(engine: Rig, steps: list[str], place: str) -> None:
    run_id = engine.start()
    for _ in range(2):
        engine.die()
        engine.claim()

    engine.die(death="SIGKILL", in_steps={run_id: steps, "another": ["other"]})

    info = engine.info(run_id, "attempts")
    assert info["reason"] == f"worker died 3 times running it (SIGKILL){place}"
    assert info["attempts"][-1]["error"] == info["reason"]


def test_only_a_run_that_a_worker_has_died_with_tells_its_steps(engine: Rig) -> None:
    engine.enqueue()
    (claimed,) = engine.claim()
    assert "tell_steps" not in claimed

    engine.die()

    (again,) = engine.claim()
    assert again["tell_steps"]


def test_crashes_spend_no_retries(engine: Rig) -> None:
    run_id = engine.start(retries=1)
    engine.die()
    engine.claim()
    engine.die()
    engine.claim()

    assert engine.fail(run_id).status == "pending"


def test_failures_forgive_no_crashes(engine: Rig) -> None:
    run_id = engine.start(retries=9)
    for _ in range(2):
        engine.die()
        engine.claim()
    engine.fail(run_id)
    engine.clock.advance(s=1)
    engine.promote()
    engine.claim()

    assert engine.die().dead == [run_id]


def test_progress_between_deaths_keeps_a_run_alive_up_to_twenty_in_all(engine: Rig) -> None:
    run_id = engine.start()
    for number in range(19):
        engine.save(run_id, f"step {number}", 1)
        assert engine.die().ready == [run_id]
        engine.claim()
    engine.save(run_id, "last", 1)

    assert engine.die().dead == [run_id]
    assert engine.info(run_id)["reason"] == "worker died 20 times in all running it (SIGKILL)"


def test_runs_that_were_in_flight_together_become_suspects_and_none_is_charged(engine: Rig) -> None:
    ids = [engine.enqueue() for _ in range(3)]
    engine.claim(n=3)

    released = engine.die()

    assert sorted(released.solo) == sorted(ids)
    assert Ready("charge", "solo") in engine.events
    assert [engine.row(run_id)["crashes"] for run_id in ids] == [0, 0, 0]
    assert engine.info(ids[0], "attempts")["attempts"][0]["error"] == (
        "its worker died: SIGKILL, with 2 other runs in flight"
    )


def test_an_innocent_run_is_never_killed_by_its_neighbour(engine: Rig) -> None:
    poison = engine.enqueue(id="poison")
    innocent = [engine.enqueue() for _ in range(4)]
    engine.claim(n=5)
    engine.die()

    for _ in range(20):
        claimed = engine.claim("solo", solo=True)
        if not claimed:
            break
        if claimed[0]["id"] == poison:
            engine.die("solo")
        else:
            engine.succeed(claimed[0]["id"])

    assert engine.info(poison)["reason"] == "worker died 3 times running it (SIGKILL)"
    assert {engine.status(run_id) for run_id in innocent} == {"succeeded"}
    assert engine.info(innocent[0])["attempt"] == 1


def test_a_suspect_that_crashed_alone_stays_in_its_lane(engine: Rig) -> None:
    engine.enqueue()
    engine.enqueue()
    engine.claim(n=2)
    engine.die()
    (claimed,) = engine.claim("solo", solo=True)

    assert engine.die("solo").solo == [claimed["id"]]


@pytest.mark.parametrize("way", ["fail", "sleep", "outlive"])
def test_a_suspect_is_cleared_by_an_end_a_park_or_time(engine: Rig, way: str) -> None:
    engine.enqueue()
    engine.enqueue()
    engine.claim(n=2)
    engine.clock.advance(s=60)
    engine.die()
    (claimed,) = engine.claim("solo", solo=True)
    run_id = claimed["id"]

    if way == "fail":
        engine.fail(run_id)
    elif way == "sleep":
        engine.sleep(run_id, ms=1_000)
    else:
        engine.clock.advance(s=70)
        assert engine.do(leases.clear_suspects, now_ms=engine.now_ms) == []
        engine.clock.advance(ms=1)
        assert engine.do(leases.clear_suspects, now_ms=engine.now_ms) == [run_id]
        assert engine.drain("solo").ready == [run_id]

    engine.clock.advance(s=99)
    engine.promote()
    assert [run["id"] for run in engine.claim()] == [run_id]


def test_deaths_that_we_caused_charge_nobody(engine: Rig) -> None:
    run_id = engine.start()
    for _ in range(50):
        assert engine.drain().ready == [run_id]
        engine.claim()

    row = engine.row(run_id)
    assert (row["crashes"], row["lifetime_crashes"], row["attempt"], row["failures"]) == (0, 0, 1, 0)
    assert engine.info(run_id, "attempts")["attempts"] == []


def test_a_suspect_that_is_handed_back_stays_a_suspect(engine: Rig) -> None:
    engine.enqueue()
    engine.enqueue()
    engine.claim(n=2)
    engine.die()
    engine.claim("solo", solo=True)

    assert len(engine.drain("solo").solo) == 1


def test_a_worker_that_holds_nothing_releases_nothing(engine: Rig) -> None:
    assert not engine.die("nobody")


def test_only_the_runs_that_were_named_are_released(engine: Rig) -> None:
    first, second = engine.enqueue(), engine.enqueue()
    engine.claim(n=2)

    released = engine.do(
        leases.release, worker_id="w1", counted=True, death="silent", now_ms=engine.now_ms, run_ids=[first]
    )

    assert released.solo == [first]
    assert engine.status(second) == "running"


def test_a_hand_back_names_the_claim_it_means(engine: Rig) -> None:
    run_id = engine.start()
    engine.die()
    engine.claim("w1")

    assert not engine.do(leases.hand_back, worker_id="w1", runs=[(run_id, 1)], now_ms=engine.now_ms)
    assert engine.do(leases.hand_back, worker_id="w1", runs=[(run_id, 2)], now_ms=engine.now_ms).ready == [run_id]


# --- the start of a daemon ------------------------------------------------------------------------------------------


def test_at_start_recorded_workers_keep_their_runs_and_of_others_they_come_back_uncharged(engine: Rig) -> None:
    kept = engine.start(worker_id="recorded")
    lost = engine.start(worker_id="unknown")

    released = engine.do(leases.recover, recorded=["recorded"], now_ms=engine.now_ms)

    assert released.ready == [lost]
    assert engine.row(lost)["crashes"] == 0
    assert leases.running(engine.store) == [(kept, 1, "recorded")]


def test_two_runs_of_a_worker_that_nobody_knows_come_back_and_neither_is_a_suspect(engine: Rig) -> None:
    engine.enqueue()
    engine.enqueue()
    engine.claim(n=2)

    released = engine.do(leases.recover, recorded=[], now_ms=engine.now_ms)

    assert len(released.ready) == 2
    assert len(released) == 2
