"""How runs come in: `enqueue`, all or none, each id once, one unfinished run per key; `withdraw` undoes it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from tako.engine import guard
from tako.engine.events import Changed, Later, Ready
from tako.engine.store import Store
from tako.errors import DuplicateRun, QueueFull, RunFinished
from tako.protocol.messages import Enqueued, NewRun


def enqueue(store: Store, new: Sequence[NewRun], *, now_ms: int, scheduled_for_ms: int | None = None) -> list[Enqueued]:
    """Store runs, all or none, and answer in order.

    An id that is there already is not stored twice, and neither is a run whose key an unfinished run has: both are
    answered with the run that is there, and `is_new` False. `scheduled_for_ms` is the boundary, for runs that a
    schedule makes.

    Raises:
        DuplicateRun: `on_duplicate` is "raise" and the key is taken.
        QueueFull: the workflow has `max_pending` unfinished runs.
        RunFinished: `parent_id` names a run that has ended.
    """
    answers, wanted = _resolve(store, new)
    if not wanted:
        return answers
    _check_room(store, wanted)
    fresh = insert(store, wanted, now_ms=now_ms, scheduled_for_ms=scheduled_for_ms)
    if len(fresh) == len(wanted):
        return answers
    return [answer if answer["id"] in fresh else {"id": answer["id"], "is_new": False} for answer in answers]


def insert(store: Store, wanted: Sequence[NewRun], *, now_ms: int, scheduled_for_ms: int | None = None) -> set[str]:
    """Store runs whose keys are known to be free and whose number is known to be allowed; the ids that were new."""
    parents = {run["parent_id"]: _parent(store, run["parent_id"]) for run in wanted if "parent_id" in run}
    seq = store.take_seqs(len(wanted))
    rows = [_row(run, seq=seq + index, now_ms=now_ms) for index, run in enumerate(wanted)]
    if scheduled_for_ms is not None or parents:
        for row, run in zip(rows, wanted, strict=True):
            row["scheduled_for_ms"] = scheduled_for_ms
            row["parent"] = parents.get(run.get("parent_id", ""))
    if store.many("insert_run", rows) != len(rows):
        rows = _only_new(store, rows)
    store.many("insert_payload", rows)
    for row in rows:
        store.move(row["workflow"], None, row["lane"])
        store.bytes_written += len(row["payload"])
        tell_pending(store, row["id"], row["workflow"], row["lane"], row["run_at_ms"])
    return {row["id"] for row in rows}


def withdraw(store: Store, run_id: str) -> bool:
    """Take a run back that no worker has claimed, as if it had never come; False when it was claimed or has ended."""
    run = guard.find(store, run_id)
    if run["status"] != "pending" or run["epoch"] > 0:
        return False
    for statement in ("delete_unconsumed_signals", "delete_payload", "delete_run"):
        store.run(statement, run=run["seq"])
    store.move(run["workflow"], run["lane"], None)
    return True


def unfinished(store: Store, workflow: str) -> int:
    """How many runs of a workflow have not ended."""
    return sum(store.count(workflow, state) for state in ("ready", "later", "solo", "running"))


def tell_pending(store: Store, run_id: str, workflow: str, lane: str, run_at_ms: int | None) -> None:
    """Emit what the house must know of a run that is pending now."""
    store.emit(Changed(run_id, workflow, "pending"))
    if lane != "later":
        store.emit(Ready(workflow, lane))
    elif run_at_ms is not None:
        store.emit(Later(run_at_ms))


def derived_id(now_ms: int, seed: str) -> str:
    """A UUIDv7 that follows from its seed: asking twice makes one run, and no chance is needed."""
    digest = bytearray(now_ms.to_bytes(6, "big") + hashlib.sha256(seed.encode()).digest()[:10])
    digest[6] = 0x70 | digest[6] & 0x0F
    digest[8] = 0x80 | digest[8] & 0x3F
    text = digest.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _resolve(store: Store, new: Sequence[NewRun]) -> tuple[list[Enqueued], list[NewRun]]:
    """The answers as they will be if every wanted run goes in, and the wanted runs. Writes nothing."""
    answers: list[Enqueued] = []
    wanted: list[NewRun] = []
    keys: dict[tuple[str, str], str] = {}
    ids: set[str] = set()
    for run in new:
        key = run.get("key")
        if run["id"] in ids:
            answers.append({"id": run["id"], "is_new": False})
            continue
        if key is not None:
            holder = keys.get((run["workflow"], key)) or _holder(store, run, key)
            if holder is not None:
                if holder != run["id"] and run.get("on_duplicate") == "raise":
                    raise _duplicate(run, key, holder)
                answers.append({"id": holder, "is_new": False})
                continue
            keys[run["workflow"], key] = run["id"]
        ids.add(run["id"])
        wanted.append(run)
        answers.append({"id": run["id"], "is_new": True})
    return answers, wanted


def _holder(store: Store, run: NewRun, key: str) -> str | None:
    # The id first: an enqueue repeated after a lost reply gets its own run, even if that has ended meanwhile and
    # somebody else has the key now.
    row = store.one("held_run", id=run["id"]) or store.one("live_key", workflow=run["workflow"], key=key)
    return None if row is None else str(row["id"])


def _duplicate(run: NewRun, key: str, holder: str) -> DuplicateRun:
    return DuplicateRun(
        f"A run of {run['workflow']} with the key {key!r} is not finished yet: {holder}; nothing was enqueued.",
        cure='Wait for it, or leave out on_duplicate="raise" to be given that run.',
        detail={"id": holder},
    )


def _check_room(store: Store, wanted: Sequence[NewRun]) -> None:
    """`max_pending`. Repeating an enqueue that filled the queue is not refused: its ids are there already."""
    if not store.limits:
        return
    for workflow in {run["workflow"] for run in wanted} & store.limits.keys():
        ids = [run["id"] for run in wanted if run["workflow"] == workflow]
        have = unfinished(store, workflow)
        limit = store.limits[workflow]
        if have + len(ids) <= limit:
            continue
        known = len(store.all("run_seqs", ids=json.dumps(ids)))
        if have + len(ids) - known > limit:
            raise QueueFull(
                f"{workflow} has {have} unfinished runs and max_pending is {limit}; nothing was enqueued.",
                cure="Try again when some have ended, raise max_pending, or add workers.",
                detail={"workflow": workflow, "unfinished": have, "max_pending": limit},
            )


def _parent(store: Store, run_id: str) -> int:
    """The row of the run that starts a child."""
    parent = guard.find(store, run_id)
    if parent["status"] not in ("running", "pending"):
        raise RunFinished(f"Run {run_id} has ended ({parent['status']}), so it starts no child.", detail={"id": run_id})
    seq: int = parent["seq"]
    return seq


def _row(run: NewRun, *, seq: int, now_ms: int) -> dict[str, Any]:
    delay_ms = run.get("delay_ms")
    run_at_ms = run.get("run_at_ms", now_ms) if delay_ms is None else now_ms + delay_ms
    return {
        "seq": seq,
        "id": run["id"],
        "workflow": run["workflow"],
        "lane": "ready" if run_at_ms <= now_ms else "later",
        "priority": run.get("priority", 0),
        "run_at_ms": run_at_ms,
        "key": run.get("key"),
        "retries": run.get("retries"),
        "created_ms": now_ms,
        "expires_at_ms": run.get("expires_at_ms"),
        "scheduled_for_ms": None,
        "parent": None,
        "payload": run["payload_json"],
    }


def _only_new(store: Store, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of rows that were offered, those that went in: the others' ids had a row already."""
    seqs = dict(map(tuple, store.all("run_seqs", ids=json.dumps([row["id"] for row in rows]))))
    return [row for row in rows if seqs[row["id"]] == row["seq"]]
