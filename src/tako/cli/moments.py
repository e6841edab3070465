"""Times and durations as people type and read them on a command line."""

from __future__ import annotations

import time

from tako.cli.arguments import UsageError
from tako.config import durations


def duration_ms(text: str, *, option: str) -> int:
    """The milliseconds of "90s", "10m", "1h30m"."""
    found = durations.parse_ms(text)
    if found is None:
        raise UsageError(f'{option}: expected a duration such as "90s", "10m" or "1h30m", found {text!r}.')
    return found


def instant_ms(text: str, *, option: str) -> int:
    """Unix milliseconds of an ISO 8601 time with its offset from UTC."""
    from datetime import datetime

    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"{option}: expected a time such as 2026-11-24T09:00:00+01:00 or 2026-11-24T08:00:00Z, found {text!r}."
        ) from None
    if found.tzinfo is None:
        raise UsageError(f"{option}: {text} says no zone.", cure=f"Write {text}Z for UTC, or {text}+01:00.")
    return round(found.timestamp() * 1000)


def past_ms(text: str, *, option: str, now_ms: int) -> int:
    """A time in the past: a duration before now, or an ISO 8601 time."""
    before = durations.parse_ms(text)
    if before is not None:
        return now_ms - before
    try:
        return instant_ms(text, option=option)
    except UsageError as error:
        if error.cure:
            raise
        raise UsageError(
            f'{option}: expected how long ago, such as "2h", or a time such as 2026-11-24T08:00:00Z, found {text!r}.'
        ) from None


def shown(at_ms: int | None) -> str:
    """A time for people, in this machine's zone; "" for none."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at_ms / 1000)) if at_ms else ""


def ago(at_ms: int, *, now_ms: int) -> str:
    """How long ago, in the largest unit: "12s ago", "3h ago"; "in 5m" for what is to come."""
    text = span(abs(now_ms - at_ms))
    return f"{text} ago" if at_ms <= now_ms else f"in {text}"


def span(ms: int) -> str:
    """A length of time in its largest unit: "840ms", "12s", "3h"."""
    if ms < 1_000:
        return f"{ms}ms"
    for size, unit in ((86_400_000, "d"), (3_600_000, "h"), (60_000, "m")):
        if ms >= size:
            return f"{ms // size}{unit}"
    return f"{ms // 1_000}s"
