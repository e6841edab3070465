"""Spans of runs and steps. Loaded by who has found OpenTelemetry in `sys.modules`; see `sdk/spans.py`.

A run has a span for each time that a worker has it in hand: one that sleeps for six days is two spans, in one trace.
A step has one for each time that its function is called; what was saved before has none.
"""

from __future__ import annotations

from tako.sdk import spans
from tako.sdk.context import Stop
from tako.worker.attempt import Ended

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tako.sdk.spans import Opened
    from tako.worker.attempt import Attempt


def of_run(attempt: Attempt) -> Opened | None:
    """The span of an attempt, a child of the one that enqueued the run."""
    name = attempt.workflow.name
    return spans.begin(
        f"run {name}",
        "CONSUMER",
        {
            "messaging.system": "tako",
            "messaging.operation.type": "process",
            "messaging.destination.name": name,
            "messaging.message.id": attempt.run_id,
            "tako.attempt": attempt.attempt,
            "tako.epoch": attempt.epoch,
            "tako.key": attempt.key,
            "tako.release": attempt.bench.release,
        },
        carried=attempt.claimed.get("trace"),
    )


def of_step(attempt: Attempt, name: str) -> Opened | None:
    """The span of a call of a step's function."""
    return spans.begin(
        f"step {name}",
        "INTERNAL",
        {"tako.step": name, "tako.run_id": attempt.run_id, "tako.workflow": attempt.workflow.name},
    )


def end_run(opened: Opened, attempt: Attempt, failure: BaseException | None) -> None:
    """It is parked, was stopped or taken away, has failed or has returned."""
    if attempt.ended or isinstance(failure, Ended):
        opened.end(**{"tako.outcome": attempt.ended or "ended"})
    elif isinstance(failure, Stop):
        opened.end(**{"tako.outcome": "stopped"})
    elif failure is not None:
        opened.failed(failure)
        opened.end(**{"tako.outcome": "failed"})
    else:
        opened.end(**{"tako.outcome": "succeeded"})
