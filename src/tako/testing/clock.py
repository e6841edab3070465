"""The time of a test: it begins at the machine's and stands still until the test moves it."""

from __future__ import annotations

from tako.clock import SystemClock


class Clock:
    """A clock that only `advance` moves. Begins now, so that times which a test makes from the machine's clock fit."""

    def __init__(self) -> None:
        self._now_ms = SystemClock().now_ms()
        self._passed_ms = 0

    def now_ms(self) -> int:
        """Unix milliseconds."""
        return self._now_ms + self._passed_ms

    def monotonic(self) -> float:
        """Seconds since the test began."""
        return self._passed_ms / 1000

    def advance(self, ms: int) -> None:
        """Let time pass."""
        self._passed_ms += ms
