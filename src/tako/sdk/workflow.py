"""@workflow and what it makes: a Workflow, which knows its handler and enqueues runs of it.

A workflow is imported by apps that only enqueue and by workers that only run, so its declaration is checked at once
(with file and line) and everything that costs is done at first use: annotations are compiled by the first enqueue.
"""

# ruff: noqa: D103, F811  (overloads: `overload` is not that of typing at run time)
from __future__ import annotations

from tako.errors import DefinitionError, PayloadError
from tako.protocol.ids import uuid7
from tako.sdk import declaration, runtime
from tako.sdk.enqueueing import NOTHING, Using
from tako.sdk.payload import arguments_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
    from typing import Any, Concatenate, Generic, Literal, ParamSpec, Protocol, TypeVar, Unpack, overload

    from tako.protocol.messages import Enqueued, NewRun, WorkflowInfo
    from tako.sdk.context import AsyncContext, Context
    from tako.sdk.declaration import Declaration
    from tako.sdk.enqueueing import UsingOptions
    from tako.sdk.handles import Run
    from tako.sdk.options import Cron, Duration, Every, Rate, Retry
    from tako.sdk.signals import Signal

    P = ParamSpec("P")
    R = TypeVar("R", covariant=True)
    T = TypeVar("T")
    Schedule = str | Cron | Every

    class Decorator(Protocol):
        """What `@workflow(...)` with options is."""

        @overload
        def __call__(self, fn: Callable[Concatenate[AsyncContext, P], Coroutine[Any, Any, R]], /) -> Workflow[P, R]: ...
        @overload
        def __call__(self, fn: Callable[Concatenate[Context, P], R], /) -> Workflow[P, R]: ...

else:
    from tako.sdk.generic import Generic, P, R, overload


@overload
def workflow(fn: Callable[Concatenate[AsyncContext, P], Coroutine[Any, Any, R]], /) -> Workflow[P, R]: ...


@overload
def workflow(fn: Callable[Concatenate[Context, P], R], /) -> Workflow[P, R]: ...


@overload
def workflow(
    *,
    name: str | None = None,
    aliases: Sequence[str] = (),
    group: str = "default",
    retries: int | Retry = 2,
    timeout: Duration | None = None,
    step_timeout: Duration = "1h",
    schedule: Schedule | Sequence[Schedule] | None = None,
    signals: Sequence[Signal[Any]] = (),
    key: str | None = None,
    concurrency: int | None = None,
    concurrency_key: str | None = None,
    rate: Rate | None = None,
    max_pending: int | None = None,
    on_dead: str | None = None,
    if_unhealthy: Literal["raise", "hold"] = "raise",
    strict: bool = False,
    retention: Duration | None = None,
) -> Decorator: ...


def workflow(fn: Any = None, /, **options: Any) -> Any:
    """Declare a durable workflow. Its first parameter is the context: `def` gets Context, `async def` AsyncContext.

    Durations are text such as "90s" or "1h30m", seconds, or a timedelta; None is no limit. `retries` counts attempts
    after the first. `key`, `concurrency_key` and the key of a `Rate` are templates over the arguments:
    `"order:{order_id}"`. Each option is described in docs/reference/sdk.md.

    Raises:
        DefinitionError: the declaration cannot work; names file and line. In a worker that is a failed start, which the
            next enqueue tells.
    """
    if fn is None:
        return lambda fn: Workflow(fn, options)
    return Workflow(fn, options)


