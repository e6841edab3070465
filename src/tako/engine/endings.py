"""How attempts and runs end: by the worker's word, a death, a cancel, expiry. All ends go through `conclude`."""

from __future__ import annotations

import json
import random
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

from tako.engine import guard, intake, limits, line, retry, waiters, wakers
from tako.engine import options as options_room
from tako.engine.events import Ended, Held
from tako.engine.store import Store
from tako.errors import PayloadError
from tako.protocol.messages import NewRun, Outcome, RemoteError, RetryPolicy


class Finished(NamedTuple):
    """What a `finish` led to. `run_at_ms`: when the next attempt is due, None when there is none."""

    status: str
    run_at_ms: int | None


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
    retry_at_ms: int | None = None,
    warnings: Sequence[str] = (),
    now_ms: int,
    rng: random.Random,
) -> Finished:
    """End an attempt as its worker says. Saying it again returns the first answer (E5).

    `epoch` None is a v0 worker: its name and the run's status are the guard, and it counts attempts itself, so
    "failed" from it always means another one. `retry_at_ms` is when, if the worker has decided that.

    Raises:
        LeaseLost: the worker holds the run no more. Nothing was changed.
        RunNotFound: there is no such run.
    """
    note = json.dumps(list(warnings)) if warnings else None
    if outcome == "succeeded":
        done = _succeed(store, run_id, worker_id, epoch, result_json=result_json, note=note, now_ms=now_ms)
        if done is not None:
            return done
    run = guard.find(store, run_id)
    if not guard.holds(run, worker_id=worker_id, epoch=epoch):
        return _first_answer(store, run, worker_id=worker_id, epoch=epoch)
    if outcome == "stopped":
        return _stop(store, run, reason or "stopped by its handler", note=note, now_ms=now_ms)
    # Why a run is given up, its worker may say better than the exception does.
    words = reason if outcome == "fatal" and reason else _words(error)
    if outcome == "fatal" or (epoch is not None and retry_at_ms is None and _is_used_up(run, retry)):
        return _end(store, run, "dead", outcome, words, error=error, note=note, now_ms=now_ms)
    if retry_at_ms is None:
        retry_at_ms = now_ms + _backoff_ms(run, retry, rng)
    return _fail(store, run, words, error=error, run_at_ms=retry_at_ms, note=note, now_ms=now_ms)


def end_pending(store: Store, run_id: str, *, reason: str, now_ms: int) -> None:
    """Cancel a pending run."""
    run = guard.find(store, run_id)
    waiters.give_up(store, run)
    store.run("cancel_run", seq=run["seq"], reason=reason, now_ms=now_ms)
    # An attempt that a crash cut short has its row already, and has not begun anew.
    if run["attempt_open"] and run["attempt_ms"] is not None:
        record(store, run, "cancelled", error=reason, now_ms=now_ms)
    conclude(store, run, before=run["lane"], status="cancelled", reason=reason, now_ms=now_ms)


def cancel(store: Store, run_id: str, *, reason: str, now_ms: int) -> list[Held]:
    """Cancel an unfinished run, and not its children; one that has ended stays as it is."""
    run = guard.find(store, run_id)
    if run["status"] == "pending":
        end_pending(store, run_id, reason=reason, now_ms=now_ms)
        return []
    if run["status"] != "running":
        return []
    _end(store, run, "cancelled", "cancelled", reason, now_ms=now_ms)
    return [Held(run_id, run["epoch"], run["worker_id"])]


def cancel_children(store: Store, run: sqlite3.Row, *, reason: str, now_ms: int) -> list[Held]:
    """Cancel what descends from a cancelled run and has not ended. None is started meanwhile: who starts one must hold
    its parent, and nobody does any more."""
    told: list[Held] = []
    for child in store.all("unfinished_descendants", run=run["seq"]):
        words = f"its parent {run['id']} was cancelled: {reason}"
        told += cancel(store, child["id"], reason=words, now_ms=now_ms)
    return told


def withdraw(store: Store, run_id: str, *, now_ms: int) -> bool:
    """Take a run back that no worker has claimed, as if it had never come; False when it was claimed or has ended."""
    run = guard.find(store, run_id)
    if run["status"] != "pending" or run["epoch"] > 0:
        return False
    for statement in ("delete_unconsumed_signals", "delete_payload", "delete_run"):
        store.run(statement, run=run["seq"])
    store.move(run["workflow"], run["lane"], None)
    if run["lane"] == "ready":
        limits.left_line(store, run)
    waiters.run_ended(store, run_id, now_ms=now_ms)
    return True


