"""What people do to runs: cancel, retry, acknowledge. A retry is the one way out of an end, and it is recorded (E6)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

from tako.engine import endings, guard, intake, line, states
from tako.engine.store import Store
from tako.errors import DuplicateRun, RunFinished, StepError


class Held(NamedTuple):
    """A run that was taken from its worker, which must be told."""

    id: str
    epoch: int
    worker_id: str


def cancel(store: Store, run_id: str, *, reason: str, now_ms: int) -> list[Held]:
    """Cancel a run and its unfinished children; the runs that a worker must be told of. Twice is harmless.

    Durable with the transaction: from then on no further step is saved.

    Raises:
        RunFinished: it succeeded or is dead. RunNotFound: there is no such run.
    """
    run = guard.find(store, run_id)
    if run["status"] == "cancelled":
        return []
    if run["status"] not in ("pending", "running"):
        raise RunFinished(
            f"Run {run_id} has ended ({run['status']}), so it cannot be cancelled.",
            detail={"id": run_id, "status": run["status"]},
        )
    reason = reason or "cancelled by its caller"
    told = _cancel_one(store, run_id, reason=reason, now_ms=now_ms)
    for child in store.all("unfinished_descendants", run=run["seq"]):
        told += _cancel_one(store, child["id"], reason=f"its parent {run_id} was cancelled: {reason}", now_ms=now_ms)
    return told


def retry(store: Store, run_id: str, *, from_step: str | None = None, now_ms: int) -> None:
    """Run an ended run again: what was saved stays saved, retries and crashes count from zero.

    With `from_step`, that step and all that were saved after it run again: they belong to the generation before, which
    is kept, and the new one begins with the steps before it (I8).

    Raises:
        IllegalMove: it has not ended. RunNotFound: there is no such run.
        DuplicateRun: another unfinished run has its key.
        StepError: it has saved no step of this name.
    """
    run = guard.find(store, run_id)
    states.fire(states.RunStatus(run["status"]), "retry")
    holder = None if run["key"] is None else intake.holder(store, run["workflow"], run["key"])
    if holder is not None:
        raise DuplicateRun(
            f"Run {run_id} cannot be retried: the key {run['key']!r} belongs to {holder} now.",
            cure="Wait until that one has ended.",
            detail={"id": holder},
        )
    generation = run["generation"]
    if from_step is not None:
        position = _position(store, run["seq"], generation, from_step)
        store.run("copy_steps", run=run["seq"], generation=generation, before=position)
        generation += 1
    store.run("delete_result", run=run["seq"])
    lane = line.enter(store, run)
    store.run("retry_run", seq=run["seq"], lane=lane, generation=generation, now_ms=now_ms)
    was = f"was {run['status']}" + (f": {run['reason']}" if run["reason"] else "")
    what = "retry" if from_step is None else f"retry from step {from_step}"
    store.run("insert_intervention", run=run["seq"], at_ms=now_ms, what=what, detail=was)
    if run["status"] == "dead" and not run["acknowledged"]:
        store.move(run["workflow"], "unseen", None)
    store.move(run["workflow"], run["status"], lane)
    intake.tell_pending(store, run_id, run["workflow"], lane, now_ms)


def ack(store: Store, ids: Sequence[str] | None = None, *, workflow: str | None = None, now_ms: int) -> int:
    """Mark dead runs as seen by somebody; how many were not before. A parent's `ack` covers its children.

    `ids` None: all, or all of one workflow.
    """
    if ids is None:
        rows = store.all("unseen_runs", workflow=workflow)
    else:
        rows = store.all("unseen_family", ids=json.dumps(list(ids)))
    for row in rows:
        store.run("ack_run", seq=row["seq"])
        store.run("insert_intervention", run=row["seq"], at_ms=now_ms, what="ack", detail=None)
        store.move(row["workflow"], "unseen", None)
    return len(rows)


def _cancel_one(store: Store, run_id: str, *, reason: str, now_ms: int) -> list[Held]:
    run = guard.find(store, run_id)
    if run["status"] == "pending":
        endings.end_pending(store, run_id, reason=reason, now_ms=now_ms)
        return []
    if run["status"] != "running":
        return []
    endings.end_running(store, run, "cancelled", "cancelled", reason=reason, now_ms=now_ms)
    return [Held(run_id, run["epoch"], run["worker_id"])]


def _position(store: Store, run: int, generation: int, name: str) -> int:
    row = store.one("find_step", run=run, generation=generation, name=name)
    if row is None:
        saved = [row["name"] for row in store.all("step_names", run=run, generation=generation)]
        raise StepError(
            f"The run has saved no step {name!r}, so it cannot be retried from there.",
            cure=f"It has saved: {', '.join(saved)}." if saved else "It has saved none: retry it without from_step.",
            detail={"steps": saved},
        )
    position: int = row["position"]
    return position
