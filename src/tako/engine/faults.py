"""What an error of SQLite means for the caller and for the daemon: wait and try again, or stop before harm is done."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
from pathlib import Path

from tako.errors import StoreDamaged, StoreUnavailable, TakoError

# A store whose file system has less than this left is full, whichever of SQLite's errors tells it.
_FULL_BYTES = 1024 * 1024


def explain(error: sqlite3.Error | OSError, *, path: Path | None, at_commit: bool = False) -> TakoError | None:
    """The error a caller should get for SQLite's, or None when it is not the storage but the statement (a bug of ours).
    An OSError is of a sync of ours. `at_commit`: it was COMMIT that failed.

    StoreUnavailable: nothing was stored, and it may be tried again. StoreDamaged: the file or its disk cannot be
    trusted any more, and whether the transaction was stored is not known: stop, answer nobody.
    """
    where = str(path) if path else "the store"
    if isinstance(error, OSError):
        return _damaged(f"{where}: the disk did not take what was written (fsync failed): {error}.", error)
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return None
    primary = code & 0xFF
    if primary == sqlite3.SQLITE_FULL:
        return _disk_full(where, error)
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return _locked(where, path, error)
    if code in (sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC):
        return _damaged(f"{where}: the disk did not take what was written (fsync failed): {error}.", error)
    if primary in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN) and path is not None and _is_full(path):
        # COMMIT writes and syncs the log, then its index (-shm), for which there may be no room: the log is complete
        # then, and an engine that starts on it finds the transaction, unless another one has been written over it.
        return _disk_full(where, error, is_certain=not at_commit)
    if primary in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CANTOPEN,
                   sqlite3.SQLITE_READONLY):  # fmt: skip
        return _damaged(f"{where} cannot be used: {error}.", error)
    return None


def lock_holders(path: Path) -> list[tuple[int, str]]:
    """Other processes that hold a lock on the store, as (pid, command); empty where /proc/locks does not tell."""
    inodes = set()
    for suffix in ("", "-shm", "-wal"):
        try:
            found = path.with_name(path.name + suffix).stat()
        except OSError:
            continue
        inodes.add(f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}")
    try:
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return []
    # "1: POSIX  ADVISORY  WRITE 1234 fe:00:5678 120 120"; a waiter has "->" in its second place.
    words = [[word for word in line.split() if word != "->"] for line in lines]
    pids = {int(word[4]) for word in words if len(word) > 5 and word[5] in inodes}
    return [(pid, _command(pid)) for pid in sorted(pids - {os.getpid()}) if pid > 0]


def _disk_full(where: str, error: Exception, *, is_certain: bool = True) -> StoreUnavailable:
    what = "nothing was stored" if is_certain else "whether this was stored is not known"
    found = StoreUnavailable(
        f"the disk of {where} is full; {what}.",
        cure="Make room on it: everything goes on by itself, without a restart.",
        detail={"reason": "DISK_FULL"} if is_certain else {"reason": "DISK_FULL", "outcome": "unknown"},
    )
    found.__cause__ = error
    return found


def _locked(where: str, path: Path | None, error: Exception) -> StoreUnavailable:
    holders = lock_holders(path) if path else []
    named = ", ".join(f"pid {pid} ({command})" for pid, command in holders) or "another process, which cannot be seen"
    found = StoreUnavailable(
        f"{where} is locked by {named}; nothing was stored.",
        cure="Stop that process: nothing but the engine may open the file. Read it through `tako runs`.",
        detail={"reason": "DB_LOCKED", "holders": [{"pid": pid, "command": command} for pid, command in holders]},
    )
    found.__cause__ = error
    return found


def _damaged(message: str, error: Exception) -> StoreDamaged:
    found = StoreDamaged(message, cure="See to the disk; then start again, or restore a backup.")
    found.__cause__ = error
    return found


def _is_full(path: Path) -> bool:
    try:
        return shutil.disk_usage(path.parent).free < _FULL_BYTES
    except OSError as error:
        return error.errno == errno.ENOSPC


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()[:200]
    except OSError:
        return "unknown command"