def conclude(store: Store, run: sqlite3.Row, *, before: str, status: str, reason: str | None, now_ms: int) -> None:
    """What every end of a run brings with it, once its row says so."""
    store.move(run["workflow"], before, status)
    if before == "running":
        limits.stopped(store, run)
    elif before in ("ready", "solo"):
        limits.left_line(store, run)
    store.emit(_ended(run, status, now_ms=now_ms))
    _look_what_is_left(store, run, now_ms=now_ms)
    if status == "dead":
        store.move(run["workflow"], None, "unseen")
        _enqueue_on_dead(store, run, reason=reason or "", now_ms=now_ms)


def succeed_all(store: Store, runs: Sequence[tuple[sqlite3.Row, str | None]], *, now_ms: int) -> None:
    """End running runs with these results: what `finish` does for one, for those that are known to be held."""
    store.many("succeed_held", [(now_ms, run["seq"]) for run, _ in runs])
    results = [(run["seq"], result) for run, result in runs if result is not None and result != "null"]
    if results:
        store.many("insert_result", results)
        store.bytes_written += sum(len(result) for _, result in results)
    store.many("insert_success", [
        (run["seq"], run["epoch"], run["attempt"], run["worker_id"], run["release"], run["attempt_ms"], now_ms)
        for run, _ in runs
    ])  # fmt: skip
    for run, _ in runs:
        store.move(run["workflow"], "running", "succeeded")
        limits.stopped(store, run)
        store.emit(_ended(run, "succeeded", now_ms=now_ms))
    seqs, ends = json.dumps([run["seq"] for run, _ in runs]), json.dumps([wakers.RUN + run["id"] for run, _ in runs])
    if store.one("anything_left_behind", runs=seqs, ends=ends) is not None:
        for run, _ in runs:
            _look_what_is_left(store, run, now_ms=now_ms)


def _ended(run: sqlite3.Row, status: str, *, now_ms: int) -> Ended:
    started_ms: int | None = run["started_ms"]
    return Ended(run["id"], run["workflow"], status, None if started_ms is None else now_ms - started_ms)


def _look_what_is_left(store: Store, run: sqlite3.Row, *, now_ms: int) -> None:
    left = store.all("left_behind", run=run["seq"], ended=wakers.RUN + run["id"])
    if left:
        _settle(store, run, {row["event"] for row in left}, now_ms=now_ms)


def _settle(store: Store, run: sqlite3.Row, left: set[str | None], *, now_ms: int) -> None:
    """Tell of signals that nobody took, and wake who waits for this end (None)."""
    if None in left:
        waiters.run_ended(store, run["id"], now_ms=now_ms)
    names = ", ".join(sorted(name for name in left if name is not None))
    if names:
        warn(store, run["seq"], f"it ended with signals that no wait_for has taken: {names}")
        store.run("delete_unconsumed_signals", run=run["seq"])


def warn(store: Store, seq: int, warning: str) -> None:
    """Add a warning to a run."""
    store.run("add_warning", seq=seq, warning=warning)


def record(
    store: Store, run: sqlite3.Row, outcome: str, *, error: str | None, traceback: str | None = None,
    retry_at_ms: int | None = None, now_ms: int,
) -> None:  # fmt: skip
    """Write down how an attempt ended."""
    store.run(
        "insert_attempt", run=run["seq"], epoch=run["epoch"], attempt=run["attempt"], worker_id=run["worker_id"],
        release=run["release"], started_ms=run["attempt_ms"], ended_ms=now_ms, outcome=outcome,
        retry_at_ms=retry_at_ms, error=error, traceback=traceback,
    )  # fmt: skip


def _succeed(
    store: Store, run_id: str, worker_id: str, epoch: int | None, *, result_json: str | None, note: str | None,
    now_ms: int,
) -> Finished | None:  # fmt: skip
    """The short way of nearly every run. None: the guard did not match, and the long way will say why."""
    run = store.one("succeed_run", id=run_id, worker_id=worker_id, epoch=epoch, now_ms=now_ms, warnings=note)
    if run is None:
        return None
    if result_json is not None and result_json != "null":
        store.many("insert_result", [(run["seq"], result_json)])
        store.bytes_written += len(result_json)
    record(store, run, "succeeded", error=None, now_ms=now_ms)
    conclude(store, run, before="running", status="succeeded", reason=None, now_ms=now_ms)
    return Finished("succeeded", None)


