"""The table of contract.md 3.2: each test is a row, and its name is the row's sentence."""

from __future__ import annotations

import pytest
from tests.supervisor.group import CRASH, Group, exits

from tako.supervisor import events
from tako.supervisor.events import Accept, Hold, Kill, Reclaim, Refusal, Reject, Spawn, StopClaims, Withdraw
from tako.supervisor.exits import Exit
from tako.supervisor.states import GroupState, Health, Phase, Slot, Why


@pytest.fixture
def group() -> Group:
    return Group()


# --- row 1: work ----------------------------------------------------------------------------------------------------


def test_row_1_work_in_a_healthy_group_below_its_target_spawns_the_difference() -> None:
    group = Group(max_workers=4, concurrency=10)
    group.active()

    group.work(waiting=25)

    assert group.rows[-1] == "1"
    assert len(group.of(Spawn)) == 2  # 25 waiting and 1 in flight want three workers, one lives
    assert group.health is Health.HEALTHY


def test_row_1_runs_in_flight_count_so_that_a_queue_behind_a_busy_worker_starts_another() -> None:
    group = Group(max_workers=2, concurrency=10)
    group.active(runs=10)

    group.work(waiting=1)

    assert len(group.of(Spawn)) == 1


def test_row_1_an_unproven_group_starts_one_worker_whatever_waits() -> None:
    group = Group(max_workers=8)

    group.work(waiting=1000)
    group.do(events.Work())

    assert len(group.spawned) == 1
    assert group.health is Health.UNPROVEN


def test_row_1_work_at_the_target_spawns_nothing(group: Group) -> None:
    group.active()

    group.work(waiting=500)

    assert group.effects == []


def test_row_1_work_that_is_none_spawns_nothing(group: Group) -> None:
    group.do(events.Work())

    assert group.effects == []


# --- row 2: a process exists ----------------------------------------------------------------------------------------


def test_row_2_a_spawned_worker_is_booting_with_its_boot_timer_armed(group: Group) -> None:
    group.work()
    group.advance(3)  # it waited for a permit; that time is not its fault

    slot = group.boot()

    assert slot.phase is Phase.BOOTING
    assert slot.boot_by == group.now.mono + 30
    assert group.of(events.SaveWorker) == [events.SaveWorker(slot.id)]


# --- row 3: spawn errors --------------------------------------------------------------------------------------------


def test_row_3_a_spawn_error_is_a_cold_failure(group: Group) -> None:
    ticket = group.enqueue()

    group.do(events.SpawnError(group.spawned[0].worker_id, "[Errno 2] No such file or directory: '.venv/bin/python'"))

    assert group.rows[-1] == "3"
    assert group.health is Health.COOLDOWN
    assert group.state.failures == 1
    assert group.state.failure is not None
    assert group.state.failure.words == (
        "worker could not be spawned: [Errno 2] No such file or directory: '.venv/bin/python'"
    )
    assert group.of(Reject) == [Reject(ticket, Refusal.UNHEALTHY)]
    assert group.state.slots == ()


def test_row_3_a_spawn_error_beside_a_serving_worker_is_degraded() -> None:
    group = Group(max_workers=2)
    group.active(runs=10)
    group.work(waiting=5)

    group.do(events.SpawnError(group.spawned[-1].worker_id, "[Errno 11] Resource temporarily unavailable"))

    assert group.health is Health.DEGRADED


# --- row 4: HELLO ---------------------------------------------------------------------------------------------------


def test_row_4_hello_makes_the_group_healthy_and_lets_the_held_enqueues_in_in_their_order(group: Group) -> None:
    tickets = [group.enqueue(), group.enqueue()]

    slot = group.hello()

    assert group.health is Health.HEALTHY
    assert slot.phase is Phase.READY
    assert slot.boot_by is None
    assert group.of(Accept) == [Accept(ticket) for ticket in tickets]
    assert group.state.held == ()


def test_row_4_hello_keeps_the_failure_count_until_a_claim(group: Group) -> None:
    group.cold_failure()
    group.advance(2)

    group.hello()

    assert (group.health, group.state.failures) == (Health.HEALTHY, 1)


def test_row_4_after_hello_the_rest_of_the_target_is_started() -> None:
    group = Group(max_workers=3, concurrency=1)
    group.work(waiting=9)

    group.hello()

    assert len(group.of(Spawn)) == 2


# --- row 5: CLAIM ---------------------------------------------------------------------------------------------------


def test_row_5_a_claim_makes_the_slot_active_clears_the_count_and_says_recovered(group: Group) -> None:
    group.cold_failure()
    group.advance(2)
    group.cold_failure()
    group.advance(3)

    slot = group.claim(group.hello())

    assert slot.phase is Phase.ACTIVE
    assert (group.health, group.state.failures, group.state.failure) == (Health.HEALTHY, 0, None)
    assert group.log[-1].message == "recovered after 2 failed starts"


def test_row_5_a_first_claim_without_failures_says_nothing(group: Group) -> None:
    group.active()

    assert group.log == []


def test_row_5_a_claim_in_a_degraded_group_starts_what_waited_for_its_timer() -> None:
    group = Group(max_workers=2, concurrency=1)
    group.work()
    slot = group.hello()
    group.queue(1, suspects=1)
    group.do(events.Work())
    (solo,) = group.state.live(solo=True)
    group.do(events.SpawnError(solo.id, "[Errno 11] Resource temporarily unavailable"))
    assert group.state.health.value == "degraded"

    group.queue(0, suspects=1)
    group.claim(slot)

    assert group.state.health.value == "healthy"
    assert len(group.state.live(solo=True)) == 1, "nothing else would ever start a worker for the suspect"


def test_row_5_the_first_claim_of_a_v0_worker_is_its_hello(group: Group) -> None:
    ticket = group.enqueue()
    slot = group.boot()

    group.do(events.Claim(slot.id))

    assert group.of(Accept) == [Accept(ticket)]
    assert group.get(slot).phase is Phase.ACTIVE
    assert group.get(slot).v0


# --- row 5b: enqueue into new code ----------------------------------------------------------------------------------


def test_row_5b_an_enqueue_while_unproven_spawns_one_worker_and_is_held(group: Group) -> None:
    first, second = group.enqueue(), group.enqueue()

    assert len(group.spawned) == 1
    assert [held.ticket for held in group.state.held] == [first, second]
    assert group.of(Hold) == [Hold(second)]


