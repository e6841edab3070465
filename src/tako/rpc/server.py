"""The engine's socket: accept, authenticate, cut into messages, dispatch by a table, reply.

One `Connection` per client. A handler is called with the connection and the message and gives its answer in one of
three ways, cheapest first: the data itself; an asyncio.Future of it (what the writer returns: no task is made for an
enqueue); a coroutine. Requests without `request` are answered in order, one at a time; those with it as they are ready.

Limits (contract.md X1 to X4): 512 connections, 64 of one process, 1 MiB a line, 30 s for half a line or for a client
that does not read its replies. A broken rule gets one error, then the connection is closed.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, cast

from tako.errors import InvalidRequest, TakoError, Unauthorized
from tako.protocol import framing
from tako.rpc.auth import Peer, Principal, Role, peer_of, require_known_user

Data = Any
Message = dict[str, Any]
Answer = Data | asyncio.Future[Data] | Coroutine[Any, Any, Data]
Handler = Callable[["Connection", Message], Answer]

MAX_CONNECTIONS = 512
MAX_CONNECTIONS_OF_A_PROCESS = 64
PATIENCE_S = 30.0
MAX_UNREAD_BYTES = 1_048_576

log = logging.getLogger("tako.rpc")


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
        listener.listen(1024)
        listener.setblocking(False)
        temporary.rename(self.path)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(lambda: Connection(self), sock=listener)

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


class Connection(asyncio.Protocol):
    """One client. Handlers use `principal`, `peer`, `push`, `close`, `closed`; `state` is theirs to keep things in."""

    __slots__ = (
        "_busy", "_ended", "_framer", "_half_line", "_out", "_pending", "_server", "_transport", "_unread", "_waiting",
        "closed", "peer", "principal", "state",
    )  # fmt: skip

    def __init__(self, server: Server) -> None:
        self._server = server
        self._framer = framing.Framer()
        self._transport: asyncio.Transport | None = None
        self._out: list[bytes] = []  # lines of this turn of the loop: they leave in one piece
        self._waiting: deque[Message] = deque()  # requests without `request`, behind the one being answered
        self._busy = False
        self._pending = 0  # requests not answered yet
        self._ended = False  # the client has closed its writing half
        self._half_line: asyncio.TimerHandle | None = None  # cuts a client that sends half a line and waits
        self._unread: asyncio.TimerHandle | None = None  # cuts a client that does not read its replies
        self.closed = False
        self.peer = Peer(pid=0, uid=-1)
        self.principal: Principal | None = None
        self.state: dict[str, Any] = {}

    # --- the transport's side ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Admit the client, or tell it why not."""
        self._transport = cast(asyncio.Transport, transport)
        server = self._server
        self.peer = peer_of(transport.get_extra_info("socket"))
        if refusal := self._refusal():
            self._fatal(refusal)
            return
        server.connections.add(self)
        server.of_process[self.peer.pid] += 1
        self._transport.set_write_buffer_limits(high=MAX_UNREAD_BYTES)

    def _refusal(self) -> TakoError | None:
        server = self._server
        try:
            require_known_user(self.peer, owner=server.owner, group=server.group)
        except Unauthorized as error:
            return error
        if len(server.connections) >= MAX_CONNECTIONS:
            return Unauthorized(f"this engine has {MAX_CONNECTIONS} connections, its limit; close some, then try again")
        if self.peer.pid and server.of_process[self.peer.pid] >= MAX_CONNECTIONS_OF_A_PROCESS:
            return Unauthorized(
                f"process {self.peer.pid} has {MAX_CONNECTIONS_OF_A_PROCESS} connections, the limit; reuse one"
            )
        return None

    def connection_lost(self, _error: Exception | None) -> None:
        """Forget the client; what it was owed is dropped, what it had committed stays."""
        self.closed = True
        self._half_line = _disarmed(self._half_line)
        self._unread = _disarmed(self._unread)
        self._waiting.clear()
        if self in self._server.connections:
            self._server.connections.discard(self)
            self._server.of_process[self.peer.pid] -= 1
            if not self._server.of_process[self.peer.pid]:
                del self._server.of_process[self.peer.pid]
            self._server.on_close(self)

    def data_received(self, data: bytes) -> None:
        """Answer the requests that `data` completes."""
        if self.closed:
            return
        try:
            for line in self._framer.lines(data):
                self._receive(framing.decode(line))
            if self._framer.error is not None:
                raise self._framer.error
        except TakoError as error:  # a broken rule, or somebody we do not speak with
            self._fatal(error)
            return
        if not self._framer.buffered:
            self._half_line = _disarmed(self._half_line)
        elif self._half_line is None:
            self._half_line = self._patience()

    def eof_received(self) -> bool:
        """Keep our half while something is owed: a v0 client may close its own as soon as it has sent its line."""
        self._ended = True
        return self._pending > 0

    def pause_writing(self) -> None:
        """A client that does not read its replies is not read either, and is cut after a while."""
        if self._transport is not None:
            self._transport.pause_reading()
        if self._unread is None:
            self._unread = self._patience()

    def resume_writing(self) -> None:
        """It reads again."""
        if self._transport is not None and not self.closed:
            self._transport.resume_reading()
        self._unread = _disarmed(self._unread)

    def _patience(self) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(PATIENCE_S, self._abort)

    def _abort(self) -> None:
        self.closed = True
        if self._transport is not None:
            self._transport.abort()

    # --- requests ---

    def _receive(self, message: Message) -> None:
        if self.closed:
            return
        if self.principal is None or ("token" in message and message["token"] != self.state.get("token")):
            self._introduce(message)
        self._pending += 1
        if "request" in message:
            if type(message["request"]) is not int:
                raise InvalidRequest("invalid request: `request` is an integer")
            self._dispatch(message)
        elif self._busy:
            self._waiting.append(message)
            if len(self._waiting) > 1024:
                raise InvalidRequest("invalid request: more than 1024 requests are waiting for their turn")
        else:
            self._busy = True
            self._dispatch(message)

    def _introduce(self, message: Message) -> None:
        """The first request of a connection says who sends it; nobody changes that later."""
        principal = self._server.authenticate(message, self.peer)
        if self.principal is not None and principal != self.principal:
            raise InvalidRequest("invalid request: a connection belongs to one caller; open another one")
        self.principal = principal
        self.state["token"] = message.get("token")

    def _dispatch(self, message: Message) -> None:
        command = message.get("command")
        handler = self._server.handlers.get(command) if isinstance(command, str) else None
        if handler is None:
            shown = command[:64] if isinstance(command, str) else command
            raise InvalidRequest(f"invalid request: unknown command {shown!r}")
        assert self.principal is not None
        if command in self._server.worker_commands and self.principal.role is not Role.WORKER:
            self.reply_error(message, Unauthorized(f"`{command}` is for workers that Tako has started"))
            return
        try:
            answer = handler(self, message)
        except Exception as error:
            self.reply_error(message, error)
            return
        if isinstance(answer, asyncio.Future):
            answer.add_done_callback(lambda future: self._settle(message, future))
        elif asyncio.iscoroutine(answer):
            task = asyncio.get_running_loop().create_task(answer)
            task.add_done_callback(lambda future: self._settle(message, future))
        else:
            self.reply(message, answer)

    def _settle(self, message: Message, future: asyncio.Future[Data]) -> None:
        if future.cancelled():
            self.reply_error(message, TakoError("the engine is stopping"))
        elif error := future.exception():
            self.reply_error(message, error)
        else:
            self.reply(message, future.result())

    # --- replies ---

    def reply(self, message: Message, data: Data) -> None:
        """Answer `message` with success."""
        reply: Message = {"status": "ok", "data": data}
        self._send_reply(message, reply)

    def reply_error(self, message: Message, error: BaseException) -> None:
        """Answer `message` with an error; one that is not ours is logged with its traceback."""
        self._send_reply(message, error_reply(error, command=str(message.get("command"))))

    def _send_reply(self, message: Message, reply: Message) -> None:
        self._pending -= 1
        if "request" in message:
            reply["request"] = message["request"]
            self.push(reply)
        else:
            self.push(reply)
            self._finish_turn()
        if self._ended and self._pending == 0:
            self.close()

    def _finish_turn(self) -> None:
        # The reply may have been made before its request returned from _dispatch; the next one waits its turn here.
        if self._waiting and not self.closed:
            asyncio.get_running_loop().call_soon(self._next)
        else:
            self._busy = False

    def _next(self) -> None:
        if self.closed or not self._waiting:
            self._busy = False
            return
        try:
            self._dispatch(self._waiting.popleft())
        except InvalidRequest as error:
            self._fatal(error)

    def push(self, message: Message) -> None:
        """Send a line, with all others of this turn of the loop. Dropped when the connection is closed."""
        if self.closed or self._transport is None:
            return
        if not self._out:
            asyncio.get_running_loop().call_soon(self._flush)
        self._out.append(framing.encode(message))

    def _flush(self) -> None:
        if self._out and self._transport is not None:
            self._transport.write(b"".join(self._out))
        self._out.clear()

    def close(self) -> None:
        """Close after what was sent has left."""
        self.closed = True
        if self._transport is not None:
            self._flush()
            self._transport.close()

    def _fatal(self, error: TakoError) -> None:
        self.push(error_reply(error, command=""))
        self.close()


def _disarmed(timer: asyncio.TimerHandle | None) -> asyncio.TimerHandle | None:
    if timer is not None:
        timer.cancel()
    return None


def error_reply(error: BaseException, *, command: str) -> Message:
    """The reply that tells of `error`. Raises nothing: what is not ours is logged and named an internal error."""
    if isinstance(error, TakoError):
        detail = {**error.detail, "cure": error.cure} if error.cure else error.detail
        return {"status": "error", "message": error.message, "code": error.code, "detail": detail}
    log.error("internal error while answering %s", command, exc_info=error)
    return {
        "status": "error",
        "message": f"internal error: {type(error).__name__} while answering {command}; see the engine's log",
        "code": "internal",
        "detail": {},
    }
