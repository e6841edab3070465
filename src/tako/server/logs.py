"""`logs` of the management socket: what was kept of one app, and what comes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from tako.host.fields import flag, optional_integer, optional_text
from tako.logs import files
from tako.logs.filters import Filter
from tako.rpc.connection import Connection, Message

if TYPE_CHECKING:
    from tako.server.site import Site

LIMIT = 200
LIMIT_MAX = 10_000
_FOLLOWING = "log_task"


async def answer(site: Site, connection: Connection, message: Message) -> dict[str, Any]:
    """The lines that were asked for; with `follow`, more come as pushes after this reply."""
    limit = min(optional_integer(message, "limit") or LIMIT, LIMIT_MAX)
    since_ms = optional_integer(message, "since_ms") or 0
    wanted = Filter(
        scope=optional_text(message, "scope"),
        group=optional_text(message, "group"),
        run=optional_text(message, "run_id"),
        workflow=optional_text(message, "workflow"),
        level=optional_text(message, "level"),
        release=optional_text(message, "release"),
        instance=optional_text(message, "instance"),
        until_ms=optional_integer(message, "until_ms"),
    )
    subscription = site.hub.subscribe(wanted) if flag(message, "follow") else None
    found = await asyncio.to_thread(files.read, site.layout.data / "logs", wanted, limit=limit, since_ms=since_ms)
    if subscription is not None:
        forget(connection)

        async def follow() -> None:
            with subscription:
                async for line in subscription:
                    connection.push({"push": "log", "line": dict(line)})

        connection.state[_FOLLOWING] = asyncio.get_running_loop().create_task(follow())
    return {"lines": found}


def forget(connection: Connection) -> None:
    """The connection is gone, or asks for something else."""
    task = connection.state.pop(_FOLLOWING, None)
    if task is not None:
        task.cancel()
