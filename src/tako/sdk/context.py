"""Context and AsyncContext: what a handler receives. They check what they are given; a Runner does the work.

The worker, `run_inline` and `tako.testing` each have a Runner. `runner.py` says what it is given.
"""

# ruff: noqa: D102, F811  (overloads: `overload` is not that of typing at run time)
from __future__ import annotations

from tako.sdk import options
from tako.sdk.runner import check_limit, check_name, receiver, step_options, timeout_of
from tako.sdk.signals import MISSING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable
    from datetime import datetime
    from typing import Any, Literal, ParamSpec, TypeVar, TypeVarTuple, overload

    from tako.sdk.handles import Run
    from tako.sdk.options import Duration, Retry
    from tako.sdk.runner import Logger, Runner
    from tako.sdk.runner import StepOptions as StepOptions
    from tako.sdk.signals import Signal
    from tako.sdk.workflow import Prepared, Workflow

    T = TypeVar("T")
    U = TypeVar("U")
    D = TypeVar("D")
    R = TypeVar("R")
    P = ParamSpec("P")
    Ts = TypeVarTuple("Ts")
else:
    from tako.sdk.generic import overload


class Stop(Exception):
    """What `ctx.stop(reason)` makes: the run ends as cancelled, with this reason."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class _Base:
    """Who the run is: `run_id`, `workflow`, `attempt` (1 is the first), `key` (None if it has none)."""

    __slots__ = ("_runner", "_scheduled_for_ms", "_zone", "attempt", "key", "run_id", "workflow")

    def __init__(
        self,
        runner: Any,
        *,
        run_id: str,
        workflow: str,
        attempt: int,
        key: str | None = None,
        scheduled_for_ms: int | None = None,
        zone: str = "UTC",
    ) -> None:
        self._runner: Runner = runner
        self.run_id = run_id
        self.workflow = workflow
        self.attempt = attempt
        self.key = key
        self._scheduled_for_ms = scheduled_for_ms
        self._zone = zone

    @property
    def scheduled_for(self) -> datetime | None:
        """The time in the schedule that this run is for, in the schedule's zone; None if nobody scheduled it."""
        if self._scheduled_for_ms is None:
            return None
        from datetime import UTC, datetime

        found = datetime.fromtimestamp(self._scheduled_for_ms / 1000, tz=UTC)
        if self._zone == "UTC":
            return found
        from zoneinfo import ZoneInfo

        return found.astimezone(ZoneInfo(self._zone))

    @property
    def log(self) -> Logger:
        """A logger whose lines carry the run's id: `ctx.log.info("charged", order=7)`."""
        return self._runner.log

    def stop(self, reason: str) -> Exception:
        """An exception to raise: `raise ctx.stop("the order was withdrawn")` ends the run, and its children, as
        cancelled. Nothing is retried."""
        return Stop(str(reason) or "stopped")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.workflow} {self.run_id}, attempt {self.attempt}>"


