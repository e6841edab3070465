"""How runs get to workers: those that are due are in a lane with an index, and a claim takes the head of it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence

from tako.engine import endings, limits, line, pausing, retry, steps, waiters
from tako.engine.events import Changed, Ready
from tako.engine.store import Reader, Store
from tako.protocol.messages import ClaimedRun


def claim(
    store: Store,
    *,
    worker_id: str,
    names: Sequence[str],
    max_runs: int,
    now_ms: int,
    release: str,
    solo: bool = False,
    group: str | None = None,
) -> list[ClaimedRun]:
    """Give a worker up to `max_runs` runs of these workflows, with their saved steps; suspects one at a time.

    Cost grows with what is taken, not with what waits: a workflow that is paused, or has nobody in line, is not even
    asked. Higher priority first, then who has been due longest. `group` is the worker's, which may be paused; `release`
    is the worker's too, and gets nothing unless it is the active one.
    """
    if group is not None and group in store.pauses.groups:
        return []
    if release != store.active_release and store.active_release is not None:
        return []  # of a release that is superseded, or not accepted yet
    lane, limit = ("solo", min(1, max_runs)) if solo else ("ready", max_runs)
    heads: list[sqlite3.Row] = []
    asked = [name for name in names if store.count(name, lane) > 0 and not pausing.is_paused(store, name)]
    for name in asked:
        heads += store.all("solo_heads" if solo else "ready_heads", workflow=name, limit=limit)
    if len(asked) > 1:
        heads.sort(key=lambda row: (-row["priority"], row["run_at_ms"], row["seq"]))
    taken = heads[:limit]
    expired = [row for row in taken if _is_expired(row, now_ms)]
    if expired:
        for row in expired:
            _expire(store, row["id"], now_ms=now_ms)
        return claim(
            store, worker_id=worker_id, names=names, max_runs=max_runs, now_ms=now_ms, release=release, solo=solo,
            group=group,
        )  # fmt: skip
    return _take(store, taken, lane=lane, worker_id=worker_id, release=release, now_ms=now_ms)


def promote_due(store: Store, *, now_ms: int, limit: int = 500) -> int:
    """Move runs whose time has come into line, end those that expired; how many there were. Call again at `limit`.

    A wait that timed out and a sleep that is over are resolved here, so that each is resolved once, by one clock.
    """
    expired = store.all("expired_runs", now_ms=now_ms, limit=limit)
    for row in expired:
        _expire(store, row["id"], now_ms=now_ms)
    done = len(expired)
    done += limits.thaw(store, now_ms=now_ms, limit=limit - done) if done < limit else 0
    due = store.all("due_runs", now_ms=now_ms, limit=limit - done) if done < limit else []
    for run in due:
        if run["parked"] is not None:
            waiters.time_out(store, run, now_ms=now_ms)
    lanes = [line.enter(store, run) for run in due]
    store.many("promote_run", [{"seq": run["seq"], "lane": lane} for run, lane in zip(due, lanes, strict=True)])
    for run, lane in zip(due, lanes, strict=True):
        store.move(run["workflow"], "later", lane)
        if lane == "ready":
            store.emit(Ready(run["workflow"], lane))
    return done + len(due)


def next_due_ms(store: Reader) -> int | None:
    """When `promote_due` will next have something to do; None while nothing waits for a time."""
    row = store.one("next_due")
    assert row is not None
    due_ms: int | None = row["due_ms"]
    return due_ms


def _is_expired(row: sqlite3.Row, now_ms: int) -> bool:
    return row["expires_at_ms"] is not None and row["expires_at_ms"] <= now_ms and row["epoch"] == 0


def _expire(store: Store, run_id: str, *, now_ms: int) -> None:
    endings.end_pending(store, run_id, reason="expired before a worker could start it", now_ms=now_ms)


def _take(
    store: Store, taken: list[sqlite3.Row], *, lane: str, worker_id: str, release: str, now_ms: int
) -> list[ClaimedRun]:
    if not taken:
        return []
    store.many("claim_run", [(row["seq"], worker_id, release, now_ms) for row in taken])
    payloads = {
        seq: (payload, trace)
        for seq, payload, trace in store.all("payloads", seqs=json.dumps([row["seq"] for row in taken]))
    }
    for row in taken:
        store.move(row["workflow"], lane, "running")
        limits.claimed(store, row, now_ms=now_ms)
        store.emit(Changed(row["id"], row["workflow"], "running", now_ms - row["run_at_ms"]))
    return [_claimed(store, row, *payloads[row["seq"]], solo=lane == "solo") for row in taken]


def _claimed(store: Store, row: sqlite3.Row, payload: str, trace: str | None, *, solo: bool) -> ClaimedRun:
    page: dict[str, str] = {}
    after: str | None = None
    if row["epoch"] > 0:  # a run that was never claimed has no steps
        page, after = steps.page(store, run=row["seq"], generation=row["generation"])
    found: ClaimedRun = {
        "id": row["id"],
        "epoch": row["epoch"] + 1,
        "workflow": row["workflow"],
        "payload_json": payload,
        "attempt": row["attempt"] + 1 - row["attempt_open"],
        "retries": retry.DEFAULT_RETRIES if row["retries"] is None else row["retries"],
        "key": row["key"],
        "scheduled_for_ms": row["scheduled_for_ms"],
        "scheduled_tz": row["scheduled_tz"],
        "enqueued_ms": row["created_ms"],
        "generation": row["generation"],
        "steps": page,
        "steps_next": after,
        "solo": solo,
    }
    if trace is not None:
        found["trace"] = trace
    if row["spent_ms"]:
        found["spent_ms"] = row["spent_ms"]
    if solo or row["crashes"]:
        found["tell_steps"] = True
    return found
