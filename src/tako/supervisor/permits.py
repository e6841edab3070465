"""How many boots may begin at once, over all groups of the machine.

An import storm after a deploy would make every boot slow, and slow boots look like hung ones. A permit is given back
at HELLO, at the exit, or after a second at the latest, so that a group which hangs holds nobody up.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

HELD_S = 1.0


class Permit:
    """The right to begin a boot, or the wish for it. `give_back` ends either; twice does no harm."""

    def __init__(self, permits: BootPermits, start: Callable[[], None]) -> None:
        self._permits = permits
        self._start: Callable[[], None] | None = start
        self._timer: asyncio.TimerHandle | None = None

    def give_back(self) -> None:
        """Let another boot begin; a wish that was not granted yet is withdrawn."""
        self._start = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._permits.freed()

    @property
    def is_wanted(self) -> bool:
        """Whether somebody still waits for it."""
        return self._start is not None

    def grant(self) -> None:
        """Begin the boot; the permit comes back by itself."""
        start, self._start = self._start, None
        assert start is not None, "granted twice"
        self._timer = asyncio.get_running_loop().call_later(HELD_S, self.give_back)
        start()


class BootPermits:
    """At most `limit` permits are out at a time; the rest wait in their order."""

    def __init__(self, limit: int) -> None:
        self._free = max(1, limit)
        self._waiting: deque[Permit] = deque()

    def ask(self, start: Callable[[], None]) -> Permit:
        """Call `start` as soon as a boot may begin, from the event loop and never from within `ask`."""
        permit = Permit(self, start)
        self._waiting.append(permit)
        asyncio.get_running_loop().call_soon(self._grant)
        return permit

    def freed(self) -> None:
        """A permit came back."""
        self._free += 1
        self._grant()

    def _grant(self) -> None:
        while self._free and self._waiting:
            permit = self._waiting.popleft()
            if permit.is_wanted:
                self._free -= 1
                permit.grant()
