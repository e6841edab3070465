"""The five states of a run and every way from one to another. The SQL guards say the same; a test walks both."""

from __future__ import annotations

from enum import StrEnum

from tako.errors import IllegalMove


class RunStatus(StrEnum):
    """What is stored. What people are shown (`sleeping`, `blocked`, …) is derived from it."""

    PENDING = "pending"  # enqueued, or given back by its worker; waits for its time, a signal or a claim
    RUNNING = "running"  # claimed; the worker named in the row holds it at the row's epoch
    SUCCEEDED = "succeeded"  # its worker said so
    CANCELLED = "cancelled"  # a caller cancelled it, the handler stopped itself, or it expired before its first claim
    DEAD = "dead"  # out of retries, fatal, or its workers died too often while running it


PENDING, RUNNING, SUCCEEDED, CANCELLED, DEAD = RunStatus

TERMINAL = frozenset({SUCCEEDED, CANCELLED, DEAD})

# event -> next state. Workers, callers, operators, a due time (`expire`) and a worker's death (`release`) fire it.
NEXT: dict[RunStatus, dict[str, RunStatus]] = {
    PENDING: {"claim": RUNNING, "cancel": CANCELLED, "expire": CANCELLED},
    RUNNING: {
        "succeed": SUCCEEDED,
        "fail": PENDING,  # a failed attempt with retries left
        "park": PENDING,  # sleeps or waits; the attempt goes on later
        "release": PENDING,  # handed back, or its worker died
        "stop": CANCELLED,
        "cancel": CANCELLED,
        "bury": DEAD,  # fatal, no retries left, or crashed too often
    },
    SUCCEEDED: {"retry": PENDING},
    CANCELLED: {"retry": PENDING},
    DEAD: {"retry": PENDING},
}


def fire(status: RunStatus, event: str) -> RunStatus:
    """The status after `event`. Raises IllegalMove, naming what would have been legal."""
    try:
        return NEXT[status][event]
    except KeyError:
        legal = sorted(NEXT[status])
        raise IllegalMove(
            f"A run that is {status.value} cannot {event}; it can {' or '.join(legal)}.",
            detail={"status": status.value, "event": event, "legal": legal},
        ) from None
