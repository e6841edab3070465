"""Time enters the house here and nowhere else: rules take `now_ms` as an argument, services take a Clock."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """What a service may ask of time. Tests pass `tests.support.clock.FakeClock`."""

    def now_ms(self) -> int:
        """Unix time in milliseconds, UTC: what is stored and shown. May jump either way."""
        ...

    def monotonic(self) -> float:
        """Seconds that never jump: what leases, timeouts and deadlines are measured in."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now_ms(self) -> int:
        """Unix time in milliseconds."""
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        """Seconds of the monotonic clock."""
        return time.monotonic()
