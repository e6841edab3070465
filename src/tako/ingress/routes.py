"""The folder of the apps that run on this machine: a link to the socket of each, and a lock that tells whose it is.

A lock (flock) and not a pid alone: it ends with its process, whatever ends that, so a name is never taken by a
`tako dev` that is gone. The link stays behind then, and whoever comes next replaces it.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tako.errors import TakoError

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,120}[a-z0-9])?")


class NameTaken(TakoError):
    """Another `tako dev` serves an app of this name."""

    code = "name_taken"


@dataclass(frozen=True, slots=True)
class Running:
    """An app that somebody serves: the folder it is in, and the plain port it also answers at."""

    name: str
    root: str
    pid: int
    port: int


class Route:
    """A name that is ours until `withdraw`."""

    def __init__(self, folder: Path, name: str, lock: int) -> None:
        self._link = folder / f"{name}.sock"
        self._lock = lock

    def withdraw(self) -> None:
        """Give the name back. Twice does no harm."""
        lock, self._lock = self._lock, -1
        if lock < 0:
            return
        self._link.unlink(missing_ok=True)
        os.ftruncate(lock, 0)  # the file stays: to remove it would take the lock from who is opening it now
        os.close(lock)


def publish(folder: Path, name: str, *, socket: Path, root: Path, port: int) -> Route:
    """Make `http://NAME.localhost:7777` lead to `socket`.

    Raises:
        NameTaken: another process serves this name; says which.
        TakoError: the name cannot be one.
    """
    if not _NAME.fullmatch(name):
        raise TakoError(f"{name[:60]!r} cannot be the name of a route.")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(folder / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = _read(folder, name)
        os.close(lock)
        whose = f"the `tako dev` in {holder.root} (pid {holder.pid})" if holder else "another `tako dev`"
        raise NameTaken(
            f"The name {name} belongs to {whose}.", cure='Give one of them another name = "…" in its tako.toml.'
        ) from None
    record = json.dumps({"root": str(root), "pid": os.getpid(), "port": port}).encode()
    os.ftruncate(lock, 0)
    os.pwrite(lock, record, 0)
    temporary = folder / f".{name}.{os.getpid()}"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(socket)
    temporary.rename(folder / f"{name}.sock")
    return Route(folder, name, lock)


def find(folder: Path, name: str) -> Path | None:
    """The socket that the name leads to; None when there never was such an app, or it has ended in good order."""
    if not _NAME.fullmatch(name):
        return None
    link = folder / f"{name}.sock"
    return link if link.is_symlink() else None


def running(folder: Path) -> list[Running]:
    """The apps that are served now, by name."""
    found = []
    with suppress(OSError):
        for path in sorted(folder.glob("*.lock")):
            app = _read(folder, path.stem)
            if app is not None and _is_alive(app.pid):
                found.append(app)
    return found


def _read(folder: Path, name: str) -> Running | None:
    try:
        found = json.loads((folder / f"{name}.lock").read_bytes())
        return Running(name=name, root=str(found["root"]), pid=int(found["pid"]), port=int(found["port"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError, OverflowError):
        return None


def _is_alive(pid: int) -> bool:
    # The lock would be exact, but to try it is to hold it for an instant, and could refuse the name to its owner.
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