def test_row_5b_an_enqueue_starts_no_second_worker_beside_one_adopted_before_its_first_claim(group: Group) -> None:
    group.do(events.Recorded("w1", alive=True, same_boot=True, ready=True, claimed=False))

    ticket = group.enqueue()

    assert group.of(events.Hold) == [events.Hold(ticket)]
    assert group.of(events.Spawn) == []
    group.do(events.Hello("w1"))
    assert group.of(events.Accept) == [events.Accept(ticket)]


def test_row_5b_beyond_64_held_an_enqueue_is_stored(group: Group) -> None:
    for _ in range(64):
        group.enqueue()

    ticket = group.enqueue()

    assert group.of(Accept) == [Accept(ticket)]
    assert len(group.state.held) == 64


def test_row_5b_a_held_enqueue_of_unproven_code_is_stored_when_it_can_wait_no_longer(group: Group) -> None:
    ticket = group.enqueue()
    group.boot()

    group.advance(4)

    assert group.of(Accept) == [Accept(ticket)]


def test_row_5b_a_held_enqueue_of_new_code_is_refused_when_the_code_turns_out_broken(group: Group) -> None:
    ticket = group.enqueue()

    group.exit(group.boot())

    assert group.of(Reject) == [Reject(ticket, Refusal.UNHEALTHY)]


# --- row 6: boot hang -----------------------------------------------------------------------------------------------


def test_row_6_a_boot_timer_kills_the_slot_and_its_exit_is_a_boot_hang(group: Group) -> None:
    ticket = group.enqueue(wait_s=100)
    slot = group.boot()

    group.advance(30)

    assert group.of(Kill) == [Kill(slot.id, "SIGKILL")]
    assert (group.get(slot).phase, group.get(slot).why) == (Phase.KILLING, Why.BOOT_HANG)

    group.exit(slot, exits("SIGKILL", ran_ms=30_004), frame="workflows/report.py:7, in <module>: import pandas")

    assert group.health is Health.COOLDOWN
    assert group.state.failure is not None
    assert group.state.failure.words == (
        "worker did not become ready within 30s (workflows/report.py:7, in <module>: import pandas)"
    )
    assert ticket not in [held.ticket for held in group.state.held]


def test_row_6_a_hello_that_comes_after_the_kill_is_too_late(group: Group) -> None:
    group.work()
    slot = group.boot()
    group.advance(30)

    group.hello(slot)

    assert group.get(slot).phase is Phase.KILLING


# --- row 7: cold exits ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["booting", "ready"])
@pytest.mark.parametrize(
    ("how", "words"),
    [
        (exits(code=0, ran_ms=51), "worker exited with status 0 after 51ms without claiming any runs"),
        (exits(code=1), "worker exited with status 1 after 84ms without claiming any runs"),
        (exits("SIGSEGV", ran_ms=12), "worker was killed by SIGSEGV after 12ms without claiming any runs"),
        (
            exits("SIGKILL", ran_ms=2310, oom=True),
            "worker was killed by SIGKILL (out of memory, peak 1.9 GiB) after 2310ms without claiming any runs",
        ),
    ],
)
def test_row_7_a_cold_exit_with_nobody_serving_is_a_cooldown_that_rejects_the_held(
    group: Group,
    when: str,
    how: Exit,
    words: str,
) -> None:
    ticket = group.enqueue()
    slot = group.boot() if when == "booting" else group.hello()

    group.exit(slot, how)

    assert group.rows[-1] == "7"
    assert (group.health, group.state.failures) == (Health.COOLDOWN, 1)
    assert group.state.failure is not None
    assert group.state.failure.words == words
    assert group.state.failure.traceback_tail == ("KeyError: 'x'" if how.signal is None else None)
    assert group.of(Reject) == ([Reject(ticket, Refusal.UNHEALTHY)] if when == "booting" else [])
    assert group.state.until == pytest.approx(group.now.mono + 1, rel=0, abs=0.1)


def test_row_7_delays_are_1_2_4_up_to_60_seconds_within_ten_percent(group: Group) -> None:
    delays = []
    for _ in range(9):
        group.queue(1)
        group.cold_failure()
        assert group.state.until is not None
        delays.append(group.state.until - group.now.mono)
        group.advance(delays[-1])

    for delay, exact in zip(delays, [1, 2, 4, 8, 16, 32, 60, 60, 60], strict=True):
        assert 0.9 * exact <= delay <= 1.1 * exact
    assert len({delay / exact for delay, exact in zip(delays, [1, 2, 4, 8, 16, 32, 60, 60, 60], strict=True)}) > 5


def test_row_7_the_output_is_logged_once_for_a_failure_that_stays_the_same(group: Group) -> None:
    for _ in range(3):
        group.queue(1)
        group.cold_failure()
        group.advance(10)

    logged = [line for line in group.log if "without claiming" in line.message and "queued" not in line.message]
    assert [line.level for line in logged] == ["error", "warning", "warning"]
    assert logged[0].fields["stderr_tail"] == ["one", "two"]
    assert logged[0].message == (
        "worker exited with status 1 after 84ms without claiming any runs (1 failed start), "
        "next start in 1s; enqueues are refused until then"
    )
    assert "stderr_tail" not in logged[1].fields


def test_row_7_a_failure_that_changes_is_logged_in_full_again(group: Group) -> None:
    group.cold_failure()
    group.advance(10)
    group.cold_failure(exits(code=3))

    assert group.log[-1].level == "error"
    assert "stderr_tail" in group.log[-1].fields


def test_row_7_status_78_waits_a_minute_since_only_new_code_can_mend_it(group: Group) -> None:
    group.cold_failure(exits(code=78))

    assert group.state.until == group.now.mono + 60


def test_row_7b_a_cold_exit_beside_a_serving_slot_is_degraded_and_enqueues_are_still_accepted() -> None:
    group = Group(max_workers=2)
    group.active(runs=10)
    group.work(waiting=5)
    group.exit(group.boot())

    assert group.rows[-1] == "7b"
    assert (group.health, group.state.failures) == (Health.DEGRADED, 1)

    ticket = group.enqueue()
    assert group.of(Accept) == [Accept(ticket)]

    group.work(waiting=5)
    assert group.of(Spawn) == []


