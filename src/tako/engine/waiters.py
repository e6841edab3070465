"""Sleeps, waits and signals. A run that waits holds no worker; a signal that nobody waits for yet is kept in a mailbox.

A wait is resolved once (E9): by the signal, by its timeout, or at once because the value was there. What resolved it
is saved as a step under the wait's name, in the same transaction, so that the handler finds it when it runs again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import NotRequired, TypedDict

from tako.engine import guard, intake, limits, line, steps, wakers
from tako.engine.store import Store
from tako.errors import RunFinished, UnknownSignal

# What is saved for a wait that timed out. Not JSON, so that it cannot be taken for a value.
TIMED_OUT = ""
SLEPT = "null"

# What a run that waits for others (`ctx.gather`) has as its event. No user can send what begins with the first sign.
GATHER = "@runs"

# E8: how long a signal is kept for a wait that has not begun.
MAILBOX_MS = 7 * 24 * 3_600_000


class Parked(TypedDict):
    """`parked`: the worker lets go of the run. Else it goes on with `value_json` (TIMED_OUT, for a timeout); or with
    the branch of this number, which need not wait."""

    parked: bool
    value_json: NotRequired[str]
    branch: NotRequired[int]


class Signalled(TypedDict):
    """Whether a signal reached a wait, or is kept for one. `known`: one of this id had come before."""

    delivered: bool
    kept: bool
    known: NotRequired[bool]


def park(
    store: Store,
    *,
    run_id: str,
    worker_id: str,
    epoch: int | None,
    step_name: str,
    wake_at_ms: int | None = None,
    event_name: str | None = None,
    timeout_at_ms: int | None = None,
    runs: Sequence[str] | None = None,
    branches: Sequence[wakers.Branch] = (),
    spent_ms: int | None = None,
    now_ms: int,
) -> Parked:
    """Let a run go until `wake_at_ms`; until a signal or `timeout_at_ms`; or until all of `runs` have ended. No attempt
    is spent. `branches` wake it too, and resolve nothing. `spent_ms`: for how long its attempt has been executed by
    now, if it has a timeout.

    Not parked when the wait is resolved already or can be resolved now. Saying it again returns the first answer. How
    `runs` ended is not saved: a child may be retried, and its end is looked up each time (see children.py).

    Raises:
        LeaseLost: the worker holds the run no more. Nothing was changed.
        RunNotFound: no such run.
        StepError: the runs wait for this one.
    """
    run = guard.find(store, run_id)
    if not guard.holds(run, worker_id=worker_id, epoch=epoch):
        if _has_parked(run, worker_id=worker_id, epoch=epoch):
            return {"parked": True}
        raise guard.stale(run)
    if runs is None:
        saved = store.one("find_step", run=run["seq"], generation=run["generation"], name=step_name)
        if saved is not None:
            return {"parked": False, "value_json": saved["result"]}
        resolved = _resolve_now(store, run, step_name, wake_at_ms, event_name, timeout_at_ms, now_ms=now_ms)
        if resolved is not None:
            return {"parked": False, "value_json": resolved}
    else:
        event_name, branches = GATHER, [{"runs": list(runs)}, *branches]
    if branches:
        wakers.check(store, run_id, branches)
    is_there = wakers.insert(store, run, branches) if branches else None
    if is_there is not None:
        return _go_on(is_there, of_runs=runs is not None)
    due_ms = wake_at_ms if event_name is None else timeout_at_ms
    store.run(
        "insert_waiter", run=run["seq"], step=step_name, event=event_name, wake_at_ms=due_ms, parked_ms=now_ms,
        branches=len(branches),
    )  # fmt: skip
    kind = "sleep" if event_name is None else "wait"
    _let_go(store, run, kind=kind, lane="later", run_at_ms=due_ms, spent_ms=spent_ms)
    return {"parked": True}


def _has_parked(run: sqlite3.Row, *, worker_id: str, epoch: int | None) -> bool:
    """Whether this worker, at this epoch, is who let the run go."""
    # An epoch belongs to one worker, so who names it is who parked; v0 names none, but itself.
    if epoch is not None:
        return bool(run["parked_epoch"] == epoch)
    return bool(run["parked_epoch"] == run["epoch"] and run["worker_id"] == worker_id)


def _go_on(branch: int, *, of_runs: bool) -> Parked:
    if of_runs:
        return {"parked": False} if branch == 0 else {"parked": False, "branch": branch - 1}
    return {"parked": False, "branch": branch}


def defer(store: Store, *, run_id: str, worker_id: str, wake_at_ms: int | None, now_ms: int) -> None:
    """v0's sleep: let the run go until `wake_at_ms` (None: now). Nothing is saved; its SDK keeps its own steps.

    Raises:
        LeaseLost: the worker holds the run no more.
    """
    run = guard.find(store, run_id)
    if not guard.holds(run, worker_id=worker_id, epoch=None):
        if _has_parked(run, worker_id=worker_id, epoch=None):
            return
        raise guard.stale(run)
    wake_at_ms = now_ms if wake_at_ms is None else wake_at_ms
    if wake_at_ms <= now_ms:
        _let_go(store, run, kind=None, lane="ready", run_at_ms=wake_at_ms)
    else:
        _let_go(store, run, kind="sleep", lane="later", run_at_ms=wake_at_ms)


def signal(
    store: Store, *, run_id: str, event_name: str, payload_json: str, signal_id: str | None = None, now_ms: int
) -> Signalled:
    """Give a signal to a run: to its wait, or to its mailbox for a wait to come. The same `signal_id` counts once.

    Raises:
        RunNotFound, RunFinished: nobody will ever take it. Nothing was kept.
        UnknownSignal: the name is one of ours.
    """
    if event_name.startswith(GATHER[0]):
        raise UnknownSignal(f"A signal's name does not begin with {GATHER[0]!r}: {event_name!r}.")
    run = guard.find(store, run_id)
    if run["status"] not in ("pending", "running"):
        raise RunFinished(
            f"Run {run_id} has ended ({run['status']}), so no wait will take the signal {event_name!r}.",
            detail={"id": run_id, "status": run["status"]},
        )
    if signal_id is not None:
        before = store.one("find_signal", run=run["seq"], event=event_name, signal_id=signal_id)
        if before is not None:
            is_taken = before["taken_ms"] is not None
            return {"delivered": is_taken, "kept": not is_taken, "known": True}
    waiter = store.one("waiter", run=run["seq"])
    is_delivered = waiter is not None and waiter["event"] == event_name
    if signal_id is not None or not is_delivered:
        store.run(
            "insert_signal", run=run["seq"], event=event_name, payload=payload_json, signal_id=signal_id,
            sent_ms=now_ms, taken_ms=now_ms if is_delivered else None,
        )  # fmt: skip
        store.bytes_written += len(payload_json)
    if is_delivered:
        _wake(store, run, resolved=("signal", payload_json), now_ms=now_ms)
    elif waiter is not None and waiter["branches"] and wakers.is_woken_by(store, run, event_name):
        _wake(store, run, now_ms=now_ms)  # its handler takes it out of the mailbox
    return {"delivered": is_delivered, "kept": not is_delivered}


def signal_all(store: Store, *, event_name: str, payload_json: str, now_ms: int) -> int:
    """v0's signal, which names no run: wake every wait for it; how many. Nobody waits: the first who will, gets it."""
    waiting = store.all("waiting_for", event=event_name)
    for waiter in waiting:
        _wake(store, guard.find(store, waiter["id"]), resolved=("signal", payload_json), now_ms=now_ms)
    others = store.all("woken_by", event=event_name)
    for other in others:
        signal(store, run_id=other["id"], event_name=event_name, payload_json=payload_json, now_ms=now_ms)
    if not waiting and not others:
        store.run(
            "insert_signal", run=None, event=event_name, payload=payload_json, signal_id=None, sent_ms=now_ms,
            taken_ms=None,
        )  # fmt: skip
    return len(waiting) + len(others)


