"""Boot the app and its worker groups once, the ordinary way, on a store that is thrown away; name every problem."""

from __future__ import annotations

import asyncio
import dataclasses
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tako.config import load
from tako.config.model import Config
from tako.dev.web import config_of, request_of
from tako.discovery import webapp
from tako.errors import TakoError
from tako.host.app import AppHost
from tako.host.places import places_in, places_of
from tako.logs.hub import Hub
from tako.supervisor.instance import Failure
from tako.supervisor.instances import InstancePool, Ready
from tako.supervisor.listener import Listener
from tako.supervisor.spawn import SpawnRequest

BOOTED = ("healthy", "cooldown", "degraded")


async def check(config: Config, variables: dict[str, str]) -> dict[str, Any]:
    """What `tako check` says: `{"problems": [{what, cure, ...}], "groups": [{group, workflows}], "web": target}`."""
    with tempfile.TemporaryDirectory(prefix="tako-check-") as folder:
        settled = asyncio.Event()
        secrets = places_of(config.root).secrets
        host = AppHost(
            _without_pinned_workers(config),
            hub=Hub(),
            variables=variables,
            # Everything but code and secrets lies elsewhere: an engine may be running here.
            places=places_in(config.root, state=Path(folder, "state"), sockets=Path(folder), secrets=secrets),
            on_health=lambda group: settled.set(),
        )
        await host.start()
        host.begin()
        try:
            while any(pool.snapshot()["state"] not in BOOTED for pool in host.groups.pools.values()):
                settled.clear()
                await settled.wait()  # a boot ends by HELLO, an exit or its timeout
            app = webapp.find(config.root, main=config.main)
            groups, problems = _groups(host), [*_problems(host), *await _web_problems(host, app)]
            if not problems and app is None and config.web.command is None and not any(g["workflows"] for g in groups):
                problems = [_nothing(config.root)]
            return {
                "problems": problems,
                "groups": groups,
                "web": app.target if app is not None else None,
            }
        finally:
            await host.stop()


def _nothing(root: Path) -> dict[str, Any]:
    """In a wrong folder nothing fails: a check of nothing must not pass."""
    place = webapp.elsewhere(root)
    cure = f'Is the app {place}? Write main = "{place}" into tako.toml.' if place else "Is it the right folder?"
    return {"what": f"There is nothing to start in {root}: no web app, and no workflow.", "cure": cure}


async def _web_problems(host: AppHost, app: webapp.WebApp | None) -> list[dict[str, Any]]:
    """Boot one instance of the web app, if there is one, on a listener that nobody knows."""
    if app is None and host.config.web.command is None:
        return []
    with Listener.bind(host.places.listener_socket) as listener:
        config = dataclasses.replace(config_of(host), instances=1)
        pool = InstancePool(
            host.config.name, config, listener=listener, sockets=host.places.sockets, house=_Web(host, app),
            clock=host.clock,
        )  # fmt: skip
        pool.start()
        failure = await pool.settled()
        await pool.stop(timeout_s=1.0)
    if failure is None:
        return []
    tail = failure.traceback or "\n".join(failure.lines)
    what = f"web app: {failure.reason}" + (f"\n{failure.short}" if failure.short else "")
    return [{"what": what, "cure": "Mend the file named above, then check again.", "output": tail}]


class _Web:
    """What the pool needs of a house in which nobody looks at a screen."""

    def __init__(self, host: AppHost, app: webapp.WebApp | None) -> None:
        self._host = host
        self._app = app

    def spawn_request(self, instance_id: str, web: Mapping[str, str]) -> SpawnRequest:
        return request_of(self._host, self._app, instance_id=instance_id, web=web)

    def redact(self, text: str) -> str:
        return self._host.hub.redact(text)

    def ready(self, ready: Ready) -> None: ...

    def failed(self, failure: Failure, *, is_repeat: bool) -> None: ...

    def changed(self) -> None: ...

    def output(self, instance_id: str, pid: int, line: str) -> None: ...

    def log(self, level: str, message: str, **fields: Any) -> None: ...


def _without_pinned_workers(config: Config) -> Config:
    """One probe of each group is enough."""
    groups = {name: dataclasses.replace(settings, workers=0) for name, settings in config.groups.items()}
    return dataclasses.replace(config, groups=groups)


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
