"""`run_inline`: a handler called in this process, without an engine. For tests of what a handler does, not of recovery.

Arguments, step values and the result take the way through JSON that they take under an engine, so a type that cannot
be stored is found here too. Sleeps do not wait. Children run inline, where they are started.
"""

from tako.errors import RunCancelled, RunFailed, StepError
from tako.protocol.ids import uuid7
from tako.sdk import payload
from tako.sdk.context import AsyncContext, Context, Stop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from tako.sdk.runner import StepOptions
    from tako.sdk.workflow import Workflow


def run(workflow: "Workflow[Any, Any]", args: "tuple[Any, ...]", kwargs: "dict[str, Any]") -> "Any":
    """What Workflow.run_inline does."""
    if workflow.is_async:
        import asyncio

        if asyncio._get_running_loop() is not None:
            raise RuntimeError(f"a loop is running: await {workflow.name}.arun_inline(...) in it")
        return asyncio.run(arun(workflow, args, kwargs))
    arguments = _arguments(workflow, args, kwargs)
    return _result(workflow, workflow.fn(_context(workflow, Context), **arguments))


async def arun(workflow: "Workflow[Any, Any]", args: "tuple[Any, ...]", kwargs: "dict[str, Any]") -> "Any":
    """What Workflow.arun_inline does."""
    if not workflow.is_async:
        return run(workflow, args, kwargs)
    arguments = _arguments(workflow, args, kwargs)
    return _result(workflow, await workflow.fn(_context(workflow, AsyncContext), **arguments))


def _arguments(workflow: "Any", args: "tuple[Any, ...]", kwargs: "dict[str, Any]") -> "dict[str, Any]":
    values = workflow.signature.dump(args, kwargs)
    found: dict[str, Any] = workflow.signature.load(payload.arguments_text(values, of=workflow.name))
    return found


def _result(workflow: "Any", value: "Any") -> "Any":
    codec = workflow.signature.result
    return payload.decode(codec, payload.encode(codec, value, what="result"), what="result")


def _context(workflow: "Workflow[Any, Any]", kind: "Any") -> "Any":
    runner = _Async(workflow) if kind is AsyncContext else _Sync(workflow)
    return kind(runner, run_id=uuid7(), workflow=workflow.name, attempt=1)


class _Child:
    """What `ctx.start` gives back inline: the child has run already."""

    def __init__(self, workflow: str, value: "Any" = None, error: Exception | None = None) -> None:
        self.id = uuid7()
        self.is_new = True
        self.workflow = workflow
        self.value = value
        self.error: Exception | None = None
        if isinstance(error, Stop):
            self.error = RunCancelled(f"the child run of {workflow} was cancelled: {error.reason}")
        elif error is not None:
            self.error = RunFailed(f"the child run of {workflow} is dead: {type(error).__name__}: {error}")
            self.error.__cause__ = error

    def status(self) -> str:
        if self.error is None:
            return "succeeded"
        return "cancelled" if isinstance(self.error, RunCancelled) else "dead"

    def result(self, timeout: object = None) -> "Any":
        if self.error is not None:
            raise self.error
        return self.value


def _gathered(runs: "tuple[Any, ...]", return_exceptions: bool) -> "list[Any]":
    failures = [run for run in runs if run.error is not None]
    if failures and not return_exceptions:
        for other in failures[1:]:
            failures[0].error.add_note(f"also failed: {other.workflow} {other.id}: {other.error}")
        raise failures[0].error
    return [run.value if run.error is None else run.error for run in runs]


def _child(workflow: "Any") -> "Workflow[Any, Any]":
    """The workflow itself: `using(...)` says how a run is enqueued, and here none is."""
    found: Workflow[Any, Any] = getattr(workflow, "_workflow", workflow)
    return found


class _Inline:
    """What both runners share: no name twice, values through JSON."""

    def __init__(self, workflow: "Workflow[Any, Any]") -> None:
        self.log = _Log()
        self._names: set[str] = set()
        self._workflow = workflow

    def _visit(self, name: str) -> None:
        if name in self._names:
            raise StepError(
                f"step {name!r} is used twice in one attempt.", cure=f'Number it: f"{name}[{{i}}]", or use ctx.map.'
            )
        self._names.add(name)

    def _stored(self, name: str, value: "Any", fn: "Any", returns: "Any") -> "Any":
        codec = payload.codec_for_step(fn, returns)
        what = f"step {name!r}: result"
        return payload.decode(codec, payload.encode(codec, value, what=what), what=what)

    def _received(self, event: str, received: "Callable[[str | None], Any]") -> "Any":
        return received(None)


