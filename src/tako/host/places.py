"""Where an app's files and sockets lie (SPEC.md section 5), and the folders made so that only their owner can enter."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from tako.engine import folders
from tako.errors import TakoError

# A socket's path may have 103 bytes where it may have least; ours add up to 45 to the runtime folder's.
MAX_RUNTIME_BYTES = 58


@dataclass(frozen=True, slots=True)
class Places:
    """The paths of one app in development. `root` is the folder `tako dev` was started in."""

    root: Path
    state: Path  # .tako
    sockets: Path

    database: Path
    lock: Path
    engine_json: Path
    secrets: Path
    logs: Path
    spool: Path
    data: Path
    internal_socket: Path
    listener_socket: Path


def runtime_folder() -> Path:
    """`XDG_RUNTIME_DIR`, else (or when its path is too long for sockets) a folder of this user in /tmp, mode 0700.

    Raises:
        TakoError: the folder belongs to somebody else, or others can enter it.
    """
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        folder = Path(runtime)
        if folder.is_dir() and os.access(folder, os.W_OK) and len(os.fsencode(folder)) <= MAX_RUNTIME_BYTES:
            return folder / "tako"
    folder = Path(f"/tmp/tako-{os.geteuid()}")  # a socket's path is at most 107 bytes, so TMPDIR is not followed
    make_private(folder)
    return folder


def places_of(root: Path) -> Places:
    """The places of the app in `root`. Makes nothing."""
    root = root.resolve()
    sockets = runtime_folder() / hashlib.sha256(str(root).encode()).hexdigest()[:16]
    return places_in(root, state=root / ".tako", sockets=sockets, secrets=root / ".tako" / "secrets.json")


def places_in(root: Path, *, state: Path, sockets: Path, secrets: Path) -> Places:
    """The usual arrangement of files in these two folders. Makes nothing."""
    return Places(
        root=root,
        state=state,
        sockets=sockets,
        database=state / "runs.db",
        lock=state / "engine.lock",
        engine_json=state / "engine.json",
        secrets=secrets,
        logs=state / "logs",
        spool=state / "spool",
        data=state / "data",
        internal_socket=sockets / "internal.sock",
        listener_socket=sockets / "app.sock",
    )


def make(places: Places) -> None:
    """Make the app's folders, private to their owner, and keep `.tako` out of git.

    Raises:
        TakoError: the folder cannot be written, or is open to others and not ours.
    """
    is_new = not places.state.exists()
    try:
        for folder in (places.state, places.logs, places.spool, places.data):
            folder.mkdir(mode=0o700, exist_ok=True)
            if (found := folder.stat()).st_uid == os.geteuid() and found.st_mode & 0o022:
                folder.chmod(stat.S_IMODE(found.st_mode) & ~0o022)  # whoever can write here can put another store in
        if is_new:  # else a power cut could take it away again, with all that had been acknowledged by then
            folders.sync(places.state.parent)
        ignore = places.state / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n")
    except OSError as error:
        raise TakoError(
            f"Tako keeps its store in {places.state}, and that folder cannot be written: {error.strerror}.",
            cure="Make the folder writable for you, or start in a copy of it.",
        ) from error
    if not os.access(places.state, os.W_OK):
        raise TakoError(
            f"Tako keeps its store in {places.state}, and that folder cannot be written.",
            cure="Make the folder writable for you, or start in a copy of it.",
        )
    make_private(places.sockets.parent)
    make_private(places.sockets)


def make_private(folder: Path) -> None:
    """Make `folder` with mode 0700, or check that it is ours and closed to others.

    Raises:
        TakoError: it is a link, somebody else's, or open to others.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise TakoError(
                f"{folder} is not a folder of yours, so sockets in it could be somebody else's.",
                cure=f"Look at `ls -ld {folder}` and remove it, or set XDG_RUNTIME_DIR to a folder of yours.",
            ) from None
        if stat.S_IMODE(found.st_mode) & 0o077:
            folder.chmod(0o700)
