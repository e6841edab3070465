"""The rules of a run: enqueue, claim, finish. Each runs in its caller's transaction; time and chance are passed in."""

from __future__ import annotations

import json
import random
import sqlite3
from collections.abc import Sequence
from typing import Any, NamedTuple

from tako.engine import retry as policies
from tako.engine import steps
from tako.engine.events import Changed, Ended, Later, Ready
from tako.engine.store import Store
from tako.errors import DuplicateRun, LeaseLost, RunNotFound
from tako.protocol.messages import ClaimedRun, Enqueued, NewRun, Outcome, RemoteError, RetryPolicy


class Finished(NamedTuple):
    """What a `finish` led to. `run_at_ms`: when the next attempt is due, None when there is none."""

    status: str
    run_at_ms: int | None


def enqueue(store: Store, new: Sequence[NewRun], *, now_ms: int) -> list[Enqueued]:
    """Store runs, all or none, and answer in order. Durable when the transaction is.

    An id that is there already is not stored twice, and neither is a run whose key an unfinished run has; both
    are answered with the run that is there and `is_new` False.

    Raises:
        DuplicateRun: `on_duplicate` is "raise" and the key is taken. Nothing was stored.
    """
    answers, wanted = _resolve_keys(store, new)
    if not wanted:
        return answers
    seq = store.take_seqs(len(wanted))
    rows = [_row(run, seq=seq + index, now_ms=now_ms) for index, run in enumerate(wanted)]
    if store.many("insert_run", rows) != len(rows):
        rows = _only_new(store, rows)
        fresh = {row["id"] for row in rows}
        answers = [answer if answer["id"] in fresh else {"id": answer["id"], "is_new": False} for answer in answers]
    store.many("insert_payload", rows)
    for row in rows:
        store.move(row["workflow"], None, row["lane"])
        store.bytes_written += len(row["payload"])
        _tell_pending(store, row["id"], row["workflow"], row["lane"], row["run_at_ms"])
    return answers


def claim(
    store: Store,
    *,
    worker_id: str,
    names: Sequence[str],
    max_runs: int,
    now_ms: int,
    release: str,
    solo: bool = False,
) -> list[ClaimedRun]:
    """Give a worker up to `max_runs` runs of these workflows, with their saved steps; suspects one at a time.

    Cost grows with what is taken, not with what waits: a workflow with nobody in line is not even asked.
    """
    lane, limit = ("solo", 1) if solo else ("ready", max_runs)
    heads: list[sqlite3.Row] = []
    asked = [name for name in names if store.count(name, lane) > 0]
    for name in asked:
        heads += store.all("solo_heads" if solo else "ready_heads", workflow=name, limit=limit)
    if len(asked) > 1:
        heads.sort(key=lambda row: (-row["priority"], row["run_at_ms"], row["seq"]))
    taken = heads[:limit]
    if not taken:
        return []
    store.many(
        "claim_run",
        [{"seq": row["seq"], "worker_id": worker_id, "release": release, "now_ms": now_ms} for row in taken],
    )
    payloads = dict(map(tuple, store.all("payloads", seqs=json.dumps([row["seq"] for row in taken]))))
    for row in taken:
        store.move(row["workflow"], lane, "running")
        store.emit(Changed(row["id"], row["workflow"], "running"))
    return [_claimed(store, row, payload=payloads[row["seq"]], solo=solo) for row in taken]


def finish(
    store: Store,
    *,
    run_id: str,
    worker_id: str,
    epoch: int | None,
    outcome: Outcome,
    result_json: str | None = None,
    error: RemoteError | None = None,
    reason: str | None = None,
    retry: RetryPolicy | None = None,
    warnings: Sequence[str] = (),
    now_ms: int,
    rng: random.Random,
) -> Finished:
    """End an attempt as its worker says. Saying it again returns the first answer.

    `epoch` None is a v0 worker, whose name and the run's status are the guard.

    Raises:
        LeaseLost: the worker holds the run no more. Nothing was changed.
        RunNotFound: there is no such run.
    """
    if outcome == "succeeded":
        done = _succeed(store, run_id, worker_id, epoch, result_json=result_json, warnings=warnings, now_ms=now_ms)
        if done is not None:
            return done
    run, first = _held(store, run_id, worker_id, epoch)
    if first is not None:
        return first
    note = json.dumps(list(warnings)) if warnings else None
    if outcome == "stopped":
        return _end(
            store, run, "cancelled", outcome, reason=reason or "stopped by its handler", warnings=note, now_ms=now_ms
        )
    return _fail(store, run, outcome, error=error, policy=retry, warnings=note, now_ms=now_ms, rng=rng)