def time_out(store: Store, run: sqlite3.Row, *, now_ms: int) -> None:
    """Resolve what a parked run waited for by its time. Its row is the caller's to move."""
    waiter = store.one("waiter", run=run["seq"])
    if waiter is None:
        return  # deferred by v0, which saves nothing
    kind, value = ("sleep", SLEPT) if waiter["event"] is None else ("timeout", TIMED_OUT)
    steps.keep(store, run, name=waiter["step"], kind=kind, result=value, started_ms=waiter["parked_ms"], now_ms=now_ms)
    _forget(store, run, waiter)


def run_ended(store: Store, run_id: str, *, now_ms: int) -> None:
    """Wake the runs for which this was the last end that they waited for."""
    for seq in wakers.taken(store, run_id):
        waiting = store.one("run_by_seq", seq=seq)
        assert waiting is not None, "a waker belongs to a run"
        _wake(store, waiting, now_ms=now_ms)


def give_up(store: Store, run: sqlite3.Row) -> None:
    """A parked run ends: it waits for nothing any more."""
    waiter = store.one("waiter", run=run["seq"])
    if waiter is not None:
        _forget(store, run, waiter)


def forget_signals(store: Store, *, now_ms: int, limit: int = 500) -> list[tuple[str, str | None]]:
    """Delete signals older than MAILBOX_MS; those that nobody took, as (name, run's id), are for the log (E8)."""
    old = store.all("old_signals", before_ms=now_ms - MAILBOX_MS, limit=limit)
    store.many("delete_signal", [{"position": row["position"]} for row in old])
    return [(row["event"], row["id"]) for row in old if row["taken_ms"] is None]