class Context(_Base):
    """What a `def` handler receives. Its methods block the handler's thread."""

    __slots__ = ()

    @overload
    def step(
        self,
        name: str,
        fn: Callable[..., Any],
        *args: Any,
        retries: int | Retry = 0,
        timeout: Duration | None = None,
        returns: type[U],
    ) -> U: ...

    @overload
    def step(
        self,
        name: str,
        fn: Callable[[*Ts], T],
        *args: *Ts,
        retries: int | Retry = 0,
        timeout: Duration | None = None,
        returns: None = None,
    ) -> T: ...

    def step(  # type: ignore[misc]  # mypy does not see that *args: Any takes *args: *Ts
        self,
        name: str,
        fn: Callable[..., Any],
        *args: Any,
        retries: int | Retry = 0,
        timeout: Duration | None = None,
        returns: Any = None,
    ) -> Any:
        """Call `fn(*args)`, save what it returns and give that back; or give back what was saved before.

        The value is durable when this returns. Until then `fn` may run more than once (its process may die behind its
        side effect), and never again after that: `f"{ctx.run_id}:{name}"` is an idempotency key for others.

        `name` is used once in an attempt. `retries` are executions after the first, within this attempt. `timeout` None
        is the workflow's `step_timeout`. `returns` is the value's type where `fn` has no annotation; what is given back
        has taken the way through JSON, the first time too. Keywords of `fn` go into a `functools.partial`.

        Raises:
            StepResultError: the value cannot be stored, or no longer reads back; names the path. Not retried. Annotate
                `fn`, or return a reference to what is too large.
            StepError: the name was used already, or an option cannot be. Not retried.
            TimeoutError: `fn` took too long. (A sync one cannot be interrupted: its whole attempt fails then.)
            Exception: what `fn` raised, when its retries are used up. Nothing was saved.
        """
        return self._runner.step(check_name(name), fn, args, step_options(fn, retries, timeout, returns))

    @overload
    def map(
        self,
        name: str,
        fn: Callable[[U], T],
        items: Iterable[U],
        *,
        limit: int = 10,
        return_exceptions: Literal[False] = False,
        retries: int | Retry = 0,
        timeout: Duration | None = None,
        returns: type[T] | None = None,
    ) -> list[T]: ...

    @overload
    def map(
        self,
        name: str,
        fn: Callable[[U], T],
        items: Iterable[U],
        *,
        limit: int = 10,
        return_exceptions: bool,
        retries: int | Retry = 0,
        timeout: Duration | None = None,
        returns: type[T] | None = None,
    ) -> list[T | Exception]: ...

    def map(
        self,
        name: str,
        fn: Callable[[Any], Any],
        items: Iterable[Any],
        *,
        limit: int = 10,
        return_exceptions: bool = False,
        retries: int | Retry = 0,
        timeout: Duration | None = None,
        returns: Any = None,
    ) -> Any:
        """Steps name[0], name[1], ..., one an item, `limit` of them at a time; the results in the order of the items.

        Each is a step of its own: what is saved when a worker dies is not done again. The options are those of `step`,
        for each item.

        Raises:
            Exception: the first error, when all have ended; the others are listed in its notes. With
                `return_exceptions` they are in the list, in their places.
        """
        chosen = step_options(fn, retries, timeout, returns)
        return self._runner.map(
            check_name(name), fn, items, chosen, limit=check_limit(limit), return_exceptions=return_exceptions
        )

    def sleep(self, name: str, duration: Duration) -> None:
        """Go on after a while: text such as "10m", seconds, or a timedelta.

        More than 3 s park the run: it holds no worker, survives restarts and deploys, and goes on, in any worker, from
        the first line of the handler with all that was saved. Time spent asleep does not count for `timeout`.
        """
        self._runner.sleep(check_name(name), options.duration_ms(duration, what=f"sleep {name!r}"))

    def sleep_until(self, name: str, when: datetime) -> None:
        """Go on at a time, which has a time zone; at once, if it is past. Parks as `sleep` does."""
        self._runner.sleep_until(check_name(name), options.instant_ms(when, what=f"sleep_until {name!r}"))

    @overload
    def wait_for(self, signal: Signal[T], *, timeout: Duration | None) -> T: ...

    @overload
    def wait_for(self, signal: Signal[T], *, timeout: Duration | None, default: D) -> T | D: ...

    def wait_for(self, signal: Signal[Any], *, timeout: Duration | None, default: Any = MISSING) -> Any:
        """The next value of a signal: one that is kept for this run already, else the run parks until there is one.

        `timeout` must be said; None waits for ever. Values come in the order of sending, each to one wait, and what was
        received stays received: the wait gives the same value when the handler runs again.

        Raises:
            SignalTimeout: none came in time, and there is no `default`.
            StepError: the workflow does not declare the signal, so nobody could send it.
            PayloadError: the value is not of the signal's type. The run is dead then; send a right one and retry it.
        """
        timeout_ms = timeout_of(signal, timeout)
        return self._runner.wait_for(signal.name, timeout_ms, receiver(signal, default))

    def start(self, name: str, workflow: Workflow[P, R] | Prepared[P, R], *args: P.args, **kwargs: P.kwargs) -> Run[R]:
        """Enqueue a child run under this name, once, whatever happens to this one; `workflow.using(...)` will do too.

        Durable when this returns. Broken workers do not refuse it: it is stored, and shown as blocked. It is cancelled
        with this run, and outlives any other end of it.

        Raises:
            StepError: the arguments do not fit, or an option of `using` means nothing for a child. Not retried.
            QueueFull, DuplicateRun: what their names say. Neither the child nor the step was stored.
        """
        found: Run[R] = self._runner.start(check_name(name), workflow, args, kwargs)
        return found

    @overload
    def gather(self, *runs: Run[T], return_exceptions: Literal[False] = False) -> list[T]: ...

    @overload
    def gather(self, *runs: Run[T], return_exceptions: bool) -> list[T | Exception]: ...

    def gather(self, *runs: Run[Any], return_exceptions: bool = False) -> Any:
        """The results of runs, children or others, in order. Waits for all of them, and holds no worker meanwhile.

        Raises:
            RunFailed, RunCancelled: the first child that ended so; the others are listed in it. With
                `return_exceptions` they are in the list, in their places.
        """
        return self._runner.gather(runs, return_exceptions=return_exceptions)


