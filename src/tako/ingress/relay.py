"""Pass HTTP/1 messages between a client and the app that its Host names. See `ingress/__init__.py` for the promises.

One `Client` per connection, and at most one `Upstream` to an app's socket, which is kept for its next requests. Bytes
are passed on as they come; what is read of them is where a message begins and ends (`protocol/http1.py`). That is
needed to route each request by itself, and to know whether a connection that an app closes was at rest: then the
client's stays, and nobody notices that an instance was replaced.
"""

# ruff: noqa: D102 - the methods of asyncio.Protocol

from __future__ import annotations

import asyncio
import math
import resource
import socket
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Protocol, cast

from tako.ingress import hosts, pages
from tako.ingress.pages import Page
from tako.ingress.ports import BACKLOG
from tako.ingress.upstream import Answer, Upstream
from tako.protocol import http1

MAX_CONNECTIONS = 512
HEAD_TIMEOUT_S = 10.0  # for a head that has begun
IDLE_TIMEOUT_S = 90.0  # between two requests
BODY_TIMEOUT_S = 60.0  # for the next bytes of a body that somebody waits for
SWEEP_S = 2.0
LINGER_S = 2.0
MAX_REPLAYED_BYTES = 262_144
MAX_REPLAYS = 3
MAX_EARLY_BYTES = 65_536  # of the next request, while the answer to this one comes

_IDEMPOTENT = frozenset({b"GET", b"HEAD", b"OPTIONS"})
_FORWARDED = frozenset({
    b"forwarded", b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-forwarded-port", b"x-real-ip",
})  # fmt: skip
_DROPPED = _FORWARDED | http1.HOP_BY_HOP
_DROPPED_OF_WEBSOCKET = _DROPPED - {b"connection", b"upgrade"}


@dataclass(frozen=True, slots=True)
class Target:
    """An app and its socket."""

    name: str
    socket: Path


class Router(Protocol):
    """Says where a request goes."""

    def route(self, name: str | None, host: str) -> Target | Page:
        """The app for a Host: `name` as `hosts.name_in` reads it, `host` as it was sent. Else the answer to give."""
        ...


class State(Enum):
    """Where a connection is."""

    HEAD = "waits for a request, or for the rest of its head"
    BODY = "passes on the body of a request"
    ANSWER = "waits for the end of the answer"
    RAW = "passes on everything both ways: a websocket, or an answer that cannot be read"
    CLOSING = "has answered by itself, and reads what still comes so that the answer is not lost"


class Relay:
    """The connections of a listener. `serve` sockets, `close` ends all."""

    def __init__(self, router: Router, *, max_connections: int | None = None) -> None:
        self.router = router
        self.clients: set[Client] = set()
        self._max_connections = max_connections or _room()
        self._servers: list[asyncio.Server] = []
        self._sweep: asyncio.TimerHandle | None = None

    async def serve(self, sockets: list[socket.socket]) -> None:
        """Accept from these listening sockets, which are ours now."""
        loop = asyncio.get_running_loop()
        for sock in sockets:
            self._servers.append(await loop.create_server(lambda: Client(self), sock=sock, backlog=BACKLOG))

    async def close(self) -> None:
        """Accept no more, and drop the connections that are still there."""
        for server in self._servers:
            server.close()
        for client in list(self.clients):
            client.abort()
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        await asyncio.sleep(0)  # for the transports to close their sockets

    def admit(self, client: Client) -> bool:
        """Whether there is room; who has waited longest without a request gives way."""
        is_full = len(self.clients) >= self._max_connections
        waiting = [each for each in self.clients if each.state is State.HEAD] if is_full else []
        if waiting:
            min(waiting, key=lambda each: each.since).abort()
        self.clients.add(client)
        if is_full and not waiting:
            return False
        if self._sweep is None:
            self._sweep = asyncio.get_running_loop().call_later(SWEEP_S, self._cut_off)
        return True

    def _cut_off(self) -> None:
        """End connections that have been silent for too long. Runs only while there are any."""
        loop = asyncio.get_running_loop()
        for client in list(self.clients):
            if loop.time() - client.since > client.patience_s():
                client.abort()
        self._sweep = loop.call_later(SWEEP_S, self._cut_off) if self.clients else None


