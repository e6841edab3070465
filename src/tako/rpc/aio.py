"""The client for event loops: one connection a loop, many requests in flight, what is sent in one turn sent together.

Loaded by the first awaited call. What can go wrong between sending and reply is told as `client.py` tells it; the
texts and the rules are in `request.py`.

A connection ends with its loop: an async generator is left open on it, and a loop that ends closes those.
"""

import asyncio
from itertools import count
from time import monotonic

from tako.protocol.framing import Framer
from tako.rpc import request as requests

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping
    from typing import Any

    from tako.errors import TakoError

    Message = dict[str, Any]
    Asked = tuple[asyncio.Future[Message | None], float, list[bool]]


class AsyncClient:
    """A process's way to the engine from its event loops. Each loop has a connection of its own."""

    def __init__(self, path: str, app: str, token: str | None = None) -> None:
        self._path = path
        self._introduction = requests.introduction(app, token)
        self._numbers = count(1)
        self._wire: Wire | None = None  # that of the loop which asked last
        self._wires: dict[int, Wire] = {}

    async def call(self, command: str, fields: "Mapping[str, Any]", *, deadline_s: float) -> "Any":
        """As Client.call, awaited."""
        deadline = monotonic() + deadline_s
        number = next(self._numbers)
        line = requests.frame(number, command, fields, deadline=deadline, reserve=len(self._introduction))
        if command == requests.ENQUEUE:
            deadline += requests.GRACE_S
        wire = self._wire
        if wire is not None and not wire.is_broken and wire.loop is asyncio.get_running_loop():
            reply, is_known = await wire.exchange(number, line, deadline)
            if reply is not None:
                return requests.data_of(reply)
            wire.check_refusal(command, fields, is_known=is_known)
            return await self._again(number, line, command, fields, deadline, deadline_s, is_known=is_known)
        return await self._again(number, line, command, fields, deadline, deadline_s, is_known=False, attempts=0)

    async def _again(
        self,
        number: int,
        line: bytes,
        command: str,
        fields: "Mapping[str, Any]",
        deadline: float,
        waited_s: float,
        *,
        is_known: bool,
        attempts: int = 1,
    ) -> "Any":
        """The same call over new connections, as often as that is harmless. `is_known`: an engine may have acted."""
        while True:
            if monotonic() >= deadline:
                if is_known:
                    raise requests.no_reply(command, fields, f"did not answer within {waited_s:g} s:")
                raise requests.not_sent(command, waited_s)
            if is_known and not requests.is_repeatable(command, fields):
                raise requests.no_reply(command, fields, "went away before it answered")
            if not is_known and attempts > 1:
                raise requests.not_listening(command, self._path)
            if attempts > 1:
                await asyncio.sleep(min(requests.DIAL_AGAIN_S, max(0.0, deadline - monotonic())))
            attempts += 1
            wire = await self._connected(deadline)
            if wire is None:
                continue
            reply, may_be_known = await wire.exchange(number, line, deadline)
            if reply is not None:
                return requests.data_of(reply)
            wire.check_refusal(command, fields, is_known=is_known)
            is_known = is_known or may_be_known

    async def _connected(self, deadline: float) -> "Wire | None":
        """This loop's connection, made if there is none; None when nobody listens."""
        loop = asyncio.get_running_loop()
        wire = self._wires.get(id(loop))
        if wire is None or wire.is_broken or wire.loop is not loop:
            for key, old in list(self._wires.items()):
                if old.loop.is_closed():
                    del self._wires[key]
            wire = self._wires[id(loop)] = Wire(loop, self._introduction)
            wire.opening = loop.create_task(wire.open(self._path))
        if wire.opening is not None:
            # Shared by all that wait for it; one that gives up must not end it for the others.
            await asyncio.wait([wire.opening], timeout=max(0.0, deadline - monotonic()))
        if wire.is_broken or not wire.is_open:
            return None
        self._wire = wire
        return wire


