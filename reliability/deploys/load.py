"""Visitors of the till from outside: by https, with the certificate checked. What they get is in `Report`."""

import asyncio
import contextlib
import ssl
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from reliability.deploys import till

TIMEOUT_S = 40.0
BROWSERS, UPLOADERS, SLOW, BUYERS, SOCKETS = 4, 1, 1, 2, 3
PAUSE_S = 0.05
MOVED = (1001, 1012)  # "going away", "service restart": the server says so, and the client connects anew


@dataclass
class Report:
    """What has come of it. `orders`: the run of each order that was acknowledged; `unknown`: orders without an answer.

    `dark`: what failed while somebody had said that everything would.
    """

    answered: Counter[str] = field(default_factory=Counter)
    releases: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)
    dark: int = 0
    orders: dict[int, str] = field(default_factory=dict)
    unknown: set[int] = field(default_factory=set)
    messages: int = 0
    moved: int = 0
    took_s: list[float] = field(default_factory=list)

    @property
    def requests(self) -> int:
        """Requests that were answered."""
        return sum(self.answered.values())


class Load:
    """A `with` starts and ends it."""

    def __init__(self, address: str, context: ssl.SSLContext, *, first_order: int = 1) -> None:
        self.report = Report()
        self.act = ""  # what goes on meanwhile, for those who read what failed
        self._is_dark = False
        self._nights = 0
        self._said = 0
        self.next_order = first_order
        self._address = address
        self._context = context
        self._stop = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="load")

    def __enter__(self) -> Self:
        self._thread.start()
        self.more(20)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(TIMEOUT_S * 2)
        assert not self._thread.is_alive(), "a request was never answered"

    def more(self, count: int = 50) -> None:
        """Wait for so many more answers."""
        seen = self.report.requests
        self._until(lambda: self.report.requests >= seen + count, f"{count} more answers")

    def until_answered_by(self, release: str) -> None:
        """Wait until this release has answered a few times from now on."""
        seen = self.report.releases[release]
        self._until(lambda: self.report.releases[release] >= seen + 5, f"answers of {release}")

    @contextlib.contextmanager
    def dark(self) -> Iterator[None]:
        """Nobody expects answers, as in a power cut: neither to what is asked in it, nor to what was on its way."""
        self._is_dark = True
        self._nights += 1
        try:
            yield
        finally:
            self._is_dark = False

    def _until(self, condition: Callable[[], bool], what: str) -> None:
        deadline, pause = time.monotonic() + TIMEOUT_S * 2, threading.Event()
        while not condition():
            assert time.monotonic() < deadline, f"no {what}: {self.report.failed[-3:]}"
            pause.wait(0.02)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._all())
        self._loop.close()

    async def _all(self) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(BROWSERS):
                group.create_task(self._visit(self._page, keep_alive=number % 2 == 0))
            for number in range(UPLOADERS):
                group.create_task(self._visit(self._upload, keep_alive=number % 2 == 0))
            for _ in range(SLOW):
                group.create_task(self._visit(self._slow, keep_alive=False))
            for number in range(BUYERS):
                group.create_task(self._visit(self._order, keep_alive=number % 2 == 0))
            for _ in range(SOCKETS):
                group.create_task(self._talk())

    # --- requests ---

    async def _visit(self, ask: Callable[["Connection"], Awaitable[None]], *, keep_alive: bool) -> None:
        connection = Connection(self._address, self._context)
        while not self._stop.is_set():
            began, nights = time.monotonic(), self._nights - self._is_dark
            try:
                async with asyncio.timeout(TIMEOUT_S):
                    await ask(connection)
                self.report.took_s.append(time.monotonic() - began)
            except (OSError, ValueError, EOFError, TimeoutError) as error:
                await connection.close()
                self._fail(f"{type(error).__name__}: {error}", nights)
            if not keep_alive:
                await connection.close()
            await self._pause()
        await connection.close()

    async def _page(self, connection: "Connection") -> None:
        release = await connection.ask("GET", "/")
        self.report.answered["page"] += 1
        self.report.releases[release] += 1

    async def _upload(self, connection: "Connection") -> None:
        body = b"x" * 200_000
        told = await connection.ask("POST", "/upload", body)
        if told != str(len(body)):
            raise ValueError(f"an upload of {len(body)} bytes arrived as {told}")
        self.report.answered["upload"] += 1

    async def _slow(self, connection: "Connection") -> None:
        await connection.ask("GET", "/slow")
        self.report.answered["slow"] += 1

    async def _order(self, connection: "Connection") -> None:
        order = self.next_order
        self.next_order += 1
        self.report.unknown.add(order)
        self.report.orders[order] = await connection.ask("POST", f"/order?n={order}")
        self.report.unknown.remove(order)
        self.report.answered["order"] += 1

    # --- websockets ---

    async def _talk(self) -> None:
        while not self._stop.is_set():
            nights = self._nights - self._is_dark
            try:
                async with asyncio.timeout(TIMEOUT_S * 2):
                    async with connect(
                        f"wss://{till.HOST}/", host=self._address, port=443, ssl=self._context,
                        server_hostname=till.HOST, proxy=None, open_timeout=TIMEOUT_S,
                    ) as socket:  # fmt: skip
                        await self._say(socket)
            except ConnectionClosed as closed:
                if closed.rcvd is not None and closed.rcvd.code in MOVED:
                    self.report.moved += 1
                else:
                    self._fail(f"websocket: {closed}", nights)
            except (OSError, TimeoutError, InvalidHandshake) as error:
                self._fail(f"websocket after {self._said} messages: {type(error).__name__}: {error}", nights)
            await self._pause()

    async def _say(self, socket: ClientConnection) -> None:
        """A few messages; then a new connection, so that the load also opens some all the time."""
        for number in range(100):
            if self._stop.is_set():
                return
            await socket.send(str(number))
            told = await socket.recv()
            if told != str(number):
                self._fail(f"websocket: {told!r} in place of {number}", self._nights)
            self.report.messages += 1
            self._said = number
            await self._pause()

    # --- both ---

    def _fail(self, what: str, nights: int) -> None:
        if self._nights > nights:
            self.report.dark += 1
        else:
            self.report.failed.append(f"{self.act}: {what}")

    async def _pause(self) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), PAUSE_S)


class Connection:
    """HTTP/1.1 by https; made when it is needed."""

    def __init__(self, address: str, context: ssl.SSLContext) -> None:
        self._address = address
        self._context = context
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, method: str, path: str, body: bytes = b"") -> str:
        """The text of a 200. Raises ValueError for another status, EOFError and OSError for a connection that ends."""
        if self._streams is None:
            self._streams = await asyncio.open_connection(
                self._address, 443, ssl=self._context, server_hostname=till.HOST
            )
        reader, writer = self._streams
        writer.write(
            f"{method} {path} HTTP/1.1\r\nHost: {till.HOST}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
        )
        await writer.drain()
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        status, length = head.split()[1], head.partition("content-length: ")[2].partition("\r")[0]
        text = (await reader.readexactly(int(length or 0))).decode()
        if status != "200":
            raise ValueError(f"{method} {path} was answered with {status}: {text[:200]}")
        return text

    async def close(self) -> None:
        """Twice is harmless."""
        if self._streams is not None:
            writer = self._streams[1]
            self._streams = None
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
