from __future__ import annotations

import pytest

from tako.cli import moments
from tako.cli.arguments import UsageError

HOUR_MS = 3_600_000


def test_a_duration_is_read_as_everywhere() -> None:
    assert moments.duration_ms("1h30m", option="--delay") == HOUR_MS * 3 // 2


@pytest.mark.parametrize("text", ["10", "", "ten minutes", "-5m"])
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match="--delay: expected a duration such as"):
        moments.duration_ms(text, option="--delay")


def test_a_time_is_read_with_its_zone() -> None:
    assert moments.instant_ms("1970-01-01T01:00:00+01:00", option="--at") == 0
    assert moments.instant_ms("1970-01-01T00:00:01Z", option="--at") == 1000


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(UsageError, match="says no zone"):
        moments.instant_ms("2026-11-24T09:00:00", option="--at")


def test_the_past_is_a_duration_before_now_or_a_time() -> None:
    assert moments.past_ms("1h", option="--since", now_ms=2 * HOUR_MS) == HOUR_MS
    assert moments.past_ms("1970-01-01T00:00:01Z", option="--since", now_ms=0) == 1000


def test_what_is_no_past_is_refused_with_both_ways_to_say_it() -> None:
    with pytest.raises(UsageError, match=r'expected how long ago, such as "2h", or a time .* found .yes'):
        moments.past_ms("yesterday", option="--since", now_ms=0)


@pytest.mark.parametrize(
    ("ms", "text"), [(840, "840ms"), (12_000, "12s"), (61_000, "1m"), (HOUR_MS * 3, "3h"), (HOUR_MS * 49, "2d")]
)
def test_a_length_of_time_has_one_unit(ms: int, text: str) -> None:
    assert moments.span(ms) == text


def test_what_was_and_what_comes_are_told_apart() -> None:
    assert moments.ago(0, now_ms=HOUR_MS) == "1h ago"
    assert moments.ago(HOUR_MS, now_ms=0) == "in 1h"
