"""A daemon with its app, and what a measurement asks of it: begin a run, wait for a line of the ledger, let one go."""

from __future__ import annotations

import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from reliability.daemon import Daemon
from reliability.recovery import shop
from tako.protocol import ids
from tako.rpc.client import Client

LOOK_AGAIN_S = 0.002
PATIENCE_S = 90.0


class Line(NamedTuple):
    """A line of the ledger. `process_at`: when the process that wrote it had begun."""

    what: str
    words: tuple[str, ...]
    pid: int
    process_at: float
    at: float

    @property
    def boot_s(self) -> float:
        """B, when it is the first line of a handler in a new worker."""
        return self.at - self.process_at


class Scene:
    """Use it in a `with`."""

    def __init__(self, *, groups: int, boot_timeout: str = "30s", hangs: bool = False) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="tako-recovery-")
        base = Path(self._folder.name)
        self._ledger = base / "ledger.txt"
        self._ledger.touch()
        self.root = base / "shop"
        self.root.mkdir()
        files = shop.files(self._ledger, groups=groups, boot_timeout=boot_timeout, hangs=hangs)
        self.daemon = Daemon(self.root, files)
        self.groups = [f"g{number}" for number in range(groups)]

    def __enter__(self) -> Self:
        self.daemon.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            print(self.daemon.tail(80))
        self.daemon.__exit__(kind, error, trace)
        self._folder.cleanup()

    def enqueue(self, workflow: str, *, timeout_s: float = 30.0) -> str:
        """Enqueue a run, as soon as the engine takes it; its id."""
        run_id = ids.uuid7()
        place = self.daemon.place()
        client = Client(place["socket"], place["app"])
        runs = [{"id": run_id, "workflow": workflow, "payload_json": "{}", "if_unhealthy": "hold"}]
        try:
            client.call("enqueue_runs", {"runs": runs}, deadline_s=timeout_s)
        finally:
            client.close()
        return run_id

    def lines(self, what: str, *words: str, after: float = 0.0) -> list[Line]:
        """The lines of the ledger that begin so, from a moment on."""
        found = []
        for text in self._ledger.read_text().splitlines():
            kind, *more, pid, process_at, at = text.split()
            if kind == what and tuple(more[: len(words)]) == words and float(at) > after:
                found.append(Line(kind, tuple(more), int(pid), float(process_at), float(at)))
        return found

    def wait(self, what: str, *words: str, after: float = 0.0, timeout_s: float = PATIENCE_S) -> Line:
        """The first such line."""
        deadline = time.monotonic() + timeout_s
        while not (found := self.lines(what, *words, after=after)):
            if time.monotonic() > deadline:
                raise AssertionError(f"no line {what} {words} after {after:.1f} within {timeout_s:g} s")
            time.sleep(LOOK_AGAIN_S)
        return found[0]

    def begin(self, workflow: str) -> tuple[str, Line]:
        """Enqueue a run and wait until it runs."""
        run_id = self.enqueue(workflow)
        return run_id, self.wait("started", run_id)

    def let_go(self, *run_ids: str) -> None:
        """Let runs end."""
        for run_id in run_ids:
            (self.root / "go" / run_id).touch()

    def let_eat(self, run_id: str) -> None:
        """Let a run want more and more memory."""
        (self.root / "go" / f"{run_id}.eat").touch()

    def daemon_waited_s(self) -> float:
        """For how long the daemon's threads, which wait for each other, were ready and had no CPU, since its start."""
        assert self.daemon.process is not None
        waited_ns = 0
        with suppress(OSError):
            for task in Path(f"/proc/{self.daemon.process.pid}/task").iterdir():
                with suppress(OSError):  # that thread has just ended
                    waited_ns += int((task / "schedstat").read_text().split()[1])
        return waited_ns / 1e9

    def health(self, group: str) -> dict[str, Any]:
        """A group's health."""
        found: dict[str, Any] = self.daemon.ask("health", group=group)["groups"][0]
        return found


class Delay:
    """How late a sleeping thread wakes up: what a busy machine costs everybody. Use it in a `with`."""

    NAP_S = 0.005

    def __init__(self) -> None:
        self.late_s: list[float] = []
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._measure, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _measure(self) -> None:
        while not self._is_over.is_set():
            began = time.monotonic()
            time.sleep(self.NAP_S)
            self.late_s.append(time.monotonic() - began - self.NAP_S)

    def p99_s(self) -> float:
        """Of a hundred naps, the worst but one was this late."""
        late = sorted(self.late_s)
        return late[int(len(late) * 0.99)] if late else 0.0
