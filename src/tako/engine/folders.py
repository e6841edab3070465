"""Names that survive a power cut. What is written into a file is safe after its fsync; that it has a name, after its
folder's."""

from __future__ import annotations

import os
from pathlib import Path


def sync(folder: Path) -> None:
    """Make what was made, renamed and removed in the folder durable."""
    _fsync(folder)


def sync_all(folder: Path) -> None:
    """Make all that is in the folder durable, and the folder itself."""
    for path in folder.rglob("*"):
        if not path.is_symlink() and (path.is_dir() or path.is_file()):
            _fsync(path)
    _fsync(folder)
    _fsync(folder.parent)


def put(part: Path, target: Path) -> None:
    """Give a finished file its name, in one step, and make both durable. What had the name before is gone."""
    _fsync(part)
    part.replace(target)
    _fsync(target.parent)


def _fsync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
