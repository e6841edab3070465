"""What wakes a parked run besides the wait in its row: ends of runs that it gathers, signals for its other branches.

A handler may wait for several things at once (`asyncio.gather` over waits, `ctx.gather` over children). Its run parks
with one wait, which is resolved when it comes; a *branch* only wakes the run, whose handler then looks again. A branch
is a signal's name, or runs, of which the last one to end wakes.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import TypedDict

from tako.engine.store import Reader, Store
from tako.errors import StepError

# Who waits for a run's end waits for this event with the run's id behind it. No user can send it.
RUN = "@run:"


class Branch(TypedDict, total=False):
    """Of `event`, the name of a signal, and `runs`, ids, a branch has one."""

    event: str
    runs: list[str]


def unfinished(store: Reader, runs: Sequence[str]) -> list[str]:
    """Those of these runs that can still end. One that is not there will not."""
    return [row["id"] for row in store.all("unfinished_runs", ids=json.dumps(list(dict.fromkeys(runs))))]


def check(store: Reader, run_id: str, branches: Sequence[Branch]) -> None:
    """Refuse a run that would wait for itself, or for one that waits for it: neither would ever go on.

    A child whose key its parent has is the parent.

    Raises:
        StepError: nobody was told to wait.
    """
    ids = [awaited for branch in branches for awaited in branch.get("runs", ())]
    if ids and store.one("waits_for", id=run_id, ids=json.dumps(ids)) is not None:
        who = "this run itself" if run_id in ids else "a run that waits for this one"
        raise StepError(
            f"gather: {who} is among those to wait for, so none of them would ever go on.",
            cure="If it was started with ctx.start, its key is that of a run that has not ended: give it another key.",
        )


def insert(store: Store, run: sqlite3.Row, branches: Sequence[Branch]) -> int | None:
    """Let these wake the run; or write nothing and answer with the first that need not be waited for."""
    rows: list[tuple[str, int]] = []
    for number, branch in enumerate(branches):
        if "runs" in branch:
            events = [RUN + run_id for run_id in unfinished(store, branch["runs"])]
            is_there = not events
        else:
            events = [branch["event"]]
            is_there = store.one("first_signal", run=run["seq"], event=branch["event"]) is not None
        if is_there:
            return number
        rows += [(event, number) for event in events]
    store.many("insert_waker", [{"event": event, "run": run["seq"], "branch": number} for event, number in rows])
    return None


def taken(store: Store, run_id: str) -> list[int]:
    """A run has ended: the rows of the runs that it wakes, each once."""
    found = store.all("take_wakers", event=RUN + run_id)
    woken = [
        row["run"]
        for row in found
        if store.one("branch_left", run=row["run"], branch=row["branch"]) is None
    ]  # fmt: skip
    return list(dict.fromkeys(woken))


def is_woken_by(store: Reader, run: sqlite3.Row, event: str) -> bool:
    """Whether another branch of a parked run waits for this signal."""
    return store.one("waker", event=event, run=run["seq"]) is not None
