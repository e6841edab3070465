"""When a cause is told: the first time at once, and while it goes on in one summary a minute. Pure."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from tako.alerts.alert import Alert, Notice

WINDOW_S = 60.0
# Causes that are remembered at once. Beyond that somebody makes them up, and the oldest is forgotten.
MAX_CAUSES = 1_000


@dataclass(slots=True)
class _Series:
    """A cause that strikes again and again."""

    newest: Alert
    count: int  # since `first_ms`
    untold: int  # of these, since the last notice
    first_ms: int
    last_ms: int
    due: float  # when the window ends, monotonic


class Grouper:
    """Alerts go in; what comes out is to be told now. A cause that is quiet for a whole window is forgotten."""

    def __init__(self) -> None:
        self._series: OrderedDict[tuple[str, str], _Series] = OrderedDict()

    def add(self, alert: Alert, *, now: float, now_ms: int) -> Notice | None:
        """Take an alert; a notice if it is the first of its cause, else None: the summary will tell it."""
        key = (alert.kind, alert.cause)
        series = self._series.get(key)
        if series is not None:
            series.newest, series.last_ms = alert, now_ms
            series.count += 1
            series.untold += 1
            return None
        self._series[key] = series = _Series(alert, 1, 0, now_ms, now_ms, now + WINDOW_S)
        if len(self._series) > MAX_CAUSES:
            self._series.popitem(last=False)
        return _notice(series)

    def next_due(self) -> float | None:
        """When `due` will have something to do, None while there is nothing to wait for."""
        return min((series.due for series in self._series.values()), default=None)

    def due(self, *, now: float) -> list[Notice]:
        """The summaries whose minute is over."""
        return self._close([key for key, series in self._series.items() if series.due <= now], now=now)

    def flush(self) -> list[Notice]:
        """All that was not told yet: the end is near."""
        told = [_notice(series) for series in self._series.values() if series.untold]
        self._series.clear()
        return told

    def _close(self, keys: list[tuple[str, str]], *, now: float) -> list[Notice]:
        told = []
        for key in keys:
            series = self._series[key]
            if not series.untold:
                del self._series[key]
                continue
            told.append(_notice(series))
            series.untold, series.due = 0, now + WINDOW_S
        return told


def _notice(series: _Series) -> Notice:
    return Notice(alert=series.newest, count=series.count, first_ms=series.first_ms, last_ms=series.last_ms)
