"""Timeouts of runs and steps: who has run too long, where it hangs, and what becomes of it.

An async step or handler is cancelled. A thread cannot be: its run is reported as failed at once, with the stack, and
whatever it still does through its context is refused. If the thread does not end soon after that, it would hold its
place for ever; then the worker is recycled: the runs beside it finish or are handed back uncounted, and a new process
takes over (loud.md 19).
"""

from __future__ import annotations

from tako.worker import attempt as attempts
from tako.worker import execute, tracebacks
from tako.worker.attempt import NEVER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tako.worker.attempt import Attempt, Running

STUCK_AFTER_S = 10.0


class Overdue:
    """`look` is called by the director, whenever something may be due. `recycle` is told of what will not end."""

    def __init__(self, *, recycle: Callable[[str], None]) -> None:
        self._recycle = recycle
        self._stuck: list[_Stuck] = []

    def look(self, handlers: Iterable[Attempt], *, now: float) -> float:
        """Deal with all that is due; returns when to look again (monotonic, NEVER if nothing is known to be due)."""
        due = NEVER
        for attempt in handlers:
            if not attempt.is_done:
                due = min(due, self._look_at(attempt, now))
        return min(due, self._look_at_stuck(now))

    def _look_at(self, attempt: Attempt, now: float) -> float:
        due = NEVER
        deadline = attempt.deadline
        if deadline is not None and now >= deadline:
            attempt.deadline = None
            timeout_ms = attempt.workflow.timeout_ms or 0
            self._cut_short(
                attempt, attempt.thread_id, f"the attempt did not end within {attempts.seconds(timeout_ms)}", now
            )
            return NEVER
        for running in list(attempt.running.values()):
            if running.deadline is not None and now >= running.deadline:
                running.deadline = None
                if not attempt.is_async or attempt.ended:
                    self._cut_short(attempt, running.thread_id, str(running.timeout_error()), now)
                    return NEVER
                self._expire(attempt, running, now)
            elif running.slow_at is not None and now >= running.slow_at:
                running.slow_at = None
                _tell_slow(attempt, running, now)
            due = min(due, running.next_look())
        return due if deadline is None else min(due, deadline)

    def _cut_short(self, attempt: Attempt, thread_id: int, words: str, now: float) -> None:
        """The attempt is over, whatever its handler does. It may have been: a lost or cancelled run holds its place."""
        if attempt.ended:
            pass
        elif attempt.is_async:
            attempt.on_loop(lambda: _fail(attempt, words, attempt.stack()))
        else:
            _fail(attempt, words, tracebacks.stack(thread_id))
        self._stuck.append(_Stuck(attempt, lambda: attempt.is_done, words, now))

    def _expire(self, attempt: Attempt, running: Running, now: float) -> None:
        """An async handler meets TimeoutError at its `await ctx.step(...)`."""
        words = str(running.timeout_error())
        if running.thread_id:
            trace, where = tracebacks.stack(running.thread_id)
            attempt.say("warning", f"{words} ({where})", step=running.name, traceback=trace or None)
        attempt.on_loop(lambda: attempt.expire(running))
        self._stuck.append(_Stuck(attempt, lambda: running.is_done, words, now))

    def _look_at_stuck(self, now: float) -> float:
        due = NEVER
        for stuck in list(self._stuck):
            if stuck.is_over():
                self._stuck.remove(stuck)
            elif now < stuck.since + STUCK_AFTER_S:
                due = min(due, stuck.since + STUCK_AFTER_S)
            else:
                self._stuck.remove(stuck)
                self._recycle(stuck.words())
        return due


class _Stuck:
    """Something that was cut short, and has not ended yet."""

    __slots__ = ("_attempt", "_cause", "is_over", "since")

    def __init__(self, attempt: Attempt, is_over: Callable[[], bool], cause: str, since: float) -> None:
        self._attempt = attempt
        self.is_over = is_over
        self._cause = cause
        self.since = since

    def words(self) -> str:
        name = self._attempt.workflow.name
        return f"{name} {self._attempt.run_id}: {self._cause}, and its code still runs {STUCK_AFTER_S:g}s later"


def _fail(attempt: Attempt, words: str, stack: tuple[str, str]) -> None:
    trace, where = stack
    outcome = execute.failed(attempt, TimeoutError(f"{words} ({where})" if where else words))
    outcome["error"]["traceback"] = f"Stack of the handler when its time was up:\n{trace}" if trace else ""
    attempt.end(attempts.TIMED_OUT)
    if attempt.settle():
        attempt.bench.finish(attempt, outcome)
        attempt.bench.connection.flush()


def _tell_slow(attempt: Attempt, running: Running, now: float) -> None:
    def tell(stack: tuple[str, str]) -> None:
        trace, where = stack
        at = f" ({where})" if where else ""
        attempt.say(
            "warning",
            f"step {running.name!r} has been running for {now - running.started:.0f}s{at}",
            step=running.name,
            traceback=trace or None,
        )

    if running.thread_id:
        tell(tracebacks.stack(running.thread_id))
    else:
        attempt.on_loop(lambda: tell(attempt.stack()))
