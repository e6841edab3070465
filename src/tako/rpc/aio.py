"""The client for event loops: one connection a loop, many requests in flight, what is sent in one turn sent together.

Loaded by the first awaited call. What a caller is told when its connection ends is in `request.py`, as for `client.py`.

The socket is ours, not a transport's: a failed `send` must tell how much of it has left (what has not is certainly not
stored), and transports of other loops than asyncio's own write later. A connection ends with its loop: an async
generator is left open on it, and a loop that shuts down closes those. Loops that are closed without a shutdown are
found by the next one that connects, and at exit.
"""

import asyncio
import atexit
from _socket import AF_UNIX, SOCK_STREAM, socket
from itertools import count
from os import getpid
from time import monotonic

from tako.protocol.framing import Framer
from tako.rpc.link import NO_SIGNAL, unmark
from tako.rpc.request import Request, introduction, read_reply

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping
    from typing import Any

    Message = dict[str, Any]

_READ_BYTES = 262_144
# So many lines leave at once, though their turn of the loop is not over: the engine begins with them while the others
# are still being written. It and a process that asks without pause would else wait for each other in turns.
_ENOUGH = 8


class AsyncClient:
    """A process's way to the engine from its event loops: any number of them, in any threads, also after a fork."""

    def __init__(self, path: str, app: str, token: str | None = None) -> None:
        self._path = path
        self._introduction = introduction(app, token)
        self._is_patient = token is not None  # an engine has started us, so if it is away it is coming back
        self._numbers = count(1)
        self._own: dict[int, dict[asyncio.AbstractEventLoop, Wire]] = {}  # by process id; all but one are a parent's

    async def call(self, command: str, fields: "Mapping[str, Any]", *, deadline_s: float) -> "Any":
        """As `Client.call`, awaited. Cancelling it takes back what has not been sent yet, and nothing else.

        Raises:
            TakoError, StoreUnavailable, EnqueueUnknown: as there.
        """
        request = Request(
            next(self._numbers),
            command,
            fields,
            path=self._path,
            now=monotonic(),
            deadline_s=deadline_s,
            reserve=len(self._introduction),
            is_patient=self._is_patient,
        )
        loop = asyncio.get_running_loop()
        while True:
            try:
                wire = self._connected(loop)
            except OSError as error:
                delay_s = request.after_dial(error, now=monotonic())
            else:
                asked = Asked(request, loop)
                reply = await wire.exchange(asked)
                if reply is not None:
                    return request.answer(reply)
                delay_s = request.after_link(
                    wire.refusal, may_be_known=asked.may_be_known, was_alone=wire.was_alone, now=monotonic()
                )
            if delay_s:
                await asyncio.sleep(delay_s)

    def _connected(self, loop: asyncio.AbstractEventLoop) -> "Wire":
        """The loop's connection, made if there is none. Raises OSError."""
        wires = self._own.get(getpid())
        if wires is None:
            wires = self._begin(getpid())
        wire = wires.get(loop)
        if wire is None or wire.is_broken:
            for other, old in list(wires.items()):
                if other.is_closed():
                    old.close()
                    wires.pop(other, None)
            wire = wires[loop] = Wire(loop, self._path, self._introduction, before=wire)
        return wire

    def _begin(self, pid: int) -> "dict[asyncio.AbstractEventLoop, Wire]":
        """The first call of a process. In a child after a fork, the connections so far are its parent's."""
        wires = self._own.setdefault(pid, {})
        for parent in list(self._own):
            if parent != pid:
                for wire in self._own.pop(parent, {}).values():
                    wire.abandon()
        atexit.unregister(self._end)
        atexit.register(self._end)
        return wires

    def _end(self) -> None:
        """At exit no loop is running any more, or it belongs to a thread that ends with the process."""
        for wires in self._own.values():
            for wire in wires.values():
                wire.abandon()


class Asked:
    """A request on a wire. `may_be_known`: its line may be complete at the other end."""

    __slots__ = ("deadline", "future", "line", "may_be_known", "number")

    def __init__(self, request: Request, loop: asyncio.AbstractEventLoop) -> None:
        self.number = request.number
        self.line = request.line
        self.deadline = request.deadline
        self.may_be_known = False
        self.future: asyncio.Future[Message | None] = loop.create_future()


