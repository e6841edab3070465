"""Ctrl-C: the first asks to stop in order, the second to stop now."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """Calls `stop` at the first signal and `kill` at every later one. Close it when nothing is left to stop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, stop: Callable[[], None], kill: Callable[[], None]) -> None:
        self._loop = loop
        self._stop = stop
        self._kill = kill
        self.count = 0
        for number in SIGNALS:
            loop.add_signal_handler(number, self._received)

    def _received(self) -> None:
        self.count += 1
        (self._stop if self.count == 1 else self._kill)()

    def close(self) -> None:
        """Let signals have their ordinary meaning again. Twice is harmless."""
        for number in SIGNALS:
            self._loop.remove_signal_handler(number)
