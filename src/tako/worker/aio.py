"""`async def` handlers: one event loop in a thread of its own, imported when the first async workflow is met.

What other threads have for the loop (claimed runs, replies) goes into one queue and is announced once a batch, since
each announcement is a system call. What the loop has to send goes out once a turn, in one piece.
"""

from __future__ import annotations

import asyncio
from _thread import get_ident
from collections import deque
from contextlib import ExitStack
from contextvars import copy_context
from queue import SimpleQueue
from threading import Thread

from tako.sdk.startup import around_handlers
from tako.worker import execute, speech
from tako.worker.async_steps import AsyncAttempt
from tako.worker.watchdog import Watchdog

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence
    from contextlib import AbstractContextManager
    from typing import Any

    from tako.protocol.messages import ClaimedRun
    from tako.sdk.workflow import Workflow
    from tako.worker.attempt import Attempt, Bench

    Message = dict[str, Any]


class Loop:
    """The event loop of a worker's async handlers."""

    def __init__(
        self, *, flush: Callable[[], None], freed: Callable[[Attempt], None], log: Callable[..., None]
    ) -> None:
        self._send = flush
        self._freed = freed
        self._log = log
        self.loop = asyncio.new_event_loop()
        self._given: deque[tuple[Callable[..., None], Any, Any]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._flushes = False
        self.threads = Threads()
        self._thread = Thread(target=self._run_loop, name="tako-async", daemon=True)
        self._thread.start()
        self._watchdog = Watchdog(self.loop, is_busy=lambda: bool(self._tasks), log=log)

    # --- from other threads ---

    def finish(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine in the loop, wait for it, and give back what it returns."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result()

    def attempt(self, claimed: ClaimedRun, workflow: Workflow[Any, Any], bench: Bench) -> AsyncAttempt:
        """A claimed run, for `start`."""
        return AsyncAttempt(claimed, workflow, bench, self)

    def start(self, attempt: AsyncAttempt) -> None:
        """Run it; announced by `hand_over`, unless this is the loop's thread."""
        if get_ident() == self._thread.ident:
            self._begin(attempt, None)
        else:
            self._given.append((self._begin, attempt, None))

    def reply(self, future: asyncio.Future[Message], message: Message) -> None:
        """A reply for a future of the loop; announced by `hand_over`."""
        self._given.append((_resolve, future, message))

    def hand_over(self) -> None:
        """Announce what was given. The reader calls it once a batch."""
        if self._given:
            self.loop.call_soon_threadsafe(self._take)

    # --- in the loop ---

    def flush_soon(self) -> None:
        """Send at the end of this turn of the loop what its tasks have asked."""
        if not self._flushes:
            self._flushes = True
            self.loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushes = False
        self._send()

    def _run_loop(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def _take(self) -> None:
        given = self._given
        while given:
            call, first, second = given.popleft()
            call(first, second)

    def _begin(self, attempt: AsyncAttempt, _: None) -> None:
        task = self.loop.create_task(self._run(attempt))
        attempt.task = task
        self._tasks.add(task)
        self._watchdog.wake()

    async def _run(self, attempt: AsyncAttempt) -> None:
        """One run. The task ends with it, and never raises."""
        try:
            await run(attempt)
        except Exception as error:  # ours: the handler's own are judged inside
            execute.rescue(attempt, error)
        finally:
            attempt.is_done = True
            if attempt.task is not None:
                self._tasks.discard(attempt.task)
            self._freed(attempt)
            self.flush_soon()


async def run(attempt: AsyncAttempt) -> None:
    """Run an `async def` handler in this task and report how it ended. As `execute.run`."""
    if attempt.claimed["steps_next"] is not None:
        await attempt.host.threads.run(attempt.load_all_steps)
    arguments = execute.begin(attempt)
    if arguments is None:
        return
    result: object = None
    failure: BaseException | None = None
    handler = attempt.workflow.fn
    speaking = speech.begins(attempt)
    span = attempt.span()
    try:
        if around_handlers:
            result = await _inside(around_handlers, handler(attempt.context(), **arguments))
        else:
            result = await handler(attempt.context(), **arguments)
    except BaseException as error:  # CancelledError and Ended are judged by `report` like all else
        failure = error
    finally:
        if span is not None:
            attempt.end_span(span, failure)
        speech.ends(attempt, speaking)
    forgotten = attempt.unawaited.close()
    if failure is None and forgotten is not None:
        failure = forgotten
    execute.report(attempt, result, failure)


async def _inside(managers: Sequence[Callable[[], AbstractContextManager[Any]]], handler: Awaitable[Any]) -> Any:
    with ExitStack() as entered:
        for manager in managers:
            entered.enter_context(manager())
        return await handler


def _resolve(future: asyncio.Future[Message], message: Message) -> None:
    if not future.done():
        future.set_result(message)


class Threads:
    """Threads for sync step functions of async handlers: as many as are needed at once, kept for reuse."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[tuple[Any, ...]] = SimpleQueue()
        self._free = 0

    async def run(self, fn: Callable[[], Any]) -> Any:
        """Call `fn` in a thread, with the context variables of this task."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        if self._free == 0:
            Thread(target=self._work, name="tako-step", daemon=True).start()
        else:
            self._free -= 1
        self._jobs.put((loop, future, copy_context().run, fn))
        return await future

    def _work(self) -> None:
        while True:
            loop, future, call, fn = self._jobs.get()
            try:
                value, error = call(fn), None
            except BaseException as raised:  # it belongs to the step, whatever it is
                value, error = None, raised
            loop.call_soon_threadsafe(self._done, future, value, error)
            del value, error, fn, call, future

    def _done(self, future: asyncio.Future[Any], value: object, error: BaseException | None) -> None:
        self._free += 1
        if future.done():
            return
        if error is None:
            future.set_result(value)
        elif isinstance(error, StopIteration):  # a future refuses it
            future.set_exception(RuntimeError("the step raised StopIteration"))
        else:
            future.set_exception(error)
