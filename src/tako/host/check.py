"""Boot the app's worker groups once, the ordinary way, on a store that is thrown away; name every problem."""

from __future__ import annotations

import asyncio
import dataclasses
import tempfile
from pathlib import Path
from typing import Any

from tako.config import load
from tako.config.model import Config
from tako.errors import TakoError
from tako.host.app import AppHost
from tako.host.places import Places, places_of
from tako.logs.hub import Hub

BOOTED = ("healthy", "cooldown", "degraded")


async def check_groups(config: Config, variables: dict[str, str]) -> dict[str, Any]:
    """What `tako check` says of the workers: `{"problems": [{what, cure, ...}], "groups": [{group, workflows}]}`."""
    with tempfile.TemporaryDirectory(prefix="tako-check-") as folder:
        settled = asyncio.Event()
        host = AppHost(
            _without_pinned_workers(config),
            hub=Hub(),
            variables=variables,
            places=_throwaway(places_of(config.root), Path(folder)),
            on_health=lambda group: settled.set(),
        )
        await host.start()
        try:
            while any(pool.snapshot()["state"] not in BOOTED for pool in host.groups.pools.values()):
                settled.clear()
                await settled.wait()  # a boot ends by HELLO, an exit or its timeout
            return {"problems": _problems(host), "groups": _groups(host)}
        finally:
            await host.stop()


def _without_pinned_workers(config: Config) -> Config:
    """One probe of each group is enough."""
    groups = {name: dataclasses.replace(settings, workers=0) for name, settings in config.groups.items()}
    return dataclasses.replace(config, groups=groups)


def _throwaway(places: Places, folder: Path) -> Places:
    """The app's places with everything but its code and secrets elsewhere: an engine may be running here."""
    state = folder / "state"
    return dataclasses.replace(
        places,
        state=state,
        sockets=folder / "sockets",
        database=state / "runs.db",
        lock=state / "engine.lock",
        engine_json=state / "engine.json",
        logs=state / "logs",
        spool=state / "spool",
        data=state / "data",
        internal_socket=folder / "sockets" / "internal.sock",
        listener_socket=folder / "sockets" / "app.sock",
    )


def _problems(host: AppHost) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [{"what": error, "cure": "Mend the file."} for error in host.code.scan.errors()]
    try:
        load.check_groups(host.config, host.code.scan.groups)
    except TakoError as error:
        found.append({"what": error.message, "cure": error.cure})
    for name, pool in host.groups.pools.items():
        health = pool.snapshot()
        if health["state"] != "healthy":
            tail = f"\n{health['traceback_tail']}" if health["traceback_tail"] else ""
            found.append(
                {
                    "what": f'group "{name}": {health["reason"]}{tail}',
                    "cure": "Mend the file named above, then check again.",
                    "group": name,
                    "stderr_tail": health["stderr_tail"],
                }
            )
    return found


def _groups(host: AppHost) -> list[dict[str, Any]]:
    live = host.registry.live
    return [
        {"group": group, "workflows": sorted(info["name"] for info in live[group]["workflows"])}
        for group in sorted(live)
    ]