def test_row_7b_when_the_last_serving_slot_of_a_degraded_group_goes_it_is_in_cooldown() -> None:
    group = Group(max_workers=2)
    serving = group.active(runs=10)
    group.work(waiting=5)
    group.exit(group.boot())
    until = group.state.until

    group.exit(serving, exits("SIGKILL"))

    assert (group.health, group.state.until, group.state.failures) == (Health.COOLDOWN, until, 1)
    assert group.of(Spawn) == []
    assert group.of(Reclaim) == [Reclaim(serving.id, counted=True, death="SIGKILL")]


def test_row_7c_the_cold_exit_of_a_sibling_that_booted_before_the_failure_counts_no_more() -> None:
    group = Group(max_workers=3, concurrency=1)
    idle = group.active()
    group.exit(idle, exits(code=0))
    group.hold_runs(idle, 0)
    group.exit(idle, exits(code=0))
    group.work(waiting=3)
    slots = [group.boot() for _ in group.state.booting()]
    group.exit(slots[0])

    group.exit(slots[1])

    assert group.rows[-1] == "7c"
    assert (group.health, group.state.failures) == (Health.COOLDOWN, 1)


def test_row_7c_the_hello_of_such_a_sibling_is_row_4() -> None:
    group = Group(max_workers=2, concurrency=1, min_workers=2)
    first = group.active()
    group.exit(first, exits(code=0))  # with a run in flight: warm
    slots = group.state.booting()
    booted = [group.boot() for _ in slots]
    group.exit(booted[0])
    assert group.health is Health.COOLDOWN

    group.hello(booted[1])

    assert (group.health, group.state.failures) == (Health.HEALTHY, 1)


# --- rows 8, 9, 10: warm exits --------------------------------------------------------------------------------------


def test_row_8_a_warm_exit_reclaims_its_runs_and_respawns_at_once_if_there_is_work(group: Group) -> None:
    slot = group.active(runs=2)
    group.advance(5)
    group.queue(2)

    group.exit(slot, exits("SIGKILL", oom=True))

    assert group.rows[-1] == "8"
    assert group.health is Health.HEALTHY
    assert group.of(Reclaim) == [Reclaim(slot.id, counted=True, death="SIGKILL, out of memory, peak 1.9 GiB")]
    assert len(group.of(Spawn)) == 1
    assert group.log[-1].message == (
        "worker was killed by SIGKILL (out of memory, peak 1.9 GiB) after 84ms, 2 runs in flight"
    )


def test_row_8_a_warm_exit_with_no_work_left_stays_at_zero(group: Group) -> None:
    slot = group.active()
    group.advance(5)

    group.exit(slot)

    assert group.of(Spawn) == []


def test_row_8_exit_0_with_runs_in_flight_is_a_failure_not_idleness(group: Group) -> None:
    slot = group.active(runs=1)
    group.advance(5)

    group.exit(slot, exits(code=0))

    assert group.rows[-1] == "8"
    assert group.of(Reclaim) == [Reclaim(slot.id, counted=True, death="status 0")]


def test_row_8_a_ready_slot_of_at_least_1_second_that_a_signal_killed_is_no_cold_failure(group: Group) -> None:
    group.work()
    slot = group.hello()
    group.advance(1)

    group.exit(slot, exits("SIGTERM"))

    assert group.rows[-1] == "8"
    assert (group.health, group.state.failures) == (Health.HEALTHY, 0)
    assert len(group.of(Spawn)) == 1


def test_row_8_in_a_degraded_group_the_slot_that_went_is_replaced_and_no_other() -> None:
    group = Group(max_workers=4, concurrency=1)
    group.active()
    group.work(waiting=3)
    second = group.claim(group.hello(group.boot()))
    group.exit(group.boot())
    assert group.health is Health.DEGRADED
    group.advance(0.5)

    group.exit(second)

    assert len(group.of(Spawn)) == 1
    assert group.health is Health.DEGRADED


def test_row_9_the_second_warm_exit_in_60_seconds_of_a_slot_ready_for_less_than_1_waits_1_second(group: Group) -> None:
    group.queue(3)
    first = group.claim(group.hello(_spawn(group)))
    group.exit(first)
    assert len(group.of(Spawn)) == 1
    second = group.claim(group.hello())

    group.exit(second)

    assert group.rows[-1] == "9"
    assert group.of(Spawn) == []
    group.work(waiting=3)
    assert group.of(Spawn) == []
    group.advance(1)
    assert len(group.spawned) == 3


def _spawn(group: Group) -> Slot:
    group.do(events.Work())
    return group.boot()


def test_row_10_the_sixth_warm_exit_in_60_seconds_is_a_crash_loop(group: Group) -> None:
    slot = _five_warm_exits(group)
    group.advance(2)

    group.exit(slot, exits(code=3, ran_ms=2001))

    assert group.rows[-1] == "10"
    assert (group.health, group.state.failures) == (Health.COOLDOWN, 1)
    assert group.state.failure is not None
    assert group.state.failure.words == "worker crashed 6 times in 60s, last: exited with status 3 after 2001ms"
    assert group.of(Spawn) == []
    assert [effect.counted for effect in group.of(Reclaim)] == [True]


def test_row_10_after_a_crash_loop_the_count_of_warm_exits_begins_anew(group: Group) -> None:
    slot = _five_warm_exits(group)
    group.advance(2)
    group.exit(slot)
    group.advance(1.2)
    slot = group.claim(group.hello())
    group.advance(2)

    group.exit(slot)

    assert group.rows[-1] == "8"


def test_row_10_warm_exits_older_than_60_seconds_do_not_count(group: Group) -> None:
    group.queue(1)
    slot = group.claim(group.hello(_spawn(group)))
    for _ in range(12):
        group.advance(13)
        group.exit(slot)
        slot = group.claim(group.hello())

    assert group.health is Health.HEALTHY
    assert "10" not in group.rows


# --- rows 11 to 17: cooldown, probing, degraded ---------------------------------------------------------------------


def test_row_11_an_enqueue_in_cooldown_is_rejected(group: Group) -> None:
    group.cold_failure()

    ticket = group.enqueue()

    assert group.rows[-1] == "11"
    assert group.effects == [Reject(ticket, Refusal.UNHEALTHY)]


