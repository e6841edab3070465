"""One line for each request, in development: `GET /signup 200 12ms`, as JSON on stdout, which the daemon shows.

A person reads some dozens of lines a second. Beyond that they would only slow the app and the terminal down, so the
rest of a second is counted and told in one line.
"""

import asyncio
import json
import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any

from tako.protocol.control import LOOK_PATH

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

LINES_PER_SECOND = 50
_CLIENT_GONE = 499  # as nginx writes it: the client went before there was an answer


class AccessLog:
    """An ASGI app around another that tells of each of its requests when it is over.

    Queries are not shown: they may hold tokens.
    """

    def __init__(self, app: App, *, write: Callable[[str], None] | None = None) -> None:
        self._app = app
        self._write = write or _write
        self._second = 0
        self._lines = 0
        self._untold: Counter[int] = Counter()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve, and then tell."""
        if scope["type"] == "lifespan" or scope["path"] == LOOK_PATH:
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        status = 0

        async def noting(message: Message) -> None:
            nonlocal status
            kind = message["type"]
            if kind in ("http.response.start", "websocket.http.response.start"):
                status = message["status"]
            elif kind == "websocket.accept":
                status = 101
                self._tell(scope, "open", status=status, ms=0)
            elif kind == "websocket.close" and not status:
                status = 403
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except Exception:
            status = status or 500
            raise
        finally:
            ms = round((time.perf_counter() - began) * 1000)
            status = status or _CLIENT_GONE
            self._tell(scope, "closed after" if status == 101 else str(status), status=status, ms=ms)

    def _tell(self, scope: Message, what: str, *, status: int, ms: int) -> None:
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._lines = second, 0
        self._lines += 1
        if self._lines <= LINES_PER_SECOND:
            self._write(_line(scope, what, status=status, ms=ms))
            return
        if not self._untold:
            asyncio.get_running_loop().call_later(1.0, self._tell_the_rest)
        self._untold[status] += 1

    def _tell_the_rest(self) -> None:
        count = self._untold.total()
        statuses = ", ".join(f"{number} × {status}" for status, number in sorted(self._untold.items()))
        self._untold.clear()
        self._write(_encode({"msg": f"{count} more requests: {statuses}", "level": "info", "count": count}))


def _line(scope: Message, what: str, *, status: int, ms: int) -> str:
    method = "WS" if scope["type"] == "websocket" else scope["method"]
    text = f"{method} {scope['path']} {what}"
    if what != "open":
        text += f" {ms}ms" if ms < 10_000 else f" {ms // 1000}s"
    level = "error" if status >= 500 else "info"
    return _encode({"msg": text, "level": level, "method": method, "path": scope["path"], "status": status, "ms": ms})


_encode = json.JSONEncoder(ensure_ascii=True, separators=(",", ":")).encode


def _write(line: str) -> None:
    # One write to the descriptor: what the app has made of sys.stdout does not matter, and lines stay whole.
    with suppress(OSError):  # the spool's disk is full: serving goes on
        os.write(1, line.encode() + b"\n")
