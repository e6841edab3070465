"""The dashboard's sockets. What answers on them is imported at the first connection, in a thread: until then it costs
nothing, and then it does not hold up the engine."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from tako.dashboard.apps import App

if TYPE_CHECKING:
    from tako.dashboard.serving import Serving


class Dashboard:
    """Serves the apps that `apps` names, at addresses that begin with `key`. `stop` twice is harmless."""

    def __init__(self, apps: Callable[[], Sequence[App]], *, key: str) -> None:
        self._apps = apps
        self._key = key
        self._sockets: list[socket.socket] = []
        self._waking: asyncio.Task[None] | None = None
        self._serving: Serving | None = None

    def start(self, sockets: Sequence[socket.socket]) -> None:
        """Answer on these listening sockets, which are closed at `stop`."""
        self._sockets = list(sockets)
        for sock in self._sockets:
            asyncio.get_running_loop().add_reader(sock, self._wake)

    def url(self, app: str | None = None) -> str:
        """Where a browser finds it; of an app, that app's first page."""
        port = self._sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}/{self._key}/" + (f"{app}/" if app else "")

    async def stop(self) -> None:
        """Close everything, pages that listen included."""
        self._unwatch()
        if self._waking is not None:
            await asyncio.gather(self._waking, return_exceptions=True)
        if self._serving is not None:
            await self._serving.stop()
        for sock in self._sockets:
            sock.close()
        self._sockets = []

    def _unwatch(self) -> None:
        for sock in self._sockets:
            if sock.fileno() >= 0:
                asyncio.get_running_loop().remove_reader(sock)

    def _wake(self) -> None:
        self._unwatch()
        if self._waking is None:
            self._waking = asyncio.get_running_loop().create_task(self._begin())

    async def _begin(self) -> None:
        # The kernel keeps who has connected meanwhile.
        await (await self._loaded()).start(self._sockets)

    async def protocol(self) -> Callable[[], asyncio.Protocol]:
        """What makes the protocol of a connection that has come in another way than by these sockets."""
        return (await self._loaded()).protocol

    async def _loaded(self) -> Serving:
        serving = await asyncio.to_thread(_load)
        if self._serving is None:
            self._serving = serving(self._apps, key=self._key)
        return self._serving


def _load() -> type[Serving]:
    from tako.dashboard.serving import Serving

    return Serving
