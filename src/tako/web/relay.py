"""One request between a client and a command's server: the last of its connection, so that it can be counted."""

# ruff: noqa: D102 - the methods of asyncio.Protocol

from __future__ import annotations

import asyncio
from typing import Protocol, cast

from tako.protocol import http1


class Front(Protocol):
    """Who accepts: the shim. `silent` are accepted connections without a request, `relays` those in flight."""

    silent: set[Client]
    relays: set[Client]
    done: int

    async def dial(self, protocol: Upstream) -> asyncio.Transport:
        """Connect to the command. Raises OSError."""
        ...

    def changed(self) -> None:
        """A request began or ended."""
        ...


class Upstream(asyncio.Protocol):
    """The side of the command."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._head: bytearray | None = bytearray()

    def data_received(self, data: bytes) -> None:
        if self._head is None:
            self._client.transport.write(data)
            return
        self._head += data
        while self._head is not None and http1.END in self._head:
            head, _, rest = bytes(self._head).partition(http1.END)
            # Not all servers say that they will close: a client that is not told would send its next request into it.
            head, is_final = _last_of_its_connection(head)
            self._client.transport.write(head + http1.END)
            self._head = None if is_final else bytearray(rest)
            if is_final:
                self._client.transport.write(rest)
        if self._head is not None and len(self._head) > http1.MAX_HEAD_BYTES:
            self._client.transport.close()

    def eof_received(self) -> bool:
        return False  # the answer is complete

    def connection_lost(self, error: Exception | None) -> None:
        self._client.transport.close()

    def pause_writing(self) -> None:
        self._client.transport.pause_reading()

    def resume_writing(self) -> None:
        self._client.transport.resume_reading()


def _last_of_its_connection(head: bytes) -> tuple[bytes, bool]:
    """The head of a response, saying `Connection: close`, and whether it is the final one of its request."""
    first, *lines = head.split(b"\r\n")
    status = first.split(b" ", 2)[1:2]
    if status == [b"101"]:
        return head, True
    if status and status[0].startswith(b"1"):
        return head, False
    kept = [line for line in lines if line.partition(b":")[0].strip().lower() not in (b"connection", b"keep-alive")]
    return b"\r\n".join((first, *kept, b"Connection: close")), True


class Client(asyncio.Protocol):
    """The side that was accepted from a listener: one request, which is told to be the last of its connection.

    So a connection is a request: what is in flight can be counted, and drained, without reading the command's answers.
    """

    transport: asyncio.Transport

    def __init__(self, front: Front, *, is_counted: bool) -> None:
        self._front = front
        self._is_counted = is_counted
        self._head: bytearray | None = bytearray()
        self._upstream: asyncio.Transport | None = None
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._front.silent.add(self)

    def data_received(self, data: bytes) -> None:
        if self._upstream is not None:
            self._upstream.write(data)
            return
        assert self._head is not None
        self._head += data
        if http1.END in self._head:
            self._front.silent.discard(self)
            self.transport.pause_reading()
            self._dialling = asyncio.ensure_future(self._relay(bytes(self._head)))
        elif len(self._head) > http1.MAX_HEAD_BYTES:
            self._refuse("431 Request Header Fields Too Large")

    async def _relay(self, data: bytes) -> None:
        head, _, rest = data.partition(http1.END)
        try:
            request = http1.Request(head)
        except http1.BadMessage:
            self._refuse("400 Bad Request")
            return
        if self._is_counted:
            self._front.relays.add(self)
            self._front.changed()
        if request.is_websocket:
            head += http1.END
        else:
            head = request.render(without=http1.HOP_BY_HOP, add=b"Connection: close\r\n")
        try:
            upstream = await self._front.dial(Upstream(self))
        except OSError:
            self._refuse("502 Bad Gateway")
            return
        if self.transport.is_closing():
            upstream.close()
            return
        self._upstream = upstream
        upstream.write(head + rest)
        self.transport.resume_reading()

    def _refuse(self, status: str) -> None:
        self.transport.write(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
        self.transport.close()

    def eof_received(self) -> bool:
        if self._upstream is None:
            return self._head is not None and http1.END in self._head
        if self._upstream.can_write_eof() and not self._upstream.is_closing():
            self._upstream.write_eof()
        return True  # the answer may still come

    def connection_lost(self, error: Exception | None) -> None:
        self._front.silent.discard(self)
        if self._upstream is not None:
            self._upstream.close()
        if not self.closed.done():
            self.closed.set_result(None)
        if self in self._front.relays:
            self._front.relays.discard(self)
            self._front.done += 1
            self._front.changed()

    def pause_writing(self) -> None:
        if self._upstream is not None:
            self._upstream.pause_reading()

    def resume_writing(self) -> None:
        if self._upstream is not None:
            self._upstream.resume_reading()
