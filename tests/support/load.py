"""Clients that never stop asking: a loop of its own in a thread, keep-alive connections, every answer looked at."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

TIMEOUT_S = 60.0


@dataclass
class Report:
    """What came of it. `failed` are sentences, one for each request that was not answered with 200."""

    answered: Counter[str] = field(default_factory=Counter)  # by the release that answered
    failed: list[str] = field(default_factory=list)
    slowest_s: float = 0.0

    @property
    def requests(self) -> int:
        return self.answered.total() + len(self.failed)


class Load:
    """`clients` that ask at once, each one request after the other: 60 % GET, 30 % POST of some KiB, 10 % slow.

    The app answers with its release as the whole body. A connection that the server closes *between* two requests is
    made anew, as every client does; one that it closes in a request is a failure. To the app's own socket (`path`) each
    request has a connection of its own, as the ingress has: there nobody could tell those two apart.
    """

    def __init__(
        self, port: int, *, host: str = "shop.localhost", clients: int = 6, pause_s: float = 0.01, seed: int = 7,
        path: str | None = None, slow: bool = True, enqueues: bool = False,
    ) -> None:  # fmt: skip
        self.port = port
        self.host = host
        self.clients = clients
        self.pause_s = pause_s
        self.path = path  # of a unix socket, in place of the port
        self.slow = slow
        self.enqueues = enqueues  # some of the requests enqueue a run; they count as answered by "run"
        self.report = Report()
        self._rng = random.Random(seed)
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self.until(lambda: self.report.requests >= self.clients)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(TIMEOUT_S + 10)
        assert not self._thread.is_alive(), "a request was never answered"

    def until(self, condition: Callable[[], object], *, within_s: float = TIMEOUT_S) -> None:
        """Wait until it holds, for what only shows in the report."""
        looked, deadline = threading.Event(), time.monotonic() + within_s
        while not condition():
            assert time.monotonic() < deadline, f"not within {within_s} s: {self.report}"
            looked.wait(0.02)

    def more(self, count: int = 50) -> None:
        """Wait for so many more answers."""
        before = self.report.requests
        self.until(lambda: self.report.requests >= before + count)

    def until_answered_by(self, release: str, *, count: int = 5) -> None:
        """Wait until this release has answered."""
        before = self.report.answered[release]
        self.until(lambda: self.report.answered[release] >= before + count)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._all())
        self._loop.close()

    async def _all(self) -> None:
        await asyncio.gather(*(self._client() for _ in range(self.clients)))

    async def _client(self) -> None:
        connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        while not self._stop.is_set():
            what = self._rng.random()
            began = time.monotonic()
            try:
                if connection is None or connection[0].at_eof():
                    await _close(connection)
                    connection = await self._connect()
                async with asyncio.timeout(TIMEOUT_S):
                    body = await self._ask(connection, what)
                self.report.answered[body] += 1
            except (OSError, ValueError, TimeoutError, asyncio.IncompleteReadError) as error:
                self.report.failed.append(f"{type(error).__name__}: {error}")
                await _close(connection)
                connection = None
            self.report.slowest_s = max(self.report.slowest_s, time.monotonic() - began)
            await asyncio.sleep(self.pause_s)
        await _close(connection)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self.path is not None:
            return await asyncio.open_unix_connection(self.path)
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def _ask(self, connection: tuple[asyncio.StreamReader, asyncio.StreamWriter], what: float) -> str:
        reader, writer = connection
        if what < 0.6 or (what >= 0.9 and not self.slow):
            head, body = "GET / HTTP/1.1", b""
        elif what < 0.9:
            body = self._rng.randbytes(self._rng.randrange(10, 20_000))
            head = f"POST /take HTTP/1.1\r\nContent-Length: {len(body)}"
        elif self.enqueues:
            head, body = "GET /enqueue HTTP/1.1", b""
        else:
            head, body = "GET /slow HTTP/1.1", b""
        sent = f"Host: {self.host}\r\n" + ("Connection: close\r\n" if self.path is not None else "")
        writer.write(f"{head}\r\n{sent}\r\n".encode() + body)
        await writer.drain()
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        status = lines[0].split(" ")[1]
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        text = (await reader.readexactly(int(fields["content-length"]))).decode()
        if fields.get("connection") == "close" or self.path is not None:
            reader.feed_eof()
        if status != "200":
            raise ValueError(f"{status}: {text[:200]}")
        return "run" if head.startswith("GET /enqueue") else text


async def _close(connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None) -> None:
    if connection is not None:
        connection[1].close()
        with suppress(OSError):
            await connection[1].wait_closed()
