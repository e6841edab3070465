"""What people hold back: a workflow, a group, or one key of a workflow. Runs that run go on; no run of it is claimed.

A pause is a row, and a copy of the rows in memory that the same transaction changes (`store.pauses`).

- A paused *workflow* is not asked for by claims, under none of its names; its runs stay where they are in line.
- A paused *group* gets no claims at all. That its workers end is the supervisor's business.
- A paused *key* holds back those runs of the workflow that have it: as their key, or as what their concurrency or
  their rate is counted by. They wait in a lane of their own, `paused`, without permits, so that no claim steps over
  them and nobody waits behind them.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable

from tako.engine import limits, line
from tako.engine.events import Ready
from tako.engine.pauses import GROUP, KEY, WORKFLOW, Pauses, Target
from tako.engine.store import Reader, Store


def is_paused(store: Store, workflow: str) -> bool:
    """Whether the workflow is paused under any of its names. Any thread may ask."""
    paused = store.pauses.workflows
    return bool(paused) and any(name in paused for name in store.names_of(workflow))


def pause(store: Store, target: Target, *, now_ms: int) -> bool:
    """Hold back what is meant, from the next claim on; False when it was paused already."""
    if not store.run("insert_pause", kind=target.kind, name=target.name, key=target.key, since_ms=now_ms):
        return False
    store.keep_pauses(Pauses.of(store.all("all_pauses")))
    if target.kind == KEY:
        _hold_back(store, target)
    return True


def resume(store: Store, target: Target) -> bool:
    """End a pause, whichever of a workflow's names it was made under; False when there was none."""
    names = (target.name,) if target.kind == GROUP else store.names_of(target.name)
    if not sum(store.run("delete_pause", kind=target.kind, name=name, key=target.key) for name in names):
        return False
    store.keep_pauses(Pauses.of(store.all("all_pauses")))
    if target.kind == KEY:
        _let_go(store, names)
    elif target.kind == WORKFLOW:
        for name in names:
            for lane in ("ready", "solo"):
                if store.count(name, lane):
                    store.emit(Ready(name, lane))
    return True


def obey(store: Store) -> None:
    """Workflows have other names than before: what a key holds back may be others now. Rare."""
    _let_go(store, store.workflows_in(line.PAUSED))
    for target in store.pauses.since_ms:
        if target.kind == KEY:
            _hold_back(store, target)


def why_held(reader: Reader, run: sqlite3.Row) -> str:
    """Why a run in the lane `paused` waits, and what ends that."""
    for target in Pauses.of(reader.all("all_pauses")).since_ms:
        if target.kind == KEY and target.key in (run["key"], run["concurrency_key"], run["rate_key"]):
            return Target(KEY, run["workflow"], target.key).holds()
    return "paused"


def problems(store: Store) -> list[str]:
    """Runs in line whose key is paused, and runs that are held back by nothing. For invariants."""
    found = []
    for run in store.all("due_runs_of_all"):
        is_held = line.is_held(store, run["workflow"], run["key"], run["concurrency_key"], run["rate_key"])
        if is_held is not (run["lane"] == line.PAUSED):
            its_key = "is" if is_held else "is not"
            found.append(f"pauses: run {run['id']} is in the lane {run['lane']}, and its key {its_key} paused")
    return found


def _hold_back(store: Store, target: Target) -> None:
    """Take out of line who has this key."""
    names = store.names_of(target.name)
    if not any(store.count(name, lane) for name in names for lane in ("ready", "solo", "limited")):
        return
    for run in store.all("due_with_key", names=json.dumps(names), key=target.key):
        store.run("relane_run", seq=run["seq"], lane=line.PAUSED)
        store.move(run["workflow"], run["lane"], line.PAUSED)
        if run["lane"] != "limited":
            limits.left_line(store, run)


def _let_go(store: Store, names: Iterable[str]) -> None:
    """Put those back into line that no key holds back any more."""
    for run in store.all("paused_runs", names=json.dumps(list(names))):
        lane = line.enter(store, run)
        if lane == line.PAUSED:
            continue
        if lane == "ready" and run["suspect_ms"] is not None:
            lane = "solo"
        store.run("relane_run", seq=run["seq"], lane=lane)
        store.move(run["workflow"], line.PAUSED, lane)
        if lane in ("ready", "solo"):
            store.emit(Ready(run["workflow"], lane))
