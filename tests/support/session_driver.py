"""Runs a Session on the terminal of this process, and does to it what a unix socket says: for test_terminal."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import Callable
from typing import Any

from tako.dev.keyboard import Key
from tako.dev.screen import Header
from tako.dev.session import Session


async def main(path: str) -> None:
    session = Session.of_this_process()
    done = asyncio.Event()
    session.attach(asyncio.get_running_loop(), {"q": Key("quit", done.set)})

    def log(first: int, last: int) -> None:
        for number in range(first, last):
            session.line({"ts_ms": 0, "level": "info", "scope": "web", "message": f"GET /{number} 200"})

    actions: dict[str, Callable[..., Any]] = {
        "header": lambda **fields: session.header(Header(**fields)),
        "problem": session.problem,
        "mended": session.mended,
        "log": log,
        "close": done.set,
    }

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.CancelledError):  # cancelled when the session ends
            while line := await reader.readline():
                action, fields = json.loads(line)
                actions[action](**fields)
                session.flush()
                writer.write(b"done\n")
                await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(serve, path)
    try:
        await done.wait()
    finally:
        server.close()
        session.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
