"""Who may write about a run: the worker that holds it, at the epoch at which it claimed it (E2)."""

from __future__ import annotations

import sqlite3

from tako.engine.store import Reader
from tako.errors import LeaseLost, RunNotFound


def find(store: Reader, run_id: str) -> sqlite3.Row:
    """The run's row. Raises RunNotFound."""
    run = store.one("held_run", id=run_id)
    if run is None:
        raise RunNotFound(
            f"There is no run {run_id}: it never existed, or was removed after its retention.", detail={"id": run_id}
        )
    return run


def held(store: Reader, *, run_id: str, worker_id: str, epoch: int | None) -> sqlite3.Row:
    """The run's row, if this worker holds it. `epoch` None is a v0 worker: its name and the status are the guard.

    Raises:
        LeaseLost: it does not hold it. RunNotFound: there is no such run.
    """
    run = find(store, run_id)
    if not holds(run, worker_id=worker_id, epoch=epoch):
        raise stale(run)
    return run


def holds(run: sqlite3.Row, *, worker_id: str, epoch: int | None) -> bool:
    """Whether this worker may write about the run now."""
    return bool(
        run["status"] == "running" and run["worker_id"] == worker_id and (epoch is None or run["epoch"] == epoch)
    )


def stale(run: sqlite3.Row) -> LeaseLost:
    """The answer to a worker that writes about a run it holds no more."""
    return LeaseLost(
        f"stale worker: run is no longer owned by this worker ({run['id']} is {run['status']} at epoch {run['epoch']})",
        detail={"id": run["id"], "status": run["status"], "epoch": run["epoch"]},
    )
