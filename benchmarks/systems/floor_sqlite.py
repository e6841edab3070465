"""The floor: a bare server that stores what it is sent and answers after COMMIT, and nothing else. No queue at all.

uvloop, msgspec, one table with one index, WAL and FULL; what is read in one turn of the loop shares a transaction, and
it runs on the loop. One blocking connection for a lone caller, thirty-two connections of one uvloop process for 32.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sqlite3
import struct
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from common import CALLERS, System, main, payload

SOCKET = os.environ.get("BENCH_FLOOR", "")


class Floor(System):
    """As its own client."""

    blocks_alone = True

    def info(self) -> dict[str, Any]:
        """What it is made of."""
        import msgspec
        import uvloop

        store = f"SQLite {sqlite3.sqlite_version}"
        version = f"uvloop {uvloop.__version__}, msgspec {msgspec.__version__}"
        return {"version": version, "store": store, "durability": "journal_mode=wal synchronous=full"}

    def reset(self) -> None:
        """Its server begins with nothing, and is asked nothing but enqueues."""

    def caller(self) -> Callable[[int], object]:
        """One blocking connection."""
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(SOCKET)

        def call(number: int) -> bytes:
            connection.sendall(_line(number))
            return connection.recv(4096)

        return call

    async def async_caller(self) -> Callable[[int], Awaitable[object]] | None:
        """A connection for each task."""
        loop = asyncio.get_running_loop()
        free = [(await loop.create_unix_connection(Wire, SOCKET))[1] for _ in range(CALLERS)]

        async def call(number: int) -> object:
            wire = free.pop()
            answer = await wire.ask(_line(number))
            free.append(wire)
            return answer

        return call


class Wire(asyncio.Protocol):
    """A connection with one request at a time."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep it."""
        self._transport: Any = transport
        self._answer: asyncio.Future[bytes] | None = None

    def ask(self, line: bytes) -> asyncio.Future[bytes]:
        """Send; the answer."""
        self._transport.write(line)
        self._answer = asyncio.get_running_loop().create_future()
        return self._answer

    def data_received(self, data: bytes) -> None:
        """It fits into one piece."""
        if self._answer is not None:
            self._answer.set_result(data)


def _line(number: int) -> bytes:
    return json.dumps({"id": number, "body": payload(number)}, separators=(",", ":")).encode() + b"\n"


def serve(path: str) -> None:
    """The server. Runs until it is killed."""
    import msgspec
    import uvloop

    asked_type = msgspec.defstruct("Asked", [("id", int), ("body", msgspec.Raw)])
    decode = msgspec.json.Decoder(asked_type).decode
    database = sqlite3.connect(f"{path}.db", isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL").fetchall()
    database.execute("PRAGMA synchronous = FULL").fetchall()
    database.execute("CREATE TABLE run (id BLOB PRIMARY KEY, state INTEGER, due INTEGER, payload TEXT) WITHOUT ROWID")
    database.execute("CREATE INDEX run_due ON run (state, due)")
    waiting: list[tuple[Any, asyncio.Transport]] = []
    count = 0

    def commit() -> None:
        nonlocal waiting, count
        batch, waiting = waiting, []
        rows = []
        for asked, _ in batch:
            count += 1
            rows.append((struct.pack(">Q", count) + os.urandom(8), 0, count, str(asked.body, "utf-8")))
        database.execute("BEGIN IMMEDIATE")
        database.executemany("INSERT INTO run VALUES (?, ?, ?, ?)", rows)
        database.execute("COMMIT")
        for (asked, transport), row in zip(batch, rows, strict=True):
            transport.write(b'{"id":%d,"ok":true,"run":"%s"}\n' % (asked.id, row[0].hex().encode()))

    class Served(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self._transport: Any = transport
            self._rest = b""

        def data_received(self, data: bytes) -> None:
            *lines, self._rest = (self._rest + data).split(b"\n")
            if lines and not waiting:
                asyncio.get_running_loop().call_soon(commit)
            waiting.extend((decode(line), self._transport) for line in lines)

    async def forever() -> None:
        await asyncio.get_running_loop().create_unix_server(Served, path, backlog=256)
        await asyncio.Event().wait()

    uvloop.run(forever())


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    main(Floor())
