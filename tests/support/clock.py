"""A clock that stands still until a test moves it."""

from __future__ import annotations


class FakeClock:
    """Both clocks of `tako.clock.Clock`. `advance` moves them together, as time does; `step_wall` one, as NTP does."""

    def __init__(self, now_ms: int = 1_800_000_000_000) -> None:
        self._now_ms = now_ms
        self._monotonic = 1_000.0

    def now_ms(self) -> int:
        return self._now_ms

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, *, ms: int = 0, s: float = 0) -> None:
        total_ms = ms + round(s * 1000)
        assert total_ms >= 0, "time does not run backwards; step_wall does"
        self._now_ms += total_ms
        self._monotonic += total_ms / 1000

    def step_wall(self, *, ms: int) -> None:
        """The wall clock is set, forward or back. The monotonic one does not notice."""
        self._now_ms += ms
