"""How a run that is due gets into line: in `ready` if nothing holds it back, else in the lane that says what does:
`paused`, its key is; `limited`, its workflow has no permit left. What is in line needs nothing but a claim."""

from __future__ import annotations

import sqlite3

from tako.engine import limits
from tako.engine.store import Store

READY, LIMITED, PAUSED = "ready", "limited", "paused"


def enter(store: Store, run: sqlite3.Row) -> str:
    """The lane of a run that becomes due; if it is `ready`, the run has its permits now."""
    return enter_new(store, run["workflow"], run["key"], run["concurrency_key"], run["rate_key"])


def enter_new(store: Store, workflow: str, key: str | None, concurrency_key: str | None, rate_key: str | None) -> str:
    """The same for a run that has no row yet."""
    if store.pauses.keys and is_held(store, workflow, key, concurrency_key, rate_key):
        return PAUSED
    return READY if limits.enter(store, workflow, concurrency_key, rate_key) else LIMITED


def enter_again(store: Store, run: sqlite3.Row) -> str:
    """The lane of a running run that is handed back, or tried again at once: nobody overtakes it for its permit."""
    if store.pauses.keys and is_held(store, run["workflow"], run["key"], run["concurrency_key"], run["rate_key"]):
        limits.stopped(store, run)
        return PAUSED
    return READY if limits.returned(store, run) else LIMITED


def is_held(store: Store, workflow: str, key: str | None, concurrency_key: str | None, rate_key: str | None) -> bool:
    """Whether a key of this run is paused, under whichever name of its workflow."""
    paused = store.pauses.keys
    if not paused:
        return False
    for name in store.names_of(workflow):
        if name in paused and not paused[name].isdisjoint((key, concurrency_key, rate_key)):
            return True
    return False
