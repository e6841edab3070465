"""`concurrency` and `rate`: a run that may be claimed has its permits; one that has not waits in the lane `limited`.

A workflow has so many permits for each value of its key (one value, if it has no key):

- *running* permits, `concurrency` of them. A run takes one when it gets into line and gives it back when it no longer
  runs; a parked run has none.
- *rate* permits, `count` of them. A run takes one when it gets into line; its claim begins the time `per` after which
  the permit is free again. So no window of that length ever has more than `count` claims.

A claim asks nothing: whatever is in line has what it needs. Cost falls on the runs of limited workflows alone, and a
million runs of a tenant at its limit are not even looked at when another tenant's run comes.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from typing import Any

from tako.engine.events import Later, Ready
from tako.engine.options import Options
from tako.engine.store import Store

RUNNING, RATE = "running", "rate"

# How many of the runs that wait for a permit are looked at when one becomes free: the others lack another one too, or
# their turn comes with the next.
_LOOK_AT = 100


def is_limited(store: Store, workflow: str) -> bool:
    """Whether runs of this workflow need a permit to get into line."""
    options = store.options.get(workflow)
    return options is not None and options.is_limited


def enter(store: Store, workflow: str, concurrency_key: str | None, rate_key: str | None) -> bool:
    """Whether a run may get into line; if so, it has its permits now."""
    options = store.options.get(workflow)
    if options is None or not options.is_limited:
        return True
    return _take(store, options, concurrency_key or "", rate_key or "")


def left_line(store: Store, run: sqlite3.Row) -> None:
    """A run in line ended without having been claimed: both its permits are free."""
    options = store.options.get(run["workflow"])
    if options is not None and options.is_limited:
        freed = ((RUNNING, run["concurrency_key"] or ""), (RATE, run["rate_key"] or ""))
        for kind, key in freed:
            _give(store, options, kind, key)
        for kind, key in freed:
            if _limit(options, kind) is not None:
                _admit(store, options, kind, key)


def claimed(store: Store, run: sqlite3.Row, *, now_ms: int) -> None:
    """A run in line was claimed: the time until its rate permit is free begins."""
    options = store.options.get(run["workflow"])
    if options is not None and options.rate_count is not None:
        store.run(
            "insert_cooling", workflow=options.name, key=run["rate_key"] or "", claimed_ms=now_ms,
            free_at_ms=now_ms + options.rate_per_ms,
        )  # fmt: skip
        store.emit(Later(now_ms + options.rate_per_ms))


def stopped(store: Store, run: sqlite3.Row) -> None:
    """A running run ended, parked, or waits for its next attempt: its running permit is free."""
    options = store.options.get(run["workflow"])
    if options is not None and options.concurrency is not None:
        _give(store, options, RUNNING, run["concurrency_key"] or "")
        _admit(store, options, RUNNING, run["concurrency_key"] or "")


def returned(store: Store, run: sqlite3.Row) -> bool:
    """A running run wants to get back into line: whether it may. Nobody overtakes it for the permit it had."""
    options = store.options.get(run["workflow"])
    if options is None or not options.is_limited:
        return True
    _give(store, options, RUNNING, run["concurrency_key"] or "")
    if _take(store, options, run["concurrency_key"] or "", run["rate_key"] or ""):
        return True
    if options.concurrency is not None:
        _admit(store, options, RUNNING, run["concurrency_key"] or "")
    return False


def thaw(store: Store, *, now_ms: int, limit: int) -> int:
    """Free the rate permits whose time has come, and let runs get into line; how many permits."""
    ahead = store.one("last_cooling")
    if ahead is not None and ahead["claimed_ms"] > now_ms:
        # The clock was put back: nobody waits longer for that than the rate itself demands.
        store.run("recool", now_ms=now_ms)
    rows = store.all("thawed", now_ms=now_ms, limit=limit)
    for row in rows:
        store.run("delete_cooling", position=row["position"])
        options = store.options.get(row["workflow"])
        if options is not None:
            _give(store, options, RATE, row["key"])
            _admit(store, options, RATE, row["key"])
    return len(rows)


def obey(store: Store, before: Mapping[str, Options], after: Mapping[str, Options]) -> None:
    """Limits changed: whoever is in line leaves it, permits are counted anew, and whoever may get in does.

    Costs a write for every run in line of a workflow whose limits changed, once per change of the code.
    """
    old = {options.name: options for options in before.values() if options.is_limited}
    new = {options.name: options for options in after.values() if options.is_limited}
    for options in [*old.values(), *new.values()]:
        if old.get(options.name) != new.get(options.name):
            store.run("delete_permits", workflow=options.name)
            for name in options.names:
                _relane(store, name, "line_up_behind_limit", "ready", "limited")
    for name in sorted(old.keys() - new.keys()):
        for stored_name in old[name].names:
            _relane(store, stored_name, "lift_limit", "limited", "ready")
            _relane(store, stored_name, "lift_limit", "limited", "solo")
    for options in new.values():
        if old.get(options.name) != options:
            _begin(store, options)


def _begin(store: Store, options: Options) -> None:
    """Count the permits of what runs, and let in whoever there is room for."""
    names = json.dumps(options.names)
    if options.concurrency is not None:
        store.run("count_running_permits", workflow=options.name, names=names)
    if options.rate_count is not None:
        store.run("count_rate_permits", workflow=options.name, names=names)
    for row in store.all("limited_keys", names=names):
        while _admit(store, options, RUNNING, row["concurrency_key"], also_rate=row["rate_key"]):
            pass


def _relane(store: Store, workflow: str, statement: str, before: str, after: str) -> None:
    n = store.run(statement, workflow=workflow, lane=after)
    if n:
        store.move(workflow, before, after, n)
        if after != "limited":
            store.emit(Ready(workflow, after))


def problems(store: Store) -> list[str]:
    """Permits that were miscounted, and runs that wait although they have all they need. For invariants."""
    found = []
    for options in {options.name: options for options in store.options.values() if options.is_limited}.values():
        names = json.dumps(options.names)
        found += [
            f"limits: {options.name} has {row['kept']} {row['kind']} permits out for {row['key']!r}, not {row['real']}"
            for row in store.all("wrong_permits", workflow=options.name, names=names,
                                 has_running=int(options.concurrency is not None),
                                 has_rate=int(options.rate_count is not None))
        ]  # fmt: skip
        found += [
            f"limits: {row['n']} runs of {options.name} wait for a permit that is free"
            for row in store.all("limited_keys", names=names)
            if _has_room(store, options, RUNNING, row["concurrency_key"])
            and _has_room(store, options, RATE, row["rate_key"])
        ]
    return found


def _take(store: Store, options: Options, concurrency_key: str, rate_key: str) -> bool:
    if not _has_room(store, options, RUNNING, concurrency_key) or not _has_room(store, options, RATE, rate_key):
        return False
    if options.concurrency is not None:
        store.run("take_permit", workflow=options.name, kind=RUNNING, key=concurrency_key)
    if options.rate_count is not None:
        store.run("take_permit", workflow=options.name, kind=RATE, key=rate_key)
    return True


def _give(store: Store, options: Options, kind: str, key: str) -> None:
    if _limit(options, kind) is not None:
        store.run("give_permit", workflow=options.name, kind=kind, key=key)
        store.run("delete_permit", workflow=options.name, kind=kind, key=key)


def _admit(store: Store, options: Options, kind: str, key: str, *, also_rate: str | None = None) -> int:
    """Let the first of those who wait for this permit into line, as far as there is room; how many.

    `also_rate` looks among those of that rate key alone.
    """
    admitted = 0
    if not _has_room(store, options, kind, key):
        return 0
    full: set[tuple[str, str]] = set()  # keys of the other kind that have nothing left: not asked again for each run
    for run in _waiting(store, options, kind, key, also_rate):
        if not _has_room(store, options, kind, key):
            break
        other = (RATE, run["rate_key"] or "") if kind == RUNNING else (RUNNING, run["concurrency_key"] or "")
        if other in full or not _has_room(store, options, *other):
            full.add(other)
        elif _take(store, options, run["concurrency_key"] or "", run["rate_key"] or ""):
            lane = "ready" if run["suspect_ms"] is None else "solo"
            store.run("admit_run", seq=run["seq"], lane=lane)
            store.move(run["workflow"], "limited", lane)
            store.emit(Ready(run["workflow"], lane))
            admitted += 1
    return admitted


def _waiting(store: Store, options: Options, kind: str, key: str, also_rate: str | None) -> list[sqlite3.Row]:
    params: dict[str, Any] = {"names": json.dumps(options.names), "key": key, "limit": _LOOK_AT}
    if kind == RATE:
        return store.all("limited_by_rate", **params)
    return store.all("limited_by_concurrency", rate_key=also_rate, **params)


def _has_room(store: Store, options: Options, kind: str, key: str) -> bool:
    limit = _limit(options, kind)
    if limit is None:
        return True
    row = store.one("permits_out", workflow=options.name, kind=kind, key=key)
    return row is None or bool(row["n"] < limit)


def _limit(options: Options, kind: str) -> int | None:
    return options.concurrency if kind == RUNNING else options.rate_count
