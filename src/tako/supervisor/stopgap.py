"""What clients get while the web app cannot be started: 503 at once, with the reason in development, and no hanging.

The daemon itself accepts from the app's queue then. A browser gets a page with the traceback that looks every second
whether the app has been mended, and loads itself again when it has.
"""

from __future__ import annotations

import asyncio
import html
from collections.abc import Callable
from contextlib import suppress
from typing import cast

from tako.protocol import control, http1
from tako.supervisor.instance import Failure
from tako.supervisor.listener import BACKLOG, Listener

HEAD_TIMEOUT_S = 10.0
LINGER_S = 2.0
MAX_CONNECTIONS = 256


class Stopgap:
    """Answers for an app that cannot. `start` and `stop` may be called at any time, twice too."""

    def __init__(self, app: str, listener: Listener, *, development: bool, on_request: Callable[[], None]) -> None:
        self.app = app
        self.development = development
        self.failure: Failure | None = None
        self.retry_after_s = 1
        self.number = 0  # of the failure, so that the page can tell a new one from the one that it shows
        self.on_request = on_request
        self.connections: set[_Connection] = set()
        self._listener = listener
        self._server: asyncio.Server | None = None

    @property
    def is_answering(self) -> bool:
        """Whether it accepts connections."""
        return self._server is not None

    async def start(self, failure: Failure) -> None:
        """Answer all that waits, and all that comes, with this failure."""
        if failure is not self.failure:
            self.failure = failure
            self.number += 1
        if self._server is None:
            loop = asyncio.get_running_loop()
            queue = self._listener.copy()
            self._server = await loop.create_server(lambda: _Connection(self), sock=queue, backlog=BACKLOG)

    def stop(self) -> None:
        """Accept no more: what comes waits for an instance. Who has been accepted is answered."""
        server, self._server = self._server, None
        if server is not None:
            server.close()

    def close(self) -> None:
        """Stop, and drop who has been accepted."""
        self.stop()
        for connection in list(self.connections):
            connection.transport.abort()

    def answer(self, request: http1.Request) -> bytes:
        """The whole response to a request."""
        assert self.failure is not None
        wants_page = self.development and any(
            name.lower() == b"accept" and b"text/html" in value for name, value in request.fields
        )
        if wants_page:
            kind, body = "text/html", page(self.app, self.failure, number=self.number, live=request.method == b"GET")
        else:
            kind, body = "text/plain", text(self.app, self.failure, development=self.development)
        data = body.encode("utf-8", "replace")
        head = (
            "HTTP/1.1 503 Service Unavailable\r\n"
            f"Content-Type: {kind}; charset=utf-8\r\nContent-Length: {len(data)}\r\n"
            f"Retry-After: {max(1, self.retry_after_s)}\r\nCache-Control: no-store\r\n"
            f"X-Content-Type-Options: nosniff\r\nTako-Failure: {self.number}\r\nConnection: close\r\n\r\n"
        ).encode("ascii")
        return head if request.method == b"HEAD" else head + data


class _Connection(asyncio.Protocol):
    """Reads one head, answers, and closes."""

    transport: asyncio.Transport

    def __init__(self, stopgap: Stopgap) -> None:
        self._stopgap = stopgap
        self._head = bytearray()
        self._is_answered = False
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        if len(self._stopgap.connections) >= MAX_CONNECTIONS:
            self.transport.abort()
            return
        self._stopgap.connections.add(self)
        self._timer = asyncio.get_running_loop().call_later(HEAD_TIMEOUT_S, self.transport.abort)

    def data_received(self, data: bytes) -> None:
        if self._is_answered:
            return  # the rest of a body that nobody reads
        self._head += data
        head, end, _ = bytes(self._head).partition(http1.END)
        if end:
            self._answer(head)
        elif len(self._head) > http1.MAX_HEAD_BYTES:
            self.transport.abort()

    def _answer(self, head: bytes) -> None:
        self._is_answered = True
        try:
            request = http1.Request(head)
        except http1.BadMessage:
            response = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        else:
            response = self._stopgap.answer(request)
            self._stopgap.on_request()
        self.transport.write(response)
        # Closing while a body still comes in would reset the connection, and take the answer from who is sending.
        with suppress(OSError, RuntimeError):
            self.transport.write_eof()
        assert self._timer is not None
        self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(LINGER_S, self.transport.close)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self._stopgap.connections.discard(self)
        if self._timer is not None:
            self._timer.cancel()


def text(app: str, failure: Failure, *, development: bool) -> str:
    """The answer for programs. Outside development it tells nothing about the inside."""
    if not development:
        return "Service Unavailable\n"
    return f"{app} cannot be served: {failure.reason}\n\n{_details(failure)}\n"


def page(app: str, failure: Failure, *, number: int, live: bool) -> str:
    """The answer for browsers, in development. `live`: it loads itself again when something has changed."""
    script = _SCRIPT.replace("NUMBER", str(number)).replace("PATH", control.LOOK_PATH) if live else ""
    then = "This page loads again by itself." if live else "Then send the form again."
    return _PAGE.format(
        app=html.escape(app),
        reason=html.escape(failure.reason),
        details=html.escape(_details(failure)),
        then=then,
        script=script,
    )


def _details(failure: Failure) -> str:
    return failure.traceback or "\n".join(failure.lines) or "It printed nothing."


_SCRIPT = """<script>
const look = async () => {
  try {
    const answer = await fetch("PATH", {method: "HEAD", cache: "no-store"});
    if (answer.headers.get("Tako-Failure") !== "NUMBER") return location.reload();
  } catch (error) {}
  setTimeout(look, 1000);
};
setTimeout(look, 1000);
</script>"""

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{app} cannot be served</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 3rem auto; padding: 0 1rem; }}
h1 {{ font-size: 1.3rem; color: #c5221f; }}
pre {{ font: 14px/1.5 ui-monospace, monospace; padding: 1rem; overflow-x: auto; border-left: 4px solid #c5221f;
      background: color-mix(in srgb, currentColor 7%, transparent); }}
p.then {{ opacity: .7; }}
</style></head><body>
<h1>{app} cannot be served</h1>
<p>{reason}</p>
<pre>{details}</pre>
<p class="then">Mend it and save. {then}</p>
{script}</body></html>
"""