class Wire(asyncio.Protocol):
    """A connection of one loop. `is_broken` never becomes false again."""

    def __init__(self, loop: asyncio.AbstractEventLoop, introduction: bytes) -> None:
        self.loop = loop
        self.is_open = False
        self.is_broken = False
        self.opening: asyncio.Task[None] | None = None
        self.refusal: Message | None = None
        self.was_alone = False
        self._introduction = introduction
        self._framer = Framer(max_bytes=None)
        self._asked: dict[int, Asked] = {}
        self._outbox: list[tuple[bytes, list[bool]]] = []
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._closed = loop.create_future()
        self._guard: AsyncGenerator[None, None] | None = None

    async def open(self, path: str) -> None:
        """Connect. Never raises: `is_broken` tells that nobody listens."""
        try:
            await self.loop.create_unix_connection(lambda: self, path)
        except OSError:
            self.is_broken = True
            return
        self._guard = self._until_the_loop_ends()
        await anext(self._guard)
        self.is_open = True
        self.opening = None

    async def exchange(self, number: int, line: bytes, deadline: float) -> "tuple[Message | None, bool]":
        """Send and wait: the reply, or None at the deadline or when the connection has ended; then whether the engine
        may have seen the request."""
        future: asyncio.Future[Message | None] = self.loop.create_future()
        is_sent = [False]
        self._asked[number] = (future, deadline, is_sent)
        if not self._outbox:
            self.loop.call_soon(self._flush)
        self._outbox.append((line, is_sent))
        timer = self._timer
        if timer is None or deadline < self._due:
            self._set_timer(deadline)
        try:
            return await future, is_sent[0]
        finally:
            self._asked.pop(number, None)

    def check_refusal(self, command: str, fields: "Mapping[str, Any]", *, is_known: bool) -> None:
        """Raise the error that ended the connection, if it is certain that the engine acted on nothing of this call."""
        refusal = self.refusal
        if refusal is None or not (self.was_alone or requests.refuses_connection(refusal)):
            return
        error: TakoError = requests.error_of(refusal)
        if is_known:
            raise requests.no_reply(command, fields, f"was lost, then refused ({error.message})")
        raise error

    def close(self) -> None:
        """Close it; calls in flight find it broken. Twice is harmless."""
        if self._transport is not None:
            self._transport.abort()
        self._break()

    # --- what asyncio calls ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is connected."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Hand each reply to the call it names."""
        for line in self._framer.lines(data):
            try:
                reply = requests.read_reply(line)
            except ValueError:
                self.close()  # what listens there is no engine
                return
            number = reply.get("request")
            if number is None:
                self.refusal = reply
                self.was_alone = len(self._asked) == 1
                self.close()
                return
            asked = self._asked.pop(number, None)
            if asked is not None and not asked[0].done():
                asked[0].set_result(reply)

    def connection_lost(self, error: Exception | None) -> None:
        """The other side has gone, or we have closed."""
        self._break()
        if not self._closed.done():
            self._closed.set_result(None)

    # --- within ---

    def _flush(self) -> None:
        """Send what was asked in this turn of the loop, in one call."""
        batch, self._outbox = self._outbox, []
        transport = self._transport
        if transport is None or self.is_broken:
            return
        data = b"".join([line for line, _ in batch])
        if self._introduction:
            data = self._introduction + data[1:]
            self._introduction = b""
        was_empty = transport.get_write_buffer_size() == 0
        transport.write(data)
        if was_empty and transport.is_closing():
            return  # the one send failed: nothing of it has left
        for _, is_sent in batch:
            is_sent[0] = True

    def _set_timer(self, deadline: float) -> None:
        """One timer for all calls: at the earliest deadline, and from there at the next."""
        if self._timer is not None:
            self._timer.cancel()
        self._due = deadline
        self._timer = self.loop.call_later(max(0.0, deadline - monotonic()), self._expire)

    def _expire(self) -> None:
        self._timer = None
        now = monotonic()
        left = []
        for future, deadline, _ in list(self._asked.values()):
            if deadline > now:
                left.append(deadline)
            elif not future.done():
                future.set_result(None)
        if left:
            self._set_timer(min(left))

    def _break(self) -> None:
        self.is_broken = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for future, _, _ in list(self._asked.values()):
            if not future.done():
                future.set_result(None)

    async def _until_the_loop_ends(self) -> "AsyncGenerator[None, None]":
        try:
            yield
        finally:
            self.close()
            if self._transport is not None and not self._closed.done():
                await self._closed
