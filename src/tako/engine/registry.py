"""What each release declares, kept so that schedules fire and names are checked before any worker has said HELLO."""

from __future__ import annotations

import json

from tako.engine import limits, options, pausing
from tako.engine.store import Reader, Store
from tako.protocol.messages import Registry


def save(store: Store, *, release: str, registry: Registry, now_ms: int) -> None:
    """Keep what a group of a release declares, in place of what it declared before."""
    store.run("save_registry", release=release, name=registry["group"], registry=json.dumps(registry), saved_ms=now_ms)


def load(store: Reader, *, release: str) -> dict[str, Registry]:
    """What the groups of a release declared last, by group."""
    return {row["name"]: json.loads(row["registry"]) for row in store.all("registries_of", release=release)}


def forget_group(store: Store, *, release: str, group: str) -> None:
    """A group has no files any more."""
    store.run("delete_registry", release=release, name=group)


def obey(store: Store, registries: dict[str, Registry]) -> None:
    """Let the rules keep what these declare: `max_pending`, `concurrency`, `rate`, and who is told of a death.

    Kept in the store, so that limits hold before the first worker of the next daemon has said HELLO. Telling the same
    again costs nothing.
    """
    found = options.declared(registries)
    if found == store.options:
        return
    before = store.options
    store.obey(found)
    limits.obey(store, before, found)
    pausing.obey(store)