@pytest.mark.parametrize("min_workers", [0, 2])
def test_row_12_when_cooldown_ends_and_work_waits_or_the_group_is_always_on_exactly_one_is_tried(
    min_workers: int,
) -> None:
    group = Group(max_workers=4, concurrency=1, min_workers=min_workers)
    group.cold_failure()
    group.queue(0 if min_workers else 9)

    group.advance(1.2)

    assert group.rows[-1] == "12"
    assert group.health is Health.PROBING
    assert len(group.spawned) == 2


def test_row_12b_work_after_an_elapsed_cooldown_tries_exactly_one() -> None:
    group = Group(max_workers=4, concurrency=1)
    group.cold_failure()
    group.queue(0)
    group.advance(5)

    group.work(waiting=9)
    group.do(events.Work())

    assert "12b" in group.rows
    assert group.health is Health.PROBING
    assert len(group.spawned) == 2


def test_row_13_when_cooldown_ends_and_nothing_waits_the_group_stays_at_zero(group: Group) -> None:
    group.cold_failure()
    group.queue(0)

    group.advance(100)

    assert group.rows[-1] == "13"
    assert group.state.is_elapsed
    assert len(group.spawned) == 1
    group.do(events.Work())
    assert group.effects == []


def test_row_14_an_enqueue_after_an_elapsed_cooldown_tries_one_worker_and_is_held(group: Group) -> None:
    group.cold_failure()
    group.queue(0)
    group.advance(100)

    ticket = group.enqueue(wait_s=5)

    assert group.rows[-1] == "14"
    assert group.health is Health.PROBING
    assert len(group.of(Spawn)) == 1
    assert group.of(Hold) == [Hold(ticket)]
    assert group.state.held[0].until == group.now.mono + 4


def test_row_14_a_short_deadline_leaves_half_a_second_for_the_answer(group: Group) -> None:
    group.cold_failure()
    group.queue(0)
    group.advance(100)

    group.enqueue(wait_s=2)

    assert group.state.held[0].until == group.now.mono + 1.5


def test_row_14_a_held_enqueue_is_rejected_as_starting_when_it_can_wait_no_longer(group: Group) -> None:
    group.cold_failure()
    group.queue(0)
    group.advance(100)
    ticket = group.enqueue()

    group.advance(4)

    assert group.of(Reject) == [Reject(ticket, Refusal.STARTING)]
    assert group.health is Health.PROBING


def test_row_15_enqueues_while_probing_are_held_and_beyond_64_rejected(group: Group) -> None:
    group.cold_failure()
    group.queue(0)
    group.advance(100)
    for _ in range(64):
        group.enqueue()
    assert group.rows[-1] == "15"

    ticket = group.enqueue()

    assert group.of(Reject) == [Reject(ticket, Refusal.STARTING)]
    assert len(group.spawned) == 2


def test_row_16_what_is_stored_while_unhealthy_is_told_once(group: Group) -> None:
    group.cold_failure()

    group.work(waiting=2)
    group.do(events.Work())

    assert group.rows[-1] == "16"
    told = [line for line in group.log if "queued while unhealthy" in line.message]
    assert [line.message for line in told] == [
        "2 runs are queued while unhealthy: worker exited with status 1 after 84ms without claiming any runs"
    ]
    assert group.of(Spawn) == []


def test_row_17_when_a_degraded_groups_time_is_over_it_is_healthy_and_one_is_tried() -> None:
    group = Group(max_workers=4, concurrency=1)
    serving = group.active()
    group.work(waiting=1)
    group.exit(group.boot())
    group.queue(9)

    group.advance(1.2)

    assert group.rows[-1] == "17"
    assert (group.health, group.state.failures) == (Health.HEALTHY, 1)
    assert len(group.spawned) == 3
    group.do(events.Claim(serving.id))  # not a new slot
    assert group.state.failures == 1


# --- row 18: new code -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("event", [events.NewCode(), events.OperatorRetry()])
def test_row_18_new_code_clears_the_failures_and_one_probe_boots_at_once_work_or_not(
    group: Group, event: events.Event
) -> None:
    group.cold_failure()
    group.queue(0)

    group.do(event)

    assert group.rows[-1] == "18"
    assert (group.health, group.state.failures, group.state.failure) == (Health.UNPROVEN, 0, None)
    assert len(group.of(Spawn)) == 1
    assert group.state.slots[0].probe


def test_row_18_old_slots_stop_claiming_at_once_and_their_drain_time_starts_at_the_new_hello(group: Group) -> None:
    old = group.active(runs=2)

    group.do(events.NewCode())

    assert group.of(StopClaims) == [StopClaims(old.id)]
    assert group.of(Kill) == []
    assert (group.get(old).phase, group.get(old).why) == (Phase.DRAINING, Why.DEPLOY)
    new = group.boot()
    group.advance(20)
    group.hello(new)
    assert group.of(Kill) == [Kill(old.id, "SIGTERM")]
    group.advance(30)
    assert group.get(old).phase is Phase.DRAINING
    group.advance(2)  # it hands back what it did not finish
    assert group.of(Kill) == [Kill(old.id, "SIGKILL")]


def test_row_18_code_that_a_gate_has_proven_is_healthy_at_once_and_boots_for_work_only(group: Group) -> None:
    group.do(events.NewCode(proven=True))

    assert group.state.health is Health.HEALTHY
    assert group.of(Spawn) == []


def test_row_18_old_slots_of_proven_code_drain_at_once_whatever_they_hold(group: Group) -> None:
    old = group.active(runs=2)

    group.do(events.NewCode(proven=True))

    assert group.of(StopClaims) == [StopClaims(old.id)]
    assert group.of(Kill) == [Kill(old.id, "SIGTERM")]
    group.advance(32)
    assert group.of(Kill) == [Kill(old.id, "SIGKILL")]


def test_row_18_an_old_slot_with_nothing_in_flight_goes_at_once(group: Group) -> None:
    old = group.active()
    group.hold_runs(old, 0)

    group.do(events.NewCode())

    assert group.of(Kill) == [Kill(old.id, "SIGTERM")]


def test_row_18_an_old_slot_that_was_told_to_go_is_not_told_twice(group: Group) -> None:
    old = group.active()
    group.hold_runs(old, 0)
    group.do(events.NewCode())

    group.hello()

    assert group.of(Kill) == [], "a second SIGTERM says: hand back now"


