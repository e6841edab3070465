from __future__ import annotations

import pytest

from tako.supervisor.patience import Patience


@pytest.fixture
def patience() -> Patience:
    return Patience()


def test_a_start_that_fails_again_and_again_is_tried_later_and_later_up_to_a_minute(patience: Patience) -> None:
    waits = []
    for _ in range(9):
        patience.start_failed(100.0)
        waits.append(patience.wait_s(100.0))

    assert waits == [0.5, 1, 2, 4, 8, 16, 32, 60, 60]
    assert patience.wait_s(161.0) < 0


def test_after_a_start_that_succeeds_the_next_failure_is_the_first(patience: Patience) -> None:
    patience.start_failed(100.0)
    patience.start_failed(100.0)
    patience.started()
    patience.start_failed(200.0)

    assert (patience.failures, patience.wait_s(200.0)) == (1, 0.5)


def test_the_first_death_is_made_up_for_at_once_and_the_fifth_within_a_minute_is_a_crash_loop(
    patience: Patience,
) -> None:
    deaths = [(patience.died(at), patience.wait_s(at)) for at in (100.0, 110.0, 120.0, 130.0, 140.0)]

    assert [is_loop for is_loop, _ in deaths] == [False, False, False, False, True]
    assert [max(0.0, wait_s) for _, wait_s in deaths] == [0.0, 0.5, 1.0, 2.0, 60.0]


def test_starts_between_deaths_do_not_hide_a_crash_loop_and_time_does(patience: Patience) -> None:
    for at in (100.0, 110.0, 120.0, 130.0):
        patience.died(at)
        patience.started()
    assert patience.died(140.0)

    assert not patience.died(250.0)


def test_another_code_begins_anew(patience: Patience) -> None:
    patience.start_failed(100.0)
    for _ in range(5):
        patience.died(100.0)

    patience.begin_anew()

    assert patience.failures == 0
    assert patience.wait_s(100.0) < 0
    assert not patience.died(100.0)
