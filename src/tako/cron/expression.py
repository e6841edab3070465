"""Times of a schedule: five cron fields in a time zone, or a fixed interval. Pure; Unix milliseconds in and out.

Days on which clocks change are as in Debian's cron: a fixed time that does not exist that day fires once, right after
the gap, and one that exists twice fires the first time.
"""

from __future__ import annotations

import re
import zoneinfo
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, tzinfo
from typing import Any

from cronsim import CronSim, CronSimError

from tako.errors import DefinitionError

# Clocks are put back by one hour, at some stations in Antarctica by up to three.
_LONGEST_FOLD_MS = 3 * 3_600_000
_ZONE = re.compile(r"[A-Za-z0-9_+-]{1,40}(?:/[A-Za-z0-9_+-]{1,40}){0,3}")
_FIELDS = ("minute", "hour", "day of month", "month", "day of week")


class Cron:
    """A five-field line in a time zone."""

    def __init__(self, line: str, *, tz: str = "UTC") -> None:
        """Raises DefinitionError: `invalid cron '…': …`."""
        if len(line.split()) != 5:
            found = len(line.split())
            raise DefinitionError(f"invalid cron {line!r}: expected five fields ({', '.join(_FIELDS)}), found {found}")
        self.line = " ".join(line.split())
        self.tz = _zone(tz, line)
        try:
            next(CronSim(self.line, datetime(2000, 1, 1, tzinfo=self.tz)))
        except CronSimError as error:
            raise DefinitionError(f"invalid cron {line!r}: {_lower(str(error))}") from error
        except StopIteration:
            raise DefinitionError(f"invalid cron {line!r}: no such day ever comes") from None

    def after(self, time_ms: int) -> int:
        """The first boundary after a time."""
        return next(self.boundaries(time_ms))

    def boundaries(self, time_ms: int) -> Iterator[int]:
        """All boundaries after a time, the next first."""
        return (_ms(found) for found in CronSim(self.line, self._local(time_ms)) if _ms(found) > time_ms)

    def at_or_before(self, time_ms: int) -> int:
        """The last boundary that is not after a time."""
        # The walk back begins before the time that it is given, and goes by what clocks on the wall show. Where they
        # were put back a little while ago, a boundary that is past may stand ahead of them: begin that much later.
        start_ms = time_ms - time_ms % 1000 + 1000 + self._put_back_ms(time_ms)
        walk = CronSim(self.line, self._local(start_ms), reverse=True)
        return next(_ms(found) for found in walk if _ms(found) <= time_ms)

    def _put_back_ms(self, time_ms: int) -> int:
        now, before = self._local(time_ms).utcoffset(), self._local(time_ms - _LONGEST_FOLD_MS).utcoffset()
        assert now is not None and before is not None, "times here have a zone"
        return max(0, round((before - now).total_seconds()) * 1000)

    def _local(self, time_ms: int) -> datetime:
        return datetime.fromtimestamp(time_ms // 1000, self.tz)


class Every:
    """A fixed interval, counted from 1970 so that a restart of the engine moves nothing."""

    def __init__(self, interval_ms: int) -> None:
        if interval_ms < 1_000:
            raise DefinitionError(f"invalid interval {interval_ms} ms: expected at least one second")
        self.interval_ms = interval_ms

    def after(self, time_ms: int) -> int:
        """The first boundary after a time."""
        return (time_ms // self.interval_ms + 1) * self.interval_ms

    def boundaries(self, time_ms: int) -> Iterator[int]:
        """All boundaries after a time, the next first."""
        while True:
            time_ms = self.after(time_ms)
            yield time_ms

    def at_or_before(self, time_ms: int) -> int:
        """The last boundary that is not after a time."""
        return time_ms // self.interval_ms * self.interval_ms


Times = Cron | Every


def parse(declared: dict[str, Any]) -> Times:
    """What a registry tells of a schedule, as something that knows its times. Raises DefinitionError."""
    return _KINDS[declared["kind"]](declared)


_KINDS: dict[str, Callable[[dict[str, Any]], Times]] = {
    "cron": lambda declared: Cron(declared["expression"], tz=declared.get("tz", "UTC")),
    "every": lambda declared: Every(declared["interval_ms"]),
}


def name(declared: dict[str, Any]) -> str:
    """What a schedule is called: two of one workflow that fire alike are one."""
    if declared["kind"] == "every":
        return f"every {_span(declared['interval_ms'])}"
    line, tz = " ".join(declared["expression"].split()), declared.get("tz", "UTC")
    return line if tz == "UTC" else f"{line} {tz}"


def _span(ms: int) -> str:
    """`15m`, `1h30m`: as it is written in the code."""
    parts = []
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)):
        number, ms = divmod(ms, size)
        if number:
            parts.append(f"{number}{unit}")
    return "".join(parts)


def _zone(tz: str, line: str) -> tzinfo:
    if tz == "UTC":
        return UTC
    try:
        if not _ZONE.fullmatch(tz):
            raise ValueError(tz)  # zoneinfo looks for files and packages by it, and fails in ways of its own
        return zoneinfo.ZoneInfo(tz)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise DefinitionError(
            f"invalid cron {line!r}: this machine knows no time zone {tz!r}",
            cure='Names are such as "Europe/Paris"; if all are unknown, install the package tzdata.',
        ) from error


def _ms(found: datetime) -> int:
    return round(found.timestamp()) * 1000


def _lower(words: str) -> str:
    return words[:1].lower() + words[1:]
