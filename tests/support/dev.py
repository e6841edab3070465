"""The installed `tako` as its user runs it: a folder of files, `tako dev` in it, commands beside it, HTTP to it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

TAKO = str(Path(sys.executable).with_name("tako"))
PATIENCE_S = 30.0

T = TypeVar("T")


@dataclass(frozen=True)
class Line:
    """A line of the screen and when it came, in seconds of the monotonic clock."""

    text: str
    at: float


@dataclass(frozen=True)
class Response:
    """What the app answered."""

    status: int
    body: str
    headers: Mapping[str, str]

    def json(self) -> Any:
        return json.loads(self.body)


class Dev:
    """`tako dev` in a folder, without a terminal. A `with` starts and stops it; `start` after `kill` is a restart."""

    def __init__(self, folder: Path, *arguments: str, env: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.arguments = arguments
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("TAKO_", "XDG_"))},
            "XDG_RUNTIME_DIR": str(runtime_folder(folder)),
            **(env or {}),
        }
        self.lines: list[Line] = []
        self.news = threading.Condition()
        self.process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None

    # --- life -------------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            print(f"--- the screen of tako dev in {self.folder}:\n{self.screen()}")
        self.stop()

    def start(self, *, ready: str | None = r"http://") -> Self:
        """Start it, and wait until the header is on the screen."""
        seen = len(self.lines)
        self.process = subprocess.Popen(
            [TAKO, "dev", *self.arguments], cwd=self.folder, env=self.env, text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, args=(self.process,), daemon=True)
        self._reader.start()
        if ready is not None:
            self.wait_for(ready, after=seen)
        return self

    def stop(self, *, timeout_s: float = 45.0) -> int | None:
        """Ctrl-C, as a terminal sends it; killed when it does not end. Returns its exit code."""
        process = self.process
        if process is None:
            return None
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self.kill()
                raise AssertionError(f"tako dev did not stop within {timeout_s} s:\n{self.screen()}") from None
        self._close()
        return process.returncode

    def kill(self) -> None:
        """SIGKILL to `tako dev` alone; what it started lives on."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)
        self._close()

    def wait(self, *, timeout_s: float = PATIENCE_S) -> int:
        """Wait until it ends by itself."""
        assert self.process is not None
        code = self.process.wait(timeout_s)
        self._close()
        return code

    def _close(self) -> None:
        assert self.process is not None
        # Processes that outlive a killed engine hold our pipe open, so the reader may not see its end: it is a
        # daemon thread, and the pipe is closed under it only when it has ended.
        if self._reader is not None:
            self._reader.join(1 if self.process.returncode else 5)
            if not self._reader.is_alive() and self.process.stdout is not None:
                self.process.stdout.close()

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for text in process.stdout:
            with self.news:
                self.lines.append(Line(text.rstrip("\n"), time.monotonic()))
                self.news.notify_all()
        with self.news:
            self.news.notify_all()

    # --- the screen -------------------------------------------------------------------------------------------------

    def screen(self) -> str:
        """All that it has printed."""
        with self.news:
            return "\n".join(line.text for line in self.lines)

    def mark(self) -> int:
        """A place on the screen: what comes after it is newer than now."""
        with self.news:
            return len(self.lines)

    def wait_for(self, pattern: str, *, after: int = 0, timeout_s: float = PATIENCE_S) -> Line:
        """The first line after a mark that the pattern is found in."""
        wanted = re.compile(pattern)
        deadline = time.monotonic() + timeout_s
        with self.news:
            while True:
                for line in self.lines[after:]:
                    if wanted.search(line.text):
                        return line
                left = deadline - time.monotonic()
                ended = self.process is not None and self.process.poll() is not None
                if left <= 0 or (ended and not self.news.wait(0.5)):
                    shown = "\n".join(line.text for line in self.lines)
                    why = "it ended" if ended else f"{timeout_s} s passed"
                    raise AssertionError(f"{pattern!r} did not appear ({why}). The screen:\n{shown}")
                self.news.wait(min(left, 0.5))

    # --- beside it --------------------------------------------------------------------------------------------------

    def tako(self, *arguments: str, timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
        """A command in the same folder."""
        return subprocess.run(
            [TAKO, *arguments], cwd=self.folder, env=self.env, text=True, capture_output=True, check=False,
            stdin=subprocess.DEVNULL, timeout=timeout_s,
        )  # fmt: skip

    def json(self, *arguments: str) -> Any:
        """What a command says with --json."""
        done = self.tako(*arguments, "--json")
        assert done.stdout, f"tako {' '.join(arguments)} --json printed nothing; stderr:\n{done.stderr}"
        return json.loads(done.stdout)

    def runs(self, *arguments: str) -> list[dict[str, Any]]:
        """The runs that `tako runs list` shows."""
        found: list[dict[str, Any]] = self.json("runs", "list", *arguments)["runs"]
        return found

    @property
    def url(self) -> str:
        """Where the app answers: the plain http://localhost:PORT of the header."""
        for line in reversed(self.lines):
            if "  dashboard " in line.text:
                continue
            if found := re.search(r"http://(localhost|127\.0\.0\.1):\d+", line.text):
                return found.group()
        raise AssertionError(f"no address on the screen:\n{self.screen()}")

    def http(self, path: str, data: Mapping[str, Any] | None = None, *, timeout_s: float = PATIENCE_S) -> Response:
        """GET, or POST of JSON when there is data. Never raises for a status."""
        request = urllib.request.Request(self.url + path)
        if data is not None:
            request.data = json.dumps(data).encode()
            request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=timeout_s) as answer:
                return Response(answer.status, answer.read().decode(), dict(answer.headers))
        except urllib.error.HTTPError as error:
            with error:
                return Response(error.code, error.read().decode(), dict(error.headers))

    def engine_json(self) -> dict[str, Any]:
        """What .tako/engine.json says."""
        found: dict[str, Any] = json.loads((self.folder / ".tako/engine.json").read_text())
        return found

    def workers(self, group: str = "default") -> list[dict[str, Any]]:
        """The group's worker processes, as the engine tells of them."""
        for health in self.json("status")["groups"]:
            if health["group"] == group:
                found: list[dict[str, Any]] = health["workers"]
                return found
        return []


def runtime_folder(folder: Path) -> Path:
    """A short runtime folder of this test's own: sockets of other tests and of the user stay untouched."""
    path = Path("/tmp") / f"tako-test-{os.getpid()}-{abs(hash(str(folder))) % 10_000_000}"
    path.mkdir(mode=0o700, exist_ok=True)
    return path


def write(folder: Path, files: Mapping[str, str]) -> None:
    """Write text files, folders included."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def until(look: Callable[[], T | None], *, what: str, timeout_s: float = PATIENCE_S) -> T:
    """Look again until there is something, with a deadline that says what was waited for.

    For what tells nobody when it happens (a process that ends, a file that appears); everything else has an event.
    """
    deadline = time.monotonic() + timeout_s
    pause = threading.Event()
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {timeout_s} s")
        pause.wait(0.02)


def kill(pid: int) -> None:
    """SIGKILL. Who has ended between the look and the signal is as dead as the test wants it."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def is_alive(pid: int) -> bool:
    """Whether the process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
