"""The report of a bug: where it happened and on what, never with which data.

An exception's message and the command line may quote a payload or a secret, so neither is written: type, files, lines
and versions are. `TAKO_DEBUG=1` shows the rest to the person at the terminal.
"""

from __future__ import annotations

import os
import platform
import sys
import tempfile
import time
import traceback
from pathlib import Path


def place_of(error: BaseException) -> str:
    """Where it was raised, as near as the traceback tells: `in cli/commands/runs.py:42`."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"in {_short(frames[-1].filename)}:{frames[-1].lineno}" if frames else "in an unknown place"


def write(error: BaseException, command: str) -> Path:
    """Write the report to a file that only this user can read, and return its path."""
    fd, path = tempfile.mkstemp(prefix=time.strftime("tako-bug-%Y%m%d-%H%M%S-"), suffix=".txt")
    with os.fdopen(fd, "w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(text(error, command))
    return Path(path)


def text(error: BaseException, command: str) -> str:
    """The report. `command` is the command without its arguments."""
    lines = [
        f"command: {command}",
        f"time: {time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())}",
        f"python: {platform.python_version()} on {platform.system()} {platform.release()} {platform.machine()}",
        f"tako: {_version()}",
        "",
    ]
    chain: BaseException | None = error
    while chain is not None:
        lines.append(f"{type(chain).__module__}.{type(chain).__qualname__} (its message is left out)")
        # Source lines are code, not data; locals are data and are left out.
        frames = traceback.extract_tb(chain.__traceback__)
        lines += [f"  {_short(frame.filename)}:{frame.lineno} in {frame.name}: {frame.line}" for frame in frames]
        chain = chain.__cause__ or (None if chain.__suppress_context__ else chain.__context__)
        if chain is not None:
            lines.append("caused by")
    return "\n".join(lines) + "\n"


def _version() -> str:
    from importlib import metadata

    try:
        return metadata.version("tako-py")
    except metadata.PackageNotFoundError:
        return "not installed"


def _short(filename: str) -> str:
    """A path from the package on, or the file's name: a home folder's name is nobody's business."""
    package = str(Path(__file__).resolve().parents[1]) + os.sep
    if filename.startswith(package):
        return filename[len(package) :]
    return next(
        (filename[len(p) + 1 :] for p in sys.path if p and filename.startswith(p + os.sep)), Path(filename).name
    )
