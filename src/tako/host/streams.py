"""Live streams: log lines and changes of runs and groups, sent to a subscriber until it goes away."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from tako.engine.states import TERMINAL
from tako.errors import InvalidRequest
from tako.host.fields import optional_integer, optional_text, texts
from tako.logs.filters import Filter
from tako.logs.hub import Hub, Subscription
from tako.protocol.messages import GroupHealth
from tako.rpc.connection import Connection, Message
from tako.supervisor import output

TOPICS = frozenset({"logs", "runs", "health"})


class Streams:
    """Who listens to what. A subscriber that reads too slowly loses its oldest log lines and is told how many."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._topics: dict[Connection, frozenset[str]] = {}
        self._wanted: dict[Connection, Filter] = {}
        self._lines: dict[Connection, Subscription] = {}
        self._tasks: dict[Connection, asyncio.Task[None]] = {}

    def subscribe(self, connection: Connection, message: Message) -> None:
        """Begin to send. Lines of the past (`tail`) come first."""
        topics = frozenset(texts(message, "topics"))
        if unknown := topics - TOPICS:
            raise InvalidRequest(f"invalid request: unknown topic {min(unknown)!r}; there are {sorted(TOPICS)}")
        self._topics[connection] = topics
        self._wanted[connection] = filter_of(message)
        if "logs" in topics and connection not in self._tasks:
            tail = min(optional_integer(message, "tail") or 0, 10_000)
            task = asyncio.get_running_loop().create_task(self._send_logs(connection, filter_of(message), tail))
            self._tasks[connection] = task

    async def _send_logs(self, connection: Connection, wanted: Filter, tail: int) -> None:
        with self._hub.subscribe(wanted, tail=tail) as lines:
            self._lines[connection] = lines
            async for line in lines:
                if connection.closed:
                    return
                connection.push({"event": "log", "line": line})

    def tell_run(self, run: Mapping[str, Any], *, now_ms: int) -> None:
        """Send a run's new status to those who want to hear of it; to those who read lines too, after its own."""
        if self._lines and run["status"] in TERMINAL:
            output.catch_up()  # what it has printed stands before its end
        for connection, topics in self._topics.items():
            wanted = self._wanted[connection]
            if "runs" in topics and wanted.run in (None, run["id"]) and wanted.workflow in (None, run["workflow"]):
                if lines := self._lines.get(connection):
                    for line in lines.take():
                        connection.push({"event": "log", "line": line})
                connection.push({"event": "run", "ts_ms": now_ms, "run": dict(run)})

    def tell_health(self, health: GroupHealth) -> None:
        """Send a group's new health to those who want to hear of it."""
        for connection, topics in self._topics.items():
            if "health" in topics and self._wanted[connection].group in (None, health["group"]):
                connection.push({"event": "health", "group": health})

    @property
    def has_listeners(self) -> bool:
        """Whether anybody listens; events need not be made if not."""
        return bool(self._topics)

    def closed(self, connection: Connection) -> None:
        """The subscriber is gone."""
        self._topics.pop(connection, None)
        self._wanted.pop(connection, None)
        self._lines.pop(connection, None)
        if task := self._tasks.pop(connection, None):
            task.cancel()

    async def stop(self) -> None:
        """End every stream."""
        tasks = list(self._tasks.values())
        for connection in list(self._topics):
            self.closed(connection)
        await asyncio.gather(*tasks, return_exceptions=True)


def filter_of(message: Message) -> Filter:
    """The filters of a `subscribe` or `logs` request."""
    return Filter(
        run=optional_text(message, "run"),
        workflow=optional_text(message, "workflow"),
        group=optional_text(message, "group"),
        level=optional_text(message, "level"),
        scope=optional_text(message, "scope"),
    )
