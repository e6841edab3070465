from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from tako.dev.header import schedule_words

NOW = datetime(2026, 11, 29, 14, 2, tzinfo=UTC)


pytestmark = pytest.mark.usefixtures("utc")


def ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"next_ms": ms(NOW.replace(second=9))}, "report every 15m, next 14:02 (in 9s)"),
        ({"next_ms": ms(NOW.replace(hour=18, minute=0))}, "report every 15m, next 18:00 (in 3h)"),
        ({"next_ms": ms(NOW.replace(day=30, hour=8))}, "report every 15m, next Mon 30 Nov 08:02 (in 18h)"),
        ({"next_ms": ms(NOW.replace(month=12, day=6))}, "report every 15m, next Sun 06 Dec 14:02 (in 7d)"),
        ({"next_ms": ms(NOW.replace(hour=13))}, "report every 15m, next 13:02 (in 0s)"),
        ({"next_ms": None}, "report every 15m, never again"),
        ({"paused": True}, "report every 15m, paused: tako schedules resume report"),
    ],
)
def test_a_schedule_is_told_with_its_next_time(changed: dict[str, Any], words: str) -> None:
    schedule = {"workflow": "report", "spec": "every 15m", "paused": False, "next_ms": 0, **changed}

    assert schedule_words(schedule, ms(NOW)) == words
