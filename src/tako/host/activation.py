"""A release becomes the one that counts, for claims, limits, schedules and the workers to come: one transaction.

The commit of it is the cut-over. Before it nothing of the new release may claim, after it nothing of the old one; what
is kept in memory follows, and is taken from the file when the engine starts (`active`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tako.config.model import Config
from tako.engine import registry as registry_rows
from tako.engine import releases
from tako.engine.store import Store
from tako.host import timetable
from tako.host.code import Code
from tako.host.launch import Launch
from tako.protocol.messages import Registry as GroupRegistry

if TYPE_CHECKING:
    from tako.host.app import AppHost
    from tako.host.secrets import Secrets


async def flip(host: AppHost, *, release: str, roll: str, told: Mapping[str, GroupRegistry]) -> int:
    """Let this release claim. Durable, and true for every claim that comes after, when this returns.

    `roll` names this very change, since a release may be rolled to itself, for new secrets.
    """
    return await host.writer.do(_flip, release=release, roll=roll, told=dict(told), now_ms=host.clock.now_ms())


def _flip(store: Store, *, release: str, roll: str, told: dict[str, GroupRegistry], now_ms: int) -> int:
    generation = releases.activate(store, release=release, registries=told)
    store.set_meta("active_roll", roll)
    timetable.replace_declared(store, timetable.declared(told.values()), now_ms=now_ms)
    return generation


async def told_by(host: AppHost, *, release: str) -> dict[str, GroupRegistry]:
    """What the gate has stored of a release."""
    return await host.writer.read(registry_rows.load, release=release)


def follow(host: AppHost, launch: Launch, told: Mapping[str, GroupRegistry], *, secrets: Secrets) -> None:
    """After `flip`: what this engine knows and starts is the new release's; workers of the old one drain."""
    host.config, host.release, host.variables = launch.config, launch.release, dict(launch.variables)
    host.secrets = secrets
    host.lookout.take_secrets()
    host.upkeep.retention_ms = round(launch.config.retention_s * 1000)
    host.alarms.alerter.reconfigure(launch.config.alerts)
    host.code = _code_of(host, launch.config)
    host.registry.new_code(host.code.names_by_group())
    for registry in told.values():
        host.registry.told(registry)
    host.check_groups()
    if host.has_begun:
        host.groups.new_code(proven=told.keys())
        host.ticker.look()
        host.view.check_names()
        host.in_background(host.remember_code())


def _code_of(host: AppHost, config: Config) -> Code:
    code = Code(config.root, on_change=host.code_changed)
    code.start(python=config.python)
    return code
