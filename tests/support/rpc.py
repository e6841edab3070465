"""Two kinds of engine for tests of clients: one that follows a script, and the real server with a table of commands."""

from __future__ import annotations

import asyncio
import contextlib
import json
import queue
import socket
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from tako.errors import Unauthorized
from tako.rpc.auth import Peer, Principal, Role
from tako.rpc.connection import Connection, Handler
from tako.rpc.server import Server

WAIT_S = 10.0

Message = dict[str, Any]


class Caller:
    """A client's connection, as a script sees it."""

    def __init__(self, accepted: socket.socket, engine: ScriptedEngine) -> None:
        accepted.settimeout(WAIT_S)
        self._socket = accepted
        self._file = accepted.makefile("rb")
        self._engine = engine

    def read(self) -> Message:
        """The next request; it is noted in `engine.seen`. Raises EOFError when the client has closed."""
        line = self._file.readline()
        if not line:
            raise EOFError
        message = cast(Message, json.loads(line))
        self._engine.seen.append(message)
        return message

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def answer(self, request: Message, data: Any = None) -> None:
        self.send(line(status="ok", data=data, request=request["request"]))

    def refuse(self, request: Message, code: str, message: str = "no", **detail: Any) -> None:
        self.send(line(status="error", code=code, message=message, detail=detail, request=request["request"]))

    def answer_all(self, data: Any = None) -> None:
        """Answer whatever comes, until the client closes."""
        while True:
            try:
                self.answer(self.read(), data)
            except EOFError:
                return

    def wait_for_end(self) -> None:
        """Until the client closes, or `engine.hang_up()`."""
        while self._socket.recv(65_536):
            pass

    def wait_unread(self) -> None:
        """Until `engine.hang_up()`, reading nothing."""
        assert self._engine.hung_up.wait(WAIT_S)

    def hang_up(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._file.close()
        self._socket.close()


Script = Callable[[Caller], None]


class ScriptedEngine:
    """Serves the n-th connection by the n-th script, one after the other, each closed when its script returns.

    Leaving it ends the connection that is being served. `seen` has every request that a script has read.
    """

    def __init__(self, path: Path, *scripts: Script, backlog: int = 16) -> None:
        self.path = path
        self.scripts: queue.SimpleQueue[Script | None] = queue.SimpleQueue()
        self.seen: list[Message] = []
        self.failures: list[BaseException] = []
        self.hung_up = threading.Event()
        self._caller: Caller | None = None
        self._backlog = backlog
        self._listener: socket.socket | None = None
        self._thread: threading.Thread | None = None
        for script in scripts:
            self.scripts.put(script)

    def start(self) -> None:
        self.path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self._listener.listen(self._backlog)
        self._thread = threading.Thread(target=self._serve, args=(self._listener,))
        self._thread.start()

    def stop(self) -> None:
        listener, self._listener = self._listener, None
        if listener is None or self._thread is None:
            return
        self.hang_up()
        self.scripts.put(None)
        listener.shutdown(socket.SHUT_RDWR)  # wakes `accept`
        self._thread.join(WAIT_S)
        assert not self._thread.is_alive(), "a script did not end"
        listener.close()
        self.path.unlink(missing_ok=True)

    def hang_up(self) -> None:
        """End the connection that is being served."""
        self.hung_up.set()
        if self._caller is not None:
            self._caller.hang_up()

    def __enter__(self) -> ScriptedEngine:
        self.start()
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        self.stop()
        if error is None and self.failures:
            raise self.failures[0]

    def _serve(self, listener: socket.socket) -> None:
        while True:
            try:
                accepted, _ = listener.accept()
            except OSError:
                return
            caller = self._caller = Caller(accepted, self)
            try:
                script = self.scripts.get(timeout=WAIT_S)
                if script is None:
                    return
                script(caller)
            except (EOFError, ConnectionError):
                pass  # the client has gone: what it says of that is what the test is about
            except BaseException as error:
                self.failures.append(error)
            finally:
                caller.close()


def line(**message: Any) -> bytes:
    """A line of the protocol."""
    return json.dumps(message).encode() + b"\n"


class RealEngine:
    """The real server, on a loop in a thread, for the app "shop". Handlers run on that loop."""

    def __init__(self, path: Path, handlers: Mapping[str, Handler]) -> None:
        self.path = path
        self.handlers = {"echo": lambda connection, message: message.get("value"), **handlers}
        self.loop = asyncio.new_event_loop()
        self.peers: list[int] = []  # process ids, in the order in which they were first authenticated
        self._ended = threading.Condition()
        self._server: Server | None = None
        self._thread = threading.Thread(target=self.loop.run_forever)

    def start(self) -> None:
        """Listen. To be called again after `stop`."""
        self._server = Server(
            self.path,
            handlers=self.handlers,
            worker_commands=frozenset(),
            authenticate=self._authenticate,
            on_close=self._on_close,
        )
        self._do(self._server.start())

    def stop(self) -> None:
        if self._server is not None:
            self._do(self._server.stop())

    def cut(self) -> None:
        """Drop every connection at once, as a crash does, and go on listening."""
        self._do(self._cut())

    async def _cut(self) -> None:
        assert self._server is not None
        for connection in list(self._server.connections):
            connection._abort()

    def connections(self) -> int:
        """How many clients are connected."""
        assert self._server is not None
        return len(self._server.connections)

    def wait_for_connections(self, count: int) -> None:
        """Until so many clients are connected: their ends arrive a moment after they close."""
        assert self._server is not None
        with self._ended:
            assert self._ended.wait_for(lambda: self.connections() == count, WAIT_S)

    def _on_close(self, connection: Connection) -> None:
        with self._ended:
            self._ended.notify_all()

    def __enter__(self) -> RealEngine:
        self._thread.start()
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(WAIT_S)
        self.loop.close()

    def _do(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self.loop).result(WAIT_S)

    def _authenticate(self, message: Message, peer: Peer) -> Principal:
        self.peers.append(peer.pid)
        if message.get("app") != "shop":
            raise Unauthorized(f"unknown app: {message.get('app')}", cure="Say shop.")
        return Principal("shop", Role.CLIENT)


__all__ = ["WAIT_S", "Caller", "Connection", "Message", "RealEngine", "Script", "ScriptedEngine", "line"]
