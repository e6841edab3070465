"""A connection to an app's socket, and how far its answer has come."""

# ruff: noqa: D102 - the methods of asyncio.Protocol

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import TYPE_CHECKING, cast

from tako.protocol import http1

if TYPE_CHECKING:
    from tako.ingress.relay import Client

DIAL_TIMEOUT_S = 60.0


class Answer:
    """Follows an answer to its end. `held` are bytes that came and do not belong to what has been passed on."""

    __slots__ = ("_body", "_head", "_method", "_response", "has_begun", "held", "is_done", "is_switch", "keeps_alive")

    def __init__(self, method: bytes) -> None:
        self._method = method
        # The last head and what it says: answers to one request mostly begin alike.
        self._head = b""
        self._response: http1.Response | None = None
        self.restart()

    def restart(self) -> None:
        """Follow another answer to a request with the same method."""
        self._body: http1.Body | None = None
        self.held = b""
        self.has_begun = False
        self.is_done = False
        self.is_switch = False
        self.keeps_alive = True

    def take(self, data: bytes) -> bytes:
        """What of these bytes, and of those held, is to be passed on.

        Raises:
            BadMessage: this is no answer; `held` is as it was.
        """
        data = self.held + data if self.held else data
        at = 0
        while at < len(data) and not (self.is_done or self.is_switch):
            if self._body is not None:
                at += self._body.take(data[at:] if at else data)
                self.is_done = self._body.is_done
                continue
            end = data.find(http1.END, at)
            if end < 0:
                if len(data) - at > http1.MAX_HEAD_BYTES:
                    raise http1.BadMessage("the head is too long")
                break
            self._read_head(data[at:end])
            at = end + len(http1.END)
        self.has_begun = self.has_begun or at > 0
        self.held = data[at:]
        return data[:at]

    def _read_head(self, head: bytes) -> None:
        response = self._response
        if response is None or head != self._head:
            response = self._response = http1.Response(head, method=self._method)
            self._head = head
        if response.status == 101:
            self.is_switch = True
        elif response.status >= 200:
            self.keeps_alive = response.keeps_alive
            self._body = http1.Body(response.length)
            self.is_done = self._body.is_done


class Upstream(asyncio.Protocol):
    """A connection to an app. `requests` counts those that were sent on it."""

    transport: asyncio.Transport

    def __init__(self, client: Client) -> None:
        self._client = client
        self._sock: socket.socket | None = None
        self.requests = 0

    async def connect(self, path: Path) -> None:
        """Connect to a socket that listens.

        Raises:
            OSError: nobody listens there.
            TimeoutError: its queue is full, and stays so.
        """
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(DIAL_TIMEOUT_S):
            while True:
                sock = socket.socket(socket.AF_UNIX)
                sock.setblocking(False)
                try:
                    sock.connect(str(path))
                    break
                except BlockingIOError:
                    sock.close()
                    await asyncio.sleep(0.05)  # the queue is full; the kernel does not tell when it is not any more
                except OSError:
                    sock.close()
                    raise
        self._sock = sock
        await loop.create_unix_connection(lambda: self, sock=sock)

    def is_gone(self) -> bool:
        """Whether the app has closed the connection, or has something to say that nobody asked for."""
        assert self._sock is not None
        try:
            self._sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._client.on_answer(self, data)

    def connection_lost(self, error: Exception | None) -> None:
        self._client.on_lost(self, error)

    def pause_writing(self) -> None:
        self._client.transport.pause_reading()

    def resume_writing(self) -> None:
        self._client.transport.resume_reading()