def _resolve_now(
    store: Store, run: sqlite3.Row, step_name: str, wake_at_ms: int | None, event_name: str | None,
    timeout_at_ms: int | None, *, now_ms: int,
) -> str | None:  # fmt: skip
    """The value of a wait that need not wait, saved; None when it must."""
    if event_name is None:
        assert wake_at_ms is not None, "a sleep has an end"
        kind, value = "sleep", SLEPT if wake_at_ms <= now_ms else None
    else:
        kind, value = "signal", _take(store, run["seq"], event_name, now_ms=now_ms)
    if value is None and event_name is not None and timeout_at_ms is not None and timeout_at_ms <= now_ms:
        kind, value = "timeout", TIMED_OUT
    if value is None:
        return None
    return steps.keep(store, run, name=step_name, kind=kind, result=value, started_ms=now_ms, now_ms=now_ms)


def _take(store: Store, run: int, event_name: str, *, now_ms: int) -> str | None:
    """The oldest signal of this name in the run's mailbox, else in the one for all; None when there is none."""
    row = store.one("first_signal", run=run, event=event_name) or store.one("first_v0_signal", event=event_name)
    if row is None:
        return None
    if row["signal_id"] is None:
        store.run("delete_signal", position=row["position"])
    else:
        store.run("take_signal", position=row["position"], now_ms=now_ms)
    return str(row["payload"])


def _let_go(
    store: Store, run: sqlite3.Row, *, kind: str | None, lane: str, run_at_ms: int | None, spent_ms: int | None = None
) -> None:
    if lane == "ready":
        lane = line.enter_again(store, run)
    store.run(
        "park_run", seq=run["seq"], epoch=run["epoch"], parked=kind, lane=lane, run_at_ms=run_at_ms, spent_ms=spent_ms
    )
    store.move(run["workflow"], "running", lane)
    if lane == "later":
        limits.stopped(store, run)
    intake.tell_pending(store, run["id"], run["workflow"], lane, run_at_ms)


def _wake(store: Store, run: sqlite3.Row, *, resolved: tuple[str, str] | None = None, now_ms: int) -> None:
    """Put a parked run into line. `resolved`: its wait's kind of step and value; None: its handler will see."""
    waiter = store.one("waiter", run=run["seq"])
    assert waiter is not None
    if resolved is not None:
        kind, value = resolved
        steps.keep(
            store, run, name=waiter["step"], kind=kind, result=value, started_ms=waiter["parked_ms"], now_ms=now_ms
        )
    _forget(store, run, waiter)
    lane = line.enter(store, run)
    store.run("wake_run", seq=run["seq"], lane=lane, now_ms=now_ms)
    store.move(run["workflow"], "later", lane)
    intake.tell_pending(store, run["id"], run["workflow"], lane, now_ms)


def _forget(store: Store, run: sqlite3.Row, waiter: sqlite3.Row) -> None:
    store.run("delete_waiter", run=run["seq"])
    if waiter["branches"]:
        store.run("delete_wakers", run=run["seq"])
