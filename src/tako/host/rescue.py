"""The store's file while it is in use: is it still there, is there room for more."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from tako.engine import folders
from tako.engine.store import Store
from tako.errors import StoreDamaged, StoreUnavailable

# loud.md row 28: below the smaller of these an enqueue is refused, before SQLite meets the end of the disk.
MIN_FREE_BYTES = 256 * 1024 * 1024
MIN_FREE_SHARE = 0.05
Identity = tuple[int, int]


def identity(path: Path) -> Identity | None:
    """Which file this is, None when there is none."""
    try:
        found = os.stat(path)  # noqa: PTH116  (on the way of every enqueue)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def stamp(path: Path) -> tuple[int, int] | None:
    """Modification time and size, None when there is no such file."""
    try:
        found = os.stat(path)  # noqa: PTH116  (on the way of every enqueue)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def rescue(store: Store, path: Path) -> StoreDamaged:
    """The file was deleted or replaced under us, but we have it open: write it back under its name, if that is free.

    Call it as a rule, in the writer's thread. Returns the error that ends the engine; its text says what became of
    the data.
    """
    if path.exists():
        return StoreDamaged(
            f"{path} was replaced by another file while the engine ran. The engine stops, so that the two do not mix.",
            cure="Put the right file back and start again. What was acknowledged is in the file that was moved away.",
        )
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    part = path.with_name(f".{path.name}.rescue")
    # SQLite copies nothing out of an open transaction. What shares ours is complete, so it is made durable first.
    store.commit()
    try:
        part.unlink(missing_ok=True)
        with sqlite3.connect(part) as copy:
            store.connection.backup(copy)
        copy.close()
        part.chmod(0o600)
        folders.put(part, path)
    except (OSError, sqlite3.Error) as error:
        return StoreDamaged(f"{path} was deleted while the engine ran, and could not be written back: {error}")
    finally:
        store.begin()
    return StoreDamaged(
        f"{path.name} was deleted while the engine ran. It was written back from the open file; nothing was lost.",
        cure="Start the engine again.",
    )


def require_room(path: Path) -> None:
    """Refuse while the disk is nearly full.

    Raises:
        StoreUnavailable: names how much is left.
    """
    error = shortage(path)
    if error is not None:
        error.message = f"{error.message.removesuffix('.')}; nothing was enqueued"
        raise error


def shortage(path: Path) -> StoreUnavailable | None:
    """What is to be said while the disk of `path` is nearly full; None while it has room."""
    found = os.statvfs(path)
    free = found.f_bavail * found.f_frsize
    if free >= min(MIN_FREE_BYTES, found.f_blocks * found.f_frsize * MIN_FREE_SHARE):
        return None
    return StoreUnavailable(
        f"the disk of {path} is nearly full: {free // 1024:,} KiB left.",
        cure="Make room; the engine goes on by itself.",
        detail={"reason": "DISK_FULL"},
    )