class Workflow(Generic[P, R]):
    """A durable function: `enqueue` asks for a run, a worker runs it.

    `fn` is the handler; `signature` its parameters; the options are attributes, durations in milliseconds.
    """

    def __init__(self, fn: Callable[..., Any], options: Mapping[str, Any]) -> None:
        declared: Declaration = declaration.read(fn, options)
        self.fn = fn
        self.name = declared.name
        self.aliases = declared.aliases
        self.group = declared.group
        self.file = declared.file
        self.line = declared.line
        self.signature = declared.signature
        self.is_async = declared.signature.is_async
        self.retry = declared.retry
        self.timeout_ms = declared.timeout_ms
        self.step_timeout_ms = declared.step_timeout_ms
        self.strict = declared.strict
        self.signals = declared.signals
        self.zone = declared.zone
        self.options = declared
        self.digest = declaration.digest(declared)
        self.__name__ = getattr(fn, "__name__", self.name)
        self.__qualname__ = getattr(fn, "__qualname__", self.name)
        self.__module__ = getattr(fn, "__module__", "")
        self.__doc__ = fn.__doc__
        self.__wrapped__ = fn
        _remember(self)

    # --- enqueue ---

    def enqueue(self, /, *args: P.args, **kwargs: P.kwargs) -> Run[R]:
        """Ask for a run. When this returns, it is stored and survives every crash; blocks for one round trip.

        While a worker of new code boots, that takes until it has said what it knows, 5 s at most (`using(deadline=...)`
        says another time). `is_new` of the run is False if an unfinished one has the key: then it is that one.

        Raises:
            PayloadError: the arguments do not fit; names which. Nothing was sent.
            WorkerUnhealthy: no worker can start, and why. Mend the cause, or say `using(if_unhealthy="hold")`.
            UnknownWorkflow, QueueFull, DuplicateRun, StoreUnavailable, NoEngine: what their names say. All of these are
                EnqueueErrors, and nothing was stored.
            EnqueueUnknown: nobody knows whether it was stored; its `run_id` can be asked for later.
        """
        return _enqueue(self, NOTHING, args, kwargs)

    async def aenqueue(self, /, *args: P.args, **kwargs: P.kwargs) -> Run[R]:
        """As `enqueue`, awaited."""
        values, run = new_run(self, NOTHING, args, kwargs)
        stored = await (runtime._engine or runtime.engine()).aenqueue((run,), deadline_s=NOTHING.deadline_s)
        return _handle(self, stored[0], values)

    def enqueue_many(self, items: Iterable[Mapping[str, Any]]) -> list[Run[R]]:
        """Ask for many runs, in one transaction: all or none. Each item is the arguments by name.

        Durable when this returns; in the order of the items. All together must fit into one request of 1 MiB.
        Raises what `enqueue` raises; a PayloadError names the item too.
        """
        return _enqueue_many(self, NOTHING, items)

    async def aenqueue_many(self, items: Iterable[Mapping[str, Any]]) -> list[Run[R]]:
        """As `enqueue_many`, awaited."""
        return await _aenqueue_many(self, NOTHING, items)

    def using(self, **given: Unpack[UsingOptions]) -> Prepared[P, R]:
        """The same workflow with options for the next enqueue: delay, at, key, on_duplicate, priority, retries,
        expires, if_unhealthy, confirm, deadline.

        Raises:
            ValueError, TypeError: names the option and what would do.
        """
        return Prepared(self, NOTHING.of(given))

    # --- runs ---

    def find(self, *, key: str) -> Run[R]:
        """The newest run with this key, ended ones too, as long as they are kept.

        Raises:
            RunNotFound: there is none.
            StoreUnavailable: the engine does not answer within 5 s.
        """
        from tako.sdk import finding

        return finding.find(self, key)

    async def afind(self, *, key: str) -> Run[R]:
        """As `find`, awaited."""
        from tako.sdk import finding

        return await finding.afind(self, key)

    def signal(self, run: Run[Any] | str, signal: Signal[T], value: T, *, id: str | None = None) -> None:
        """Send a value to a run, given as a Run or as the key of an unfinished one.

        Durable when this returns: delivered to the wait that waits for it, or kept for the next one. The same `id`
        twice is kept once; without one, each call is another signal.

        Raises:
            UnknownSignal: the workflow does not declare it.
            PayloadError: the value does not fit the signal's type.
            RunNotFound, RunFinished: nobody will ever take it.
            StoreUnavailable: it cannot be stored now. In each case nothing was sent.
        """
        from tako.sdk import sending

        sending.signal(self, run, signal, value, id)

    async def asignal(self, run: Run[Any] | str, signal: Signal[T], value: T, *, id: str | None = None) -> None:
        """As `signal`, awaited."""
        from tako.sdk import sending

        await sending.asignal(self, run, signal, value, id)

    # --- in tests ---

    def run_inline(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the handler here and now, without an engine: steps run directly, sleeps do not wait. For tests.

        Arguments, steps and result take the way through JSON as they do in earnest. Nothing is stored, nothing is
        retried, and a wait needs a `default`. `tako.testing` has the real engine.
        """
        from tako.sdk import inline

        found: R = inline.run(self, args, kwargs)
        return found

    async def arun_inline(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """As `run_inline`, for handlers that are `async def`, inside a running loop."""
        from tako.sdk import inline

        found: R = await inline.arun(self, args, kwargs)
        return found

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Refuse: a call would be neither durable nor retried, and would look as if it were."""
        raise TypeError(
            f"{self.name} is a workflow and cannot be called: use {self.name}.enqueue(...) to run it durably, "
            f"or {self.name}.run_inline(...) in a test."
        )

    # --- for workers ---

    def check(self) -> None:
        """What `@workflow` leaves for later because it costs: annotations can be stored, defaults fit them.

        Raises:
            DefinitionError: names file and line.
        """
        declaration.check_types(self.options)

    def info(self) -> WorkflowInfo:
        """What the registry tells of it."""
        return declaration.info(self.options)

    def __repr__(self) -> str:
        return f"<workflow {self.name}{self.signature} at {self.file}:{self.line}>"


class Prepared(Generic[P, R]):
    """A workflow with options for its next enqueues, as `using` makes it."""

    __slots__ = ("_using", "_workflow")

    def __init__(self, workflow: Workflow[P, R], using: Using) -> None:
        self._workflow = workflow
        self._using = using

    def using(self, **given: Unpack[UsingOptions]) -> Prepared[P, R]:
        """More options; the later ones win."""
        return Prepared(self._workflow, self._using.of(given))

    def enqueue(self, /, *args: P.args, **kwargs: P.kwargs) -> Run[R]:
        """As Workflow.enqueue."""
        return _enqueue(self._workflow, self._using, args, kwargs)

    async def aenqueue(self, /, *args: P.args, **kwargs: P.kwargs) -> Run[R]:
        """As Workflow.aenqueue."""
        using = self._using
        values, run = new_run(self._workflow, using, args, kwargs)
        engine = runtime.engine()
        stored = await engine.aenqueue((run,), deadline_s=using.deadline_s, immediate=using.immediate)
        return _handle(self._workflow, stored[0], values)

    def enqueue_many(self, items: Iterable[Mapping[str, Any]]) -> list[Run[R]]:
        """As Workflow.enqueue_many."""
        return _enqueue_many(self._workflow, self._using, items)

    async def aenqueue_many(self, items: Iterable[Mapping[str, Any]]) -> list[Run[R]]:
        """As Workflow.aenqueue_many."""
        return await _aenqueue_many(self._workflow, self._using, items)


def new_run(
    workflow: Workflow[Any, Any], using: Using, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[dict[str, Any], NewRun]:
    """The arguments as JSON values, and the run to ask for. Raises PayloadError when they do not fit."""
    values = workflow.signature.dump(args, kwargs)
    run: dict[str, Any] = {
        "id": uuid7(),
        "workflow": workflow.name,
        "payload_json": arguments_text(values, of=workflow.name),
        "signature": workflow.digest,
    }
    for field, template in workflow.options.templates:
        run[field] = template.render(values)
    if using is not NOTHING:
        using.into(run)
    return values, run  # type: ignore[return-value]  # a NewRun, built field by field


def _enqueue(workflow: Workflow[P, R], using: Using, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Run[R]:
    values, run = new_run(workflow, using, args, kwargs)
    engine = runtime._engine or runtime.engine()
    stored = engine.enqueue((run,), deadline_s=using.deadline_s, immediate=using.immediate)[0]
    return _handle(workflow, stored, values)


def _new_runs(
    workflow: Workflow[Any, Any], using: Using, items: Iterable[Mapping[str, Any]]
) -> list[tuple[dict[str, Any], NewRun]]:
    """`new_run` for each. Raises PayloadError that names the item too."""
    made: list[tuple[dict[str, Any], NewRun]] = []
    for item in items:
        try:
            made.append(new_run(workflow, using, (), dict(item)))
        except PayloadError as error:
            words = f"items[{len(made)}]: {error.message}"
            raise PayloadError(words, cure=error.cure, detail={**error.detail, "item": len(made)}) from None
    return made


def _enqueue_many(workflow: Workflow[P, R], using: Using, items: Iterable[Mapping[str, Any]]) -> list[Run[R]]:
    made = _new_runs(workflow, using, items)
    if not made:
        return []
    runs = [run for _, run in made]
    stored = runtime.engine().enqueue(runs, deadline_s=using.deadline_s, immediate=using.immediate)
    return _runs(workflow, made, stored)


async def _aenqueue_many(workflow: Workflow[P, R], using: Using, items: Iterable[Mapping[str, Any]]) -> list[Run[R]]:
    made = _new_runs(workflow, using, items)
    if not made:
        return []
    runs = [run for _, run in made]
    stored = await runtime.engine().aenqueue(runs, deadline_s=using.deadline_s, immediate=using.immediate)
    return _runs(workflow, made, stored)


def _runs(workflow: Workflow[P, R], made: list[Any], stored: list[Enqueued]) -> list[Run[R]]:
    return [_handle(workflow, one, values) for (values, _), one in zip(made, stored, strict=True)]


def _handle(workflow: Workflow[P, R], stored: Enqueued, values: dict[str, Any]) -> Run[R]:
    global _run_class
    if _run_class is None:
        # Late: handles.py needs this file, and a worker that only runs handlers never needs handles.py.
        from tako.sdk.handles import Run

        _run_class = Run
    run: Run[R] = _run_class(stored["id"], workflow, is_new=stored["is_new"], values=values)
    return run


_run_class: type[Run[Any]] | None = None


# --- all workflows of this process ----------------------------------------------------------------------------------

_declared: dict[str, Workflow[Any, Any]] = {}


def declared() -> dict[str, Workflow[Any, Any]]:
    """The workflows that this process has imported, by name; aliases are not in it."""
    return dict(_declared)


def _remember(new: Workflow[Any, Any]) -> None:
    """Keep it by name. Two of one name are an error, unless the same code was imported anew."""
    for name in (new.name, *new.aliases):
        for old in _declared.values():
            if name in (old.name, *old.aliases) and not _is_again(old, new):
                raise DefinitionError(
                    f"{new.file}:{new.line}: there is a workflow {name!r} already, at {old.file}:{old.line}.",
                    cure="Give one of them another name, with name=.",
                )
    _declared[new.name] = new


def _is_again(old: Workflow[Any, Any], new: Workflow[Any, Any]) -> bool:
    if old.file != new.file or old.__qualname__ != new.__qualname__:
        return "<locals>" in new.__qualname__ and "<locals>" in old.__qualname__
    if old.line == new.line or "<locals>" in new.__qualname__:
        return True
    # A module that is reloaded gets a new spec; without one (a script, a notebook) a cell is run again.
    before, now = (getattr(one.fn, "__globals__", {}).get("__spec__") for one in (old, new))
    return now is None or before is not now
