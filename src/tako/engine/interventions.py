"""What people do to runs: cancel, retry, acknowledge. A retry is the one way out of an end, and it is recorded (E6)."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence

from tako.engine import children, endings, guard, intake, line, states
from tako.engine.events import Held
from tako.engine.store import Store
from tako.errors import DuplicateRun, IllegalMove, RunFinished, StepError


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
    told = endings.cancel(store, run_id, reason=reason, now_ms=now_ms)
    return told + endings.cancel_children(store, run, reason=reason, now_ms=now_ms)


def retry(store: Store, run_id: str, *, from_step: str | None = None, now_ms: int) -> None:
    """Run an ended run again: what was saved stays saved, retries and crashes count from zero.

    With `from_step`, that step and all that were saved after it run again: they belong to the generation before, which
    is kept, and the new one begins with the steps before it (I8).

    Its children that are dead or cancelled are retried with it, and theirs: it would wait for them in vain. Those that
    `from_step` will start anew are left as they are.

    Raises:
        IllegalMove: it has not ended. RunNotFound: there is no such run.
        DuplicateRun: another unfinished run has its key, or that of a child.
        StepError: it has saved no step of this name.
    """
    run = guard.find(store, run_id)
    if run["status"] in ("pending", "running"):
        raise IllegalMove(
            f"Run {run_id} has not ended, so it cannot be retried: it is {run['status']}.",
            cure=f"Wait for its end, or end it first with `tako runs cancel {run_id}`.",
            detail={"status": run["status"], "event": "retry", "legal": ["cancel"]},
        )
    states.fire(states.RunStatus(run["status"]), "retry")
    before = None if from_step is None else _position(store, run["seq"], run["generation"], from_step)
    failed = _failed_children(store, run, before=before)
    keys: dict[tuple[str, str], str] = {}
    for one in (run, *failed):
        _check_key(store, one, keys)
    generation = run["generation"]
    if before is not None:
        store.run("copy_steps", run=run["seq"], generation=generation, before=before)
        generation += 1
    what = "retry" if from_step is None else f"retry from step {from_step}"
    _retry_one(store, run, what, generation=generation, now_ms=now_ms)
    for child in failed:
        _retry_one(store, child, f"retry with run {run_id}", generation=child["generation"], now_ms=now_ms)


def _check_key(store: Store, run: sqlite3.Row, taken: dict[tuple[str, str], str]) -> None:
    """Refuse a run whose key belongs to another one now; `taken` are those of the runs that are retried with it."""
    if run["key"] is None:
        return
    holder = intake.holder(store, run["workflow"], run["key"])
    holder = holder or taken.setdefault((store.names_of(run["workflow"])[0], run["key"]), run["id"])
    if holder != run["id"]:
        raise DuplicateRun(
            f"Run {run['id']} cannot be retried: the key {run['key']!r} belongs to {holder} now.",
            cure="Wait until that one has ended.",
            detail={"id": holder},
        )


def _failed_children(store: Store, run: sqlite3.Row, *, before: int | None = None) -> list[sqlite3.Row]:
    """Dead and cancelled runs that this one has started in its generation, up to that step, and theirs."""
    steps = store.all("started_children", run=run["seq"], generation=run["generation"])
    ids = [children.read(step["result"])["id"] for step in steps if before is None or step["position"] < before]
    found: list[sqlite3.Row] = []
    for row in store.all("failed_runs", ids=json.dumps(ids), parent=run["seq"]) if ids else ():
        child = guard.find(store, row["id"])
        found += [child, *_failed_children(store, child)]
    return found


def _retry_one(store: Store, run: sqlite3.Row, what: str, *, generation: int, now_ms: int) -> None:
    store.run("delete_result", run=run["seq"])
    lane = line.enter(store, run)
    store.run("retry_run", seq=run["seq"], lane=lane, generation=generation, now_ms=now_ms)
    was = f"was {run['status']}" + (f": {run['reason']}" if run["reason"] else "")
    store.run("insert_intervention", run=run["seq"], at_ms=now_ms, what=what, detail=was)
    if run["status"] == "dead" and not run["acknowledged"]:
        store.move(run["workflow"], "unseen", None)
    store.move(run["workflow"], run["status"], lane)
    intake.tell_pending(store, run["id"], run["workflow"], lane, now_ms)


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


def _position(store: Store, run: int, generation: int, name: str) -> int:
    row = store.one("find_step", run=run, generation=generation, name=name)
    if row is None:
        saved = [row["name"] for row in store.all("step_names", run=run, generation=generation)]
        raise StepError(
            f"The run has saved no step {name!r}, so it cannot be retried from there.",
            cure=f"It has saved: {', '.join(saved)}. Without from_step it goes on after these."
            if saved
            else "It has saved none: retry it without from_step.",
            detail={"steps": saved},
        )
    position: int = row["position"]
    return position