def test_row_18_newer_code_kills_a_probe_that_is_still_booting(group: Group) -> None:
    group.do(events.NewCode())
    first = group.boot()

    group.do(events.NewCode())

    assert group.of(Kill) == [Kill(first.id, "SIGKILL")]
    second = group.boot()
    group.exit(first, exits("SIGKILL"))
    assert group.rows[-1] == "20"
    assert (group.health, group.state.failures) == (Health.UNPROVEN, 0)
    assert group.get(second).phase is Phase.BOOTING


def test_row_18_newer_code_withdraws_a_probe_that_is_not_spawned_yet(group: Group) -> None:
    group.do(events.NewCode())
    first = group.spawned[0]

    group.do(events.NewCode())

    assert group.of(Withdraw) == [Withdraw(first.worker_id)]
    assert len(group.state.slots) == 1


def test_row_18_how_a_hung_boot_of_old_code_ends_says_nothing_about_the_new(group: Group) -> None:
    group.work()
    hung = group.boot()
    group.advance(30)
    group.do(events.NewCode())

    group.exit(hung, exits("SIGKILL"))

    assert (group.health, group.state.failures) == (Health.UNPROVEN, 0)


def test_row_18_enqueues_held_for_the_old_code_wait_for_the_new(group: Group) -> None:
    ticket = group.enqueue()
    group.boot()
    group.do(events.NewCode())

    group.hello(group.boot())

    assert group.of(Accept) == [Accept(ticket)]


def test_row_18_a_broken_deploy_leaves_the_old_worker_to_finish_its_runs(group: Group) -> None:
    old = group.active(runs=1)
    group.do(events.NewCode())

    group.exit(group.boot())

    assert group.health is Health.COOLDOWN
    group.advance(3600)
    assert group.get(old).phase is Phase.DRAINING


def test_row_18_a_paused_group_stays_paused_when_code_changes_and_an_operators_retry_starts_it(group: Group) -> None:
    group.do(events.Shutdown(timeout_s=30))

    group.do(events.NewCode())
    assert (group.health, group.effects) == (Health.STOPPED, [])
    group.do(events.OperatorRetry())

    assert group.health is Health.UNPROVEN


# --- row 19: idleness -----------------------------------------------------------------------------------------------


def test_row_19_an_idle_worker_may_exit_after_the_idle_timeout_when_there_is_no_work(group: Group) -> None:
    slot = group.active()
    group.hold_runs(slot, 0)

    group.do(events.IdleAsked(slot.id, idle_s=300))

    assert group.of(events.AnswerIdle) == [events.AnswerIdle(slot.id, may_exit=True)]
    assert (group.get(slot).phase, group.get(slot).why) == (Phase.DRAINING, Why.IDLE)
    assert group.of(StopClaims) == [StopClaims(slot.id)]
    group.exit(slot, exits(code=0))
    assert group.rows[-1] == "20"
    assert (group.health, group.state.slots, group.log) == (Health.HEALTHY, (), [])


@pytest.mark.parametrize(
    ("waiting", "in_flight", "idle_s", "min_workers"), [(1, 0, 300, 0), (0, 1, 300, 0), (0, 0, 299, 0), (0, 0, 300, 1)]
)
def test_row_19_it_stays_while_there_is_work_or_it_is_needed_or_not_idle_long_enough(
    waiting: int, in_flight: int, idle_s: float, min_workers: int
) -> None:
    group = Group(min_workers=min_workers)
    group.queue(1)
    slot = group.active()
    group.hold_runs(slot, in_flight)
    group.queue(waiting)

    group.do(events.IdleAsked(slot.id, idle_s=idle_s))

    assert group.effects == [events.AnswerIdle(slot.id, may_exit=False)]
    assert group.get(slot).phase is Phase.ACTIVE


def test_row_19_a_probe_may_exit_at_once(group: Group) -> None:
    group.do(events.NewCode())
    slot = group.hello()

    group.do(events.IdleAsked(slot.id, idle_s=0))

    assert group.of(events.AnswerIdle) == [events.AnswerIdle(slot.id, may_exit=True)]


def test_row_19_a_probe_that_has_worked_is_an_ordinary_worker(group: Group) -> None:
    group.do(events.NewCode())
    slot = group.claim(group.hello())
    group.hold_runs(slot, 0)

    group.do(events.IdleAsked(slot.id, idle_s=0))

    assert group.of(events.AnswerIdle) == [events.AnswerIdle(slot.id, may_exit=False)]


def test_row_19_a_probe_whose_hello_let_an_enqueue_in_waits_for_that_run(group: Group) -> None:
    group.do(events.NewCode())
    group.enqueue()
    slot = group.hello()

    group.do(events.IdleAsked(slot.id, idle_s=0))

    assert group.of(events.AnswerIdle) == [events.AnswerIdle(slot.id, may_exit=False)]


# --- row 20: exits that were asked for ------------------------------------------------------------------------------


def test_row_20_the_exit_of_a_draining_slot_hands_its_runs_back_uncounted(group: Group) -> None:
    old = group.active(runs=2)
    group.do(events.NewCode())
    group.hello()

    group.exit(old, exits("SIGKILL"))

    assert group.rows[-1] == "20"
    assert group.of(Reclaim) == [Reclaim(old.id, counted=False, death=None)]
    assert group.state.failures == 0


def test_row_20_a_non_zero_exit_after_permission_is_only_a_warning(group: Group) -> None:
    slot = group.active()
    group.hold_runs(slot, 0)
    group.do(events.IdleAsked(slot.id, idle_s=300))

    group.exit(slot)

    assert (group.health, group.state.failures) == (Health.HEALTHY, 0)
    assert [line.level for line in group.log] == ["warning"]


def test_row_20_a_worker_that_recycled_itself_is_replaced_and_counts_towards_no_crash_loop(group: Group) -> None:
    for _ in range(8):
        slot = group.active()
        group.hold_runs(slot, 0)
        group.queue(1)
        group.exit(slot, exits(code=75))
        assert group.rows[-1] == "20"
        group.advance(2)

    assert (group.health, group.state.failures, group.state.warm_exits) == (Health.HEALTHY, 0, ())
    assert {line.level for line in group.log} == {"warning"}


