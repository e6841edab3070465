"""The last minutes by the second, the last day by the minute."""

from __future__ import annotations

from tako.metrics.ring import KEPT_MINUTES, KEPT_SECONDS, Ring

T = 1_800_000_000_000


def test_what_happened_in_a_second_is_one_sample() -> None:
    ring = Ring()
    ring.now(T + 10).enqueued += 1
    ring.now(T + 990).ended("succeeded")
    ring.now(T + 1_000).ended("dead")

    assert [(s.at_ms, s.enqueued, s.succeeded, s.dead) for s in ring.seconds] == [(T, 1, 1, 0), (T + 1_000, 0, 0, 1)]


def test_seconds_are_put_together_to_steps_and_steps_in_which_nothing_happened_are_there() -> None:
    ring = Ring()
    for second in (0, 1, 7):
        ring.now(T + second * 1_000).ended("succeeded")

    steps = ring.last(now_ms=T + 10_000, step_ms=5_000, count=3)

    assert [(s.at_ms - T, s.succeeded) for s in steps] == [(0, 2), (5_000, 1), (10_000, 0)]


def test_the_queue_stays_as_it_was_where_nothing_happened() -> None:
    ring = Ring()
    sample = ring.now(T)
    sample.depth, sample.oldest_due_ms = 7, T - 60_000

    steps = ring.last(now_ms=T + 12_000, step_ms=5_000, count=4)

    assert [s.depth for s in steps] == [0, 7, 7, 7]
    assert [s.oldest_due_ms for s in steps] == [None, T - 60_000, T - 60_000, T - 60_000]


def test_the_queue_from_before_the_picture_is_seen_in_it() -> None:
    ring = Ring()
    ring.now(T).depth = 3

    assert [s.depth for s in ring.last(now_ms=T + 60_000, step_ms=5_000, count=3)] == [3, 3, 3]


def test_minutes_hold_what_the_seconds_held_the_one_under_way_included() -> None:
    ring = Ring()
    for second in range(0, 150, 10):
        ring.now(T + second * 1_000).ended("succeeded")

    steps = ring.last(now_ms=T + 149_000, step_ms=60_000, count=3)

    assert [s.succeeded for s in steps] == [6, 6, 3]


def test_a_clock_that_was_put_back_counts_into_the_newest_second() -> None:
    ring = Ring()
    ring.now(T + 5_000).enqueued += 1
    ring.now(T).enqueued += 1

    assert [(s.at_ms, s.enqueued) for s in ring.seconds] == [(T + 5_000, 2)]


def test_what_is_kept_has_an_end() -> None:
    ring = Ring()
    for second in range(KEPT_MINUTES * 61):
        ring.now(T + second * 1_000).enqueued += 1

    assert (len(ring.seconds), len(ring.minutes)) == (KEPT_SECONDS, KEPT_MINUTES)
