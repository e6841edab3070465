"""The JSON that the engine keeps for itself in rows of its own: schedules, registries, health, workers.

It was written by us, so one that cannot be read tells of a damaged file, as a broken page would; it is found when the
store is opened, and not hours later in the middle of a tick. What belongs to a run is the run's affair: a step's result
that cannot be read ends that run (D5).
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from tako.engine.store import Reader
from tako.errors import StoreDamaged


def check(store: Reader) -> None:
    """Raise StoreDamaged if a row cannot be read; names the file, the table and the row."""
    for table, row, text in _documents(store):
        if not _is_object(text):
            raise StoreDamaged(
                f"{store.path} is damaged: what it holds of {table} {row!r} cannot be read. Nothing was started.",
                cure="Restore a backup (`tako backup` makes them), or mend the row with sqlite3.",
            )


def _documents(store: Reader) -> Iterator[tuple[str, str, str]]:
    for row in store.all("all_schedules"):
        yield "schedule", f"{row['workflow']} {row['spec']}", row["options"]
    for row in store.all("all_registries"):
        yield "the registry of group", row["name"], row["registry"]
    for row in store.all("all_health"):
        yield "the health of group", row["name"], row["health"]
    for row in store.all("all_workers"):
        yield "worker", row["worker_id"], row["record"]


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def texts(text: str | None) -> list[str]:
    """The warnings of a run, as they are stored; one that says so when they cannot be read."""
    try:
        found = json.loads(text) if text else []
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        return ["what was stored as the warnings of this run cannot be read"]
    return found
