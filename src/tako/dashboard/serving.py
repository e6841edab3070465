"""uvicorn's HTTP on the daemon's own loop, in front of `site`."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from typing import Any, cast

import uvicorn
from uvicorn.server import ServerState

from tako.dashboard.apps import App
from tako.dashboard.site import Site

PATIENCE_S = 2.0


class Serving:
    """The part that is loaded when somebody looks."""

    def __init__(self, apps: Callable[[], Sequence[App]], *, key: str) -> None:
        self._site = Site(apps, key=key)
        self._state = ServerState()
        self._servers: list[asyncio.Server] = []
        self._config = uvicorn.Config(
            cast(Any, self._site),
            interface="asgi3",
            http="auto",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="critical",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=75,
        )
        self._config.load()
        self._factory = cast(Callable[..., asyncio.Protocol], self._config.http_protocol_class)

    def protocol(self) -> asyncio.Protocol:
        """One connection."""
        return self._factory(config=self._config, server_state=self._state, app_state={})

    async def start(self, sockets: Sequence[socket.socket]) -> None:
        """Accept."""
        loop = asyncio.get_running_loop()
        for sock in sockets:
            self._servers.append(await loop.create_server(self.protocol, sock=sock.dup()))

    async def stop(self) -> None:
        """Accept no more, end the pages that listen, let requests in flight be answered, then cut them off."""
        for server in self._servers:
            server.close()
        self._site.close()
        for connection in list(self._state.connections):
            connection.shutdown()
        if tasks := set(self._state.tasks):
            await asyncio.wait(tasks, timeout=PATIENCE_S)
        for task in set(self._state.tasks):
            task.cancel()
        for connection in list(self._state.connections):
            if (transport := getattr(connection, "transport", None)) is not None:
                transport.abort()
        await asyncio.sleep(0)
