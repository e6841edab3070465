"""A release on disk as a `Launch`: its settings as they are here, and what its processes get."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path

from tako.config import load
from tako.config.model import DEFAULT_GROUP, Config, GroupSettings
from tako.discovery import webapp
from tako.errors import DeployRefused, TakoError
from tako.host.launch import Launch
from tako.server.layout import AppLayout
from tako.server.spawner import Spawner
from tako.supervisor.web_house import WebConfig


def config_of(source: Path, *, app: str, server: str | None, python: str, scale: Mapping[str, object]) -> Config:
    """The settings of a release, here. Raises DeployRefused: tako.toml says something that cannot be done."""
    try:
        config = load.load(source)
    except TakoError as error:
        raise DeployRefused(error.message, cure=error.cure or "Mend tako.toml, and deploy again.") from error
    on_server = config.servers.get(server) if server else None
    groups = dict((on_server.groups if on_server else None) or config.groups)
    config = dataclasses.replace(config, name=app, root=source, python=python, groups=groups)
    return scaled(config, scale)


def scaled(config: Config, scale: Mapping[str, object]) -> Config:
    """With the numbers of `tako scale`, where tako.toml still says what it said then."""
    web = scale.get("web")
    if isinstance(web, dict) and config.web.instances == web["from"]:
        config = dataclasses.replace(config, web=dataclasses.replace(config.web, instances=web["to"]))
    groups = dict(config.groups)
    workers = scale.get("workers")
    for group, number in (workers if isinstance(workers, dict) else {}).items():
        settings = config.group(group)
        if settings.workers == number["from"]:
            groups[group] = _with_workers(settings, number["to"])
    return dataclasses.replace(config, groups=groups)


def _with_workers(settings: GroupSettings, workers: int) -> GroupSettings:
    return dataclasses.replace(settings, workers=workers, max_workers=max(workers, settings.max_workers, 1))


def launch_of(
    layout: AppLayout,
    release: str,
    config: Config,
    *,
    secrets: Callable[[], dict[str, str]],
    spawner: Spawner,
    url: str,
) -> Launch:
    """What processes of the release are started with."""
    app = webapp.find(config.root, main=config.main)
    folder = Path(config.python).parent
    variables = {"DJANGO_SETTINGS_MODULE": app.settings} if app is not None and app.settings is not None else {}
    own = {
        "PATH": f"{folder}:/usr/local/bin:/usr/bin:/bin",
        "VIRTUAL_ENV": str(folder.parent),
        "HOME": str(layout.data / "data" / "app"),
    }
    return Launch(
        config=config,
        environment=layout.env,
        release=release,
        places=layout.places(config.root),
        secrets=secrets,
        variables={**own, **variables, **config.variables(layout.env)},
        urls={config.name: url} if url else {},
        wrap=functools.partial(spawner.wrap, app=layout.app, env=layout.env),
    )


def web_config_of(config: Config, *, host: str) -> WebConfig:
    """How the app's `[web]` wants it served, on a server."""
    web = config.web
    return WebConfig(
        instances=web.instances,
        idle_timeout_s=web.idle_timeout_s,
        start_timeout_s=web.start_timeout_s,
        drain_timeout_s=web.drain_timeout_s,
        health=web.health,
        health_host=host,
    )


def has_web(config: Config) -> bool:
    """Whether the release has a web app."""
    return config.web.command is not None or webapp.find(config.root, main=config.main) is not None


def scale_of(config: Config) -> tuple[int, dict[str, int]]:
    """The numbers of a release: web instances, and workers that are always on, by group."""
    groups = {name: settings.workers for name, settings in config.groups.items()}
    groups.setdefault(DEFAULT_GROUP, config.group(DEFAULT_GROUP).workers)
    return config.web.instances, groups
