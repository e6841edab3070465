"""An engine for worker tests: a real unix socket, scripted answers, every message kept. And a worker process for it.

It keeps just enough state to be believed: runs to give out, claims that wait, saved steps. Faults are switched on by
attributes and methods.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

PATIENCE_S = 20.0
Message = dict[str, Any]


class Engine:
    """Answers workers as the daemon would. Use as a context manager."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "engine.sock"
        self.messages: list[Message] = []
        self.changed = threading.Condition()
        self.heartbeat_ms = 10_000
        self.idle_exit = False
        self.store_is_full = False
        self.stale_in_hello: list[str] = []
        self.stale_in_heartbeat: list[Message] = []
        self.answers: dict[str, Callable[[Message], Message | None]] = {}  # by command; None: as usual
        self.runs: list[Message] = []
        self.steps: dict[tuple[str, str], str] = {}
        self.worker: WorkerProcess | None = None
        self._claims: list[tuple[socket.socket, Message]] = []
        self._connections: list[socket.socket] = []
        self._listener: socket.socket | None = None
        self._count = 0

    def __enter__(self) -> Engine:
        self.listen()
        return self

    def __exit__(self, *_: object) -> None:
        self.vanish()

    def listen(self) -> None:
        """Begin to accept, or begin again after `vanish`."""
        self.path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self._listener.listen()
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def vanish(self) -> None:
        """Be gone, as a killed daemon is."""
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
            self.path.unlink(missing_ok=True)
        self.hang_up()

    def hang_up(self) -> None:
        """Cut all connections."""
        with self.changed:
            connections, self._connections, self._claims = self._connections, [], []
        for connection in connections:
            with contextlib.suppress(OSError):  # the worker has hung up itself
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def give(self, workflow: str, payload: Message | None = None, **fields: Any) -> str:
        """Make a run that the next claim gets; returns its id."""
        with self.changed:
            self._count += 1
            run = {
                "id": f"run-{self._count}", "epoch": 1, "workflow": workflow, "payload_json": json.dumps(payload or {}),
                "attempt": 1, "retries": 2, "key": None, "scheduled_for_ms": None, "enqueued_ms": 1, "generation": 1,
                "steps": {}, "steps_next": None, "solo": False, **fields,
            }  # fmt: skip
            self.runs.append(run)
            waiting, self._claims = self._claims, []
        for connection, claim in waiting:
            self._claim(connection, claim)
        return str(run["id"])

    def push(self, message: Message) -> None:
        """Say something that answers nothing."""
        for connection in list(self._connections):
            _send(connection, message)

    # --- what tests look at ---

    def all(self, command: str, **fields: Any) -> list[Message]:
        """The messages of one command so far, those with these fields."""
        with self.changed:
            return [one for one in self.messages if one["command"] == command and fields.items() <= one.items()]

    def wait(self, command: str, *, count: int = 1, **fields: Any) -> Message:
        """The count-th message of a command, as soon as it is there."""
        found: list[Message] = self.until(
            lambda: self.all(command, **fields)[count - 1 :], what=f"{command} {fields} (number {count})"
        )
        return found[0]

    def until(self, look: Callable[[], Any], *, what: str) -> Any:
        """What `look` finds, as soon as it finds something. Fails when the worker is gone before."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            found = look()
            if found:
                return found
            assert time.monotonic() < deadline, f"no {what} in {PATIENCE_S:g}s; got {self.messages}\n{self.told()}"
            if self.worker is not None and self.worker.has_exited():
                found = look()
                assert found, f"the worker is gone before {what}; it said:\n{self.told()}"
                return found
            with self.changed:
                self.changed.wait(0.05)

    def told(self) -> str:
        """What the worker printed."""
        return self.worker.output() if self.worker is not None else ""

    # --- the other side of the socket ---

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with self.changed:
                self._connections.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        buffered = b""
        while True:
            try:
                data = connection.recv(65536)
            except OSError:
                return
            if not data:
                break
            *lines, buffered = (buffered + data).split(b"\n")
            for line in lines:
                message: Message = json.loads(line)
                with self.changed:
                    self.messages.append(message)
                    self.changed.notify_all()
                self._answer(connection, message)
        with self.changed:
            if connection in self._connections:
                self._connections.remove(connection)
        connection.close()

    def _answer(self, connection: socket.socket, message: Message) -> None:
        command = message["command"]
        scripted = self.answers.get(command)
        if scripted is not None:
            reply = scripted(message)
            if reply is not None:
                _send(connection, {**reply, "request": message["request"]})
                return
        if command == "claim_runs":
            self._claim(connection, message)
            return
        if self.store_is_full and command in ("save_step", "finish", "park"):
            refusal = {"status": "error", "code": "store_unavailable", "message": "DISK_FULL", "detail": {}}
            _send(connection, {**refusal, "request": message["request"]})
            return
        _ok(connection, message, self._data(command, message))

    def _data(self, command: str, message: Message) -> Message:
        if command == "hello":
            return {"lease_ms": 30_000, "heartbeat_ms": self.heartbeat_ms, "stale": self.stale_in_hello}
        if command == "save_step":
            self.steps[message["id"], message["step_name"]] = message["result_json"]
        if command == "park":
            return {"parked": True}
        if command == "finish":
            return {"status": message["outcome"]}
        if command == "heartbeat":
            return {"stale": self.stale_in_heartbeat}
        if command == "idle":
            return {"exit": self.idle_exit}
        return {}

    def _claim(self, connection: socket.socket, message: Message) -> None:
        with self.changed:
            if connection not in self._connections:
                return  # read from a connection that was cut meanwhile
            runs = self.runs[: message["max"]]
            del self.runs[: message["max"]]
            if not runs and message["wait_ms"]:
                self._claims.append((connection, message))
                return
        _ok(connection, message, {"runs": runs})


def _ok(connection: socket.socket, message: Message, data: Message) -> None:
    _send(connection, {"status": "ok", "data": data, "request": message["request"]})


def _send(connection: socket.socket, message: Message) -> None:
    with suppress(OSError):  # the worker is gone, or we hung up
        connection.sendall(json.dumps(message).encode() + b"\n")


class WorkerProcess:
    """A real worker: started as the supervisor starts one, with the envelope on fd 3 and output to a file."""

    def __init__(
        self,
        root: Path,
        engine: Engine,
        *,
        files: list[str] | None = None,
        secrets: dict[str, str] | None = None,
        env: dict[str, str] | None = None,
    ) -> None:
        self.spool = root.parent / "worker.log"
        self.engine = engine
        found = sorted(str(path.relative_to(root)) for path in root.glob("workflows/**/*.py"))
        names = files if files is not None else [path for path in found if not path.endswith("__init__.py")]
        letter = {
            "token": "the-token", "secrets": secrets or {}, "storages": {}, "worker_id": "w1", "files": names,
        }  # fmt: skip
        variables = {
            "PATH": os.environ["PATH"],
            "HOME": str(root.parent),
            "PWD": str(root),
            "PYTHONUNBUFFERED": "1",
            "TAKO_APP_NAME": "shop",
            "TAKO_INTERNAL_SOCKET": str(engine.path),
            "ENV": "test",
            "TAKO_BUILD": "release-1",
            "TAKO_DATA_DIR": str(root.parent),
            "TAKO_WORKER_CONCURRENCY": "4",
            "TAKO_WORKER_IDLE_TIMEOUT_MS": "60000",
            "TAKO_BOOT_TIMEOUT_MS": "20000",
            "TAKO_DRAIN_TIMEOUT_MS": "10000",
            "TAKO_WORKFLOW_WORKER": "default",
            **(env or {}),
        }
        reader, writer = os.pipe()
        os.write(writer, json.dumps(letter).encode())
        os.close(writer)
        output = os.open(self.spool, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self.pid = os.posix_spawn(
            sys.executable,
            [sys.executable, "-c", "from tako.worker.__main__ import serve; serve()"],
            variables,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, reader, 3),
                (os.POSIX_SPAWN_DUP2, output, 1),
                (os.POSIX_SPAWN_DUP2, output, 2),
            ],
            setpgroup=0,
        )
        os.close(reader)
        os.close(output)
        self._status: int | None = None
        engine.worker = self

    def has_exited(self) -> bool:
        """Whether it is gone."""
        if self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._status = os.waitstatus_to_exitcode(status)
        return self._status is not None

    def kill(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send a signal."""
        os.kill(self.pid, number)

    def exit_code(self) -> int:
        """How it ended, as soon as it has; negative for a signal."""
        if self._status is not None:
            return self._status
        fd = os.pidfd_open(self.pid)
        try:
            ready, _, _ = select.select([fd], [], [], PATIENCE_S)
            assert ready, f"the worker did not exit in {PATIENCE_S:g}s; it said:\n{self.output()}"
        finally:
            os.close(fd)
        return self.reap()

    def reap(self) -> int:
        """Collect the exit status. Twice is harmless."""
        if self._status is None:
            self._status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self._status

    def stop(self) -> None:
        """Be sure that it is gone."""
        if self._status is None:
            os.kill(self.pid, signal.SIGKILL)
            self.reap()

    def output(self) -> str:
        """All that it printed so far."""
        return self.spool.read_text()

    def logged(self) -> list[Message]:
        """Its structured lines."""
        return [json.loads(line) for line in self.output().splitlines() if line.startswith('{"msg"')]

    def wait_for_output(self, text: str) -> None:
        """Wait until it has printed this."""
        self.engine.until(lambda: text in self.output(), what=f"{text!r} in its output:\n{self.output()}")
