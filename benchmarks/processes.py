"""Processes of a benchmark: started in a session of their own, ended with everything they started."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

END_S = 5.0


def start(
    command: Sequence[str | Path], *, log: Path, cwd: Path | None = None, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start it, with its output in `log`."""
    with log.open("ab") as output:
        return subprocess.Popen(
            [str(word) for word in command], cwd=cwd, env=environment, stdin=subprocess.DEVNULL, stdout=output,
            stderr=output, start_new_session=True,
        )  # fmt: skip


def end(process: subprocess.Popen[bytes], *, with_signal: int = signal.SIGTERM) -> None:
    """Ask it to end, then kill its whole session. Twice is harmless."""
    if process.poll() is None:
        process.send_signal(with_signal)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(END_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def wait_until(path: Path, process: subprocess.Popen[bytes], *, log: Path, timeout_s: float = 30.0) -> None:
    """Wait for a socket or file to be there. Raises RuntimeError with the last lines of the log if it does not come."""
    deadline = time.monotonic() + timeout_s
    while not path.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{process.args!r} did not start:\n{last_lines(log)}")
        time.sleep(0.05)


def last_lines(log: Path, count: int = 12) -> str:
    """The end of a log, for an error's text."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-count:]) if log.exists() else "(no log)"
