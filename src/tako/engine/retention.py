"""Ended runs are deleted after their retention, a few at a time, so that no enqueue waits for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from tako.engine.store import Store

BATCH = 200

# The run's own row last: as long as it is there, what is left of it can be found.
_DELETES = (
    "delete_steps",
    "delete_attempts",
    "delete_remembered_signals",
    "delete_interventions",
    "delete_result",
    "delete_payload",
    "delete_run",
)


class Swept(NamedTuple):
    """How many runs one batch deleted, and where the next one begins; None: it was the last."""

    deleted: int
    after: int | None


def sweep(
    store: Store, *, now_ms: int, retention_ms: int, of_workflow: Mapping[str, int] | None = None, after: int = 0,
    limit: int = BATCH,
) -> Swept:  # fmt: skip
    """Look at the next `limit` of the oldest runs and delete those whose retention is over.

    `of_workflow` has the retention of workflows that differ. Runs are looked at in the order of arrival and the sweep
    ends at the first that is too young for any retention, so no index on the time of ending is paid for at each end.
    A child is kept until its parent has succeeded or is deleted: it may ask for the child's result, after a retry too.
    """
    shortest = min([retention_ms, *(of_workflow or {}).values()])
    deleted = 0
    rows = store.all("oldest_runs", after=after, limit=limit)
    for run in rows:
        if run["created_ms"] > now_ms - shortest:
            return _last(store, deleted)
        keep_ms = (of_workflow or {}).get(run["workflow"], retention_ms)
        if run["ended_ms"] is not None and run["ended_ms"] <= now_ms - keep_ms and not run["is_needed"]:
            delete(store, run["seq"])
            store.move(run["workflow"], run["status"], None)
            if run["status"] == "dead" and not run["acknowledged"]:
                store.move(run["workflow"], "unseen", None)
            deleted += 1
    return Swept(deleted, rows[-1]["seq"]) if len(rows) == limit else _last(store, deleted)


def _last(store: Store, deleted: int) -> Swept:
    """The end of a sweep: what was noted of the stretches before the oldest run is of no more use."""
    store.run("forget_stretches")
    return Swept(deleted, None)


def delete(store: Store, seq: int) -> None:
    """Delete an ended run and all that is known of it. The numbers are the caller's to correct."""
    for statement in _DELETES:
        store.run(statement, run=seq)