def _room() -> int:
    """How many connections a relay may have: each takes two fds, and the daemon needs some for its other work."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_CONNECTIONS if soft == resource.RLIM_INFINITY else max(32, min(MAX_CONNECTIONS, (soft - 128) // 4))


class Client(asyncio.Protocol):
    """A connection from a browser or program, and the exchange that is under way on it."""

    transport: asyncio.Transport

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._loop = asyncio.get_running_loop()
        self.state = State.HEAD
        self.since = self._loop.time()
        self.buffer = bytearray()
        self._scanned = 0
        self._forwarded = b""
        self._target: Target | None = None
        self._upstream: Upstream | None = None
        self._dialling: asyncio.Task[None] | None = None
        # The last head and what was made of it: clients that keep a connection mostly repeat themselves.
        self._head = b""
        self._whole = b""  # with its empty line, if it may be repeated as it is
        self._rendered = b""
        self._request: http1.Request | None = None
        self._body = http1.Body(0)
        self._replay: list[bytes] | None = None  # what was sent of the request, while nothing was answered
        self._replayed_bytes = 0
        self._replays = 0
        self._answer = Answer(b"")

    # --- the connection ---------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        address = str(peer[0]) if isinstance(peer, tuple) else "127.0.0.1"
        self._forwarded = f"X-Forwarded-For: {address}\r\nX-Forwarded-Proto: http\r\n".encode()
        if not self._relay.admit(self):
            self.state = State.CLOSING
            self.transport.write(pages.too_many().render(as_html=False))
            self.transport.close()

    def data_received(self, data: bytes) -> None:
        if self.state is State.HEAD and data == self._whole and self._upstream is not None and not self.buffer:
            # The last request once more, which has no body and may be repeated: what most of the traffic is.
            self.state = State.ANSWER
            self._answer.restart()
            self._replay = [self._rendered]
            self._replays = 0
            self._upstream.requests += 1
            self._upstream.transport.write(self._rendered)
        elif self.state is State.RAW:
            assert self._upstream is not None
            self._upstream.transport.write(data)
        elif self.state is not State.CLOSING:
            if self.state is State.BODY or not self.buffer:
                self.since = self._loop.time()
            self.buffer += data
            self._advance()

    def eof_received(self) -> bool:
        # Whoever has closed the connection looks the same as who only says that nothing more will be asked. Nearly all
        # have closed it, and the app should know: servers of today all read it so.
        return self.state is State.CLOSING

    def connection_lost(self, error: Exception | None) -> None:
        self._relay.clients.discard(self)
        self.state = State.CLOSING
        if self._dialling is not None:
            self._dialling.cancel()
        self._hang_up()

    def pause_writing(self) -> None:
        if self._upstream is not None:
            self._upstream.transport.pause_reading()

    def resume_writing(self) -> None:
        if self._upstream is not None:
            self._upstream.transport.resume_reading()

    def patience_s(self) -> float:
        """How long it may say nothing, as it is now."""
        if self.state is State.HEAD:
            return HEAD_TIMEOUT_S if self.buffer else IDLE_TIMEOUT_S
        # While reading is paused it is the app that lets us wait.
        return BODY_TIMEOUT_S if self.state is State.BODY and self.transport.is_reading() else math.inf

    def abort(self) -> None:
        """Drop the connection."""
        self.transport.abort()

    # --- the request ------------------------------------------------------------------------------------------------

    def _advance(self) -> None:
        """Make what can be made of the bytes that have come."""
        while self.buffer:
            if self.state is State.HEAD:
                if not self._take_head():
                    return
            elif self.state is State.BODY and self._dialling is None:
                self._take_body()
            else:
                if len(self.buffer) > MAX_EARLY_BYTES:
                    self.transport.pause_reading()
                return

    def _take_head(self) -> bool:
        end = self.buffer.find(http1.END, self._scanned)
        if end < 0:
            self._scanned = max(0, len(self.buffer) - len(http1.END))
            if len(self.buffer) > http1.MAX_HEAD_BYTES:
                self._refuse(pages.head_too_long())
            return False
        head = bytes(self.buffer[:end])
        del self.buffer[: end + len(http1.END)]
        self._scanned = 0
        if head != self._head and not self._read_head(head):
            return False
        request = self._request
        assert request is not None
        self._body = http1.Body(request.length)
        self.state = State.ANSWER if self._body.is_done else State.BODY
        self._answer = Answer(request.method)
        self._replay = [self._rendered]
        self._replayed_bytes = len(self._rendered)
        self._replays = 0
        self._send_head(request)
        return self.state is not State.CLOSING

    def _read_head(self, head: bytes) -> bool:
        """Route a request and rewrite its head. False: it was refused."""
        try:
            request = http1.Request(head)
        except http1.BadMessage as error:
            self._refuse(pages.bad_request(str(error)))
            return False
        if self._request is None or request.host != self._request.host or self._target is None:
            found = self._relay.router.route(hosts.name_in(request.host), request.host.decode("latin-1"))
            if isinstance(found, Page):
                self._request = request
                self._refuse(found)
                return False
            if found != self._target:
                self._hang_up()
            self._target = found
        dropped = _DROPPED_OF_WEBSOCKET if request.is_websocket else _DROPPED
        self._head, self._request = head, request
        self._whole = head + http1.END if request.method in _IDEMPOTENT and not request.length else b""
        self._rendered = request.render(without=dropped, add=self._forwarded)
        return True

    def _take_body(self) -> None:
        assert self._upstream is not None
        data = bytes(self.buffer)
        try:
            taken = self._body.take(data)
        except http1.BadMessage:
            # Half of it has been passed on: no answer would be read right, by either side.
            self.state = State.CLOSING
            self.buffer.clear()
            self._hang_up()
            self.transport.close()
            return
        del self.buffer[:taken]
        data = data[:taken]
        if self._replay is not None:
            self._replay.append(data)
            self._replayed_bytes += len(data)
            if self._replayed_bytes > MAX_REPLAYED_BYTES:
                self._replay = None
        self._upstream.transport.write(data)
        if self._body.is_done:
            self.state = State.ANSWER
            if self._answer.is_done:
                self._end_exchange()

    # --- the app ----------------------------------------------------------------------------------------------------

    def _send_head(self, request: http1.Request) -> None:
        upstream = self._upstream
        if upstream is not None and request.method not in _IDEMPOTENT and upstream.is_gone():
            # It was closed an instant ago and we have not been told. What cannot be repeated is not tried there.
            self._hang_up()
        if self._upstream is None:
            self._dial()
            return
        self._upstream.requests += 1
        self._upstream.transport.write(self._rendered)

    def _dial(self) -> None:
        self.transport.pause_reading()
        self._dialling = self._loop.create_task(self._connect())

    async def _connect(self) -> None:
        """Connect to the app, and send what was kept of the request."""
        assert self._target is not None
        upstream = Upstream(self)
        try:
            await upstream.connect(self._target.socket)
        except (OSError, TimeoutError):
            self._dialling = None
            self._refuse(pages.not_running(self._target.name))
            return
        self._dialling = None
        if self.state is State.CLOSING:
            upstream.transport.abort()
            return
        self._upstream = upstream
        assert self._replay is not None
        upstream.requests = 1
        upstream.transport.write(b"".join(self._replay))
        self.transport.resume_reading()
        self._advance()

    def _hang_up(self) -> None:
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.transport.abort()

    def on_lost(self, upstream: Upstream, error: Exception | None) -> None:
        """The app has closed its connection."""
        if upstream is not self._upstream:
            return
        self._upstream = None
        answer = self._answer
        if self.state in (State.HEAD, State.CLOSING):
            return  # it was at rest: the next request gets a new one
        if answer.has_begun or self.state is State.RAW:
            self.transport.close()  # the end of an answer without a length; or cut off, which its length tells
        elif self._may_replay(upstream, error):
            self._replays += 1
            self._dial()
        else:
            assert self._target is not None
            self._refuse(pages.no_answer(self._target.name))

    def _may_replay(self, upstream: Upstream, error: Exception | None) -> bool:
        """Whether the app has certainly not acted on the request, or it does no harm to repeat it.

        A connection is reset, and not just ended, when what we sent was never read: that is how an instance that is
        replaced ends a connection which was at rest for it. An end after it was read means that it was worked on.
        """
        if self._replay is None or self._replays >= MAX_REPLAYS:
            return False
        if isinstance(error, ConnectionResetError | BrokenPipeError):
            return True
        request = self._request
        return request is not None and request.method in _IDEMPOTENT and upstream.requests > 1

    # --- the answer -------------------------------------------------------------------------------------------------

    def on_answer(self, upstream: Upstream, data: bytes) -> None:
        """The app has said something."""
        if upstream is not self._upstream:
            return
        if self.state is State.RAW:
            self.transport.write(data)
            return
        if self.state is State.HEAD:
            self._hang_up()  # it speaks without being asked
            return
        self._replay = None
        answer = self._answer
        try:
            passed = answer.take(data)
        except http1.BadMessage:
            # Nobody can say where it ends, but the client may still make something of it.
            self._become_raw(answer.held + data)
            return
        if passed:
            self.transport.write(passed)
        if answer.is_switch:
            self._become_raw(answer.held)
        elif answer.is_done:
            if answer.held:
                self._hang_up()  # more than one answer to one request
            if self.state is State.ANSWER:
                self._end_exchange()

    def _become_raw(self, data: bytes) -> None:
        assert self._upstream is not None
        self.state = State.RAW
        if data:
            self.transport.write(data)
        if self.buffer:
            self._upstream.transport.write(bytes(self.buffer))
            self.buffer.clear()
        self.transport.resume_reading()

    def _end_exchange(self) -> None:
        assert self._request is not None
        if not self._answer.keeps_alive:
            self._hang_up()
        if not (self._request.keeps_alive and self._answer.keeps_alive):
            self.state = State.CLOSING
            self.transport.close()
            return
        self.state = State.HEAD
        self.since = self._loop.time()
        self.transport.resume_reading()
        if self.buffer:
            self._loop.call_soon(self._advance)  # not from within itself: a client may have sent thousands

    def _refuse(self, page: Page) -> None:
        """Answer by ourselves, and end the connection without taking the answer from who is still sending."""
        if self.state is State.CLOSING:
            return
        self.state = State.CLOSING
        self._hang_up()
        request = self._request
        accepts = [] if request is None else [value for name, value in request.fields if name.lower() == b"accept"]
        as_html = any(b"text/html" in value for value in accepts)
        with_body = request is None or request.method != b"HEAD"
        self.buffer.clear()
        self.transport.write(page.render(as_html=as_html, with_body=with_body))
        self.transport.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._loop.call_later(LINGER_S, self.transport.close)
