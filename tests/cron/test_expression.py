"""Times of schedules."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from itertools import islice
from zoneinfo import ZoneInfo

import pytest

from tako.cron import expression
from tako.cron.expression import Cron, Every
from tako.errors import DefinitionError

PARIS = ZoneInfo("Europe/Paris")


def ms(text: str, tz: ZoneInfo | None = None) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=tz or UTC).timestamp() * 1000)


def shown(times: list[int], tz: ZoneInfo | None = None) -> list[str]:
    return [datetime.fromtimestamp(time / 1000, tz or UTC).strftime("%m-%d %H:%M%z") for time in times]


@pytest.mark.parametrize(
    ("line", "after", "expected"),
    [
        ("* * * * *", "2026-11-23 14:02:11", "2026-11-23 14:03"),
        ("0 9 * * 1-5", "2026-11-20 09:00", "2026-11-23 09:00"),
        ("0 9 * * MON-FRI", "2026-11-20 08:59:59", "2026-11-20 09:00"),
        ("*/15 * * * *", "2026-11-23 14:45", "2026-11-23 15:00"),
        ("0 0 * * 0", "2026-11-23 00:00", "2026-11-29 00:00"),
        ("0 0 * * 7", "2026-11-23 00:00", "2026-11-29 00:00"),
        ("30 8 1 jan,jul *", "2026-11-23 00:00", "2027-01-01 08:30"),
        ("0 0 29 2 *", "2026-11-23 00:00", "2028-02-29 00:00"),
    ],
)
def test_the_next_boundary_of_a_line(line: str, after: str, expected: str) -> None:
    assert Cron(line).after(ms(after)) == ms(expected)


def test_a_boundary_is_not_after_itself_and_not_before_itself() -> None:
    times = Cron("0 9 * * *")
    boundary = ms("2026-11-23 09:00")

    assert times.after(boundary) == ms("2026-11-24 09:00")
    assert times.after(boundary - 1) == boundary
    assert times.at_or_before(boundary) == boundary
    assert times.at_or_before(boundary - 1) == ms("2026-11-22 09:00")
    assert times.at_or_before(boundary + 999) == boundary


def test_a_line_is_of_its_time_zone() -> None:
    times = Cron("0 9 * * *", tz="Europe/Paris")

    assert shown(list(islice(times.boundaries(ms("2026-11-23")), 2))) == ["11-23 08:00+0000", "11-24 08:00+0000"]
    assert shown(list(islice(times.boundaries(ms("2026-06-23")), 1))) == ["06-23 07:00+0000"]


def test_a_time_that_does_not_exist_that_day_fires_once() -> None:
    times = Cron("30 2 * * *", tz="Europe/Paris")  # on 2026-03-29 the clock goes from 02:00 to 03:00

    found = list(islice(times.boundaries(ms("2026-03-28 00:00")), 3))

    assert shown(found, PARIS) == ["03-28 02:30+0100", "03-29 03:00+0200", "03-30 02:30+0200"]


def test_a_time_that_exists_twice_that_day_fires_once() -> None:
    times = Cron("30 2 * * *", tz="Europe/Paris")  # on 2026-10-25 the clock goes from 03:00 to 02:00

    found = list(islice(times.boundaries(ms("2026-10-24 00:00")), 3))

    assert shown(found, PARIS) == ["10-24 02:30+0200", "10-25 02:30+0200", "10-26 02:30+0100"]


@pytest.mark.parametrize("day", ["2026-03-29", "2026-10-25"])
@pytest.mark.parametrize("line", ["* * * * *", "*/20 * * * *", "30 2 * * *", "0 */2 * * *", "15 1-3 * * *"])
def test_both_directions_agree_on_days_on_which_clocks_change(line: str, day: str) -> None:
    times = Cron(line, tz="Europe/Paris")
    start, end = ms(f"{day} 00:00") - 7_200_000, ms(f"{day} 05:00")
    boundaries = [found for found in islice(times.boundaries(start - 86_400_000), 3_000) if found <= end]

    assert boundaries == sorted(set(boundaries))
    rng = random.Random(line + day)
    for _ in range(60):
        moment = rng.randrange(start, end)
        newest = max(found for found in boundaries if found <= moment)
        assert times.at_or_before(moment) == newest, shown([moment, times.at_or_before(moment), newest], PARIS)
        assert times.after(newest) > moment


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("* * * *", "expected five fields"),
        ("* * * * * *", "expected five fields"),
        ("61 * * * *", "bad minute"),
        ("* 24 * * *", "bad hour"),
        ("* * * foo *", "bad month"),
        ("0 0 30 2 *", "bad day-of-month"),
        ("", "expected five fields"),
    ],
)
def test_a_bad_line_is_named_with_the_reason(line: str, why: str) -> None:
    with pytest.raises(DefinitionError) as raised:
        Cron(line)
    assert raised.value.message.startswith(f"invalid cron {line!r}: {why}")


@pytest.mark.parametrize("tz", ["Mars/Base", "../etc/passwd", ""])
def test_an_unknown_time_zone_is_named(tz: str) -> None:
    with pytest.raises(DefinitionError, match="time zone"):
        Cron("* * * * *", tz=tz)


def test_an_interval_is_counted_from_1970_so_that_a_restart_moves_nothing() -> None:
    times = Every(900_000)

    assert times.after(ms("2026-11-23 14:02")) == ms("2026-11-23 14:15")
    assert times.at_or_before(ms("2026-11-23 14:15")) == ms("2026-11-23 14:15")
    assert shown(list(islice(times.boundaries(ms("2026-11-23 14:15")), 2))) == ["11-23 14:30+0000", "11-23 14:45+0000"]


def test_an_interval_under_a_second_is_refused() -> None:
    with pytest.raises(DefinitionError):
        Every(999)


def test_what_a_registry_tells_becomes_times_and_a_name() -> None:
    cron = {"kind": "cron", "expression": "0  9 * * 1", "tz": "Europe/Paris"}
    every = {"kind": "every", "interval_ms": 90_000}

    assert isinstance(expression.parse(cron), Cron)
    assert isinstance(expression.parse(every), Every)
    assert expression.name(cron) == "0 9 * * 1 Europe/Paris"
    assert expression.name(cron | {"tz": "UTC"}) == "0 9 * * 1"
    assert expression.name(every) == "every 1m30s"
