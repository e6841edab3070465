"""The engine's socket: who may connect, and what each command is answered by. See `connection.py` for one client."""

from __future__ import annotations

import asyncio
import os
import socket
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from tako.errors import TakoError, Unauthorized
from tako.rpc.auth import Peer, Principal, require_known_user
from tako.rpc.connection import Connection, Handler, Message

MAX_CONNECTIONS = 512
MAX_CONNECTIONS_OF_A_PROCESS = 64
BACKLOG = 1_024  # told to asyncio as well, which listens again


class Server:
    """A listening unix socket and its connections.

    `authenticate(message, peer)` says who sends the first message of a connection, or raises Unauthorized or
    InvalidRequest. `handlers` is the table of commands; `worker_commands` are refused to everyone but workers. `owner`
    is a user, and `group` a group, who may connect besides our own.
    """

    def __init__(
        self,
        path: Path,
        *,
        handlers: Mapping[str, Handler],
        worker_commands: frozenset[str],
        authenticate: Callable[[Message, Peer], Principal],
        on_close: Callable[[Connection], None] = lambda connection: None,
        owner: int | None = None,
        group: int | None = None,
    ) -> None:
        self.path = path
        self.owner = owner
        self.group = group
        self.handlers = handlers
        self.worker_commands = worker_commands
        self.authenticate = authenticate
        self.on_close = on_close
        self.connections: set[Connection] = set()
        self.of_process: Counter[int] = Counter()
        self._server: asyncio.Server | None = None
        self._unsent: list[Connection] = []  # what these were answered in this turn of the loop leaves at its end

    async def start(self) -> None:
        """Bind under a temporary name and rename, so that the socket is never wider than 0600 and never half there."""
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        temporary.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        before = os.umask(0o177)
        try:
            listener.bind(str(temporary))
        finally:
            os.umask(before)
        if self.owner is not None or self.group is not None:
            os.chown(temporary, -1 if self.owner is None else self.owner, -1 if self.group is None else self.group)
            temporary.chmod(0o600 if self.group is None else 0o660)
        listener.listen(BACKLOG)
        listener.setblocking(False)
        temporary.rename(self.path)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(lambda: Connection(self), sock=listener, backlog=BACKLOG)

    async def stop(self) -> None:
        """Stop accepting, close every connection, remove the socket. Twice is harmless."""
        server, self._server = self._server, None
        if server is None:
            return
        # Who was accepted just now becomes a connection first, to be closed like the others: asyncio forgets, and does
        # not close, what it has accepted for a server that is closed before the transport is made.
        for listener in server.sockets:
            asyncio.get_running_loop().remove_reader(listener.fileno())
        for _ in range(3):
            await asyncio.sleep(0)
        server.close()
        for connection in list(self.connections):
            connection.close()
        self.path.unlink(missing_ok=True)
        await asyncio.sleep(0)  # lets connection_lost run, so that nothing outlives the server

    def flush(self) -> None:
        """Send what was answered in this turn of the loop, now that all of it is there."""
        unsent, self._unsent = self._unsent, []
        for connection in unsent:
            connection.flush()

    # --- what its connections ask ---

    def to_flush(self, connection: Connection) -> None:
        """It has something to send, at the end of this turn of the loop or when `flush` is called."""
        if not self._unsent:
            asyncio.get_running_loop().call_soon(self.flush)
        self._unsent.append(connection)

    def refusal(self, peer: Peer) -> TakoError | None:
        """Why this process may not connect; None when it may. Who is refused is told so, and not queued."""
        try:
            require_known_user(peer, owner=self.owner, group=self.group)
        except Unauthorized as error:
            return error
        if len(self.connections) >= MAX_CONNECTIONS:
            return Unauthorized(f"this engine has {MAX_CONNECTIONS} connections, its limit; close some, then try again")
        if peer.pid and self.of_process[peer.pid] >= MAX_CONNECTIONS_OF_A_PROCESS:
            return Unauthorized(
                f"process {peer.pid} has {MAX_CONNECTIONS_OF_A_PROCESS} connections, the limit; reuse one"
            )
        return None

    def opened(self, connection: Connection) -> None:
        """It counts from now on."""
        self.connections.add(connection)
        self.of_process[connection.peer.pid] += 1

    def closed(self, connection: Connection) -> None:
        """It is gone; one that was refused never counted."""
        if connection not in self.connections:
            return
        self.connections.discard(connection)
        self.of_process[connection.peer.pid] -= 1
        if not self.of_process[connection.peer.pid]:
            del self.of_process[connection.peer.pid]
        self.on_close(connection)
