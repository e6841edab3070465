"""`tako-server --foreground` as a process, and a client of its management socket that deploys folders."""

from __future__ import annotations

import base64
import hashlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from tako.errors import from_reply
from tako.protocol import framing
from tako.protocol.management import MAX_PIECE_BYTES
from tests.support.dev import PATIENCE_S, until
from tests.support.load import Load
from tests.support.ports import free_port
from tests.support.shop import shop

SERVER = str(Path(sys.executable).with_name("tako-server"))
VENV = Path(sys.executable).parents[1]
SKIPPED = {"__pycache__", ".tako", ".venv", ".git"}

Event = dict[str, Any]


class Refused(AssertionError):
    """A deploy that did not end as it should; `events` are what it told."""

    def __init__(self, events: list[Event]) -> None:
        self.events = events
        super().__init__("\n".join(f"{each['phase']:8} {each['event']:8} {each['message']}" for each in events))


class Client:
    """One connection to the management socket. Commands wait for their answer; lines that come between are kept."""

    def __init__(self, path: Path, *, by: str = "ann@test") -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(PATIENCE_S)
        try:
            self.socket.connect(str(path))
        except OSError:
            self.socket.close()
            raise
        self._framer = framing.Framer(max_bytes=None)
        self._lines: list[dict[str, Any]] = []
        self.by = by
        try:
            self.server = self.ask("hello", protocol=1, by=by, version="test")
        except OSError:
            self.socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def send(self, command: str, **fields: Any) -> None:
        self.socket.sendall(framing.encode({"command": command, **fields}))

    def line(self) -> dict[str, Any]:
        while not self._lines:
            data = self.socket.recv(1 << 16)
            if not data:
                raise ConnectionError("the server closed the connection")
            self._lines += self._framer.feed(data)
        return self._lines.pop(0)

    def ask(self, command: str, **fields: Any) -> Any:
        """The answer's data. Raises the TakoError that it is."""
        self.send(command, **fields)
        kept = []
        while "status" not in (reply := self.line()):
            kept.append(reply)
        self._lines = kept + self._lines
        if reply["status"] == "error":
            raise from_reply(reply)
        return reply["data"]

    # --- deploys ----------------------------------------------------------------------------------------------------

    def upload(self, app: str, folder: Path, release: str, *, env: str = "production", **begin: Any) -> Any:
        """`deploy.begin`, and all blobs that are missing. Returns what begin answered."""
        entries, contents = manifest_of(folder)
        begun = self.ask("deploy.begin", app=app, env=env, release=release, manifest=entries, by=self.by, **begin)
        for digest in begun["need"]:
            self.put(begun["job"], digest, contents[digest])
        return begun

    def put(self, job: str, digest: str, content: bytes) -> None:
        for offset in range(0, max(1, len(content)), MAX_PIECE_BYTES):
            piece = zlib.compress(content[offset : offset + MAX_PIECE_BYTES], 1)
            self.ask(
                "blob.put", job=job, sha256=digest, offset=offset, data=base64.b64encode(piece).decode(), zlib=True
            )

    def follow(self, job: str, *, after: int = 0) -> Iterator[Event]:
        """The events of a job up to `finished`."""
        self.ask("deploy.attach", job=job, after=after)
        while True:
            event = self.line()
            assert event.get("push") == "deploy", event
            yield event
            if event["event"] == "finished":
                return

    def deploy(
        self, app: str, folder: Path, release: str, *, env: str = "production", outcome: str = "live",
        hold: bool = False, secrets: Mapping[str, str] | None = None, **begin: Any,
    ) -> list[Event]:  # fmt: skip
        """Deploy a folder, and return what it told; it must end with this outcome."""
        begun = self.upload(app, folder, release, env=env, **begin)
        if secrets is not None:
            self.ask("secrets.put", app=app, env=env, secrets=dict(secrets), by=self.by, job=begun["job"])
        self.ask("deploy.commit", job=begun["job"], hold=hold)
        return self.ended(begun["job"], outcome=outcome)

    def ended(self, job: str, *, outcome: str = "live") -> list[Event]:
        """What a job has told up to its end, which must be this one."""
        events = list(self.follow(job))
        if events[-1]["outcome"] != outcome:
            raise Refused(events)
        return events

    def until_phase(self, job: str, phase: str, event: str = "begin") -> Event:
        """Follow a job until this event of a phase."""
        for found in self.follow(job):
            if (found["phase"], found["event"]) == (phase, event):
                return found
            if found["event"] == "finished":
                break
        raise AssertionError(f"{job} never told {event} of {phase}")

    def rollback(self, app: str, *, env: str = "production", outcome: str = "live", **fields: Any) -> list[Event]:
        job = self.ask("rollback", app=app, env=env, by=self.by, **fields)["job"]
        return self.ended(job, outcome=outcome)