def test_row_8_a_worker_that_ends_as_if_recycled_with_runs_in_flight_has_crashed(group: Group) -> None:
    slot = group.active(runs=1)

    group.exit(slot, exits(code=75))

    assert group.rows[-1] == "8"
    assert group.of(Reclaim) == [Reclaim(slot.id, counted=True, death="status 75")]


def test_row_20_work_that_arrived_while_a_slot_idled_out_starts_another(group: Group) -> None:
    slot = group.active()
    group.hold_runs(slot, 0)
    group.do(events.IdleAsked(slot.id, idle_s=300))
    group.queue(1)

    group.exit(slot, exits(code=0))

    assert len(group.of(Spawn)) == 1


def test_row_20_work_that_waits_when_a_slot_of_old_code_goes_is_a_reason_to_try_again(group: Group) -> None:
    old = group.active(runs=1)
    group.do(events.NewCode())
    group.exit(group.boot())
    group.advance(5)
    assert group.state.is_elapsed
    group.queue(1)

    group.exit(old, exits(code=0))

    assert group.health is Health.PROBING
    assert len(group.of(Spawn)) == 1


def test_row_20_exit_0_after_a_claim_with_nothing_in_flight_is_a_clean_idle_out(group: Group) -> None:
    slot = group.active()
    group.hold_runs(slot, 0)

    group.exit(slot, exits(code=0))

    assert group.rows[-1] == "20"
    assert group.log == []


def test_row_20_a_v0_worker_that_has_waited_its_idle_timeout_may_exit_0_without_asking(group: Group) -> None:
    group.work()
    slot = group.hello(v0=True)
    group.advance(300)

    group.exit(slot, exits(code=0))

    assert group.rows[-1] == "20"
    assert group.state.failures == 0


def test_row_20_a_slot_that_does_not_end_in_its_drain_time_is_killed(group: Group) -> None:
    slot = group.active()
    group.hold_runs(slot, 0)
    group.do(events.IdleAsked(slot.id, idle_s=300))

    group.advance(32)

    assert group.of(Kill) == [Kill(slot.id, "SIGKILL")]


# --- rows 21, 22: silence -------------------------------------------------------------------------------------------


def test_row_21_a_lease_that_expired_takes_the_runs_back_and_ends_the_worker(group: Group) -> None:
    slot = group.active(runs=2)

    group.do(events.LeaseExpired(slot.id))

    assert group.of(Reclaim) == [Reclaim(slot.id, counted=True, death="stopped answering for 30s")]
    assert group.of(Kill) == [Kill(slot.id, "SIGTERM")]
    group.hold_runs(slot, 0)
    group.advance(5)
    assert group.of(Kill) == [Kill(slot.id, "SIGKILL")]
    group.queue(2)
    group.exit(slot, exits("SIGKILL"))
    assert group.rows[-1] == "8"
    assert group.log[-1].message == "worker stopped answering for 30s"
    assert group.of(Reclaim) == [Reclaim(slot.id, counted=False, death=None)]
    assert len(group.of(Spawn)) == 1


def test_row_21b_a_deaf_worker_is_drained_and_replaced_and_its_runs_may_finish(group: Group) -> None:
    slot = group.active(runs=2)
    group.queue(3)

    group.do(events.Deaf(slot.id, quiet_s=30))

    assert group.rows[-1] == "21b"
    assert group.of(Kill) == [Kill(slot.id, "SIGTERM")]
    assert group.of(StopClaims) == [StopClaims(slot.id)]
    assert group.get(slot).why is Why.DEAF
    assert group.get(slot).kill_by == group.now.mono + 32  # the drain time, and what handing back may take
    assert group.log[-1].level == "error"
    assert group.log[-1].message == (
        "worker claimed nothing for 30s although runs waited and it had room; it is replaced"
    )
    assert len(group.of(Spawn)) == 1
    group.exit(slot, exits(code=0))
    assert group.of(Reclaim) == [Reclaim(slot.id, counted=False, death=None)]
    assert group.health is Health.HEALTHY


def test_row_21c_a_worker_that_recycles_itself_is_replaced_before_it_is_gone(group: Group) -> None:
    slot = group.active(runs=2)
    group.queue(3)

    group.do(events.Leaving(slot.id))

    assert group.rows[-1] == "21c"
    assert group.of(Kill) == []  # it drains already; SIGTERM would say: hand back now
    assert group.get(slot).kill_by == group.now.mono + 32
    assert len(group.of(Spawn)) == 1
    group.exit(slot, exits(code=75))
    assert group.of(Reclaim) == [Reclaim(slot.id, counted=False, death=None)]
    assert [line.level for line in group.log] == ["warning"]
    assert (group.health, group.state.warm_exits) == (Health.HEALTHY, ())


def test_row_21b_a_deaf_worker_with_nothing_in_flight_has_five_seconds(group: Group) -> None:
    slot = group.active()
    group.hold_runs(slot, 0)
    group.queue(1)

    group.do(events.Deaf(slot.id, quiet_s=30))
    group.advance(5.5)

    assert group.of(Kill) == [Kill(slot.id, "SIGKILL")]


def test_row_21b_a_worker_that_is_deaf_from_the_beginning_is_a_failed_start(group: Group) -> None:
    group.work()
    slot = group.hello()

    group.do(events.Deaf(slot.id, quiet_s=30))

    assert group.health is Health.COOLDOWN
    assert group.state.failures == 1
    assert group.state.failure is not None
    assert group.state.failure.words == "worker claimed nothing for 30s although runs waited and it had room"
    assert group.of(Spawn) == []
    group.exit(slot, exits("SIGKILL"))
    assert group.state.failures == 1
    group.advance(2)
    assert len(group.spawned) == 2


def test_row_21b_beside_a_serving_worker_it_is_degraded() -> None:
    group = Group(max_workers=2, concurrency=1)
    group.active()
    group.work(waiting=2)
    second = group.hello()

    group.do(events.Deaf(second.id, quiet_s=30))

    assert group.health is Health.DEGRADED


def test_row_22_a_lost_connection_has_15_seconds_to_come_back(group: Group) -> None:
    slot = group.active()

    group.do(events.ConnectionLost(slot.id))
    group.advance(14.9)
    assert group.get(slot).phase is Phase.ACTIVE
    group.do(events.Reconnected(slot.id))
    group.advance(100)

    assert group.get(slot).phase is Phase.ACTIVE


