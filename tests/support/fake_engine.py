"""An engine that answers from a script, on a real unix socket with the real server's rules: for tests of commands."""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from tako.errors import InvalidRequest
from tako.rpc.auth import Peer, Principal, Role
from tako.rpc.connection import Connection
from tako.rpc.server import Server

Message = dict[str, Any]
DEADLINE_S = 10


class FakeEngine:
    """`answers` maps a command to its data, to an exception, or to a function of the request. `requests` is what came.

    A `subscribe` gets `events` at once, then `on_subscribe` is called; `push` sends more to every subscriber;
    `hang_up` ends their streams.
    """

    def __init__(self, folder: Path, *, app: str = "my-app") -> None:
        self.folder = folder
        self.app = app
        self.answers: dict[str, Any] = {}
        self.events: list[Message] = []
        self.on_subscribe: Callable[[], None] = lambda: None
        self.requests: list[Message] = []
        self.news = threading.Condition()
        self._subscribers: list[Connection] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="fake-engine")
        self._up = threading.Event()
        self._down = asyncio.Event()
        self._sockets = tempfile.TemporaryDirectory(prefix="tako-fake-")

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._up.wait(DEADLINE_S)
        self.write_place()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._down.set)
        self._thread.join(DEADLINE_S)
        self._sockets.cleanup()

    @property
    def socket(self) -> Path:
        return Path(self._sockets.name) / "s"

    def write_place(self, **changed: Any) -> None:
        (self.folder / ".tako").mkdir(mode=0o700, exist_ok=True)
        content = {
            "socket": str(self.socket), "pid": os.getpid(), "app": self.app, "store_id": "s1",
            "url": "http://localhost:8000", "started_ms": 1, **changed,
        }  # fmt: skip
        (self.folder / ".tako" / "engine.json").write_text(json.dumps(content))

    def asked(self, command: str) -> list[Message]:
        """The requests of a command, without what every request carries."""
        common = ("command", "app", "protocol", "sdk", "request", "token")
        with self.news:
            found = [message for message in self.requests if message["command"] == command]
        return [{name: value for name, value in message.items() if name not in common} for message in found]

    def wait_asked(self, command: str) -> None:
        """Wait until somebody has asked this."""
        with self.news:
            assert self.news.wait_for(lambda: any(m["command"] == command for m in self.requests), DEADLINE_S)

    def push(self, *events: Message) -> None:
        """Send events to every subscriber there is."""
        self._loop.call_soon_threadsafe(self._push, list(events))

    def hang_up(self) -> None:
        """End every subscriber's stream."""
        for connection in self._subscribers:
            self._loop.call_soon_threadsafe(connection.close)

    def _push(self, events: list[Message]) -> None:
        for connection in self._subscribers:
            for event in events:
                connection.push(event)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            asyncio.set_event_loop(None)
            self._loop.close()

    async def _serve(self) -> None:
        handlers: dict[str, Callable[[Connection, Message], Any]] = dict.fromkeys(COMMANDS, self._answer)
        handlers["subscribe"] = self._subscribe
        server = Server(self.socket, handlers=handlers, worker_commands=frozenset(), authenticate=self._authenticate)
        await server.start()
        self._up.set()
        await self._down.wait()
        await server.stop()

    def _authenticate(self, message: Message, _peer: Peer) -> Principal:
        if message.get("app") != self.app:
            raise InvalidRequest(f"unknown app: {message.get('app')}")
        return Principal(self.app, Role.CLIENT)

    def _answer(self, _connection: Connection, message: Message) -> Any:
        with self.news:
            self.requests.append(message)
            self.news.notify_all()
        answer = self.answers[message["command"]]
        if callable(answer):
            answer = answer(message)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _subscribe(self, connection: Connection, message: Message) -> Any:
        with self.news:
            self.requests.append(message)
            self.news.notify_all()
        self._subscribers.append(connection)
        self._loop.call_soon(self._push, list(self.events))
        self._loop.call_soon(self.on_subscribe)
        return {}


COMMANDS = (
    "enqueue_runs", "get_run", "find_run", "list_runs", "wait_run", "cancel", "retry", "ack", "signal_run",
    "list_workflows", "pause", "resume", "list_schedules", "pause_schedules", "resume_schedules", "run_schedule",
    "health", "status", "logs", "backup", "check_store", "test_alerts",
)  # fmt: skip


def run_info(number: int = 1, **changed: Any) -> Message:
    """A run as the engine tells of it."""
    info: Message = {
        "id": f"01a20c3e-7b1d-7e50-8aa1-0d51c94f{number:04x}", "workflow": "send_email", "status": "succeeded",
        "attempt": 1, "retries": 2, "created_ms": 1_795_435_200_000 + number, "run_at_ms": None, "started_ms": None,
        "ended_ms": None, "key": None, "priority": 0, "group": "default", "scheduled_for_ms": None, "parent_id": None,
        "error": None, "reason": None, "warnings": [], "blocked": None, "acknowledged": False,
    }  # fmt: skip
    return {**info, **changed}
