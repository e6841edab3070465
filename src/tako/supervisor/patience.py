"""When a start of the web app is tried again: after 0.5 s, 1 s, … 60 s. Pure; the caller has the clock."""

from __future__ import annotations

from collections import deque

FIRST_DELAY_S = 0.5
MAX_DELAY_S = 60.0
DEATHS = 5
DEATHS_WITHIN_S = 60.0


class Patience:
    """Starts that failed in a row, and instances that died of late. Five of those within a minute are a crash loop."""

    def __init__(self) -> None:
        self.failures = 0  # in a row
        self._retry_at = 0.0
        self._deaths: deque[float] = deque(maxlen=DEATHS)

    def wait_s(self, now: float) -> float:
        """How long until a start may be tried; not above zero when it may."""
        return self._retry_at - now

    def start_failed(self, now: float) -> None:
        """A start has failed: the next one waits longer."""
        self.failures += 1
        self._retry_at = now + _delay_s(self.failures)

    def started(self) -> None:
        """A start has succeeded. Deaths are not forgotten for that: who dies again and again starts each time."""
        self.failures = 0

    def died(self, now: float) -> bool:
        """One that served has died; whether that is a crash loop. The first one is replaced at once."""
        self._deaths.append(now)
        recent = sum(now - at <= DEATHS_WITHIN_S for at in self._deaths)
        if recent > 1:
            self._retry_at = now + _delay_s(recent - 1)
        if recent >= DEATHS:
            self._retry_at = now + MAX_DELAY_S
        return recent >= DEATHS

    def begin_anew(self) -> None:
        """The code is another: what was before says nothing about it."""
        self.failures = 0
        self._retry_at = 0.0
        self._deaths.clear()


def _delay_s(times: int) -> float:
    return float(min(MAX_DELAY_S, FIRST_DELAY_S * 2 ** (times - 1)))
