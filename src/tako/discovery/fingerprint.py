"""A fingerprint of all that decides how a worker boots: code, lock files, environment.

While it is the same, a failed boot would fail again, and a saved file that was saved unchanged is no reason to try.
Once it differs, the group's health starts anew (contract.md 3.2, row 18). Contents are hashed, not times: a checkout
or a formatter that rewrites a file with the same text changes nothing. Of the environment only what an installer
touches is looked at (the interpreter, the folders of installed packages), as their files are many.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

# What an installer resolves an environment from. Files of these names count wherever in the root they lie.
LOCK_FILES = frozenset({
    "pyproject.toml", "uv.lock", "poetry.lock", "pdm.lock", "pylock.toml", "Pipfile", "Pipfile.lock",
    "requirements.txt", "tako.toml", ".env", ".python-version",
})  # fmt: skip
# Folders that hold no code of the app, or too much of others'.
_SKIPPED = frozenset({"__pycache__", "node_modules", "site-packages", "venv", "env"})
_MAX_HASHED_BYTES = 4_000_000  # a larger source file is data; its time and size must do


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What was there. Compare digests; `changed_since` says what differs, for people."""

    digest: str
    files: Mapping[str, str]  # path relative to the root -> hash of its content
    environment: str
    stamps: Mapping[str, tuple[int, int]] = field(repr=False)  # spares reading what has not been touched

    def changed_since(self, other: Fingerprint) -> list[str]:
        """The files that differ, and "environment" if that does."""
        paths = sorted(self.files.keys() | other.files.keys())
        changed = [path for path in paths if self.files.get(path) != other.files.get(path)]
        return changed + (["environment"] if self.environment != other.environment else [])


def take(root: Path, *, python: Path | None = None, previous: Fingerprint | None = None) -> Fingerprint:
    """The fingerprint of an app as it is now.

    `python` is the interpreter that its workers run on (None: this one). `previous` spares hashing files whose
    modification time and size are as they were then.
    """
    files: dict[str, str] = {}
    stamps: dict[str, tuple[int, int]] = {}
    for path in sorted(_paths(root, "")):
        try:
            found = (root / path).stat()
            stamp = (found.st_mtime_ns, found.st_size)
            known = previous is not None and previous.stamps.get(path) == stamp
            files[path] = previous.files[path] if known and previous else _hash(root / path, stamp)
        except OSError:
            continue  # gone since its name was read: then it does not count
        stamps[path] = stamp
    environment = _environment(Path(python) if python is not None else Path(sys.executable))
    whole = hashlib.sha256(environment.encode())
    for path, digest in files.items():
        whole.update(f"{path}\0{digest}\0".encode("utf-8", "surrogateescape"))
    return Fingerprint(digest=whole.hexdigest(), files=files, environment=environment, stamps=stamps)


def counts(path: str) -> bool:
    """Whether a path, relative to the root and with slashes, is one that the fingerprint looks at."""
    *folders, name = path.split("/")
    return _is_counted(name) and not any(_is_skipped(folder) for folder in folders)


def _paths(root: Path, folder: str) -> Iterator[str]:
    try:
        with os.scandir(root / folder) as entries:
            found = list(entries)
    except OSError:
        return
    for entry in found:
        path = f"{folder}{entry.name}"
        if entry.is_dir(follow_symlinks=False):
            if not _is_skipped(entry.name) and not os.path.lexists(root / path / "pyvenv.cfg"):
                yield from _paths(root, f"{path}/")
        elif _is_counted(entry.name) and entry.is_file():
            yield path


def _is_counted(name: str) -> bool:
    return name.endswith(".py") or name in LOCK_FILES or (name.startswith("requirements") and name.endswith(".txt"))


def _is_skipped(folder: str) -> bool:
    return folder.startswith(".") or folder in _SKIPPED


def _hash(path: Path, stamp: tuple[int, int]) -> str:
    if stamp[1] > _MAX_HASHED_BYTES:
        return f"{stamp[0]}-{stamp[1]}"
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _environment(python: Path) -> str:
    """The interpreter and the folders that an installer writes to: path, time of last change."""
    parts = [str(python), _stamp_text(Path(os.path.realpath(python)))]
    # The path as given, not resolved: a virtual environment's interpreter is a link out of it.
    prefix = python.parent.parent
    for packages in sorted(prefix.glob("lib/python3*/site-packages")):
        parts += [str(packages), _stamp_text(packages)]
        # An upgrade in place changes the time of the folder only by way of the new .dist-info; an editable
        # install changes no folder but the file that points to the source.
        parts += [f"{pth.name} {_stamp_text(pth)}" for pth in sorted(packages.glob("*.pth"))]
    parts.append(_stamp_text(prefix / "pyvenv.cfg"))
    return "\n".join(parts)


def _stamp_text(path: Path) -> str:
    try:
        found = path.stat()
    except OSError:
        return "gone"
    return f"{found.st_mtime_ns}-{found.st_size}"