def held(store: Store, *, run_id: str, worker_id: str, epoch: int | None) -> sqlite3.Row:
    """The run, if this worker holds it at this epoch.

    Raises:
        LeaseLost: it does not (E2). RunNotFound: there is no such run.
    """
    run = store.one("held_run", id=run_id)
    if run is None:
        raise RunNotFound(f"There is no run {run_id}.", detail={"id": run_id})
    if not _holds(run, worker_id, epoch):
        raise stale(run)
    return run


def stale(run: sqlite3.Row) -> LeaseLost:
    """The answer to a worker that writes about a run it holds no more."""
    return LeaseLost(
        f"stale worker: run is no longer owned by this worker ({run['id']} is {run['status']} at epoch {run['epoch']})",
        detail={"id": run["id"], "status": run["status"], "epoch": run["epoch"]},
    )


# --- enqueue --------------------------------------------------------------------------------------------------------


def _resolve_keys(store: Store, new: Sequence[NewRun]) -> tuple[list[Enqueued], list[NewRun]]:
    """The answers as they will be if every wanted row goes in, and the wanted rows. Writes nothing."""
    answers: list[Enqueued] = []
    wanted: list[NewRun] = []
    here: dict[tuple[str, str], str] = {}
    ids: set[str] = set()
    for run in new:
        key = run.get("key")
        if run["id"] in ids:
            answers.append({"id": run["id"], "is_new": False})
            continue
        if key is not None:
            holder = here.get((run["workflow"], key)) or _holder(store, run, key)
            if holder is not None:
                if holder != run["id"] and run.get("on_duplicate") == "raise":
                    raise DuplicateRun(
                        f"A run of {run['workflow']} with the key {key!r} is not finished yet: {holder}.",
                        cure='Wait for it, or leave out on_duplicate="raise" to be given that run.',
                        detail={"id": holder},
                    )
                answers.append({"id": holder, "is_new": False})
                continue
            here[run["workflow"], key] = run["id"]
        ids.add(run["id"])
        wanted.append(run)
        answers.append({"id": run["id"], "is_new": True})
    return answers, wanted


def _holder(store: Store, run: NewRun, key: str) -> str | None:
    # The id first: an enqueue repeated after a lost reply gets its own run, even if that has ended meanwhile and
    # somebody else has the key now.
    row = store.one("held_run", id=run["id"]) or store.one("live_key", workflow=run["workflow"], key=key)
    return None if row is None else str(row["id"])


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


def _tell_pending(store: Store, run_id: str, workflow: str, lane: str, run_at_ms: int | None) -> None:
    store.emit(Changed(run_id, workflow, "pending"))
    if lane != "later":
        store.emit(Ready(workflow, lane))
    elif run_at_ms is not None:
        store.emit(Later(run_at_ms))


# --- claim ----------------------------------------------------------------------------------------------------------


def _claimed(store: Store, row: sqlite3.Row, *, payload: str, solo: bool) -> ClaimedRun:
    page: dict[str, str] = {}
    after: str | None = None
    if row["epoch"] > 0:  # a run that was never claimed has no steps
        page, after = steps.page(store, run=row["seq"], generation=row["generation"])
    return {
        "id": row["id"],
        "epoch": row["epoch"] + 1,
        "workflow": row["workflow"],
        "payload_json": payload,
        "attempt": row["attempt"] + 1 - row["attempt_open"],
        "retries": policies.DEFAULT_RETRIES if row["retries"] is None else row["retries"],
        "key": row["key"],
        "scheduled_for_ms": row["scheduled_for_ms"],
        "enqueued_ms": row["created_ms"],
        "generation": row["generation"],
        "steps": page,
        "steps_next": after,
        "solo": solo,
    }


# --- finish ---------------------------------------------------------------------------------------------------------


def _succeed(
    store: Store, run_id: str, worker_id: str, epoch: int | None, *, result_json: str | None, warnings: Sequence[str],
    now_ms: int,
) -> Finished | None:  # fmt: skip
    """The short way of nearly every run. None: the guard did not match, and the long way will say why."""
    note = json.dumps(list(warnings)) if warnings else None
    run = store.one("succeed_run", id=run_id, worker_id=worker_id, epoch=epoch, now_ms=now_ms, warnings=note)
    if run is None:
        return None
    if result_json is not None and result_json != "null":
        store.run("insert_result", run=run["seq"], result=result_json)
        store.bytes_written += len(result_json)
    store.run(
        "insert_attempt", run=run["seq"], epoch=run["epoch"], attempt=run["attempt"], worker_id=worker_id,
        release=run["release"], started_ms=run["attempt_ms"], ended_ms=now_ms, outcome="succeeded", retry_at_ms=None,
        error=None, traceback=None,
    )  # fmt: skip
    store.move(run["workflow"], "running", "succeeded")
    store.emit(Ended(run_id, run["workflow"], "succeeded"))
    return Finished("succeeded", None)


