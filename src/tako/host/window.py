"""The app as the dashboard sees it (`dashboard/apps.py`): the commands of the socket, without the socket."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import TYPE_CHECKING, Any, cast

from tako.errors import InvalidRequest
from tako.host import metrics
from tako.host.handlers import WORKER_COMMANDS, commands
from tako.logs.filters import Filter
from tako.logs.hub import Subscription
from tako.metrics.exposition import Family
from tako.metrics.ring import Ring
from tako.rpc.connection import Connection

if TYPE_CHECKING:
    from tako.host.app import AppHost

# These need a connection to send to, or a worker behind it.
NOT_HERE = WORKER_COMMANDS | {"subscribe"}


class Window:
    """One app. Use it on the loop's thread. `name` is what it is called among the others that are shown."""

    def __init__(self, host: AppHost, *, name: str | None = None) -> None:
        self._host = host
        self.name = name or host.config.name
        self._commands = {name: handler for name, handler in commands(host).items() if name not in NOT_HERE}

    @property
    def ring(self) -> Ring:
        """What happened of late."""
        return self._host.meter.ring

    @property
    def changes(self) -> int:
        """Another number when something may look otherwise."""
        return self._host.meter.changes

    async def ask(self, command: str, **fields: Any) -> Any:
        """What the command answers. Raises TakoError when it refuses."""
        if command not in self._commands:
            raise InvalidRequest(f"the command {command!r} cannot be asked here")
        message = {"command": command, **{name: value for name, value in fields.items() if value is not None}}
        answer = self._commands[command](cast(Connection, _INSIDE), message)
        return await answer if inspect.isawaitable(answer) else answer

    async def families(self) -> list[Family]:
        """All metrics of the app."""
        return await metrics.families(self._host)

    def redact(self, text: str) -> str:
        """The text without secrets."""
        return self._host.hub.redact(text)

    def listen(self, on_change: Callable[[str, Collection[str]], None]) -> Callable[[], None]:
        """Hear of changes until what is returned is called."""
        self._host.listeners.append(on_change)
        return lambda: self._host.listeners.remove(on_change)

    def follow(self, wanted: Filter, *, tail: int) -> Subscription:
        """Log lines, from the newest `tail` on."""
        return self._host.hub.subscribe(wanted, tail=tail)


class _Inside:
    """In place of a connection. What these commands need of one is a turn, so that what is sent does not pile up; a
    page that is being made takes its answers one by one."""

    def turn(self) -> AbstractAsyncContextManager[None]:
        """At once."""
        return nullcontext()


_INSIDE = _Inside()
