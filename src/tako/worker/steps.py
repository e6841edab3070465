"""What a `def` handler does through its context: steps, map, sleeps, waits. It runs in a thread and may block it.

A step's function may run more than once before its result is acknowledged, and never again after (E1). What the
handler gets is what was stored, on the first pass as on every later one.
"""

from __future__ import annotations

from _thread import allocate_lock, get_ident
from time import monotonic

from tako import errors
from tako.sdk.context import Context
from tako.sdk.startup import around_steps
from tako.worker import values
from tako.worker.attempt import Attempt, Ended
from tako.worker.connection import FINAL, KEPT, TooLarge
from tako.worker.speech import who
from tako.worker.tries import Failure, gathered, next_try_ms

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _thread import LockType
    from collections.abc import Callable, Iterable
    from typing import Any

    from tako.sdk.runner import StepOptions


class SyncAttempt(Attempt):
    """An attempt of a `def` handler; what its Context calls."""

    __slots__ = ("_alarms", "member")

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self._alarms: list[LockType] = []  # of threads that sleep: the handler's, and those of its `map`
        self.member: Any = None  # of the crew: who begins it, if that is settled already

    def end(self, why: str) -> bool:
        """As Attempt.end; a sleeping handler wakes."""
        if not super().end(why):
            return False
        while self._alarms:
            self._alarms.pop().release()
        return True

    def context(self) -> Context:
        """What the handler receives."""
        return Context(
            self,
            run_id=self.run_id,
            workflow=self.workflow.name,
            attempt=self.attempt,
            key=self.key,
            scheduled_for_ms=self.scheduled_for_ms,
            zone=self.claimed.get("scheduled_tz") or "UTC",
        )

    def step(self, name: str, fn: Callable[..., Any], args: tuple[Any, ...], options: StepOptions) -> Any:
        """Give back the saved result, or call `fn` and save what it returns. Durable on return."""
        text = self.visit(name)
        kind = values.codec(name, fn, options.returns)
        if text is not None:
            return values.read_back(name, text, kind)
        if self.left:
            self.judge_order(name)
        started_ms = self.now_ms()
        value = self.execute_step(name, fn, args, options)
        text, value = values.stored(name, value, kind)
        self._save(name, text, started_ms)
        return value

    def map(
        self,
        name: str,
        fn: Callable[[Any], Any],
        items: Iterable[Any],
        options: StepOptions,
        *,
        limit: int,
        return_exceptions: bool,
    ) -> list[Any]:
        """A step for each item, `limit` at a time. Waits for all, then raises the first error and lists the rest."""
        every = list(items)
        results: list[Any] = [None] * len(every)
        # Saved ones first: they cost nothing, and then none of them looks skipped.
        order = sorted(range(len(every)), key=lambda index: f"{name}[{index}]" not in self.saved)
        waiting = iter(order)
        ends: list[Ended] = []

        def work() -> None:
            for index in waiting:  # each index goes to one thread: a list's iterator is stepped under the GIL
                try:
                    results[index] = self.step(f"{name}[{index}]", fn, (every[index],), options)
                except Exception as error:
                    results[index] = Failure(index, error)
                except Ended as end:
                    ends.append(end)
                    return

        _in_threads(work, count=min(limit, len(every)))
        if ends:
            raise ends[0]
        return gathered(self, name, results, return_exceptions=return_exceptions)

    def sleep(self, name: str, duration_ms: int) -> None:
        """Go on after a while; longer sleeps give the worker free."""
        self._sleep_until(name, self.now_ms() + duration_ms)

    def sleep_until(self, name: str, when_ms: int) -> None:
        """Go on at a time."""
        self._sleep_until(name, when_ms)

    def _sleep_until(self, name: str, when_ms: int) -> None:
        if self.visit(name) is not None:
            return
        self._refuse_inside_of_a_step(name)
        if self.left:
            self.judge_order(name)
        started_ms = self.now_ms()
        if when_ms - started_ms > self.short_sleep_ms:
            self._park(name, wake_at_ms=when_ms)
            return
        self.pause((when_ms - started_ms) / 1000)
        self._save(name, "null", started_ms)

    def wait_for(self, event: str, timeout_ms: int | None, received: Callable[[str | None], Any]) -> Any:
        """What `received` makes of a signal's text, or of None at the timeout. Parks unless it is there already."""
        name = self.name_of_wait(event)
        text = self.visit(name)
        if text is None:
            self._refuse_inside_of_a_step(name)
            if self.left:
                self.judge_order(name)
            timeout_at_ms = None if timeout_ms is None else self.now_ms() + timeout_ms
            text = self._park(name, event_name=event, timeout_at_ms=timeout_at_ms)
        return values.received(self.run_id, name, text, received)

    def start(self, name: str, workflow: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Enqueue a child run, or give back the one that was started under this name. Durable on return."""
        from tako.worker.children import Child

        text = self.visit(name)
        child = Child(name, workflow, args, kwargs)
        if text is not None:
            return child.read_back(text)
        if self.left:
            self.judge_order(name)
        return child.started(self._ask(self.start_message(child), what="arguments"))

    def gather(self, runs: tuple[Any, ...], *, return_exceptions: bool) -> list[Any]:
        """The results of runs, in order; parks until all have ended."""
        from tako.worker.children import Ends, ids_of

        ids = ids_of(runs)
        self._refuse_inside_of_a_step("gather")
        while True:
            self.check()
            if ids:
                self._park("gather", runs=ids)
            ends = Ends(ids)
            while ends.missing:
                if not ends.take(self._ask(self.outcomes_message(ends.missing), what="ids")["outcomes"]):
                    break
            else:
                return ends.results(runs, return_exceptions=return_exceptions)

    # --- in the handler's thread ---

    def pause(self, seconds: float) -> None:
        """Wait in this thread; raises Ended as soon as the attempt has ended. Does not count for the run's timeout."""
        self.check()
        if seconds <= 0:
            return
        alarm = allocate_lock()
        alarm.acquire()
        self._alarms.append(alarm)
        left_s = self.stop_clock()
        if not self.ended:  # `end` either sees the alarm or was seen here
            alarm.acquire(timeout=min(seconds, 1e6))
        try:  # noqa: SIM105 - contextlib is not loaded in a cold process
            self._alarms.remove(alarm)
        except ValueError:
            pass  # `end` has taken it
        self.go_on_clock(left_s)
        self.check()

    def _refuse_inside_of_a_step(self, name: str) -> None:
        if any(running.thread_id == get_ident() for running in list(self.running.values())):
            raise errors.StepError(
                f"{name!r} waits inside a step, and a run cannot let go of its worker there.",
                cure="Sleep and wait in the handler, between steps.",
            )

    def execute_step(self, name: str, fn: Callable[..., Any], args: tuple[Any, ...], options: StepOptions) -> Any:
        """Call a step's function, again as its retries say; what it returned."""
        tries = 0
        while True:
            self.started(name, options.timeout_ms(self)).enter_thread()
            speaking = who.set((self, name))
            span = self.span(name)
            try:
                if self.tells_steps:
                    self._ask(self.in_steps_message(), what=name)
                value = fn(*args) if not around_steps else values.inside(around_steps, lambda: fn(*args))
            except Exception as error:
                if span is not None:
                    span.failed(error)
                tries += 1
                delay_ms = next_try_ms(self, name, error, options.retry, tries)
                if delay_ms is None:
                    raise
            else:
                if hasattr(value, "__await__"):
                    raise values.needs_async(name, value)
                return value
            finally:
                if span is not None:
                    span.end()
                who.reset(speaking)
                del self.running[name]
                if self.tells_steps:
                    self.left_step()
            self.pause(delay_ms / 1000)

    def _save(self, name: str, text: str, started_ms: int) -> None:
        self._ask(self.save_message(name, text, started_ms), what=name)

    def _ask(self, message: Any, *, what: str) -> Any:
        self.check()
        asked = monotonic()
        try:
            return self.bench.connection.call(message, keep=KEPT, run_id=self.run_id)
        except TooLarge as large:
            raise values.too_large(what, large.size) from None
        except errors.TakoError as error:
            raise self.refused(error) from None
        finally:
            self.waited_s += monotonic() - asked

    def _park(self, name: str, **fields: Any) -> str | None:
        message = {**self.message("park"), "step_name": name}
        fields["spent_ms"] = self.spent_ms()
        message.update((key, value) for key, value in fields.items() if value is not None)
        try:
            self.is_leaving = True
            answer = self.bench.connection.call(message, keep=FINAL, run_id=self.run_id)
        except errors.TakoError as error:
            raise self.refused(error) from None
        return self.parked(answer)


def _in_threads(work: Callable[[], None], *, count: int) -> None:
    """Call `work` in `count` threads, this one among them, and wait for all. Context variables are copied."""
    from contextvars import copy_context
    from threading import Thread

    others = [Thread(target=copy_context().run, args=(work,), daemon=True) for _ in range(count - 1)]
    for other in others:
        other.start()
    work()
    for other in others:
        other.join()
