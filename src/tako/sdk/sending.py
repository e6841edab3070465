"""What is sent without a handle: runs enqueued by the name of their workflow, and signals."""

from tako.errors import UnknownSignal
from tako.protocol.ids import uuid7
from tako.sdk import payload, runtime
from tako.sdk import workflow as workflows
from tako.sdk.enqueueing import NOTHING, check_key
from tako.sdk.handles import Run, aask, ask

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, TypeVar, Unpack

    from tako.sdk.enqueueing import UsingOptions
    from tako.sdk.handles import Request
    from tako.sdk.signals import Signal
    from tako.sdk.workflow import Workflow

    T = TypeVar("T")


def enqueue(name: str, args: "Mapping[str, Any] | None" = None, /, **given: "Unpack[UsingOptions]") -> "Run[Any]":
    """Enqueue by name, for apps that must boot while a workflow file is broken. Options as in `using`.

    Durable when this returns. The arguments are checked by the engine, or here if this process has imported the
    workflow. Raises what `Workflow.enqueue` raises; a name that no code declares is UnknownWorkflow, with the nearest.
    """
    run, using, values = _by_name(name, args, given)
    stored = runtime.engine().enqueue((run,), deadline_s=using.deadline_s, immediate=using.immediate)[0]
    return _enqueued(name, stored, values)


async def aenqueue(
    name: str, args: "Mapping[str, Any] | None" = None, /, **given: "Unpack[UsingOptions]"
) -> "Run[Any]":
    """As `enqueue`, awaited."""
    run, using, values = _by_name(name, args, given)
    engine = runtime.engine()
    stored = (await engine.aenqueue((run,), deadline_s=using.deadline_s, immediate=using.immediate))[0]
    return _enqueued(name, stored, values)


def _by_name(name: str, args: "Mapping[str, Any] | None", given: "Any") -> "tuple[Any, Any, dict[str, Any]]":
    if not isinstance(name, str) or not name:
        raise TypeError(f"expected a workflow's name, found {name!r}")
    using = NOTHING.of(given) if given else NOTHING
    known = workflows.declared().get(name)
    if known is not None:
        values, run = workflows.new_run(known, using, (), dict(args or {}))
        return run, using, values
    values = payload.dump_arguments(args or {})
    run_by_name: Any = {
        "id": uuid7(),
        "workflow": name,
        "payload_json": payload.arguments_text(values, of=name),
    }
    using.into(run_by_name)
    return run_by_name, using, values


def _enqueued(name: str, stored: "Any", values: "dict[str, Any]") -> "Run[Any]":
    return Run(stored["id"], workflows.declared().get(name) or name, is_new=stored["is_new"], values=values)


def signal(
    workflow: "Workflow[Any, Any]", run: "Run[Any] | str", signal: "Signal[T]", value: "T", id: str | None
) -> None:
    """What Workflow.signal does."""
    ask(_signal(workflow, run, signal, value, id))


async def asignal(
    workflow: "Workflow[Any, Any]", run: "Run[Any] | str", signal: "Signal[T]", value: "T", id: str | None
) -> None:
    """What Workflow.asignal does."""
    await aask(_signal(workflow, run, signal, value, id))


def _signal(
    workflow: "Workflow[Any, Any]", run: "Run[Any] | str", signal: "Signal[Any]", value: "Any", id: str | None
) -> "Request":
    if not hasattr(signal, "received"):
        raise TypeError(f"expected a Signal, found {signal!r}")
    if signal.name not in [declared.name for declared in workflow.signals]:
        known = ", ".join(repr(declared.name) for declared in workflow.signals) or "none"
        raise UnknownSignal(
            f"workflow {workflow.name!r} declares no signal {signal.name!r}; it declares: {known}",
            cure="Name it in @workflow(signals=[...]).",
        )
    where = {"id": run.id} if isinstance(run, Run) else {"workflow": workflow.name, "key": check_key(run)}
    # With an id, always: a signal that is sent again after a lost reply is kept once.
    return "signal_run", {
        **where,
        "signal": signal.name,
        "payload_json": signal.encode(value),
        "signal_id": id or uuid7(),
    }
