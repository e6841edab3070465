"""A web instance as its daemon sees it: a real process, its listener, its line, and requests to its sockets."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from tako.protocol import control, envelope, framing
from tako.supervisor import spawn

PATIENCE_S = 30.0


class Instance:
    """An instance in `folder`. A `with` starts it and ends it; sockets and output lie in `folder/run`."""

    def __init__(
        self,
        folder: Path,
        main: str = "",
        *,
        command: Sequence[str] = (),
        listen: str = "port",
        access_log: bool = False,
        start_timeout_ms: int = 30_000,
        drain_timeout_ms: int = 5_000,
        orphan_timeout_ms: int = 0,
        env: dict[str, str] | None = None,
        secrets: dict[str, str] | None = None,
        listener: socket.socket | None = None,
    ) -> None:
        self.folder = folder
        self.run = folder / "run"
        self.run.mkdir(exist_ok=True)
        self.number = len(list(self.run.glob("*.spool")))
        self.spool = self.run / f"{self.number}.spool"
        self.spool.touch()
        self.arguments = control.Arguments(
            main=main, command=command, listen=listen, access_log=access_log,
            start_timeout_ms=start_timeout_ms, drain_timeout_ms=drain_timeout_ms,
            orphan_timeout_ms=orphan_timeout_ms,
        )  # fmt: skip
        self.private = self.run / f"{self.number}.p"
        self.control = self.run / f"{self.number}.c"
        self.env = {
            "PATH": os.environ["PATH"],
            "PYTHONUNBUFFERED": "1",
            control.PRIVATE_SOCKET: str(self.private),
            control.CONTROL_SOCKET: str(self.control),
            **(env or {}),
        }
        self.envelope = envelope.build(token="token", secrets=secrets or {})
        self.listener = listener or listen_at(self.run / "app.sock")
        self._owns_listener = listener is None
        self.line, self._theirs = socket.socketpair()
        self.line.settimeout(PATIENCE_S)
        self._framer = framing.Framer()
        self._heard: list[dict[str, Any]] = []
        self.pid = 0
        self.exit_code: int | None = None

    # --- life -------------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        request = spawn.SpawnRequest(
            argv=control.argv(sys.executable, self.arguments),
            env=self.env,
            cwd=self.folder,
            envelope=self.envelope,
            spool=self.spool,
            fds={control.CONTROL_FD: self._theirs.fileno(), control.LISTENER_FD: self.listener.fileno()},
        )
        self.pid = spawn.start(request)
        self._theirs.close()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            print(f"--- output of the instance:\n{self.output()}")
        if self.exit_code is None:
            os.killpg(self.pid, signal.SIGKILL)
            self.wait()
        self.line.close()
        if self._owns_listener:
            self.listener.close()

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self, within_s: float = PATIENCE_S) -> int:
        """Its exit code; negative for a signal."""
        if self.exit_code is None:
            pidfd = os.pidfd_open(self.pid)
            try:
                signal.signal(signal.SIGALRM, _late)
                signal.setitimer(signal.ITIMER_REAL, within_s)
                _, status = os.waitpid(self.pid, 0)
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
                os.close(pidfd)
            self.exit_code = os.waitstatus_to_exitcode(status)
        return self.exit_code

    # --- the line ---------------------------------------------------------------------------------------------------

    def tell(self, do: str, **fields: object) -> None:
        self.line.sendall(framing.encode({"do": do, **fields}))

    def hear(self, ev: str) -> dict[str, Any]:
        """The next message of this kind; others before it are skipped."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            while self._heard:
                message = self._heard.pop(0)
                if message["ev"] == ev:
                    return message
            assert time.monotonic() < deadline, f"no {ev!r} from the instance:\n{self.output()}"
            data = self.line.recv(65536)
            assert data, f"the line ended before {ev!r}:\n{self.output()}"
            self._heard += self._framer.feed(data)

    def started(self) -> Self:
        """Wait until it is ready, and have it serve."""
        self.hear("ready")
        self.tell("serve")
        self.hear("serving")
        return self

    # --- what it says and answers -----------------------------------------------------------------------------------

    def output(self) -> str:
        return self.spool.read_text(errors="replace")

    def client(self, path: Path | None = None) -> httpx.Client:
        uds = str(path or self.run / "app.sock")
        return httpx.Client(
            transport=httpx.HTTPTransport(uds=uds), base_url="http://shop.localhost", timeout=PATIENCE_S
        )

    def get(self, path: str, *, socket_path: Path | None = None, **options: Any) -> httpx.Response:
        with self.client(socket_path) as client:
            return client.get(path, **options)


def listen_at(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(2048)
    return listener


def _late(number: int, frame: object) -> None:
    raise AssertionError("the process did not end in time")


def until(condition: Callable[[], object], *, within_s: float = PATIENCE_S) -> None:
    """Return when the condition holds: for what only shows in a file or a process table."""
    looked = threading.Event()
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        looked.wait(0.02)
