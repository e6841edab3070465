"""A real engine in a thread of the test, on a fresh folder, spoken to over its socket."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from tako.clock import Clock
from tako.config import load
from tako.errors import TakoError
from tako.host.app import AppHost
from tako.logs.hub import Hub

T = TypeVar("T")


class RunningHost:
    """`with RunningHost(folder) as host:` starts the engine of the app in `folder`; leaving stops it."""

    def __init__(self, folder: Path, *, clock: Clock | None = None) -> None:
        self.folder = folder
        self.loop = asyncio.new_event_loop()
        self.fatal: list[TakoError] = []
        self.news = threading.Condition()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.host = AppHost(
            load.load(folder),
            hub=Hub(),
            clock=clock,
            on_fatal=self.fatal.append,
            on_health=lambda group: self._changed(),
        )

    def _changed(self) -> None:
        with self.news:
            self.news.notify_all()

    def __enter__(self) -> Self:
        self.thread.start()
        try:
            self.run(self.host.start())
            self.loop.call_soon_threadsafe(self.host.begin)
        except BaseException:
            self._end_loop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            for line in self.host.hub.recent():
                print(line["level"], line["scope"], line["message"], line.get("fields", ""))
        try:
            self.run(self.host.stop())
        finally:
            self._end_loop()

    def _end_loop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
        self.loop.close()

    def run(self, work: Any, *, timeout_s: float = 60.0) -> Any:
        """Do something on the engine's loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(timeout_s)

    def call(self, command: str, **fields: Any) -> dict[str, Any]:
        """One request on a connection of its own, as v0 clients do; the whole reply."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(60)
            connection.connect(str(self.host.places.internal_socket))
            request = {"command": command, "app": self.host.config.name, **fields}
            connection.sendall(json.dumps(request).encode() + b"\n")
            connection.shutdown(socket.SHUT_WR)
            with connection.makefile("rb") as file:
                reply: dict[str, Any] = json.loads(file.readline())
        return reply

    def ok(self, command: str, **fields: Any) -> Any:
        """The data of a reply that must be a success."""
        reply = self.call(command, **fields)
        assert reply["status"] == "ok", reply
        return reply["data"]

    def until(self, look: Callable[[], T | None], *, what: str, timeout_s: float = 30.0) -> T:
        """Look again at each change of health, and a few times a second, with a deadline."""
        deadline = self.loop.time() + timeout_s
        while not (found := look()):
            assert self.loop.time() < deadline, f"{what}: not within {timeout_s} s"
            with self.news:
                self.news.wait(0.05)
        return found

    def ended(self, run_id: str, *, status: str = "succeeded") -> dict[str, Any]:
        """The run when it has ended, which must be with this status."""
        run: dict[str, Any] = self.ok("wait_run", id=run_id, timeout_ms=30_000)
        assert run["status"] == status, run
        return run
