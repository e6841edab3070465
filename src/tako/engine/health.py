"""What supervisors want to find again after a restart of the daemon: health of groups, and workers they started."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tako.engine.store import Reader, Store


def save(store: Store, *, group: str, record: Mapping[str, Any]) -> None:
    """Keep the health of a group; the record is the supervisor's own."""
    store.run("save_health", name=group, health=json.dumps(dict(record)))


def load(store: Reader) -> dict[str, dict[str, Any]]:
    """The health of every group that has any, by its name."""
    return {row["name"]: json.loads(row["health"]) for row in store.all("all_health")}


def forget(store: Store) -> None:
    """What was found of the code before says nothing about the code that is there now."""
    store.run("delete_health")


def record_worker(store: Store, *, record: Mapping[str, Any]) -> None:
    """Remember a started worker by `record["worker_id"]`, so that the next daemon can adopt it or know that it died."""
    store.run("save_worker", worker_id=record["worker_id"], record=json.dumps(dict(record)))


def outdate_workers(store: Store, *, why: str) -> None:
    """The code has changed: whoever is recorded runs what was before, and drains, for this reason; also if the engine
    that is about to tell them so ends before it has."""
    for record in workers(store):
        if record.get("why") is None:
            record_worker(store, record={**record, "why": why})


def forget_worker(store: Store, *, worker_id: str) -> None:
    """Its process is gone."""
    store.run("delete_worker", worker_id=worker_id)


def workers(store: Reader) -> list[dict[str, Any]]:
    """The records of all workers that were not forgotten."""
    return [json.loads(row["record"]) for row in store.all("all_workers")]
