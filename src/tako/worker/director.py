"""The main thread's desk: calls that other threads and signal handlers leave for it, and calls that are due later.

It waits on a pipe and not on a lock. A thread that is about to wait on a lock sleeps through a signal that comes in
that moment: Python has noted the signal, and calls its handler when the thread wakes, which may be an hour later. The
pipe is what `signal.set_wakeup_fd` writes into, so it cannot be missed.
"""

from __future__ import annotations

import os
import select
import time
from collections import deque

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Call = Callable[[], None]


class Director:
    """Calls one thing after the other, in the main thread, until `stop`."""

    def __init__(self) -> None:
        self._inbox: deque[Call] = deque()
        self._reader, self.bell = os.pipe()  # whatever is written into `bell` wakes; never blocks
        os.set_blocking(self._reader, False)
        os.set_blocking(self.bell, False)
        self._waiting = select.poll()
        self._waiting.register(self._reader, select.POLLIN)
        self._timers: list[tuple[float, int, Call]] = []
        self._count = 0
        self._exit_code: int | None = None

    def post(self, call: Call) -> None:
        """Have it called soon. From any thread, and from signal handlers."""
        self._inbox.append(call)
        try:  # noqa: SIM105 - contextlib is not loaded in a cold process
            os.write(self.bell, b"\0")
        except BlockingIOError:
            pass  # full of other calls' bytes: it will wake

    def later(self, delay_s: float, call: Call) -> None:
        """Have it called after a while. From any thread."""
        self.at(time.monotonic() + delay_s, call)

    def at(self, due: float, call: Call) -> None:
        """Have it called at a monotonic time. From any thread."""
        self.post(lambda: self._remember(due, call))

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
        if not self._inbox:
            wait_s = min(max(0.0, timers[0][0] - time.monotonic()), _LONGEST_S) if timers else _LONGEST_S
            if self._waiting.poll(wait_s * 1000):
                os.read(self._reader, _PIPE_BYTES)  # before the look at the inbox: what comes later rings again
        while timers and timers[0][0] <= time.monotonic() and self._exit_code is None:
            timers.pop(0)[2]()
        if self._inbox:
            self._inbox.popleft()()

    def _remember(self, due: float, call: Call) -> None:
        self._count += 1
        self._timers.append((due, self._count, call))
        self._timers.sort()  # few, and nearly sorted; the count settles ties before calls would be compared


_LONGEST_S = 86_400.0
_PIPE_BYTES = 65_536
