"""Which schedules there are: those that workers declare, and those that a v0 client has registered. Each side replaces
its own and leaves the other's."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from tako.cron import expression, schedules
from tako.engine.store import Store
from tako.errors import DefinitionError, PayloadError
from tako.protocol import templates
from tako.protocol.messages import Registry as GroupRegistry

V0 = "v0"


def declared(registries: Iterable[GroupRegistry]) -> list[schedules.Schedule]:
    """The schedules of all workflows of these registries."""
    return [
        {**schedule, "workflow": info["name"], "retries": info["retries"]}
        for registry in registries
        for info in registry["workflows"]
        for schedule in info.get("schedules") or ()
    ]


def check(registry: GroupRegistry) -> None:
    """Refuse a registry with a schedule that has no times, or whose runs would have no key.

    Raises:
        DefinitionError: names workflow, file and line.
    """
    for info in registry["workflows"]:
        for schedule in info.get("schedules") or ():
            try:
                expression.parse(schedule)
                templates.render_all(templates.of(info), (info.get("options") or {}).get("defaults") or {})
            except (DefinitionError, PayloadError, KeyError) as error:
                where = f"{info.get('file')}:{info.get('line')}"
                raise DefinitionError(f"{where}: workflow {info['name']!r}: {error}") from error


def replace_declared(store: Store, wanted: Sequence[schedules.Schedule], *, now_ms: int) -> schedules.Replaced:
    """Make these the schedules that workers declare."""
    return schedules.replace(store, [*wanted, *_stored(store, v0=True)], now_ms=now_ms)


def replace_v0(store: Store, wanted: Sequence[tuple[str, str]], *, now_ms: int) -> int:
    """Make these (workflow, cron line) the schedules that v0 clients have registered; how many they are.

    Raises:
        DefinitionError: `invalid cron 'C' for 'N': …`. Nothing was changed.
    """
    own = [{**schedules.cron(workflow, line), V0: True} for workflow, line in wanted]
    schedules.replace(store, [*_stored(store, v0=False), *own], now_ms=now_ms)
    return len({(schedule["workflow"], expression.name(schedule)) for schedule in own})


def _stored(store: Store, *, v0: bool) -> list[dict[str, Any]]:
    rows = [(row["workflow"], json.loads(row["options"])) for row in store.all("all_schedules")]
    return [{**options, "workflow": workflow} for workflow, options in rows if bool(options.get(V0)) is v0]
