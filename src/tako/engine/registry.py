"""What each release declares, kept so that schedules fire and names are checked before any worker has said HELLO."""

from __future__ import annotations

import json

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
    """Let the rules know the options that they must keep themselves: `max_pending`, and who is told of a death."""
    limits: dict[str, int] = {}
    on_dead: dict[str, str] = {}
    for registry in registries.values():
        for info in registry["workflows"]:
            for name in (info["name"], *info["aliases"]):
                if info["max_pending"] is not None:
                    limits[name] = info["max_pending"]
                if info["on_dead"] is not None:
                    on_dead[name] = info["on_dead"]
    store.limits, store.on_dead = limits, on_dead