def _held(store: Store, run_id: str, worker_id: str, epoch: int | None) -> tuple[sqlite3.Row, Finished | None]:
    """The run that this worker may end, or the answer it got when it ended it before."""
    run = store.one("held_run", id=run_id)
    if run is None:
        raise RunNotFound(f"There is no run {run_id}.", detail={"id": run_id})
    if _holds(run, worker_id, epoch):
        return run, None
    ended = store.one("ended_attempt", run=run["seq"], epoch=run["epoch"] if epoch is None else epoch)
    if ended is None or ended["worker_id"] != worker_id or ended["outcome"] not in _STATUS_AFTER:
        raise stale(run)
    if ended["retry_at_ms"] is not None:
        return run, Finished("pending", ended["retry_at_ms"])
    return run, Finished(_STATUS_AFTER[ended["outcome"]], None)


# What a worker was told after its outcome, unless there was a retry. `crashed` and `cancelled` were not its own words.
_STATUS_AFTER = {"succeeded": "succeeded", "stopped": "cancelled", "failed": "dead", "fatal": "dead"}


def _holds(run: sqlite3.Row, worker_id: str, epoch: int | None) -> bool:
    return bool(
        run["status"] == "running" and run["worker_id"] == worker_id and (epoch is None or run["epoch"] == epoch)
    )


def _fail(
    store: Store, run: sqlite3.Row, outcome: Outcome, *, error: RemoteError | None, policy: RetryPolicy | None,
    warnings: str | None, now_ms: int, rng: random.Random,
) -> Finished:  # fmt: skip
    policy = policy or policies.DEFAULT
    retries = policy["retries"] if run["retries"] is None else run["retries"]
    words = _words(error)
    if outcome == "fatal" or run["failures"] >= retries:
        return _end(store, run, "dead", outcome, reason=words, error=error, warnings=warnings, now_ms=now_ms)
    run_at_ms = now_ms + policies.backoff_ms(run["failures"] + 1, policy=policy, rng=rng)
    lane = "ready" if run_at_ms <= now_ms else "later"
    store.run(
        "fail_run", seq=run["seq"], epoch=run["epoch"], lane=lane, run_at_ms=run_at_ms, reason=words, warnings=warnings
    )
    _record(store, run, outcome, error=words, traceback=_traceback(error), retry_at_ms=run_at_ms, now_ms=now_ms)
    store.move(run["workflow"], "running", lane)
    _tell_pending(store, run["id"], run["workflow"], lane, run_at_ms)
    return Finished("pending", run_at_ms)


def _end(
    store: Store, run: sqlite3.Row, status: str, outcome: str, *, reason: str, error: RemoteError | None = None,
    warnings: str | None, now_ms: int,
) -> Finished:  # fmt: skip
    """End a running run as cancelled or dead."""
    store.run(
        "end_run", seq=run["seq"], epoch=run["epoch"], status=status, reason=reason, now_ms=now_ms, warnings=warnings,
        failed=int(outcome in ("failed", "fatal")),
    )  # fmt: skip
    _record(store, run, outcome, error=reason, traceback=_traceback(error), retry_at_ms=None, now_ms=now_ms)
    store.move(run["workflow"], "running", status)
    store.emit(Ended(run["id"], run["workflow"], status))
    return Finished(status, None)


def _record(
    store: Store, run: sqlite3.Row, outcome: str, *, error: str | None, traceback: str | None,
    retry_at_ms: int | None, now_ms: int,
) -> None:  # fmt: skip
    """Write down how the attempt ended."""
    store.run(
        "insert_attempt", run=run["seq"], epoch=run["epoch"], attempt=run["attempt"], worker_id=run["worker_id"],
        release=run["release"], started_ms=run["attempt_ms"], ended_ms=now_ms, outcome=outcome,
        retry_at_ms=retry_at_ms, error=error, traceback=traceback,
    )  # fmt: skip


def _words(error: RemoteError | None) -> str:
    if error is None:
        return "the handler failed and gave no reason"
    return f"{error['type']}: {error['message']}" if error["message"] else error["type"]


def _traceback(error: RemoteError | None) -> str | None:
    return error["traceback"] if error else None