class _Sync(_Inline):
    """Runner of a Context."""

    def step(self, name: str, fn: "Callable[..., Any]", args: "tuple[Any, ...]", options: "StepOptions") -> "Any":
        self._visit(name)
        return self._stored(name, fn(*args), fn, options.returns)

    def map(
        self,
        name: str,
        fn: "Callable[[Any], Any]",
        items: "Iterable[Any]",
        options: "StepOptions",
        *,
        limit: int,
        return_exceptions: bool,
    ) -> "list[Any]":
        found: list[Any] = []
        for index, item in enumerate(items):
            try:
                found.append(self.step(f"{name}[{index}]", fn, (item,), options))
            except Exception as error:
                if not return_exceptions:
                    raise
                found.append(error)
        return found

    def sleep(self, name: str, duration_ms: int) -> None:
        self._visit(name)

    def sleep_until(self, name: str, when_ms: int) -> None:
        self._visit(name)

    def wait_for(self, event: str, timeout_ms: int | None, received: "Callable[[str | None], Any]") -> "Any":
        return self._received(event, received)

    def start(self, name: str, workflow: "Any", args: "tuple[Any, ...]", kwargs: "dict[str, Any]") -> "Any":
        self._visit(name)
        child = _child(workflow)
        try:
            return _Child(child.name, run(child, args, kwargs))
        except Exception as error:
            return _Child(child.name, error=error)

    def gather(self, runs: "tuple[Any, ...]", *, return_exceptions: bool) -> "list[Any]":
        return _gathered(runs, return_exceptions)


class _Async(_Inline):
    """Runner of an AsyncContext."""

    async def step(self, name: str, fn: "Callable[..., Any]", args: "tuple[Any, ...]", options: "StepOptions") -> "Any":
        self._visit(name)
        value = fn(*args)
        if hasattr(value, "__await__"):
            value = await value
        return self._stored(name, value, fn, options.returns)

    async def map(
        self,
        name: str,
        fn: "Callable[[Any], Any]",
        items: "Iterable[Any]",
        options: "StepOptions",
        *,
        limit: int,
        return_exceptions: bool,
    ) -> "list[Any]":
        found: list[Any] = []
        for index, item in enumerate(items):
            try:
                found.append(await self.step(f"{name}[{index}]", fn, (item,), options))
            except Exception as error:
                if not return_exceptions:
                    raise
                found.append(error)
        return found

    async def sleep(self, name: str, duration_ms: int) -> None:
        self._visit(name)

    async def sleep_until(self, name: str, when_ms: int) -> None:
        self._visit(name)

    async def wait_for(self, event: str, timeout_ms: int | None, received: "Callable[[str | None], Any]") -> "Any":
        return self._received(event, received)

    async def start(self, name: str, workflow: "Any", args: "tuple[Any, ...]", kwargs: "dict[str, Any]") -> "Any":
        self._visit(name)
        child = _child(workflow)
        try:
            return _Child(child.name, await arun(child, args, kwargs))
        except Exception as error:
            return _Child(child.name, error=error)

    async def gather(self, runs: "tuple[Any, ...]", *, return_exceptions: bool) -> "list[Any]":
        return _gathered(runs, return_exceptions)


class _Log:
    """Lines of an inline run go to stderr, as a worker's do."""

    def _write(self, level: str, message: str, fields: "dict[str, object]") -> None:
        import sys

        print(level, message, *(f"{name}={value!r}" for name, value in fields.items()), file=sys.stderr)  # noqa: T201

    def debug(self, message: str, **fields: object) -> None:
        self._write("debug", message, fields)

    def info(self, message: str, **fields: object) -> None:
        self._write("info", message, fields)

    def warning(self, message: str, **fields: object) -> None:
        self._write("warning", message, fields)

    def error(self, message: str, **fields: object) -> None:
        self._write("error", message, fields)