class AsyncContext(_Base):
    """What an `async def` handler receives. Each method's result is to be awaited."""

    __slots__ = ()

    # Not `async def`: the Runner's own awaitables go out, since it notices those that nobody awaits.

    @overload
    def step(
        self,
        name: str,
        fn: Callable[..., Any],
        *args: Any,
        retries: int | Retry = 0,
        timeout: Duration | None = None,
        returns: type[U],
    ) -> Coroutine[Any, Any, U]: ...

    @overload
    def step(
        self,
        name: str,
        fn: Callable[[*Ts], Awaitable[T]],
        *args: *Ts,
        retries: int | Retry = 0,
        timeout: Duration | None = None,
        returns: None = None,
    ) -> Coroutine[Any, Any, T]: ...

    @overload
    def step(
        self,
        name: str,
        fn: Callable[[*Ts], T],
        *args: *Ts,
        retries: int | Retry = 0,
        timeout: Duration | None = None,
        returns: None = None,
    ) -> Coroutine[Any, Any, T]: ...

    def step(  # type: ignore[misc]  # mypy does not see that *args: Any takes *args: *Ts
        self,
        name: str,
        fn: Callable[..., Any],
        *args: Any,
        retries: int | Retry = 0,
        timeout: Duration | None = None,
        returns: Any = None,
    ) -> Any:
        """As Context.step. `fn` may be async; a sync one runs in a thread."""
        return self._runner.step(check_name(name), fn, args, step_options(fn, retries, timeout, returns))

    @overload
    def map(
        self,
        name: str,
        fn: Callable[[U], Awaitable[T]],
        items: Iterable[U],
        *,
        limit: int = 10,
        return_exceptions: Literal[False] = False,
        retries: int | Retry = 0,
        timeout: Duration | None = None,
        returns: type[T] | None = None,
    ) -> Coroutine[Any, Any, list[T]]: ...

    @overload
    def map(
        self,
        name: str,
        fn: Callable[[U], Awaitable[T]],
        items: Iterable[U],
        *,
        limit: int = 10,
        return_exceptions: bool,
        retries: int | Retry = 0,
        timeout: Duration | None = None,
        returns: type[T] | None = None,
    ) -> Coroutine[Any, Any, list[T | Exception]]: ...

    @overload
    def map(
        self,
        name: str,
        fn: Callable[[U], T],
        items: Iterable[U],
        *,
        limit: int = 10,
        return_exceptions: Literal[False] = False,
        retries: int | Retry = 0,
        timeout: Duration | None = None,
        returns: type[T] | None = None,
    ) -> Coroutine[Any, Any, list[T]]: ...

    @overload
    def map(
        self,
        name: str,
        fn: Callable[[U], T],
        items: Iterable[U],
        *,
        limit: int = 10,
        return_exceptions: bool,
        retries: int | Retry = 0,
        timeout: Duration | None = None,
        returns: type[T] | None = None,
    ) -> Coroutine[Any, Any, list[T | Exception]]: ...

    def map(
        self,
        name: str,
        fn: Callable[[Any], Any],
        items: Iterable[Any],
        *,
        limit: int = 10,
        return_exceptions: bool = False,
        retries: int | Retry = 0,
        timeout: Duration | None = None,
        returns: Any = None,
    ) -> Any:
        """As Context.map."""
        chosen = step_options(fn, retries, timeout, returns)
        return self._runner.map(
            check_name(name), fn, items, chosen, limit=check_limit(limit), return_exceptions=return_exceptions
        )

    def sleep(self, name: str, duration: Duration) -> Coroutine[Any, Any, None]:
        """As Context.sleep."""
        found: Coroutine[Any, Any, None] = self._runner.sleep(
            check_name(name), options.duration_ms(duration, what=f"sleep {name!r}")
        )
        return found

    def sleep_until(self, name: str, when: datetime) -> Coroutine[Any, Any, None]:
        """As Context.sleep_until."""
        found: Coroutine[Any, Any, None] = self._runner.sleep_until(
            check_name(name), options.instant_ms(when, what=f"sleep_until {name!r}")
        )
        return found

    @overload
    def wait_for(self, signal: Signal[T], *, timeout: Duration | None) -> Coroutine[Any, Any, T]: ...

    @overload
    def wait_for(self, signal: Signal[T], *, timeout: Duration | None, default: D) -> Coroutine[Any, Any, T | D]: ...

    def wait_for(self, signal: Signal[Any], *, timeout: Duration | None, default: Any = MISSING) -> Any:
        """As Context.wait_for."""
        timeout_ms = timeout_of(signal, timeout)
        return self._runner.wait_for(signal.name, timeout_ms, receiver(signal, default))

    def start(
        self, name: str, workflow: Workflow[P, R] | Prepared[P, R], *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, Run[R]]:
        """As Context.start."""
        found: Coroutine[Any, Any, Run[R]] = self._runner.start(check_name(name), workflow, args, kwargs)
        return found

    @overload
    def gather(self, *runs: Run[T], return_exceptions: Literal[False] = False) -> Coroutine[Any, Any, list[T]]: ...

    @overload
    def gather(self, *runs: Run[T], return_exceptions: bool) -> Coroutine[Any, Any, list[T | Exception]]: ...

    def gather(self, *runs: Run[Any], return_exceptions: bool = False) -> Any:
        """As Context.gather."""
        return self._runner.gather(runs, return_exceptions=return_exceptions)
