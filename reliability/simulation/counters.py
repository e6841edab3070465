"""Counts against vacuous passes: what a run of many seeds must have seen, and how often it did."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from tako.supervisor import health

AT_LEAST = 100
CI_SEEDS = 10_000

# Rows that no shell can reach: the door answers for them (`WorkerPool.admit_now`), and they are counted there.
AT_THE_DOOR = {"open", "11", "25"}

# What must have happened: faults, refusals, rows of the supervisor's table, and what is seldom and matters.
FAULTS = (
    "boot 0", "boot 1", "boot 78", "boot hang", "boot killed", "boot oom", "clock set back", "clock set forward",
    "code broken", "daemon frozen", "daemon killed", "daemon killed after commit", "daemon killed before commit",
    "daemon stopped", "delay reply", "delay request", "deploy", "disk full", "double reply", "double request",
    "exit 0", "fsync fails", "lose reply", "lose request", "poison", "power cut", "release rolled", "spawn error",
    "what boots need is away", "worker deaf", "worker frozen", "worker killed", "worker recycles itself",
)  # fmt: skip
ERRORS = (
    "duplicate_run", "illegal_move", "invalid_request", "payload", "queue_full", "run_finished", "run_not_found",
    "stale", "step", "store_damaged", "store_unavailable", "unauthorized", "unknown_signal", "unknown_workflow",
    "worker_unhealthy",
)  # fmt: skip
SELDOM = (
    "caller cannot know", "child start said again", "child started", "children cancelled", "daemon could not start",
    "gather done", "gather parked", "group failing", "mailbox used", "old release finished a run", "outcomes told",
    "parent told of a failure", "poison run dead", "roll found after a restart",
    "run retried by a person", "runs handed back", "schedule fired", "several callers in one transaction",
    "signal taken", "stale write rejected", "suspect cleared", "suspect run alone", "wait timed out", "worker thawed",
)  # fmt: skip


def wanted() -> list[str]:
    """All that is counted upon."""
    rows = {row.name for answers in health.TABLE.values() for row in answers}
    return [
        *(f"fault: {name}" for name in FAULTS),
        *(f"error {code}" for code in ERRORS),
        *(f"row {name}" for name in sorted(rows)),
        *SELDOM,
    ]


def missing(found: Counter[str], *, seeds: int) -> list[str]:
    """What has happened too seldom. Fewer seeds than CI's cannot be asked for all of it."""
    return [name for name in wanted() if found[name] < AT_LEAST] if seeds >= CI_SEEDS else []


counts: Counter[str] = Counter()


class Listener:
    """Who hears of the supervisors' events: the world that lives."""

    tell: Callable[[Any, Any, str], None] = staticmethod(lambda turn, event, row: None)


def count(what: str) -> None:
    """It has happened once more."""
    counts[what] += 1


@contextmanager
def watched_rows() -> Iterator[None]:
    """Count each row of the supervisor's table that answers an event; `Listener.tell` hears of the events."""
    real = health.row_for

    def row_for(turn: Any, event: Any) -> health.Row:
        row = real(turn, event)
        counts[f"row {row.name}"] += 1
        Listener.tell(turn, event, row.name)
        return row

    with mock.patch.object(health, "row_for", row_for):
        yield
