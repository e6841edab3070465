"""Step results: saved once, given back ever after. The first result is kept, whoever saves again (D5, E1)."""

from __future__ import annotations

import sqlite3

from tako.engine import guard
from tako.engine.store import Reader, Store

# What goes with a claim; the rest is fetched in pages, so that a run with a gigabyte of results can still start.
PAGE_BYTES = 256 * 1024


def save(
    store: Store,
    *,
    run_id: str,
    worker_id: str,
    epoch: int | None,
    name: str,
    result_json: str,
    started_ms: int | None,
    attempt: int | None = None,
    now_ms: int,
) -> str:
    """Save the result of a step; what is stored under its name now, which is the first that was saved.

    Saving again after a lost reply is answered alike, even when the run has moved on meanwhile.

    Raises:
        LeaseLost: another worker holds the run now, or it ended. Nothing was saved.
        RunNotFound: there is no such run.
    """
    run = guard.find(store, run_id)
    if not guard.holds(run, worker_id=worker_id, epoch=epoch):
        saved = store.one("find_step", run=run["seq"], generation=run["generation"], name=name)
        # An epoch belongs to one worker, so who names it is who saved.
        if saved is not None and epoch is not None and saved["epoch"] == epoch:
            return str(saved["result"])
        raise guard.stale(run)
    return keep(
        store, run, name=name, kind="step", result=result_json, attempt=attempt, started_ms=started_ms, now_ms=now_ms
    )


def keep(
    store: Store, run: sqlite3.Row, *, name: str, kind: str, result: str, attempt: int | None = None,
    started_ms: int | None = None, now_ms: int,
) -> str:  # fmt: skip
    """Write a step of a run, unless it has one of this name; the result that is stored."""
    row = (
        run["seq"], run["generation"], name, kind, result, run["attempt"] if attempt is None else attempt,
        run["epoch"], started_ms, now_ms,
    )  # fmt: skip
    if not store.many("insert_step", [row]):
        kept = store.one("find_step", run=run["seq"], generation=run["generation"], name=name)
        assert kept is not None
        return str(kept["result"])
    saved(store, run, result)
    return result


def saved(store: Store, run: sqlite3.Row, result: str) -> None:
    """What a step that is newly saved means for its run."""
    store.bytes_written += len(result)
    if run["crashes"]:
        # Progress: it did not die where it died before (L2).
        store.run("forgive_crashes", seq=run["seq"])


def load(
    store: Reader, *, run_id: str, worker_id: str, epoch: int | None, after: str
) -> tuple[dict[str, str], str | None]:
    """The page of saved results that begins where the one before ended, for the worker that holds the run."""
    run = guard.held(store, run_id=run_id, worker_id=worker_id, epoch=epoch)
    return page(store, run=run["seq"], generation=run["generation"], after=int(after))


def page(store: Reader, *, run: int, generation: int, after: int = 0) -> tuple[dict[str, str], str | None]:
    """Saved results in the order of saving from `after` on, and where the next page begins (None: there is none).

    A page has at least one step, and ends when it is larger than PAGE_BYTES.
    """
    found: dict[str, str] = {}
    size = 0
    for position in store.all("step_positions", run=run, generation=generation, after=after):
        if size > PAGE_BYTES:
            return found, str(after)
        row = store.one("step", position=position["position"])
        assert row is not None
        found[row["name"]] = row["result"]
        size += len(row["name"]) + len(row["result"])
        after = position["position"]
    return found, None
