"""The main thread's desk: calls that other threads and signal handlers leave for it, and calls that are due later."""

from __future__ import annotations

import time
from _queue import Empty, SimpleQueue

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Call = Callable[[], None]


class Director:
    """Calls one thing after the other, in the main thread, until `stop`."""

    def __init__(self) -> None:
        # SimpleQueue, since its put may interrupt its own get: a signal handler uses it.
        self._inbox: SimpleQueue[Call] = SimpleQueue()
        self._timers: list[tuple[float, int, Call]] = []
        self._count = 0
        self._exit_code: int | None = None

    def post(self, call: Call) -> None:
        """Have it called soon. From any thread, and from signal handlers."""
        self._inbox.put(call)

    def later(self, delay_s: float, call: Call) -> None:
        """Have it called after a while. From any thread."""
        self.at(time.monotonic() + delay_s, call)

    def at(self, due: float, call: Call) -> None:
        """Have it called at a monotonic time. From any thread."""
        self._inbox.put(lambda: self._remember(due, call))

    def stop(self, exit_code: int) -> None:
        """Let `run` return this. In the main thread; the first code stays."""
        if self._exit_code is None:
            self._exit_code = exit_code

    def run(self) -> int:
        """Work until stopped; returns the exit code."""
        while self._exit_code is None:
            self.run_once()
        return self._exit_code

    def run_once(self) -> None:
        """Wait for the next call, or for the first timer, and do it. Timers that are due go first."""
        timers = self._timers
        try:
            if timers:
                call = self._inbox.get(timeout=min(max(0.0, timers[0][0] - time.monotonic()), _LONGEST_S))
            else:
                call = self._inbox.get()
        except Empty:
            call = _nothing
        while timers and timers[0][0] <= time.monotonic() and self._exit_code is None:
            timers.pop(0)[2]()
        call()

    def _remember(self, due: float, call: Call) -> None:
        self._count += 1
        self._timers.append((due, self._count, call))
        self._timers.sort()  # few, and nearly sorted; the count settles ties before calls would be compared


_LONGEST_S = 86_400.0


def _nothing() -> None:
    pass
