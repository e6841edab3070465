"""What an `async def` handler does through its context: as `steps.py`, on the event loop.

Every call gives back a coroutine, and is noted until somebody awaits it.
"""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from time import monotonic

from tako import errors
from tako.sdk.context import AsyncContext
from tako.sdk.startup import around_steps
from tako.worker import tracebacks, values
from tako.worker.attempt import FINISHED, PARKED, Attempt, Running
from tako.worker.branches import Branches
from tako.worker.connection import KEPT, TooLarge, data_of
from tako.worker.speech import who
from tako.worker.tries import Failure, gathered, next_try_ms
from tako.worker.unawaited import Unawaited

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable
    from typing import Any, Protocol

    from tako.protocol.messages import ClaimedRun
    from tako.sdk.runner import StepOptions
    from tako.sdk.workflow import Workflow
    from tako.worker.attempt import Bench
    from tako.worker.children import Ends

    class Threads(Protocol):
        """Where sync step functions run."""

        async def run(self, fn: Callable[[], Any]) -> Any:
            """Call `fn` there."""

    class Host(Protocol):
        """What an async attempt needs of the loop that it runs in: `aio.Loop`, or that of `tako.testing`."""

        loop: asyncio.AbstractEventLoop

        @property
        def threads(self) -> Threads:
            """Where sync step functions run."""

        def reply(self, future: asyncio.Future[Message], message: Message) -> None:
            """Give a reply to what waits for it."""

        def flush_soon(self) -> None:
            """Send what was asked."""

    Message = dict[str, Any]

# The attempt in one of whose steps we are; tasks that a step starts inherit it.
_in_step: ContextVar[Attempt | None] = ContextVar("tako_step", default=None)
# Ends at which the handler unwinds by itself, and need not be cancelled.
_UNWINDS_ITSELF = (PARKED, FINISHED)


