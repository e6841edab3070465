"""Requests to an ASGI app under a bare uvicorn and under `tako dev`, A B C A B C: `python -m benchmarks.web`.

Sixteen connections that ask without pause, from a process of their own, half a minute in all. `tako dev` shows each
request, so uvicorn is asked with its access log and without. With two cores, client, app and engine share what client
and app have alone: besides the rate there is the CPU of all of the server's processes for each request. On a server
nothing of Tako is between Caddy and the app.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import uvloop

from benchmarks import processes
from tako.bench.engine import cpu_s

CONNECTIONS = 16
APP = """
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        return await send({"type": "lifespan.shutdown.complete"})
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"done\\n"})
"""
REQUEST = b"GET /a/page HTTP/1.1\r\nhost: localhost\r\nuser-agent: benchmark\r\naccept: */*\r\n\r\n"
SERVERS = {
    "bare uvicorn": ("-m", "uvicorn", "app:app", "--port"),
    "bare uvicorn without access log": ("-m", "uvicorn", "app:app", "--no-access-log", "--port"),
    "tako dev": ("-m", "tako", "dev", "--no-alerts", "--port"),
}


def main() -> None:
    """Measure each in turn, print medians."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.web", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    rates: dict[str, list[float]] = {}
    for _ in range(args.rounds):
        for name, command in SERVERS.items():
            for figure, value in measure(command, seconds=args.seconds).items():
                rates.setdefault(f"{name}, {figure}", []).append(value)
    for name, found in rates.items():
        print(f"{name:<60}{statistics.median(found):>10,.0f}  ({min(found):,.0f} to {max(found):,.0f})")


def measure(command: Sequence[str], *, seconds: float) -> dict[str, float]:
    """Requests a second, and µs of CPU of the server's processes for each."""
    with tempfile.TemporaryDirectory(prefix="tako-bench-web-") as name:
        folder, log = Path(name) / "app", Path(name) / "log"
        folder.mkdir()
        (folder / "app.py").write_text(APP)
        (folder / "tako.toml").write_text('name = "bench"\nmain = "app:app"\n')
        port = _free_port()
        environment = {**os.environ, "XDG_RUNTIME_DIR": name, "NO_COLOR": "1"}
        process = processes.start([sys.executable, *command, str(port)], log=log, cwd=folder, environment=environment)
        try:
            _wait_until(lambda: _answers(port), log=log)
            uvloop.run(_ask(port, 0.5))
            before = _cpu_of_session(process.pid)
            count = uvloop.run(_ask(port, seconds))
            spent = _cpu_of_session(process.pid) - before
        finally:
            processes.end(process)
    return {"/s": count / seconds, "µs of CPU a request": spent * 1e6 / count}


async def _ask(port: int, seconds: float) -> int:
    """How many requests were answered in so many seconds."""
    loop = asyncio.get_running_loop()
    clients = [_Client() for _ in range(CONNECTIONS)]
    for client in clients:
        await loop.create_connection(lambda client=client: client, "127.0.0.1", port)  # type: ignore[misc]
    await asyncio.sleep(seconds)
    count = sum(client.count for client in clients)
    for client in clients:
        client.close()
    return count


class _Client(asyncio.Protocol):
    """Asks anew as soon as it is answered."""

    def __init__(self) -> None:
        self.count = 0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(REQUEST)

    def data_received(self, data: bytes) -> None:
        """An answer ends with its body."""
        if data.endswith(b"done\n") and self._transport is not None:
            self.count += 1
            self._transport.write(REQUEST)

    def close(self) -> None:
        """Ask no more."""
        if self._transport is not None:
            self._transport.abort()
            self._transport = None


def _cpu_of_session(pid: int) -> float:
    """CPU seconds of a process and of its descendants."""
    parents = {int(path.name): _parent(path) for path in Path("/proc").iterdir() if path.name.isdigit()}
    ours = {pid}
    while more := {child for child, parent in parents.items() if parent in ours} - ours:
        ours |= more
    return sum(cpu_s(each) for each in ours)


def _parent(path: Path) -> int:
    try:
        return int((path / "stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, ValueError):
        return 0  # it has ended meanwhile


def _answers(port: int) -> bool:
    with socket.socket() as client:
        client.settimeout(5)
        try:
            client.connect(("127.0.0.1", port))
            client.sendall(REQUEST)
            return b" 200 " in client.recv(4096)
        except OSError:
            return False


def _wait_until(done: Callable[[], bool], *, log: Path) -> None:
    end = time.monotonic() + 30
    while not done():
        if time.monotonic() > end:
            raise RuntimeError(f"the server did not answer:\n{processes.last_lines(log)}")
        time.sleep(0.05)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    main()