def test_row_22_a_connection_that_does_not_come_back_is_row_21(group: Group) -> None:
    slot = group.active()
    group.do(events.ConnectionLost(slot.id))

    group.advance(15)

    assert group.rows[-1] == "21"
    assert group.get(slot).phase is Phase.KILLING


# --- rows 23, 24: the daemon starts ---------------------------------------------------------------------------------


@pytest.mark.parametrize("same_boot", [True, False])
def test_row_23_the_runs_of_a_recorded_worker_that_is_dead_come_back_counted_only_on_the_same_boot(
    group: Group, same_boot: bool
) -> None:
    group.do(events.Recorded("w1", alive=False, same_boot=same_boot))

    assert group.rows[-1] == "23"
    (reclaim,) = group.of(Reclaim)
    assert reclaim.counted is same_boot
    assert group.of(events.ForgetWorker) == [events.ForgetWorker("w1")]
    assert group.health is Health.UNPROVEN


def test_row_23_the_end_of_a_worker_that_the_engine_before_had_asked_to_end_is_not_counted(group: Group) -> None:
    group.do(events.Recorded("w1", alive=False, same_boot=True, claimed=True, why=Why.SHUTDOWN))

    assert group.of(Reclaim) == [Reclaim("w1", counted=False, death=None)]


def test_row_24_a_worker_that_drains_is_adopted_draining_and_its_time_begins_anew(group: Group) -> None:
    group.do(events.Recorded("w1", alive=True, same_boot=True, ready=True, claimed=True, why=Why.DEPLOY))

    assert group.phases == ["draining"]
    assert group.health is Health.UNPROVEN, "what drains proves nothing about the code"
    group.advance(29)
    assert group.of(Kill) == []
    group.advance(2)
    assert group.of(Kill) == [Kill("w1", "SIGKILL")]
    group.do(events.Exited("w1", Exit(None, None, 9)))
    assert group.of(Reclaim) == [Reclaim("w1", counted=False, death=None)]


def test_a_worker_that_is_asked_to_end_is_recorded_as_one(group: Group) -> None:
    slot = group.active()

    group.do(events.Shutdown(timeout_s=30))

    assert events.SaveWorker(slot.id) in group.effects


@pytest.mark.parametrize(
    ("ready", "claimed", "health", "phase"),
    [
        (True, True, Health.HEALTHY, Phase.ACTIVE),
        (True, False, Health.UNPROVEN, Phase.READY),
        (False, False, Health.UNPROVEN, Phase.BOOTING),
    ],
)
def test_row_24_a_recorded_worker_that_is_alive_is_adopted_healthy_if_it_had_claimed(
    group: Group, ready: bool, claimed: bool, health: Health, phase: Phase
) -> None:
    group.do(events.Recorded("w1", alive=True, same_boot=True, ready=ready, claimed=claimed))

    assert group.rows[-1] == "24"
    assert group.health is health
    assert group.state.slots[0].phase is phase


def test_row_24_an_adopted_worker_that_does_not_call_within_15_seconds_is_row_21(group: Group) -> None:
    group.do(events.Recorded("w1", alive=True, same_boot=True, ready=True, claimed=True))

    group.advance(15)

    assert group.of(Kill) == [Kill("w1", "SIGTERM")]


def test_row_24_the_hello_of_an_adopted_worker_that_had_not_claimed_proves_the_code(group: Group) -> None:
    group.do(events.Recorded("w1", alive=True, same_boot=True, ready=True, claimed=False))

    group.do(events.Hello("w1"))

    assert group.health is Health.HEALTHY
    group.advance(100)
    assert group.phases == ["ready"]


def test_row_24_beside_an_adopted_worker_that_has_yet_to_claim_nobody_is_tried_after_failures_either() -> None:
    group = Group(state=GroupState(health=Health.COOLDOWN, failures=3))
    group.do(events.Recorded("w1", alive=True, same_boot=True, ready=True, claimed=False))

    ticket = group.enqueue()

    assert group.spawned == []
    group.do(events.Hello("w1"))
    assert group.of(Accept) == [Accept(ticket)]
    assert group.state.failures == 3


# --- row 25: stop ---------------------------------------------------------------------------------------------------


def test_row_25_shutdown_ends_all_workers_and_refuses_the_held_and_all_that_come(group: Group) -> None:
    group.active(runs=3)
    (slot,) = group.state.slots
    group.do(events.Shutdown(timeout_s=30))

    assert group.of(Kill) == [Kill(slot.id, "SIGTERM")]
    ticket = group.enqueue()
    assert group.of(Reject) == [Reject(ticket, Refusal.STOPPED)]
    group.advance(32)
    assert group.of(Kill) == [Kill(slot.id, "SIGKILL")]
    group.exit(slot, exits("SIGKILL"))
    assert group.of(Reclaim) == [Reclaim(slot.id, counted=False, death=None)]
    group.work()
    assert (group.health, group.effects) == (Health.STOPPED, [])


def test_row_25_held_enqueues_are_refused_and_a_spawn_that_has_not_happened_is_withdrawn(group: Group) -> None:
    ticket = group.enqueue()

    group.do(events.Shutdown(timeout_s=30))

    assert group.of(Reject) == [Reject(ticket, Refusal.STOPPED)]
    assert group.of(Withdraw) == [Withdraw(group.spawned[0].worker_id)]
    assert group.state.slots == ()


def test_row_25_a_worker_that_drains_for_a_deploy_is_not_hurried_by_a_shutdown(group: Group) -> None:
    old = group.active(runs=1)
    group.do(events.NewCode())
    new = group.hello()

    group.do(events.Shutdown(timeout_s=30))
    assert group.of(Kill) == [Kill(new.id, "SIGTERM")]
    group.do(events.Shutdown(timeout_s=5))

    assert group.of(Kill) == [Kill(old.id, "SIGTERM"), Kill(new.id, "SIGTERM")]


def test_row_25_a_boot_that_hung_before_the_shutdown_just_ends(group: Group) -> None:
    group.work()
    slot = group.boot()
    group.advance(30)
    group.do(events.Shutdown(timeout_s=30))

    group.exit(slot, exits("SIGKILL"))

    assert (group.health, group.state.slots) == (Health.STOPPED, ())