def _first_answer(store: Store, run: sqlite3.Row, *, worker_id: str, epoch: int | None) -> Finished:
    """What this worker was told when it ended this epoch before. Raises LeaseLost if it never did."""
    ended = store.one("ended_attempt", run=run["seq"], epoch=run["epoch"] if epoch is None else epoch)
    if ended is None or ended["worker_id"] != worker_id or ended["outcome"] not in _STATUS_AFTER:
        raise guard.stale(run)
    if ended["retry_at_ms"] is not None:
        return Finished("pending", ended["retry_at_ms"])
    return Finished(_STATUS_AFTER[ended["outcome"]], None)


# What a worker was told after its outcome, unless there was a retry. `crashed` and `cancelled` were not its own words.
_STATUS_AFTER = {"succeeded": "succeeded", "stopped": "cancelled", "failed": "dead", "fatal": "dead"}


def _is_used_up(run: sqlite3.Row, policy: RetryPolicy | None) -> bool:
    retries = (policy or retry.DEFAULT)["retries"] if run["retries"] is None else run["retries"]
    return bool(run["failures"] >= retries)


def _backoff_ms(run: sqlite3.Row, policy: RetryPolicy | None, rng: random.Random) -> int:
    return retry.backoff_ms(run["failures"] + 1, policy=policy or retry.DEFAULT, rng=rng)


def _fail(
    store: Store, run: sqlite3.Row, words: str, *, error: RemoteError | None, run_at_ms: int, note: str | None,
    now_ms: int,
) -> Finished:  # fmt: skip
    """Back to pending for the next attempt."""
    lane = "later"
    if run_at_ms <= now_ms:
        lane = line.enter_again(store, run)
    store.run(
        "fail_run", seq=run["seq"], epoch=run["epoch"], lane=lane, run_at_ms=run_at_ms, reason=words, warnings=note
    )
    record(store, run, "failed", error=words, traceback=_traceback(error), retry_at_ms=run_at_ms, now_ms=now_ms)
    store.move(run["workflow"], "running", lane)
    if lane == "later":
        limits.stopped(store, run)
    intake.tell_pending(store, run["id"], run["workflow"], lane, run_at_ms)
    return Finished("pending", run_at_ms)


def _end(
    store: Store, run: sqlite3.Row, status: str, outcome: str, reason: str, *, error: RemoteError | None = None,
    note: str | None = None, now_ms: int,
) -> Finished:  # fmt: skip
    """End a running run as cancelled or dead."""
    store.run(
        "end_run", seq=run["seq"], epoch=run["epoch"], status=status, reason=reason, now_ms=now_ms, warnings=note,
        failed=int(outcome in ("failed", "fatal")),
    )  # fmt: skip
    record(store, run, outcome, error=reason, traceback=_traceback(error), now_ms=now_ms)
    conclude(store, run, before="running", status=status, reason=reason, now_ms=now_ms)
    return Finished(status, None)


def _stop(store: Store, run: sqlite3.Row, reason: str, *, note: str | None, now_ms: int) -> Finished:
    """Its handler has stopped it: it is cancelled, and so are its children."""
    done = _end(store, run, "cancelled", "stopped", reason, note=note, now_ms=now_ms)
    store.emit_all(cancel_children(store, run, reason=reason, now_ms=now_ms))
    return done


def _enqueue_on_dead(store: Store, run: sqlite3.Row, *, reason: str, now_ms: int) -> None:
    """In the transaction of the death, so that no crash comes between."""
    options = store.options.get(run["workflow"])
    target = options.on_dead if options is not None else None
    # A workflow that mourns itself would do so for ever.
    if target is None or target == run["workflow"]:
        return
    run_id = intake.derived_id(now_ms, f"on_dead {run['id']} {run['epoch']}")
    payload = json.dumps({"run_id": run["id"], "error": reason}, ensure_ascii=False)
    new: NewRun = {"id": run_id, "workflow": target, "payload_json": payload}
    # Not `enqueue`, which may refuse (max_pending): the death has been written already. For the same reason a template
    # that does not fit is left out. Only a key that an unfinished run has is an answer: that one is told already.
    with suppress(PayloadError):
        new.update(options_room.keys(store.options.get(target), payload))  # type: ignore[typeddict-item]
    if "key" in new and intake.holder(store, target, new["key"]) is not None:
        return
    intake.insert(store, [new], now_ms=now_ms)


def _words(error: RemoteError | None) -> str:
    if error is None:
        return "the handler failed and gave no reason"
    return f"{error['type']}: {error['message']}" if error["message"] else error["type"]


def _traceback(error: RemoteError | None) -> str | None:
    return error["traceback"] if error else None
