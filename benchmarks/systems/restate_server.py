"""Restate: durable steps, kept by a server of its own. The callers speak HTTP to it over kept-open connections."""

import asyncio
import importlib.metadata
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable
from typing import Any

from common import CALLERS, System, main, payload, run_async

INGRESS = int(os.environ.get("BENCH_RESTATE_INGRESS", "0"))
ADMIN = int(os.environ.get("BENCH_RESTATE_ADMIN", "0"))
SERVICE = int(os.environ.get("BENCH_RESTATE_SERVICE", "0"))
# Filled runs become due together, when all of them are there and the worker is up.
DUE_AFTER_S = 10.0


class Restate(System):
    def info(self) -> dict[str, Any]:
        return {
            "version": importlib.metadata.version("restate-sdk"),
            "store": f"restate-server {os.environ.get('BENCH_RESTATE_VERSION', '')}",
            "durability": "as it ships: its log is synced before a call is acknowledged",
            "settings": "hypercorn with uvloop, one worker",
        }

    def reset(self) -> None:
        """The runner has begun with an empty folder; make the handlers known. The worker must be up."""
        body = json.dumps({"uri": f"http://127.0.0.1:{SERVICE}", "force": True}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{ADMIN}/deployments", body, {"content-type": "application/json"}
        )
        end = time.monotonic() + 20
        while True:
            try:
                urllib.request.urlopen(request, timeout=5).read()
                return
            except (urllib.error.URLError, OSError):
                if time.monotonic() > end:
                    raise
                time.sleep(0.2)

    async def async_caller(self) -> Callable[[int], Awaitable[object]] | None:
        return (await Pool.opened(CALLERS)).caller("/bench/steps_1/send")

    def fill(self, count: int, kind: str) -> None:
        run_async(self._fill(count, kind))

    async def _fill(self, count: int, kind: str) -> None:
        pool = await Pool.opened(CALLERS)
        due = time.time() + (DUE_AFTER_S if count > 1 else 0.0)
        numbers = iter(range(1, count + 1))

        async def some() -> None:
            for number in numbers:
                delay_ms = max(1, round((due - time.time()) * 1000))
                await pool.caller(f"/bench/{kind}/send?delay={delay_ms}ms")(number)

        await asyncio.gather(*(some() for _ in range(CALLERS)))

    def worker(self) -> None:
        command = "hypercorn --worker-class uvloop --workers 1 --log-level ERROR restate_handlers:app"
        os.execvp("hypercorn", [*command.split(), "--bind", f"127.0.0.1:{SERVICE}"])


class Pool:
    """Connections that stay open, so that the client is not what is measured."""

    def __init__(self, connections: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]) -> None:
        self._free = connections

    @classmethod
    async def opened(cls, count: int) -> "Pool":
        return cls([await asyncio.open_connection("127.0.0.1", INGRESS) for _ in range(count)])

    def caller(self, path: str) -> Callable[[int], Awaitable[object]]:
        async def call(number: int) -> None:
            body = json.dumps(payload(number)).encode()
            reader, writer = self._free.pop()
            head = f"POST {path} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n"
            writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
            answer = (await reader.readuntil(b"\r\n\r\n")).lower()
            if b"content-length:" in answer:
                await reader.readexactly(int(answer.split(b"content-length:")[1].split(b"\r\n")[0]))
            else:
                while size := int((await reader.readline()).strip(), 16):
                    await reader.readexactly(size + 2)
                await reader.readline()
            assert answer[9:10] == b"2", answer
            self._free.append((reader, writer))

        return call


if __name__ == "__main__":
    main(Restate())
