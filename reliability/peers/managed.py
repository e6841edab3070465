"""Processes as a service manager runs them (`Managed`), and the web app that asks a stack for things (`Caller`)."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RESTART_S = 1.0
# Longer than any default of theirs for an enqueue; a caller that has no answer by then has been told nothing.
PATIENCE_S = 30.0


class Managed:
    """A process that is started again a second after it has ended, as by systemd's Restart=always."""

    def __init__(self, argv: Sequence[str], *, folder: Path, environ: Mapping[str, str], log: Path) -> None:
        self._argv, self._folder, self._environ, self._log = list(argv), folder, dict(environ), log
        self._is_over = threading.Event()
        self._thread: threading.Thread | None = None
        self.process: subprocess.Popen[bytes] | None = None
        self.starts = 0

    def start(self) -> None:
        """Start it, and go on doing so."""
        self._is_over.clear()
        self._launch()
        self._thread = threading.Thread(target=self._keep, daemon=True)
        self._thread.start()

    def _launch(self) -> None:
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                self._argv, cwd=self._folder, env=self._environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        self.starts += 1

    def _keep(self) -> None:
        while True:
            assert self.process is not None
            self.process.wait()
            if self._is_over.wait(RESTART_S):
                return
            self._launch()

    def kill(self) -> None:
        """SIGKILL to all of its processes; they are started again."""
        assert self.process is not None
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def stop(self) -> None:
        """SIGKILL, and no more starts."""
        self._is_over.set()
        if self.process is not None:
            self.kill()
            self.process.wait()
        if self._thread is not None:
            self._thread.join()
            self._thread = None


@dataclass(frozen=True, slots=True)
class Told:
    """What a caller was told. `error` None: yes. `took_s` None: nothing, within PATIENCE_S."""

    took_s: float | None
    error: str | None = None
    state: str = ""

    @property
    def is_yes(self) -> bool:
        """Whether it was acknowledged."""
        return self.took_s is not None and self.error is None


class Caller:
    """A process of the web app; one that hangs is killed and replaced. `environ` is asked at each start."""

    def __init__(
        self, argv: Sequence[str], *, folder: Path, environ: Callable[[], Mapping[str, str]], log: Path
    ) -> None:
        self._argv, self._folder, self._environ, self._log = list(argv), folder, environ, log
        self._process: subprocess.Popen[str] | None = None
        self._lines: queue.Queue[str | None] = queue.Queue()

    @property
    def pid(self) -> int | None:
        """Of its process, None when there is none."""
        return None if self._process is None else self._process.pid

    def enqueue(self, kind: str, key: str, *, patience_s: float = PATIENCE_S) -> Told:
        """Ask for a task."""
        return self._ask({"do": "enqueue", "kind": kind, "key": key}, patience_s=patience_s)

    def state(self, key: str) -> str:
        """What the stack says of it."""
        told = self._ask({"do": "state", "key": key}, patience_s=10.0)
        if told.took_s is None:
            return "no answer"
        return told.state if told.error is None else told.error

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _ask(self, request: dict[str, str], *, patience_s: float) -> Told:
        try:
            if self._process is None:
                self._start()
            process = self._process
            assert process is not None
            assert process.stdin is not None
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            line = self._lines.get(timeout=patience_s)
        except queue.Empty:
            self.close()
            return Told(None)
        except (OSError, AssertionError) as error:
            self.close()
            return Told(0.0, f"the caller cannot start: {error}")
        if line is None:
            self.close()
            return Told(0.0, "the caller died")
        found: dict[str, Any] = json.loads(line)
        return Told(found["s"], found.get("error"), found.get("state", ""))

    def _start(self) -> None:
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                self._argv, cwd=self._folder, env=self._environ(), text=True, stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=log, start_new_session=True,
            )  # fmt: skip
        self._lines = queue.Queue()
        threading.Thread(target=self._read, args=(self._process, self._lines), daemon=True).start()
        if self._lines.get(timeout=60) is None:
            raise AssertionError("it ended before it was ready")

    @staticmethod
    def _read(process: subprocess.Popen[str], lines: queue.Queue[str | None]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.put(line)
        lines.put(None)
