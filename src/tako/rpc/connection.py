"""One client of the engine's socket: cut into messages, authenticate, dispatch by a table, reply.

A handler is called with the connection and the message and gives its answer in one of
three ways, cheapest first: the data itself; something with `then` (what the writer returns: no task is made for an
enqueue, and no further turn of the loop); a coroutine or a future. Requests without `request` are answered in order,
one at a time; those with it as they are ready.

Limits (contract.md X1 to X4): 512 connections, 64 of one process, 1 MiB a line, 30 s for half a line or for a client
that does not read its replies. A broken rule gets one error, then the connection is closed.

What a client may cost: while replies lie unread, nothing more is read from it and no request is begun; what was read
already waits as the bytes that came. Answers that can be large are made one at a time (`turn`), each when the one
before has left. At most MAX_IN_FLIGHT requests are under way for one connection; one more is refused, by a reply.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, cast

from tako.errors import InvalidRequest, TakoError, Unauthorized
from tako.protocol import framing
from tako.rpc.auth import Peer, Principal, Role, peer_of

if TYPE_CHECKING:
    from tako.rpc.server import Server

Data = Any
Message = dict[str, Any]


class Later(Protocol):
    """An answer that is not there yet; `engine.answer.Answer` is one."""

    def then(self, callback: Callable[[Any], None]) -> None:
        """Call this with the answer when it is there."""

    def error(self) -> BaseException | None:
        """What went wrong, None if nothing did."""

    def result(self) -> Data:
        """The data."""


Answer = Data | Later | Coroutine[Any, Any, Data]
Handler = Callable[["Connection", Message], Answer]

PATIENCE_S = 30.0
MAX_IN_FLIGHT = 4_096
MAX_TOGETHER_BYTES = 65_536

log = logging.getLogger("tako.rpc")


class Connection(asyncio.Protocol):
    """One client. Handlers use `principal`, `peer`, `push`, `close`, `closed`; `state` is theirs to keep things in."""

    __slots__ = (
        "_busy", "_ended", "_framer", "_half_line", "_has_left", "_heir", "_lines", "_out", "_out_bytes", "_pending",
        "_server", "_transport", "_turn", "_unread", "_unread_bytes", "_waiting", "closed", "peer", "principal",
        "state",
    )  # fmt: skip

    def __init__(self, server: Server) -> None:
        self._server = server
        self._framer = framing.Framer()
        self._transport: asyncio.Transport | None = None
        self._out: list[bytes] = []  # lines of this turn of the loop: they leave in one piece
        self._out_bytes = 0
        self._lines: deque[bytes] = deque()  # requests that have come and are not begun
        self._busy = False  # a request without `request` is being answered
        self._waiting: Message | None = None  # the next one of that kind; what came after it is not begun either
        self._pending = 0  # requests not answered yet
        self._ended = False  # the client has closed its writing half
        self._half_line: asyncio.TimerHandle | None = None  # cuts a client that sends half a line and waits
        self._unread: asyncio.TimerHandle | None = None  # cuts a client that does not read its replies
        self._unread_bytes = 0
        self._has_left = asyncio.Event()  # what was sent has been read
        self._has_left.set()
        self._turn = asyncio.Lock()
        self._heir: Callable[[], asyncio.Protocol] | None = None  # who has the connection after the reply
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
        if refusal := server.refusal(self.peer):
            self._fatal(refusal)
            return
        server.opened(self)
        self._transport.set_write_buffer_limits(high=0)

    def connection_lost(self, _error: Exception | None) -> None:
        """Forget the client; what it was owed is dropped, what it had committed stays."""
        self.closed = True
        self._half_line = _disarmed(self._half_line)
        self._unread = _disarmed(self._unread)
        self._waiting = None
        self._lines.clear()
        self._has_left.set()
        self._server.closed(self)

    def data_received(self, data: bytes) -> None:
        """Answer the requests that `data` completes."""
        if self.closed:
            return
        try:
            lines = self._framer.lines(data)
        except TakoError as error:
            self._fatal(error)
            return
        self._lines += lines
        if lines or not self._framer.buffered:
            self._half_line = _disarmed(self._half_line)
        if self._framer.buffered and self._half_line is None:
            self._half_line = asyncio.get_running_loop().call_later(PATIENCE_S, self._cut_half_line)
        self._go_on()

    def _cut_half_line(self) -> None:
        self._half_line = None
        if self._is_held_up:  # it is we who do not read
            self._half_line = asyncio.get_running_loop().call_later(PATIENCE_S, self._cut_half_line)
        else:
            self._abort()

    @property
    def _is_held_up(self) -> bool:
        return bool(self._lines) or self._waiting is not None or not self._has_left.is_set()

    def _go_on(self) -> None:
        """Begin the requests that have come, as long as the client takes the replies; read more when there are none."""
        try:
            while self._lines and self._waiting is None and self._has_left.is_set() and not self.closed:
                self._receive(framing.decode(self._lines.popleft()))
            if self._framer.error is not None and not self._is_held_up and not self.closed:
                raise self._framer.error
        except Exception as error:  # a broken rule, somebody we do not speak with, or a bug: this client's end alone
            self._fatal(error)
        if self.closed or self._transport is None:
            return
        if self._is_held_up:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def eof_received(self) -> bool:
        """Keep our half while something is owed: a v0 client may close its own as soon as it has sent its line."""
        self._ended = True
        self.flush()  # what was answered in this very turn
        return self._pending > 0

    def pause_writing(self) -> None:
        """A client that does not read its replies is not read either, and is cut after a while."""
        self._has_left.clear()
        if self._transport is not None and not self.closed:
            self._transport.pause_reading()
        if self._unread is None:
            self._look_later()

    def resume_writing(self) -> None:
        """It has read everything."""
        self._has_left.set()
        self._unread = _disarmed(self._unread)
        self._go_on()

    def _look_later(self) -> None:
        assert self._transport is not None
        self._unread_bytes = self._transport.get_write_buffer_size()
        self._unread = asyncio.get_running_loop().call_later(PATIENCE_S, self._look)

    def _look(self) -> None:
        """A client that has read nothing in all that time is cut; one that is slow is not."""
        assert self._transport is not None
        if self._transport.get_write_buffer_size() < self._unread_bytes:
            self._look_later()
        else:
            self._abort()

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
            if self._pending > MAX_IN_FLIGHT:
                self.reply_error(message, _too_many())
            else:
                self._dispatch(message)
        elif self._busy:
            self._waiting = message
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
        if hasattr(answer, "then"):
            answer.then(partial(self._settle, message))
        elif asyncio.isfuture(answer) or asyncio.iscoroutine(answer):
            task = asyncio.ensure_future(answer)
            task.add_done_callback(partial(self._settle_task, message))
        else:
            self.reply(message, answer)

    def _settle(self, message: Message, answer: Later) -> None:
        if error := answer.error():
            self.reply_error(message, error)
        else:
            self.reply(message, answer.result())

    def _settle_task(self, message: Message, task: asyncio.Future[Data]) -> None:
        if task.cancelled():
            self.reply_error(message, TakoError("the engine is stopping"))
        elif error := task.exception():
            self.reply_error(message, error)
        else:
            self.reply(message, task.result())

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
        if self._heir is not None and reply["status"] == "ok":
            self._become(self._heir())
        elif self._ended and self._pending == 0:
            self.close()

    def _finish_turn(self) -> None:
        # The reply may have been made before its request returned from _dispatch; the next one waits its turn here.
        if self._waiting is not None and not self.closed:
            asyncio.get_running_loop().call_soon(self._next)
        else:
            self._busy = False

    def _next(self) -> None:
        message, self._waiting = self._waiting, None
        if self.closed or message is None:
            self._busy = False
            return
        try:
            if self.principal is None:  # handed over in between
                self._introduce(message)
            self._dispatch(message)
        except (InvalidRequest, Unauthorized) as error:
            self._fatal(error)
        else:
            self._go_on()

    def push(self, message: Message) -> None:
        """Send a line, with all others of this turn of the loop. Dropped when the connection is closed."""
        if self.closed or self._transport is None:
            return
        if not self._out:
            self._server.to_flush(self)
        line = framing.encode(message)
        self._out.append(line)
        self._out_bytes += len(line)
        if self._out_bytes > MAX_TOGETHER_BYTES:
            self.flush()  # now, so that no more is made if it is not taken

    def flush(self) -> None:
        """Send what was pushed, now and not at the end of this turn."""
        if self._out and self._transport is not None:
            self._transport.write(b"".join(self._out))
        self._out.clear()
        self._out_bytes = 0

    def hand_over(self, other: Server) -> None:
        """From the next request on, the other server answers; who sends it introduces itself anew."""
        if self.closed:
            return
        self._server.closed(self)
        self._server = other
        other.opened(self)
        self.principal = None
        self.state = {}

    def become(self, heir: Callable[[], asyncio.Protocol]) -> None:
        """With the reply to the request that is being answered, another protocol takes the connection over."""
        self._heir = heir

    def _become(self, protocol: asyncio.Protocol) -> None:
        self.flush()
        transport, self._heir = self._transport, None
        if self.closed or transport is None:
            return
        if self._lines or self._framer.buffered or self._pending:  # it has not waited for the reply
            self._abort()
            return
        self.closed = True
        self._half_line, self._unread = _disarmed(self._half_line), _disarmed(self._unread)
        self._server.closed(self)
        transport.set_write_buffer_limits()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        transport.resume_reading()

    def close(self) -> None:
        """Close after what was sent has left."""
        self.closed = True
        if self._transport is not None:
            self.flush()
            self._transport.close()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Make an answer that can be large: one at a time, and none while the client has not read those before."""
        async with self._turn:
            await self._has_left.wait()
            yield

    def _fatal(self, error: Exception) -> None:
        self.push(error_reply(error, command=""))
        self.close()


def _too_many() -> TakoError:
    return TakoError(
        f"this connection has {MAX_IN_FLIGHT:,} requests under way, the limit; nothing was done.",
        cure="Wait for some of them before you ask for more.",
    )


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
