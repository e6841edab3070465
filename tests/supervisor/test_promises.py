"""S1 to S6 of contract.md, on the table: what a broken group promises to those who enqueue into it."""

from __future__ import annotations

import pytest
from tests.supervisor.group import CRASH, Group, exits

from tako.supervisor import events, records
from tako.supervisor.events import Accept, Hold, Refusal, Reject
from tako.supervisor.exits import Exit
from tako.supervisor.states import Health

OOM = Exit(code=None, signal="SIGKILL", ran_ms=2310, peak_rss_bytes=2_040_109_466, oom=True)


def test_s1_after_a_cold_failure_the_next_enqueue_fails_and_carries_all_that_is_known() -> None:
    group = Group(release="a1b2c3d")
    group.cold_failure(OOM)

    ticket = group.enqueue()

    assert group.effects == [Reject(ticket, Refusal.UNHEALTHY)]
    error = records.refused(Refusal.UNHEALTHY, group.state, config=group.config, now=group.now)
    assert (error.exit_code, error.signal, error.ran_ms) == (None, "SIGKILL", 2310)
    assert "out of memory, peak 1.9 GiB" in str(error)
    assert error.stderr_tail == ["one", "two"]
    assert error.retry_after in (1, 2)  # 1 s ± 10 %, in whole seconds that are enough
    assert (error.failures, error.since) == (1, group.now.unix_ms)
    assert (error.group, error.release) == ("default", "a1b2c3d")


def test_s2_an_enqueue_is_accepted_again_only_after_a_new_worker_said_hello() -> None:
    group = Group()
    group.cold_failure()
    group.queue(1)
    group.advance(1.2)
    assert group.health is Health.PROBING

    ticket = group.enqueue()
    assert group.effects == [Hold(ticket)]
    group.hello()

    assert group.of(Accept) == [Accept(ticket)]
    assert group.state.failures == 1


def test_s2_the_count_goes_on_when_workers_say_hello_and_die_before_they_claim() -> None:
    group = Group()
    for n in range(1, 6):
        group.queue(1)
        if not group.state.booting():
            group.do(events.Work())
        group.exit(group.hello(), exits(code=0))
        assert group.state.failures == n
        group.advance(70)


@pytest.mark.parametrize("min_workers", [0, 1, 3])
@pytest.mark.parametrize("seed", range(20))
def test_s3_an_hour_of_permanent_failure_makes_at_most_75_starts(min_workers: int, seed: int) -> None:
    """One enqueue a second, each boot dies after 150 ms; counted from the first start."""
    group = Group(seed=seed, min_workers=min_workers, max_workers=4)
    accepted = rejected = held = 0
    group.work()
    while group.now.mono < 1000 + 3600:
        group.enqueue()
        accepted += len(group.of(Accept))
        rejected += len(group.of(Reject))
        held += len(group.of(Hold))
        for slot in group.state.booting():
            if slot.spawned_at is None:
                group.boot()
        group.advance(0.15)
        for slot in group.state.booting():
            if slot.spawned_at is not None:
                group.exit(slot)
                rejected += len(group.of(Reject))
        group.advance(0.85)

    assert 60 <= len(group.spawned) <= 75
    assert accepted == 0, "into a black hole"
    assert rejected >= 3500
    assert group.state.is_failing


def test_s3_at_most_one_worker_is_tried_at_a_time() -> None:
    group = Group(max_workers=8, concurrency=1)
    group.cold_failure()
    group.queue(100)

    for _ in range(50):
        group.do(events.Work())
        group.enqueue()
        group.advance(0.3)
        assert len(group.state.booting()) <= 1


def test_s3_health_survives_a_restart_of_the_daemon() -> None:
    group = Group()
    for _ in range(3):
        group.queue(1)
        group.cold_failure(OOM)
        group.advance(10)
    group.cold_failure(OOM)
    kept = records.stored(group.state, now=group.now)

    again = Group(state=records.restored(kept))

    assert again.health is Health.COOLDOWN
    assert again.state.is_elapsed
    assert (again.state.failures, again.state.since_ms) == (4, group.state.since_ms)
    assert again.state.failure == group.state.failure
    ticket = again.enqueue()
    assert again.of(Hold) == [Hold(ticket)]
    again.exit(again.boot())
    assert again.state.failures == 5


def test_s3_each_change_of_what_must_survive_is_saved_and_nothing_else() -> None:
    group = Group()
    group.work()
    slot = group.boot()
    assert group.of(events.SaveHealth) == []
    group.exit(slot)
    assert group.of(events.SaveHealth) == [events.SaveHealth()]
    group.enqueue()
    assert group.of(events.SaveHealth) == []


def test_s4_exit_0_before_any_claim_without_permission_is_a_failure() -> None:
    group = Group()
    group.work()

    group.exit(group.hello(), exits(code=0))

    assert group.state.failures == 1


def test_s4_exit_0_with_runs_in_flight_is_a_failure_and_without_any_it_is_idleness() -> None:
    group = Group()
    group.exit(group.active(runs=1), exits(code=0))
    assert [line.level for line in group.log] == ["error"]

    idle = Group()
    idle.exit(idle.active(runs=0), exits(code=0))
    assert idle.log == []


def test_s5_one_groups_failure_never_rejects_or_delays_anothers() -> None:
    mail, default = Group(group="mail"), Group(group="default")
    mail.cold_failure()

    default.active()

    ticket = default.enqueue()
    assert default.of(Accept) == [Accept(ticket)]
    assert mail.health is Health.COOLDOWN


def test_s6_it_never_gives_up_for_good_and_is_never_silent() -> None:
    group = Group()
    for _ in range(200):
        group.queue(1)
        group.cold_failure(CRASH)
        group.advance(70)
        assert group.state.booting(), "it is tried again every minute"

    was_failing = group.state.is_failing
    assert [line.fields["failures"] for line in group.log if "is failing" in line.message] == [10, 20, 40, 80, 160]
    group.claim(group.hello())
    assert (was_failing, group.state.is_failing) == (True, False)
    assert group.log[-1].message == "recovered after 200 failed starts"
