"""Child runs, as a handler sees them: what `ctx.start` sends and gives back, and what `ctx.gather` makes of their ends.

How a child ended is asked of the engine each time the handler comes to the gather: it stands with the child, and
changes only when people retry the child.
"""

from __future__ import annotations

from tako import errors
from tako.protocol import json_text
from tako.sdk.handles import Run
from tako.sdk.workflow import Prepared, Workflow, new_run
from tako.worker import tracebacks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from tako.protocol.messages import Enqueued, NewRun

    Message = dict[str, Any]

# Ids of so many runs fit into one request.
MOST_RUNS = 10_000
_UNFINISHED = ("pending", "running")


class Child:
    """A child that is about to be started: `new` is what to ask for."""

    __slots__ = ("_values", "_workflow", "name", "new")

    def __init__(self, name: str, workflow: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        found, using = _of(name, workflow)
        try:
            values, new = new_run(found, using, args, kwargs)
        except errors.PayloadError as error:
            # Trying again would not make them fit.
            raise errors.StepError(f"start {name!r}: {error.message}", cure=error.cure, detail=error.detail) from None
        self.name = name
        self.new: NewRun = new
        self._values = values
        self._workflow = found

    def started(self, answer: Enqueued) -> Run[Any]:
        """The handle that the handler gets."""
        return Run(answer["id"], self._workflow, is_new=answer["is_new"], values=self._values)

    def read_back(self, text: str) -> Run[Any]:
        """The handle of the child that was started under this name before.

        Raises:
            StepResultError: what was saved under it is no child.
        """
        try:
            saved = json_text.decode(text)
            return self.started({"id": saved["id"], "is_new": saved["is_new"]})
        except (ValueError, TypeError, KeyError):
            raise errors.StepResultError(
                f"start {self.name!r}: what is saved under this name is the result of a step, and no child run",
                cure="Give the start a new name.",
            ) from None


def _of(name: str, workflow: Any) -> tuple[Workflow[Any, Any], Any]:
    from tako.sdk.enqueueing import NOTHING

    if isinstance(workflow, Workflow):
        return workflow, NOTHING
    if not isinstance(workflow, Prepared):
        raise errors.StepError(
            f"start {name!r}: expected a workflow, found {type(workflow).__name__}",
            cure='The workflow comes second, then its arguments: ctx.start("refund", refund, order_id=7).',
        )
    using = workflow._using
    for option in ("confirm", "if_unhealthy"):
        if option in using.fields:
            raise errors.StepError(
                f"start {name!r}: using({option}=...) has no effect on a child: it is stored, and runs when it can",
                cure="Leave it out.",
            )
    return workflow._workflow, using


def ids_of(runs: Sequence[Any]) -> list[str]:
    """The ids of runs to wait for, each once.

    Raises:
        StepError: one is no run, or there are too many.
    """
    for run in runs:
        if not isinstance(run, Run):
            hint = "ctx.gather(*runs), with a star." if isinstance(run, list | tuple) else "ctx.gather(*runs)."
            raise errors.StepError(f"gather: expected runs, found {type(run).__name__}", cure=f"Write {hint}")
    ids = list(dict.fromkeys(run.id for run in runs))
    if len(ids) > MOST_RUNS:
        raise errors.StepError(
            f"gather: {len(ids):,} runs; at most {MOST_RUNS:,} at once", cure="Gather them in several calls."
        )
    return ids


class Ends:
    """How the awaited runs ended, page by page. `missing` are those of which nothing is known yet."""

    __slots__ = ("_found", "missing")

    def __init__(self, ids: list[str]) -> None:
        self.missing = list(ids)
        self._found: dict[str, Message] = {}

    def take(self, page: Sequence[Message]) -> bool:
        """Take what the engine answered; False when one of them has not ended (it was retried just now)."""
        for outcome in page:
            if outcome["status"] in _UNFINISHED:
                return False
            self._found[outcome["id"]] = outcome
        self.missing = [run_id for run_id in self.missing if run_id not in self._found]
        return True

    def results(self, runs: Sequence[Run[Any]], *, return_exceptions: bool) -> list[Any]:
        """The results in order; with errors in their places, or the first one raised and the rest listed in it."""
        found = [_result(run, self._found[run.id]) for run in runs]
        failures = [(run, end) for run, end in zip(runs, found, strict=True) if isinstance(end, _Failure)]
        if failures and not return_exceptions:
            first = failures[0][1].error
            for run, failure in failures[1:]:
                first.add_note(f"also failed: {run.workflow} {run.id}: {tracebacks.words(failure.error)}")
            raise first
        return [end.error if isinstance(end, _Failure) else end for end in found]


class _Failure:
    """An end without a result; a result may be an exception only in name."""

    __slots__ = ("error",)

    def __init__(self, error: Exception) -> None:
        self.error = error


def _result(run: Run[Any], outcome: Message) -> Any:
    if outcome["status"] == "gone":
        return _Failure(
            errors.RunNotFound(f"run {run.id} is not there (any more): it was removed after its retention.")
        )
    try:
        return run.read_result({**outcome, "error": outcome["reason"]})
    except errors.TakoError as error:
        return _Failure(error)
