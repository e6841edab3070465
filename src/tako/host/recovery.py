"""What happens between an engine's end, however it came, and the next one's first answer.

The truth is in the file. Workers that were recorded and are alive go on and are adopted; what a dead one held is given
back at once, and counts against its runs only if the machine has not been started anew since (rows 23 and 24).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tako.engine import documents, health, leases, registry
from tako.engine.store import Durability, Store
from tako.errors import StoreDamaged
from tako.host.lock import read_engine_json
from tako.host.places import Places
from tako.supervisor.states import Why

if TYPE_CHECKING:
    from tako.host.app import AppHost


def open_store(places: Places, *, durability: Durability) -> Store:
    """Open the app's store, and make sure that it is the one that was here.

    Raises:
        StoreDamaged: it is damaged, gone, or another one. Nothing was changed, and no new one was made.
    """
    expected = read_engine_json(places.engine_json).get("store_id")
    if expected and not places.database.exists():
        raise StoreDamaged(
            f"{places.database} is gone: an engine has run here, and its store is not where it was. "
            "Nothing was started.",
            cure=f"Put it back (a `tako backup` holds one). To begin with an empty store, remove {places.engine_json}.",
        )
    store = Store.open(places.database, durability=durability)
    try:
        documents.check(store)
    except StoreDamaged:
        store.close()
        raise
    if expected and store.store_id != expected:
        found = store.store_id
        store.close()
        raise StoreDamaged(
            f"{places.database} is not the store that was here: its id is {found[:8]}…, expected {expected[:8]}…. "
            "Nothing was started.",
            cure=f"Put the right file back. To go on with this one, remove {places.engine_json}.",
        )
    return store


async def recover(host: AppHost) -> None:
    """Adopt the workers that live, take back the runs of those that do not, restore health and registry."""
    found = await host.writer.do(_read_and_mark, code=host.code.digest, release=host.release)
    is_same_code = found["code"] == host.code.digest
    host.is_code_new = not is_same_code
    host.registry.stored.update(found["registries"])
    host.registry.new_code(host.code.names_by_group())
    if is_same_code:
        for told in found["registries"].values():
            if told["group"] in host.code.scan.groups:
                host.registry.told(told)
    host.groups.arrange()
    if gone := found["registries"].keys() - set(host.code.scan.groups):
        await host.groups.forget(gone)
    for name, pool in host.groups.pools.items():
        pool.restore(found["health"].get(name) if is_same_code else None)
    recorded = [record for record in found["workers"] if record["group"] in host.groups.pools]
    released = await host.writer.do(
        leases.recover,
        recorded=[record["worker_id"] for record in recorded],
        now_ms=host.clock.now_ms(),
    )
    if released:
        host.say("info", f"took back {len(released)} runs of workers that nothing is known of")
    running = await host.writer.do(leases.running)
    host.holding.adopt(running)
    # A claim is stored before the record says so: who holds a run has claimed, and its death is no failed start.
    holders = {worker_id for _, _, worker_id in running}
    for record in recorded:
        if record["worker_id"] in holders:
            record["ready"] = record["claimed"] = True
        if record.get("token_hash"):
            host.tokens.admit(record["token_hash"], worker_id=record["worker_id"])
        host.groups.pools[record["group"]].adopt([record])
    for pool in host.groups.pools.values():
        host.groups.stop_if_paused(pool.group)
        # Row 18: the files were changed while nobody looked. Adopted workers run the old ones and drain.
        if not is_same_code and pool.state.slots:
            pool.new_code(host.groups.config_of(pool.group))


def _read_and_mark(store: Store, *, code: str, release: str) -> dict[str, Any]:
    found = {
        "code": store.get_meta("code"),
        "workers": health.workers(store),
        "health": health.load(store),
        "registries": registry.load(store, release=release),
    }
    store.set_meta("code", code)
    if found["code"] != code:
        # Together with the new mark: else the start after this one would take it for news of the code that is there,
        # and the workers that are adopted for workers of it.
        health.forget(store)
        health.outdate_workers(store, why=Why.DEPLOY.value)
    return found


def set_code(store: Store, *, digest: str) -> None:
    """Remember which code the recorded health is about."""
    store.set_meta("code", digest)
