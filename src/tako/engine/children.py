"""Child runs: started once for each name, and how they ended.

A parent starts a child under a name, as it runs a step: child and step are written in one transaction, so that a crash
at any moment leaves both or neither, and a second start under that name is given the first one's run. How a child ended
is not saved with its parent: it stands with the child, and changes only if people retry the child.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NotRequired, TypedDict, cast

from tako.engine import guard, intake, steps
from tako.engine.store import Reader, Store
from tako.protocol.messages import Enqueued, NewRun

# So much of results goes with one answer; the others are asked for again.
PAGE_BYTES = 512 * 1024


class Outcome(TypedDict):
    """How a run ended, or its status if it has not. `status` is "gone" for one that is not there (any more)."""

    id: str
    workflow: str
    status: str
    reason: str | None
    result_json: NotRequired[str]
    traceback: NotRequired[str | None]


def start(
    store: Store, *, run_id: str, worker_id: str, epoch: int, step_name: str, new: NewRun, now_ms: int
) -> Enqueued:
    """Enqueue a child of a run, once for each name; which run it is.

    Saying it again returns the first answer, even when the parent has moved on meanwhile. A key that an unfinished run
    has is answered with that run, as ever, which then is no child.

    Raises:
        LeaseLost: the worker holds the parent no more. Nothing was stored.
        QueueFull, DuplicateRun: as `enqueue`.
    """
    run = guard.find(store, run_id)
    saved = store.one("find_step", run=run["seq"], generation=run["generation"], name=step_name)
    holds = guard.holds(run, worker_id=worker_id, epoch=epoch)
    if saved is not None and (holds or saved["epoch"] == epoch):
        return read(saved["result"])
    if not holds:
        raise guard.stale(run)
    (answer,) = intake.enqueue(store, [{**new, "parent_id": run_id}], now_ms=now_ms)
    text = json.dumps({"id": answer["id"], "is_new": answer["is_new"]})
    steps.keep(store, run, name=step_name, kind="child", result=text, started_ms=now_ms, now_ms=now_ms)
    return answer


def read(text: str) -> Enqueued:
    """What the step of a start says."""
    return cast(Enqueued, json.loads(text))


def outcomes(reader: Reader, ids: Sequence[str]) -> list[Outcome]:
    """How these runs ended, in order, as far as they go into one answer: at least the first."""
    found: list[Outcome] = []
    size = 0
    for run_id in ids:
        outcome = _outcome(reader, run_id)
        size += len(outcome.get("result_json", "")) + len(outcome.get("traceback") or "") + 200
        found.append(outcome)
        if size > PAGE_BYTES:
            break
    return found


def _outcome(reader: Reader, run_id: str) -> Outcome:
    row = reader.one("outcome", id=run_id)
    if row is None:
        return {"id": run_id, "workflow": "", "status": "gone", "reason": None}
    outcome: Outcome = {"id": run_id, "workflow": row["workflow"], "status": row["status"], "reason": row["reason"]}
    if row["status"] == "succeeded":
        outcome["result_json"] = "null" if row["result"] is None else row["result"]
    elif row["status"] == "dead":
        outcome["traceback"] = row["traceback"]
    return outcome
