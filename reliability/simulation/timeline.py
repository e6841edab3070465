"""Virtual time: one queue of what will happen, for everybody, and two clocks that only this queue moves."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from typing import Any

BEGINNING_MS = 1_800_000_000_000


class Due:
    """Something that will happen at `when`, unless it is cancelled."""

    __slots__ = ("args", "call", "is_cancelled", "when")

    def __init__(self, when: float, call: Callable[..., object], args: tuple[Any, ...]) -> None:
        self.when = when
        self.call = call
        self.args = args
        self.is_cancelled = False

    def cancel(self) -> None:
        """It will not happen. Twice is harmless."""
        self.is_cancelled = True


class Timeline:
    """What happens next, in order; `now` is in monotonic seconds."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self._queue: list[tuple[float, int, Due]] = []
        self._order = itertools.count()

    def at(self, when: float, call: Callable[..., object], *args: Any) -> Due:
        """Have it happen at a time; what is past happens next."""
        due = Due(max(when, self.now), call, args)
        heapq.heappush(self._queue, (due.when, next(self._order), due))
        return due

    def later(self, delay_s: float, call: Callable[..., object], *args: Any) -> Due:
        """Have it happen after a while."""
        return self.at(self.now + delay_s, call, *args)

    def step(self, *, until: float) -> bool:
        """Let the next thing happen; False when there is none before `until`, which is then now."""
        queue = self._queue
        while queue and queue[0][0] <= until:
            when, _, due = heapq.heappop(queue)
            if due.is_cancelled:
                continue
            self.now = when
            due.call(*due.args)
            return True
        self.now = until
        return False


class SimulatedClock:
    """The clocks of the simulated machine. The wall clock can be set; the monotonic one cannot."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._set_by_ms = 0
        self.latest_ms = BEGINNING_MS

    def now_ms(self) -> int:
        """Unix milliseconds."""
        now_ms = BEGINNING_MS + self._set_by_ms + round((self._timeline.now - 1_000.0) * 1000)
        self.latest_ms = max(self.latest_ms, now_ms)
        return now_ms

    def monotonic(self) -> float:
        """Seconds."""
        return self._timeline.now

    def step_wall(self, ms: int) -> None:
        """Somebody sets the clock."""
        self._set_by_ms += ms
        self.now_ms()
