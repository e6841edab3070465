"""One engine per store: a lock that dies with its holder, and `engine.json`, which tells others where the engine is."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import Any

from tako.errors import EngineRunning


class Lock:
    """The lock on a store. Held from `take` to `release`, or to the end of the process whatever its end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd: int | None = None

    @property
    def is_held(self) -> bool:
        """Whether we hold it."""
        return self._fd is not None

    def take(self) -> None:
        """Take the lock and write our pid and command into it.

        Raises:
            EngineRunning: another process holds it; the message names its pid and command.
        """
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(fd, 4096, 0).decode(errors="replace")
            os.close(fd)
            raise _held_by(self.path, holder) from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, json.dumps({"pid": os.getpid(), "command": command_of(os.getpid())}).encode(), 0)
        self._fd = fd

    def release(self) -> None:
        """Let go. The file stays: removing it would race with the next holder."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def _held_by(path: Path, holder: str) -> EngineRunning:
    try:
        found: dict[str, Any] = json.loads(holder)
        who = f"process {found['pid']} ({found['command']})"
        detail: dict[str, object] = {"pid": found["pid"], "command": found["command"]}
    except (ValueError, KeyError, TypeError, RecursionError):
        who, detail = "another process", {}
    return EngineRunning(
        f"{who} already runs the engine of {path.parent.parent}. Nothing was started.",
        cure="Use that one (`tako status`), or stop it with Ctrl-C in its terminal and start again.",
        detail=detail,
    )


def command_of(pid: int) -> str:
    """The command line of a process in one line, at most 200 characters; "" if it cannot be known."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return ""
    return b" ".join(words).decode(errors="replace").strip()[:200]


def write_engine_json(path: Path, content: dict[str, object]) -> None:
    """Tell others where the engine is; replaced in one step, readable by the owner alone."""
    temporary = path.with_suffix(".json.new")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w") as file:
        json.dump(content, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def read_engine_json(path: Path) -> dict[str, Any]:
    """What the last engine wrote; {} if none has, or what is there is not readable."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