class Wire:
    """A connected socket of one loop. `is_broken` never becomes false again; `refusal` is the error that ended it."""

    __slots__ = (
        "_asked", "_batch", "_due", "_framer", "_guard", "_introduction", "_is_busy", "_is_writing", "_loop", "_outbox",
        "_rest", "_sent", "_socket", "_timer", "is_broken", "refusal", "was_alone",
    )  # fmt: skip

    def __init__(
        self, loop: asyncio.AbstractEventLoop, path: str, introduction: bytes, *, before: "Wire | None"
    ) -> None:
        """Connect, which a unix socket does at once or not at all. Raises OSError."""
        self._loop = loop
        self._introduction = introduction
        self._framer = Framer(max_bytes=None)
        self._asked: dict[int, Asked] = {}
        self._outbox: list[Asked] = []
        self._batch: list[Asked] = []  # what is being sent, with what of it has left and what has not
        self._sent = 0
        self._rest = memoryview(b"")
        self._is_writing = False
        self._is_busy = False  # the last read brought several replies: several callers are about to ask again
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self.is_broken = False
        self.refusal: Message | None = None
        self.was_alone = False
        self._socket = socket(AF_UNIX, SOCK_STREAM)
        try:
            self._socket.setblocking(False)
            self._socket.connect(path)
            loop.add_reader(self._socket.fileno(), self._receive)
        except BaseException:
            self._socket.close()
            raise
        # One generator a loop: a loop that is shutting down may make another connection, but no other generator.
        self._guard: _Guard = _Guard(self) if before is None else before._guard
        self._guard.wire = self

    async def exchange(self, asked: Asked) -> "Message | None":
        """Send and wait: the reply, or None at the deadline or when the connection has ended."""
        self._asked[asked.number] = asked
        self._outbox.append(asked)
        if len(self._outbox) == 1 and not self._is_writing:
            # A lone caller's line leaves at once. That of one of many waits for theirs, until the end of this turn.
            if len(self._asked) == 1 and not self._is_busy:
                self._flush()
            else:
                self._loop.call_soon(self._flush)
        elif len(self._outbox) == _ENOUGH:
            self._flush()
        if not self.is_broken and (self._timer is None or asked.deadline < self._due):
            self._set_timer(asked.deadline)
        try:
            return await asked.future
        finally:
            self._asked.pop(asked.number, None)
            if asked in self._outbox:
                self._outbox.remove(asked)
            if self._guard.is_done:
                self.close_if_idle()

    def close_if_idle(self) -> None:
        """Close it unless calls are in flight."""
        if not self._asked:
            self.close()

    def close(self) -> None:
        """Close it; calls in flight find it broken. Twice is harmless."""
        if self.is_broken:
            return
        self.is_broken = True
        if not self._loop.is_closed():
            self._loop.remove_reader(self._socket.fileno())
            if self._is_writing:
                self._loop.remove_writer(self._socket.fileno())
        self._socket.close()
        if self._timer is not None:
            self._timer.cancel()
        unmark(self._batch, self._sent)
        for asked in list(self._asked.values()):
            if not asked.future.done() and not self._loop.is_closed():
                asked.future.set_result(None)

    def abandon(self) -> None:
        """Close this process's copy of the descriptor, and leave the loop alone: it may be another process's."""
        self.is_broken = True
        self._socket.close()

    # --- sending ---

    def _flush(self) -> None:
        """Send what was asked in this turn of the loop, in one call."""
        if self.is_broken or self._is_writing or not self._outbox:
            return
        self._batch = [asked for asked in self._outbox if not asked.future.done()]  # but those cancelled meanwhile
        self._outbox = []
        if not self._batch:
            return
        for asked in self._batch:
            asked.may_be_known = True
        head, self._introduction = self._introduction, b""
        data = b"".join([asked.line for asked in self._batch])
        if head:
            data = head + data[1:]
        self._sent = -max(0, len(head) - 1)  # counted from where the first line would begin without it
        self._rest = memoryview(data)
        self._write()

    def _write(self) -> None:
        try:
            count = self._socket.send(self._rest, NO_SIGNAL)
        except BlockingIOError:
            count = 0
        except OSError:
            # The other end is gone. The reader finds that out, and what was said before.
            unmark(self._batch, self._sent)
            self._rest = self._rest[:0]
            count = 0
        self._sent += count
        self._rest = self._rest[count:]
        if self._rest:
            if not self._is_writing:
                self._is_writing = True
                self._loop.add_writer(self._socket.fileno(), self._write)
            return
        self._batch = []
        if self._is_writing:
            self._is_writing = False
            self._loop.remove_writer(self._socket.fileno())
            self._flush()

    # --- receiving ---

    def _receive(self) -> None:
        try:
            data = self._socket.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        lines = self._framer.lines(data)
        self._is_busy = len(lines) > 1
        if not self._hand_out(lines) or not data:
            self.close()

    def _hand_out(self, lines: list[bytes]) -> bool:
        """Give each reply to its caller. False when the connection is of no use any more."""
        for line in lines:
            try:
                reply = read_reply(line)
            except ValueError:
                return False  # what listens there is no engine
            number = reply.get("request")
            if number is None:
                self.refusal = reply
                self.was_alone = len(self._asked) == 1
                return False
            asked = self._asked.pop(number, None)
            if asked is not None and not asked.future.done():
                asked.future.set_result(reply)
        return True

    # --- deadlines ---

    def _set_timer(self, deadline: float) -> None:
        """One timer for all: at the earliest deadline, and from there at the next. A timer for each would cost more."""
        if self._timer is not None:
            self._timer.cancel()
        self._due = deadline
        self._timer = self._loop.call_later(max(0.0, deadline - monotonic()), self._expire)

    def _expire(self) -> None:
        self._timer = None
        now = monotonic()
        if any(asked.deadline <= now for asked in self._batch):
            # Half a line of it has left. The rest must not follow when its caller has been told that it was not sent.
            self.close()
            return
        left = [asked.deadline for asked in self._asked.values() if asked.deadline > now]
        for asked in list(self._asked.values()):
            if asked.deadline <= now and not asked.future.done():
                asked.future.set_result(None)
        if left:
            self._set_timer(min(left))


class _Guard:
    """Closes the connection of a loop when the loop shuts its async generators down, as asyncio.run does at its end."""

    __slots__ = ("_generator", "is_done", "wire")

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.is_done = False  # from then on, a connection is closed when its last call has ended
        self._generator = self._wait()
        try:
            self._generator.__anext__().send(None)  # up to its `yield`, which needs nobody to wait for
        except StopIteration:
            pass
        else:
            raise AssertionError("the generator waited for something")

    async def _wait(self) -> "AsyncGenerator[None, None]":
        try:
            yield
        finally:
            self.is_done = True
            self.wire.close_if_idle()
