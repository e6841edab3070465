from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tako import Cron, Every, Rate, Retry
from tako.sdk import options

UNITS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}


@pytest.mark.parametrize(
    ("written", "ms"),
    [
        ("90s", 90_000),
        ("10m", 600_000),
        ("1h30m", 5_400_000),
        ("7d", 604_800_000),
        ("500ms", 500),
        ("1.5h", 5_400_000),
        (" 5s ", 5_000),
        ("1h 30m", 5_400_000),
        ("2w", 1_209_600_000),
        (90, 90_000),
        (2.5, 2_500),
        (0, 0),
        (timedelta(minutes=1, milliseconds=1), 60_001),
    ],
)
def test_a_duration_is_text_seconds_or_a_timedelta(written: Any, ms: int) -> None:
    assert options.duration_ms(written) == ms


@pytest.mark.parametrize(
    "written",
    ["", "5", "s", "5x", "-5s", "5 5", "1..5s", "5s0", ".", "5s-", "½h", "５s", -1, float("nan"), float("inf"), 1e300,
     timedelta(seconds=-1)],
)  # fmt: skip
def test_what_is_no_duration_is_an_error_that_names_it(written: Any) -> None:
    with pytest.raises(ValueError, match="timeout: expected a duration"):
        options.duration_ms(written, what="timeout")


@pytest.mark.parametrize("written", [None, True, b"5s", ["5s"]])
def test_what_is_not_even_of_a_type_of_durations_is_a_type_error(written: Any) -> None:
    with pytest.raises(TypeError, match="timeout: expected a duration"):
        options.duration_ms(written, what="timeout")


@given(st.lists(st.tuples(st.integers(0, 999), st.sampled_from(list(UNITS))), min_size=1, max_size=4))
def test_a_duration_of_several_parts_is_their_sum(parts: list[tuple[int, str]]) -> None:
    text = "".join(f"{amount}{unit}" for amount, unit in parts)

    assert options.duration_ms(text) == sum(amount * UNITS[unit] for amount, unit in parts)


@given(st.text(alphabet="0123456789.smhdw -e+_x", max_size=12))
def test_any_text_is_a_duration_or_a_value_error(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert options.duration_ms(text) >= 0


def test_an_instant_has_a_time_zone() -> None:
    assert options.instant_ms(datetime(2026, 1, 1, tzinfo=UTC)) == 1_767_225_600_000
    with pytest.raises(ValueError, match=r"at: .* has no time zone"):
        options.instant_ms(datetime(2026, 1, 1), what="at")
    with pytest.raises(TypeError, match="at: expected a datetime"):
        options.instant_ms(5, what="at")  # type: ignore[arg-type]


def test_a_retry_tells_the_engine_its_policy() -> None:
    retry = Retry(5, first="1s", factor=3, max="1h", jitter=0.1)

    assert retry.policy() == {"first_ms": 1_000, "factor": 3.0, "max_ms": 3_600_000, "jitter": 0.1, "retries": 5}


def test_a_retry_covers_what_on_names_and_not_what_not_on_names() -> None:
    retry = Retry(on=OSError, not_on=(FileNotFoundError,))

    assert retry.covers(TimeoutError())
    assert not retry.covers(ValueError())
    assert not retry.covers(FileNotFoundError())
    assert Retry().covers(ValueError())


@pytest.mark.parametrize(
    ("given_", "error"),
    [
        ({"retries": -1}, "retries: expected a whole number"),
        ({"retries": True}, "retries: expected a whole number"),
        ({"factor": 0.5}, "factor: expected a number from 1"),
        ({"jitter": 2}, "jitter: expected a number from 0 to 1"),
        ({"first": "soon"}, "first: expected a duration"),
        ({"on": "OSError"}, "on: expected exception classes"),
    ],
)
def test_a_retry_that_cannot_be_is_an_error(given_: dict[str, Any], error: str) -> None:
    with pytest.raises((ValueError, TypeError), match=error):
        Retry(**given_)


def test_retries_may_be_written_as_a_number() -> None:
    assert options.retry_of(3) == Retry(3)
    assert hash(options.retry_of(3)) == hash(Retry(3))
    assert options.retry_of(3) != Retry(4)


def test_a_schedule_is_a_line_a_cron_an_every_or_several() -> None:
    found = options.schedules_of(["0 9 * * 1-5", Cron("*/5 * * * *", tz="Europe/Paris", overlap="queue"), Every("15m")])

    assert [schedule.declared()["kind"] for schedule in found] == ["cron", "cron", "every"]
    assert found[0].declared() == {
        "kind": "cron", "expression": "0 9 * * 1-5", "tz": "UTC", "catch_up": "latest",
        "catch_up_window_ms": 86_400_000, "overlap": "skip", "grace_ms": 300_000,
    }  # fmt: skip
    assert found[2].declared()["interval_ms"] == 900_000
    assert options.schedules_of(None) == ()


@pytest.mark.parametrize(
    "make",
    [
        lambda: Cron("* * * *"),
        lambda: Cron("0 9 * * *", overlap="maybe"),  # type: ignore[arg-type]
        lambda: Cron("0 9 * * *", tz=""),
        lambda: Cron("0 9 * * *", catch_up="all"),  # type: ignore[arg-type]
        lambda: Every("500ms"),
        lambda: Every("1m", jitter="1m"),
        lambda: Rate(0),
        lambda: Rate(1, per=0),
    ],
)
def test_a_schedule_or_rate_of_the_wrong_shape_is_an_error(make: Any) -> None:
    with pytest.raises(ValueError, match="expected"):
        make()


def test_a_rate_tells_what_it_limits() -> None:
    assert Rate(20, per="1s", key="{tenant_id}").declared() == {"count": 20, "per_ms": 1_000, "key": "{tenant_id}"}
