"""The watchdog of the event loop: tells when one line holds up all async runs, and which (loud.md 18)."""

from __future__ import annotations

import time
from _thread import get_ident
from threading import Event, Thread

from tako.worker import tracebacks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable

BLOCKED_AFTER_S = 1.0
_ASK_EVERY_S = 0.5


class Watchdog:
    """Tells when one line holds up the loop: which one, and that `def` would run it in a thread."""

    def __init__(self, loop: AbstractEventLoop, *, is_busy: Callable[[], bool], log: Callable[..., None]) -> None:
        self._loop = loop
        self._is_busy = is_busy
        self._log = log
        self._work = Event()
        self._answered = Event()
        self._until = Event()  # never set: between two questions there is nothing to wait for but time
        self._loop_thread = 0
        loop.call_soon_threadsafe(self._introduce)
        Thread(target=self._watch, name="tako-watchdog", daemon=True).start()

    def wake(self) -> None:
        """There is something to watch."""
        if not self._work.is_set():
            self._work.set()

    def _introduce(self) -> None:
        self._loop_thread = get_ident()

    def _watch(self) -> None:
        while True:
            self._work.wait()
            if not self._is_busy():
                # Clear, then look again: a task that came in between must not be slept through.
                self._work.clear()
                if not self._is_busy():
                    continue
                self._work.set()
            self._ask()

    def _ask(self) -> None:
        self._answered.clear()
        asked = time.monotonic()
        self._loop.call_soon_threadsafe(self._answered.set)
        patience = BLOCKED_AFTER_S
        while not self._answered.wait(patience):
            trace, where = tracebacks.stack(self._loop_thread)
            blocked_s = time.monotonic() - asked
            self._log(
                "warning",
                f"the event loop has been blocked for {blocked_s:.1f}s by {where or 'code that is not Python'}; all "
                "async runs of this worker wait. Declare the blocking function with `def`: it then runs in a thread",
                traceback=trace or None,
            )
            patience *= 2
        self._until.wait(_ASK_EVERY_S)