def manifest_of(folder: Path) -> tuple[list[dict[str, Any]], dict[str, bytes]]:
    """The files of a folder as a manifest, and their contents by hash."""
    entries, contents = [], {}
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or SKIPPED & set(path.relative_to(folder).parts):
            continue
        content = path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        contents[digest] = content
        mode = 0o755 if path.stat().st_mode & 0o100 else 0o644
        entries.append(
            {"path": path.relative_to(folder).as_posix(), "mode": mode, "size": len(content), "sha256": digest}
        )
    return entries, contents


def phases_of(events: list[Event]) -> list[str]:
    """The phases that were gone through, in order."""
    return [event["phase"] for event in events if event["event"] == "done"]


def finished(events: list[Event]) -> Event:
    return events[-1]


def failed(events: list[Event]) -> Event:
    """The event of the phase that failed."""
    return next(event for event in events if event["event"] == "failed")


class Server:
    """`tako-server --foreground --spawner=plain` with folders of its own. A `with` starts it and ends all of it."""

    def __init__(
        self, folder: Path, *arguments: str, watch_s: float = 0.4, env: Mapping[str, str] | None = None
    ) -> None:
        self.data = folder / "server"
        self._short = tempfile.TemporaryDirectory(prefix="tako-s-", dir="/tmp")
        self.run = Path(self._short.name)
        self.port = free_port()
        self.arguments = [
            "--foreground", "--spawner=plain", f"--data-dir={self.data}", f"--run-dir={self.run}",
            f"--http=127.0.0.1:{self.port}", f"--venv={VENV}", f"--watch={watch_s}", *arguments,
        ]  # fmt: skip
        self.env = {name: value for name, value in os.environ.items() if not name.startswith(("TAKO_", "XDG_"))}
        self.env |= env or {}
        self.lines: list[str] = []
        self.process: subprocess.Popen[str] | None = None
        self._news = threading.Condition()
        self._reader: threading.Thread | None = None

    # --- life -------------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            print(f"--- tako-server said:\n{self.output()}")
        try:
            self.stop()
        finally:
            self.kill_all()
            self._short.cleanup()

    def start(self, *, crash_at: str | None = None, wait: bool = True) -> Self:
        env = {**self.env, "TAKO_CRASH_AT": crash_at} if crash_at else self.env
        seen = len(self.lines)
        self.process = subprocess.Popen(
            [SERVER, *self.arguments], env=env, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, args=(self.process,), daemon=True)
        self._reader.start()
        if wait:
            self._wait_for("is ready at", after=seen)
        return self

    def refuses_to_start(self) -> str:
        """Start it: it must end by itself, with 1. What it said."""
        seen = len(self.lines)
        self.start(wait=False)
        assert self.process is not None
        assert self.process.wait(30) == 1, self.output()
        self._close()
        return "\n".join(self.lines[seen:])

    def stop(self) -> None:
        """Ctrl-C: drains all and ends."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(10)
                raise AssertionError(f"tako-server did not stop:\n{self.output()}") from None
        self._close()

    def kill(self) -> None:
        """SIGKILL to the daemon alone; what it started lives on."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)
        self._close()

    def terminate(self) -> None:
        """SIGTERM, as systemd sends it: the daemon lets go of everything, and ends."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(30) == 0, self.output()
        self._close()

    def died(self, *, within_s: float = PATIENCE_S) -> None:
        """Wait for its death by a fail point."""
        assert self.process is not None
        assert self.process.wait(within_s) == -signal.SIGKILL, self.output()
        self._close()

    def restart(self, *, crash_at: str | None = None) -> Self:
        self.kill()
        return self.start(crash_at=crash_at)

    def kill_all(self) -> None:
        """Whatever of ours still lives."""
        for pid in self.pids():
            try:
                os.killpg(os.getpgid(pid), signal.SIGKILL)
            except ProcessLookupError:
                continue

    def pids(self) -> list[int]:
        """All processes that were started by this server or one before it with the same folders."""
        mark = f"TAKO_INTERNAL_SOCKET={self.run}/".encode()
        found = []
        for folder in Path("/proc").iterdir():
            try:
                if folder.name.isdecimal() and mark in (folder / "environ").read_bytes():
                    found.append(int(folder.name))
            except OSError:
                continue
        return found

    def processes(self) -> list[str]:
        """The same, as people see them."""
        found = []
        for pid in self.pids():
            try:
                words = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
                marks = Path(f"/proc/{pid}/environ").read_text().split("\0")
            except OSError:
                continue
            mine = [each for each in marks if each.startswith(("TAKO_BUILD", "TAKO_INSTANCE"))]
            found.append(f"{pid} {' '.join(mine)} {words[:80]}")
        return found

    def until_alone(self) -> None:
        """Wait until nothing of ours runs but one instance, and workers that the engine knows."""

        def is_alone() -> bool:
            groups = self.status()["engine"]["groups"]
            known = {worker["pid"] for group in groups for worker in group["workers"]}
            return len(set(self.pids()) - known) == 1

        try:
            until(is_alone, what="nothing is left behind but the instance that serves")
        except AssertionError as error:
            raise AssertionError("\n".join([str(error), *self.processes()])) from None

    def _close(self) -> None:
        assert self.process is not None
        if self._reader is not None:
            self._reader.join(5)
        if self.process.stdout is not None and not (self._reader and self._reader.is_alive()):
            self.process.stdout.close()

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for text in process.stdout:
            with self._news:
                self.lines.append(text.rstrip("\n"))
                self._news.notify_all()
        with self._news:
            self._news.notify_all()

    def _wait_for(self, words: str, *, after: int) -> None:
        deadline = time.monotonic() + PATIENCE_S
        with self._news:
            while not any(words in line for line in self.lines[after:]):
                assert self.process is not None
                left = deadline - time.monotonic()
                assert left > 0 and self.process.poll() is None, f"tako-server did not start:\n{self.output()}"
                self._news.wait(min(left, 0.5))

    def output(self) -> str:
        with self._news:
            return "\n".join(self.lines)

    # --- talking to it ----------------------------------------------------------------------------------------------

    def client(self, *, by: str = "ann@test") -> Client:
        return Client(self.run / "tako.sock", by=by)

    def get(self, path: str, *, host: str = "shop.localhost", **options: Any) -> httpx.Response:
        return httpx.get(f"http://127.0.0.1:{self.port}{path}", headers={"Host": host}, timeout=PATIENCE_S, **options)

    def post(self, path: str, *, host: str = "shop.localhost", **options: Any) -> httpx.Response:
        return httpx.post(f"http://127.0.0.1:{self.port}{path}", headers={"Host": host}, timeout=PATIENCE_S, **options)

    def status(self, app: str = "shop", env: str = "production") -> Any:
        with self.client() as client:
            return client.ask("app.status", app=app, env=env)

    def until_status(self, look: Any, *, what: str, app: str = "shop") -> Any:
        """The status, as soon as `look` finds it right."""

        def found() -> Any:
            status = self.status(app)
            return status if look(status) else None

        return until(found, what=what)

    def engine(self, app: str = "shop", env: str = "production") -> Engine:
        return Engine(self, app, env)


class App:
    """One app of a server: its releases, made by `shop`, and what can be asked of it. Close it, or use a `with`."""

    def __init__(self, server: Server, name: str, folder: Path) -> None:
        self.server = server
        self.name = name
        self.host = f"{name}.localhost"
        self.folder = folder / name
        self.folder.mkdir(exist_ok=True)
        self.client = server.client()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.client.socket.close()

    def reconnect(self) -> None:
        """Another connection, to a daemon that was started anew."""
        self.client.socket.close()
        self.client = self.server.client()

    def deploy(
        self, release: str, *, outcome: str = "live", begin: Mapping[str, Any] | None = None, **files: Any
    ) -> list[Event]:
        """Deploy a shop with this release's name in it; it must end with this outcome."""
        return self.client.deploy(
            self.name, shop(self.folder, release, **files), release, outcome=outcome, **(begin or {})
        )

    def begin(self, release: str, **files: Any) -> str:
        """Upload a release and commit it; the job."""
        job: str = self.client.upload(self.name, shop(self.folder, release, **files), release)["job"]
        self.client.ask("deploy.commit", job=job)
        return job

    def ask(self, command: str, **fields: Any) -> Any:
        return self.client.ask(command, app=self.name, env="production", **fields)

    def rollback(self, *, outcome: str = "live", **fields: Any) -> list[Event]:
        return self.client.rollback(self.name, outcome=outcome, **fields)

    def status(self) -> Any:
        return self.server.status(self.name)

    def until(self, look: Callable[[Any], object], *, what: str) -> Any:
        """The status, as soon as `look` finds it right."""
        return self.server.until_status(look, what=what, app=self.name)

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.server.get(path, host=self.host, **options)

    def load(self, **options: Any) -> Load:
        return Load(self.server.port, host=self.host, **options)

    def engine(self) -> Engine:
        return self.server.engine(self.name)

    @property
    def data(self) -> Path:
        return self.server.data / "apps" / self.name / "production"

    @property
    def listener(self) -> Path:
        return self.server.run / "apps" / self.name / "production" / "app.sock"

    def ledger(self) -> list[list[str]]:
        """What its workflows have done: begin or end, run, release, pid."""
        path = self.data / "data" / "app" / "ledger"
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []

    def logs(self, **fields: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.ask("logs", **{"limit": 10_000, **fields})["lines"]
        return found


class Engine:
    """The app's own socket, by `connect`: what `tako runs` would ask."""

    def __init__(self, server: Server, app: str, env: str) -> None:
        self._client = server.client()
        self._client.ask("connect", app=app, env=env)
        self.app = app

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.socket.close()

    def ask(self, command: str, **fields: Any) -> Any:
        return self._client.ask(command, app=self.app, **fields)

    def runs(self, **fields: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        after = None
        while True:
            page = self.ask("list_runs", limit=1000, **fields, **({"after": after} if after else {}))
            found += page["runs"]
            after = page["next"]
            if after is None:
                return found