def test_row_25_a_paused_group_stays_so_when_code_changes_and_goes_on_when_it_is_resumed(group: Group) -> None:
    slot = group.active(runs=0)
    group.do(events.Shutdown(timeout_s=30, paused=True))
    group.exit(slot, exits(code=0))
    group.do(events.NewCode())
    group.work(3)
    assert (group.health, group.state.paused, group.spawned[1:]) == (Health.STOPPED, True, [])

    group.do(events.OperatorRetry())

    assert (group.health, group.state.paused) == (Health.UNPROVEN, False)
    assert len(group.spawned) == 2


# --- row 26: failing ------------------------------------------------------------------------------------------------


def test_row_26_at_10_failures_the_group_is_failing_with_one_error_line_per_doubling(group: Group) -> None:
    for n in range(1, 46):
        group.queue(1)
        group.cold_failure()
        assert group.state.is_failing is (n >= 10)
        group.advance(70)

    told = [line for line in group.log if "is failing" in line.message]
    assert [line.fields["failures"] for line in told] == [10, 20, 40]
    assert {line.level for line in told} == {"error"}
    assert told[0].message == (
        'group "default" is failing: 10 failed starts in a row, tried again every 60s; '
        "last: worker exited with status 1 after 84ms without claiming any runs"
    )
    assert group.health is Health.PROBING


def test_row_26_a_group_whose_worker_says_hello_is_not_failing_though_its_count_stands(group: Group) -> None:
    for _ in range(10):
        group.queue(1)
        group.cold_failure()
        group.advance(70)

    group.hello()

    assert (group.health, group.state.failures, group.state.is_failing) == (Health.HEALTHY, 10, False)


def test_the_first_failure_of_a_series_says_since_when(group: Group) -> None:
    group.cold_failure()
    first = group.state.since_ms
    group.advance(70)
    group.cold_failure()
    assert group.state.since_ms == first
    group.advance(70)
    group.work()
    slot = group.claim(group.hello())
    group.hold_runs(slot, 0)
    group.exit(slot, exits(code=0))

    group.cold_failure()

    assert group.state.since_ms == group.now.unix_ms


# --- solo slots (L3) ------------------------------------------------------------------------------------------------


def test_a_suspect_is_run_in_one_extra_slot_beside_the_normal_ones(group: Group) -> None:
    group.active(runs=10)
    group.queue(5, suspects=3)

    group.do(events.Work())
    group.do(events.Work())

    assert [spawn.solo for spawn in group.spawned] == [False, True]


def test_suspects_alone_start_no_normal_worker(group: Group) -> None:
    slot = group.active()
    group.hold_runs(slot, 0)
    group.exit(slot, exits(code=0))
    group.queue(0, suspects=2)

    group.do(events.Work())

    assert group.of(Spawn) == [Spawn(group.spawned[-1].worker_id, solo=True)]


def test_suspects_of_unproven_code_wait_for_a_hello(group: Group) -> None:
    group.queue(0, suspects=2)
    group.do(events.Work())
    assert [spawn.solo for spawn in group.spawned] == [False]

    group.hello()

    assert [spawn.solo for spawn in group.spawned] == [False, True]


def test_the_deaths_of_solo_workers_do_not_count_towards_the_crash_loop(group: Group) -> None:
    group.active()
    group.queue(0, suspects=20)
    group.do(events.Work())
    for _ in range(10):
        group.exit(group.claim(group.hello()), exits("SIGKILL"))

    assert (group.health, group.state.failures) == (Health.HEALTHY, 0)
    assert len(group.spawned) == 12


def _five_warm_exits(group: Group) -> Slot:
    group.queue(1)
    slot = group.claim(group.hello(_spawn(group)))
    for _ in range(5):
        group.advance(2)
        group.exit(slot)
        slot = group.claim(group.hello())
    return slot


def test_the_death_of_a_solo_worker_is_not_the_sixth_either(group: Group) -> None:
    _five_warm_exits(group)
    group.queue(0, suspects=1)
    group.do(events.Work())
    solo = group.claim(group.hello())

    group.exit(solo, exits("SIGKILL"))

    assert group.rows[-1] == "8"


def test_after_the_deaths_of_solo_workers_a_normal_one_dies_for_the_first_time(group: Group) -> None:
    normal = group.active()
    group.queue(0, suspects=20)
    group.do(events.Work())
    for _ in range(6):
        group.exit(group.claim(group.hello()), exits("SIGKILL"))
    group.advance(2)

    group.exit(normal)

    assert group.rows[-1] == "8"


def test_a_solo_worker_may_exit_as_soon_as_no_suspect_waits(group: Group) -> None:
    group.active()
    group.queue(3, suspects=1)
    group.do(events.Work())
    solo = group.claim(group.hello())
    group.hold_runs(solo, 0)
    group.queue(3, suspects=0)

    group.do(events.IdleAsked(solo.id, idle_s=0))

    assert group.of(events.AnswerIdle) == [events.AnswerIdle(solo.id, may_exit=True)]


def test_a_solo_worker_that_serves_does_not_make_a_broken_group_look_served(group: Group) -> None:
    first = group.active()
    group.queue(0, suspects=1)
    group.do(events.Work())
    group.hello()
    group.exit(first, exits("SIGKILL"))
    group.work()

    group.exit(group.boot())

    assert group.health is Health.COOLDOWN


# --- always on ------------------------------------------------------------------------------------------------------


def test_an_always_on_group_starts_without_work_and_respawns_on_clean_exits_too() -> None:
    group = Group(min_workers=2, concurrency=10)
    group.do(events.Work())
    group.hello()
    assert len(group.spawned) == 2
    group.hello()
    slot = group.state.slots[0]
    group.do(events.Claim(slot.id))
    group.hold_runs(slot, 0)

    group.exit(slot, exits(code=0))

    assert len(group.of(Spawn)) == 1


def test_an_exit_of_a_worker_that_no_slot_has_changes_nothing(group: Group) -> None:
    before = group.state

    group.do(events.Exited("gone", CRASH))

    assert (group.state, group.effects) == (before, [])


def test_the_initial_state_of_a_group_is_unproven() -> None:
    assert GroupState().health is Health.UNPROVEN
