"""An event loop for one life of a daemon: asyncio's futures and tasks, on virtual time, until the daemon is killed.

Nothing runs by itself. The simulator enters the loop with a message, a timer or a commit (`enter`); all that follows
from it at once is done before `enter` returns. A dead loop does nothing any more, whatever still refers to it.
"""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import Context
from typing import Any, TypeVarTuple

from reliability.simulation.timeline import Due, Timeline

Ts = TypeVarTuple("Ts")

# From the writer's thread to the loop: long enough that a kill can come in between.
POST_S = 0.000_05


class _Soon(asyncio.Handle):
    """A call of this turn."""


class DaemonLoop(asyncio.AbstractEventLoop):
    """`freeze` is SIGSTOP, `die` SIGKILL."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._ready: deque[_Soon] = deque()
        self._tasks: weakref.WeakSet[asyncio.Task[Any]] = weakref.WeakSet()
        self._is_dead = False
        self._is_inside = False
        self._frozen: list[tuple[Callable[..., object], tuple[Any, ...]]] | None = None
        self._late: list[Due] = []
        self.on_error: Callable[[dict[str, Any]], None] = lambda context: None

    # --- the simulator's side ---

    @property
    def is_dead(self) -> bool:
        """Whether the daemon has been killed."""
        return self._is_dead

    @property
    def is_frozen(self) -> bool:
        """Whether it is stopped at present."""
        return self._frozen is not None

    def enter(self, call: Callable[..., object], *args: Any) -> None:
        """Something reaches the daemon from outside: do it, and all that follows from it in this turn."""
        if self._is_dead:
            return
        if self._frozen is not None:
            self._frozen.append((call, args))
            return
        assert not self._is_inside, "the daemon is one thread"
        self._is_inside = True
        asyncio._set_running_loop(self)
        try:
            call(*args)
            self._drain()
        finally:
            asyncio._set_running_loop(None)
            self._is_inside = False

    def freeze(self) -> None:
        """SIGSTOP: messages wait in the sockets, timers go off late."""
        if self._frozen is None:
            self._frozen = []

    def thaw(self) -> None:
        """SIGCONT: what lies in the sockets is read before timers are looked at, as asyncio does."""
        if self._frozen is None:
            return
        waiting, self._frozen = self._frozen, None
        late, self._late = self._late, []
        for call, args in waiting:
            self.enter(call, *args)
        for due in sorted(late, key=lambda due: due.when):
            self._go_off(due)

    def die(self) -> None:
        """SIGKILL. Coroutines are closed here, so that none is found half done by the garbage collector."""
        self._is_dead = True
        self._ready.clear()
        self._frozen, self._late = None, []
        asyncio._set_running_loop(self)
        try:
            for task in list(self._tasks):
                if not task.done():
                    _close(task.get_coro())
        finally:
            asyncio._set_running_loop(None)

    def _drain(self) -> None:
        ready = self._ready
        while ready and not self._is_dead:
            soon = ready.popleft()
            if not soon.cancelled():
                soon._run()

    def _go_off(self, due: Due) -> None:
        if self._is_dead or due.is_cancelled:
            return
        if self._frozen is not None:
            self._late.append(due)
        else:
            self.enter(due.call, *due.args)

    # --- what asyncio asks of a loop ---

    def time(self) -> float:
        """Monotonic seconds."""
        return self._timeline.now

    def get_debug(self) -> bool:
        """Never."""
        return False

    def is_running(self) -> bool:
        """As long as the daemon lives."""
        return not self._is_dead

    def is_closed(self) -> bool:
        """When it is dead."""
        return self._is_dead

    def create_future(self) -> asyncio.Future[Any]:
        """One of asyncio's."""
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, *, name: str | None = None, context: Context | None = None) -> asyncio.Task[Any]:
        """One of asyncio's."""
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self, name=name)
        self._tasks.add(task)
        return task

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """In this turn."""
        soon = _Soon(callback, args, self, context)
        if not self._is_dead:
            self._ready.append(soon)
        return soon

    def call_soon_threadsafe(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """From the writer, which is another thread: a moment later."""
        self._timeline.later(POST_S, self.enter, callback, *args)
        return _Soon(callback, args, self, context)

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """A timer."""
        timer = _Timer(when, callback, args, self, context)
        timer.due = self._timeline.at(when, _nothing)
        timer.due.call, timer.due.args = self._go_off, (Due(when, timer._run, ()),)
        return timer

    def call_later(
        self, delay: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """A timer."""
        return self.call_at(self._timeline.now + delay, callback, *args, context=context)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        assert isinstance(handle, _Timer)
        handle.due.cancel()
        handle.due.args[0].cancel()

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """A task that was killed with the daemon is no news."""
        if not self._is_dead and "exception" in context:
            self.on_error(context)


class _Timer(asyncio.TimerHandle):
    """A timer that knows its place in the queue."""

    due: Due


def _nothing() -> None:
    pass


def _close(coro: Coroutine[Any, Any, Any] | Any) -> None:
    with suppress(BaseException):  # whatever it says while it is killed, nobody hears
        coro.close()