class AsyncAttempt(Attempt):
    """An attempt of an `async def` handler; what its AsyncContext calls."""

    is_async = True
    __slots__ = ("_branches", "busy", "host", "task", "unawaited")

    def __init__(self, claimed: ClaimedRun, workflow: Workflow[Any, Any], bench: Bench, host: Host) -> None:
        super().__init__(claimed, workflow, bench)
        self.host = host
        self.task: asyncio.Task[None] | None = None
        self.unawaited = Unawaited()
        self.busy = 0  # steps between their start and their acknowledgement, and what else must not be parked under
        self._branches: Branches | None = None

    def end(self, why: str) -> bool:
        """As Attempt.end; the handler is cancelled at its next `await`, unless it unwinds by itself. Any thread."""
        if not super().end(why):
            return False
        if why not in _UNWINDS_ITSELF:
            self.host.loop.call_soon_threadsafe(self._cancel)
        return True

    def _cancel(self) -> None:
        if self.task is not None and not self.is_done:
            self.task.cancel()

    def context(self) -> AsyncContext:
        """What the handler receives."""
        return AsyncContext(
            self,
            run_id=self.run_id,
            workflow=self.workflow.name,
            attempt=self.attempt,
            key=self.key,
            scheduled_for_ms=self.scheduled_for_ms,
            zone=self.claimed.get("scheduled_tz") or "UTC",
        )

    # --- what the context calls; each returns a coroutine that is noticed when nobody awaits it ---

    def step(
        self, name: str, fn: Callable[..., Any], args: tuple[Any, ...], options: StepOptions
    ) -> Coroutine[Any, Any, Any]:
        """As SyncAttempt.step; a sync function runs in a thread."""
        token = self.unawaited.token()
        return self.unawaited.note(token, f"ctx.step({name!r})", self._step(token, name, fn, args, options))

    def map(
        self,
        name: str,
        fn: Callable[[Any], Any],
        items: Iterable[Any],
        options: StepOptions,
        *,
        limit: int,
        return_exceptions: bool,
    ) -> Coroutine[Any, Any, list[Any]]:
        """As SyncAttempt.map."""
        token = self.unawaited.token()
        work = self._map(token, name, fn, list(items), options, limit, return_exceptions)
        return self.unawaited.note(token, f"ctx.map({name!r})", work)

    def sleep(self, name: str, duration_ms: int) -> Coroutine[Any, Any, None]:
        """As SyncAttempt.sleep."""
        return self.sleep_until(name, self.now_ms() + duration_ms)

    def sleep_until(self, name: str, when_ms: int) -> Coroutine[Any, Any, None]:
        """As SyncAttempt.sleep_until."""
        token = self.unawaited.token()
        return self.unawaited.note(token, f"ctx.sleep({name!r})", self._sleep_until(token, name, when_ms))

    def wait_for(
        self, event: str, timeout_ms: int | None, received: Callable[[str | None], Any]
    ) -> Coroutine[Any, Any, Any]:
        """As SyncAttempt.wait_for."""
        token = self.unawaited.token()
        work = self._wait_for(token, event, timeout_ms, received)
        return self.unawaited.note(token, f"ctx.wait_for({event!r})", work)

    def start(
        self, name: str, workflow: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Coroutine[Any, Any, Any]:
        """As SyncAttempt.start."""
        token = self.unawaited.token()
        return self.unawaited.note(token, f"ctx.start({name!r})", self._start(token, name, workflow, args, kwargs))

    def gather(self, runs: tuple[Any, ...], *, return_exceptions: bool) -> Coroutine[Any, Any, list[Any]]:
        """As SyncAttempt.gather."""
        token = self.unawaited.token()
        return self.unawaited.note(token, "ctx.gather()", self._gather(token, runs, return_exceptions))

    # --- in the loop ---

    async def _step(
        self, token: int, name: str, fn: Callable[..., Any], args: tuple[Any, ...], options: StepOptions
    ) -> Any:
        self.unawaited.awaited(token)
        text = self.visit(name)
        kind = values.codec(name, fn, options.returns)
        if text is not None:
            return values.read_back(name, text, kind)
        if self.left:
            await self._judge_order(name)
        started_ms = self.now_ms()
        self.busy += 1
        try:
            value = await self.execute_step(name, fn, args, options)
            text, value = values.stored(name, value, kind)
            await self._save(name, text, started_ms)
        finally:
            self._became_free()
        return value

    async def _judge_order(self, name: str) -> None:
        # One turn of the loop later: a gather's other branches have come to their saved steps by then (O3).
        await asyncio.sleep(0)
        self.judge_order(name)

    async def execute_step(self, name: str, fn: Callable[..., Any], args: tuple[Any, ...], options: StepOptions) -> Any:
        """As SyncAttempt.execute_step."""
        tries = 0
        is_async = values.is_async(fn)
        while True:
            self.check()
            running = self.started(name, options.timeout_ms(self))
            inside = _in_step.set(self)
            speaking = who.set((self, name))
            span = self.span(name)
            try:
                if self.tells_steps:
                    await self.ask(self.in_steps_message())
                if is_async:
                    return await self._timed(running, fn(*args))
                return await self._in_thread(running, fn, args)
            except Exception as error:
                if span is not None:
                    span.failed(error)
                tries += 1
                delay_ms = next_try_ms(self, name, error, options.retry, tries)
                if delay_ms is None:
                    raise
            finally:
                if span is not None:
                    span.end()
                running.is_done = running.is_done or is_async
                del self.running[name]
                _in_step.reset(inside)
                who.reset(speaking)
                if self.tells_steps:
                    self.left_step()
            await self.pause(delay_ms / 1000)

    async def _timed(self, running: Running, awaitable: Any) -> Any:
        """Await a step; the director cancels it at its deadline, through `expire`."""
        running.task = asyncio.current_task()
        try:
            return await awaitable
        except asyncio.CancelledError:
            if running.is_expired and not self.ended and running.task is not None:
                running.task.uncancel()
                raise running.timeout_error() from None
            raise

    async def _in_thread(self, running: Running, fn: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        def call() -> Any:
            running.enter_thread()
            try:
                return fn(*args) if not around_steps else values.inside(around_steps, lambda: fn(*args))
            finally:
                running.is_done = True

        value = await self._timed(running, self.host.threads.run(call))
        if hasattr(value, "__await__"):  # a lambda around an async function
            return await self._timed(running, value)
        return value

    def on_loop(self, call: Callable[[], None]) -> None:
        """Call it in the event loop's thread."""
        self.host.loop.call_soon_threadsafe(call)

    def stack(self) -> tuple[str, str]:
        """Where the handler waits. In the loop."""
        return ("", "") if self.task is None else tracebacks.stack_of_task(self.task)

    def expire(self, running: Running) -> None:
        """A step has reached its timeout. In the loop."""
        if self.running.get(running.name) is running and running.task is not None:
            running.is_expired = True
            running.task.cancel()

    async def _save(self, name: str, text: str, started_ms: int) -> None:
        self.check()
        try:
            await self.ask(self.save_message(name, text, started_ms))
        except TooLarge as large:
            raise values.too_large(name, large.size) from None

    async def ask(self, message: Message | str, *, keep: int = KEPT) -> Any:
        """Ask the engine; the reply's data. Raises what the handler should meet."""
        future: asyncio.Future[Message] = self.host.loop.create_future()
        self.bench.connection.ask(message, lambda reply: self.host.reply(future, reply), keep=keep, run_id=self.run_id)
        self.host.flush_soon()
        asked = monotonic()
        reply = await future
        self.waited_s += monotonic() - asked
        try:
            return data_of(reply)
        except errors.TakoError as error:
            raise self.refused(error) from None

    async def _map(
        self,
        token: int,
        name: str,
        fn: Callable[[Any], Any],
        every: list[Any],
        options: StepOptions,
        limit: int,
        return_exceptions: bool,
    ) -> list[Any]:
        self.unawaited.awaited(token)
        results: list[Any] = [None] * len(every)
        # Saved ones first: they cost nothing, and then none of them looks skipped.
        waiting = iter(sorted(range(len(every)), key=lambda index: f"{name}[{index}]" not in self.saved))

        async def work() -> None:
            for index in waiting:
                try:
                    results[index] = await self.step(f"{name}[{index}]", fn, (every[index],), options)
                except Exception as error:
                    results[index] = Failure(index, error)

        workers = [self.host.loop.create_task(work()) for _ in range(min(limit, len(every)))]
        try:
            ends = [end for end in await asyncio.gather(*workers, return_exceptions=True) if end is not None]
        finally:
            for worker in workers:
                worker.cancel()
        if ends:
            raise ends[0]
        return gathered(self, name, results, return_exceptions=return_exceptions)

    async def _sleep_until(self, token: int, name: str, when_ms: int) -> None:
        self.unawaited.awaited(token)
        due_ms = self.remembered(name, when_ms)
        if self.visit(name) is not None:
            return
        self._refuse_inside_of_a_step(name)
        if self.left:
            await self._judge_order(name)
        started_ms = self.now_ms()
        if due_ms is not None and due_ms - started_ms > self.short_sleep_ms:
            await self._park(name, due_ms, {"wake_at_ms": due_ms})
            return
        await self.pause(((due_ms or 0) - started_ms) / 1000)
        await self._save(name, "null", started_ms)

    async def pause(self, seconds: float) -> None:
        """As SyncAttempt.pause."""
        # The clock of the run's timeout stands still meanwhile; two branches that sleep at once stop it once.
        left_s = self.stop_clock()
        try:
            await asyncio.sleep(max(0.0, seconds))
        finally:
            self.go_on_clock(left_s)
        self.check()

    async def _wait_for(
        self, token: int, event: str, timeout_ms: int | None, received: Callable[[str | None], Any]
    ) -> Any:
        self.unawaited.awaited(token)
        name = self.name_of_wait(event)
        due_ms = self.remembered(name, None if timeout_ms is None else self.now_ms() + timeout_ms)
        text = self.visit(name)
        if text is None:
            self._refuse_inside_of_a_step(name)
            if self.left:
                await self._judge_order(name)
            text = await self._park(name, due_ms, {"event_name": event, "timeout_at_ms": due_ms})
        return values.received(self.run_id, name, text, received)

    async def _start(self, token: int, name: str, workflow: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        from tako.worker.children import Child

        self.unawaited.awaited(token)
        text = self.visit(name)
        child = Child(name, workflow, args, kwargs)
        if text is not None:
            return child.read_back(text)
        if self.left:
            await self._judge_order(name)
        self.busy += 1
        try:
            self.check()
            return child.started(await self.ask(self.start_message(child)))
        except TooLarge as large:
            raise values.too_large("arguments", large.size) from None
        finally:
            self._became_free()

    async def _gather(self, token: int, runs: tuple[Any, ...], return_exceptions: bool) -> list[Any]:
        from tako.worker.children import Ends, ids_of

        self.unawaited.awaited(token)
        ids = ids_of(runs)
        self._refuse_inside_of_a_step("gather")
        while True:
            self.check()
            if ids:
                await self._park(f"gather#{token}", None, {"runs": ids})
            ends = Ends(ids)
            if await self._ended(ends):
                return ends.results(runs, return_exceptions=return_exceptions)

    async def _ended(self, ends: Ends) -> bool:
        """Ask how runs ended; False when one has not, after all."""
        self.busy += 1  # another branch must not park the run under this one, which goes on now
        try:
            while ends.missing:
                answer = await self.ask(self.outcomes_message(ends.missing))
                if not ends.take(answer["outcomes"]):
                    return False
            return True
        finally:
            self._became_free()

    async def _park(self, name: str, due_ms: int | None, fields: Message) -> str | None:
        if self._branches is None:
            self._branches = Branches(self)
        return await self._branches.park(name, due_ms, fields)

    async def remember(self, name: str, due_ms: int | None) -> None:
        """Save when a wait is due, for a later pass."""
        marker = f"{name} until"
        if due_ms is not None and marker not in self.saved:
            await self._save(marker, str(due_ms), self.now_ms())
            self.saved[marker] = str(due_ms)

    def _refuse_inside_of_a_step(self, name: str) -> None:
        if _in_step.get() is self:
            raise errors.StepError(
                f"{name!r} waits inside a step, and a run cannot let go of its worker there.",
                cure="Sleep and wait in the handler, between steps.",
            )

    def _became_free(self) -> None:
        self.busy -= 1
        if self._branches is not None:
            self._branches.look_again()
