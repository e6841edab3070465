"""The line to the daemon, and the ways to get another one.

An instance is told what to do over fd 4. When the daemon is gone the line ends and the instance goes on serving; the
next daemon connects to the control socket, says `adopt`, gets the instance's status and the app's listening socket,
and that connection is the line from then on.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Awaitable
from contextlib import suppress
from typing import Any, Protocol

from tako.errors import InvalidRequest
from tako.protocol import control, framing

MAX_LINE_BYTES = 65_536
STAT_EVERY_S = 0.5

Message = dict[str, Any]


class Instance(Protocol):
    """What can be asked of an instance: the runner or the shim."""

    async def serve(self) -> None:
        """Accept from the shared listener. Again is harmless."""

    async def pause(self) -> None:
        """Accept nothing new; what is in flight goes on."""

    def drain(self, timeout_s: float | None) -> None:
        """Begin to drain."""

    def status(self) -> Message:
        """`pid, serving, inflight, done`."""


class Line:
    """Where an instance tells what it does and hears what to do. Use it on the event loop."""

    def __init__(self, instance: Instance, *, orphan_timeout_s: float = 0.0) -> None:
        self._instance = instance
        self._orphan_timeout_s = orphan_timeout_s
        self._orphaned: asyncio.TimerHandle | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._named: asyncio.Server | None = None
        self._stat_due: asyncio.TimerHandle | None = None
        self._told: Message = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Take fd 4, if it is there, and listen on the control socket, if it has a name."""
        with suppress(OSError):  # started by hand, without a daemon
            await self._take(socket.socket(fileno=os.dup(control.CONTROL_FD)))
            os.close(control.CONTROL_FD)
        if path := os.environ.get(control.CONTROL_SOCKET):
            listener = bind_private(path)
            self._named = await asyncio.start_unix_server(self._on_connect, sock=listener, limit=MAX_LINE_BYTES)

    def tell(self, **message: object) -> None:
        """Say something to the daemon; nothing happens when there is none."""
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(framing.encode(message))

    def changed(self) -> None:
        """Something began or ended: `stat` is told soon, and not more often than twice a second."""
        if self._stat_due is None:
            self._stat_due = asyncio.get_running_loop().call_later(STAT_EVERY_S, self.tell_stat)

    def tell_stat(self) -> None:
        """Tell what is in flight and what is done, if it differs from what was told."""
        if self._stat_due is not None:
            self._stat_due.cancel()
            self._stat_due = None
        status = self._instance.status()
        stat = {"inflight": status["inflight"], "done": status["done"]}
        if stat != self._told:
            self._told = stat
            self.tell(ev="stat", **stat)

    async def stop(self) -> None:
        """Say no more, and be found no more."""
        self._orphan_timeout_s = 0.0
        if self._orphaned is not None:
            self._orphaned.cancel()
        if self._stat_due is not None:
            self._stat_due.cancel()
        if self._named is not None:
            self._named.close()
            with suppress(OSError):
                os.unlink(os.environ[control.CONTROL_SOCKET])  # noqa: PTH108
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._writer is not None:
            self._writer.close()

    async def _take(self, sock: socket.socket) -> None:
        reader, writer = await asyncio.open_unix_connection(sock=sock, limit=MAX_LINE_BYTES)
        self._take_streams(reader, writer)

    def _take_streams(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._orphaned is not None:
            self._orphaned.cancel()
        if self._writer is not None:
            self._writer.close()
        self._writer = writer
        self._told = {}
        self._keep(self._listen(reader, writer))

    def _keep(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _listen(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Do what is said until the line ends. Its end is no order: the daemon may be restarting."""
        try:
            while line := await reader.readline():
                await self._do(framing.decode(line))
        except (InvalidRequest, ValueError, OSError):  # not a line of ours: nothing after it can be trusted
            pass
        finally:
            writer.close()
            if self._writer is writer:
                self._writer = None
                self._wait_for_adoption()

    def _wait_for_adoption(self) -> None:
        if self._orphan_timeout_s:
            loop = asyncio.get_running_loop()
            self._orphaned = loop.call_later(self._orphan_timeout_s, self._instance.drain, None)

    async def _do(self, message: Message) -> None:
        order = message.get("do")
        if order == "serve":
            await self._instance.serve()
            self.tell(ev="serving")
        elif order == "pause":
            await self._instance.pause()
            self.tell(ev="paused")
        elif order == "drain":
            timeout_s = message.get("timeout_s")
            self._instance.drain(timeout_s if isinstance(timeout_s, int | float) else None)

    async def _on_connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One order, one answer; after `adopt` the connection is the line."""
        try:
            if not _is_ours(writer):
                return
            message = framing.decode(await asyncio.wait_for(reader.readline(), timeout=10))
            answer = framing.encode(self._instance.status())
            if message.get("do") == "adopt":
                # On the bare socket, since fds travel beside bytes; the transport has written nothing yet.
                sock = writer.get_extra_info("socket")
                with socket.socket(fileno=os.dup(sock.fileno())) as bare:
                    socket.send_fds(bare, [answer], [control.LISTENER_FD])
                self._take_streams(reader, writer)
                return
            await self._do(message)
            writer.write(framing.encode(self._instance.status()))
            await writer.drain()
        except (InvalidRequest, ValueError, OSError, TimeoutError):
            pass
        finally:
            if self._writer is not writer:
                writer.close()


def bind_private(path: str) -> socket.socket:
    """A listening unix socket that only this user can connect to, from its first instant on."""
    with suppress(FileNotFoundError):
        os.unlink(path)  # noqa: PTH108
    listener = socket.socket(socket.AF_UNIX)
    before = os.umask(0o177)
    try:
        listener.bind(path)
    finally:
        os.umask(before)
    listener.listen(128)
    listener.setblocking(False)
    return listener


def _is_ours(writer: asyncio.StreamWriter) -> bool:
    """Whether the peer is this user or root. Where the system does not tell, the socket's mode is what guards it."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    sock = writer.get_extra_info("socket")
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, uid, _ = struct.unpack("3i", credentials)
    return uid in (0, os.geteuid())
