"""Which files were saved: watchfiles, with bursts gathered and noise left out.

An editor saves a file in several steps, and a branch is switched by hundreds of files: a set of paths is told when
nothing more has changed for 200 ms.

Each folder is watched for itself, and those that do not matter are not: the store lies in one of them, and being told
of each of its writes cost more than the writes.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path

from watchfiles import Change, awatch

BURST_MS = 200
LONGEST_BURST_MS = 2_000
POLL_MS = 500

# What tools and builds write by themselves. A folder's name counts wherever it stands below the root.
IGNORED_FOLDERS = frozenset({
    ".tako", ".venv", "venv", ".git", ".hg", ".svn", "__pycache__", "node_modules", "site-packages",
    ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis", ".tox", ".nox", ".idea", ".vscode", ".eggs",
    "build", "dist", "htmlcov",
})  # fmt: skip
IGNORED_ENDINGS = (
    ".pyc", ".pyo", ".swp", ".swo", ".swx", "~", ".tmp", ".bak", ".log", ".orig",
    ".db", ".db-wal", ".db-shm", ".db-journal", ".sqlite3", ".sqlite3-wal", ".sqlite3-shm", ".sqlite3-journal",
)  # fmt: skip
# vim tries with a file of this name whether it may write into the folder; emacs locks with `.#name`.
IGNORED_NAMES = frozenset({"4913", ".DS_Store"})
IGNORED_BEGINNINGS = (".#", "#", ".goutputstream-", "___jb_")


def is_wanted(path: Path, root: Path) -> bool:
    """Whether a change of this path can matter to the app in `root`."""
    try:
        parts = path.relative_to(root).parts
    except ValueError:
        return False
    if not parts or not IGNORED_FOLDERS.isdisjoint(parts) or any(part.endswith(".egg-info") for part in parts):
        return False
    name = parts[-1]
    return not (name in IGNORED_NAMES or name.startswith(IGNORED_BEGINNINGS) or name.lower().endswith(IGNORED_ENDINGS))


def changes(
    root: Path,
    *,
    stop: asyncio.Event | None = None,
    on_poll: Callable[[str], None] = lambda why: None,
    force_polling: bool | None = None,
) -> AsyncIterator[frozenset[Path]]:
    """The paths that were saved, made or removed below `root`, a set for each burst; ends when `stop` is set.

    When the system gives no notice of changes (too few inotify watches, a network folder) the files are looked at
    every half second instead, and `on_poll` is told why.
    """
    return _changes(root.resolve(), stop=stop, on_poll=on_poll, force_polling=force_polling)


async def _changes(
    root: Path, *, stop: asyncio.Event | None, on_poll: Callable[[str], None], force_polling: bool | None
) -> AsyncIterator[frozenset[Path]]:
    while True:
        try:
            async for burst in _bursts(root, stop=stop, force_polling=force_polling):
                yield burst
            return
        except OSError as error:
            if force_polling:
                raise
            on_poll(f"saved files are looked for every {POLL_MS} ms: {error}")
            force_polling = True


async def _bursts(
    root: Path, *, stop: asyncio.Event | None, force_polling: bool | None
) -> AsyncIterator[frozenset[Path]]:
    known = folders_of(root)
    fresh: list[Path] = []
    while True:
        bursts = _watch(root, known, stop=stop, force_polling=force_polling)
        following = asyncio.ensure_future(anext(bursts, None))
        try:
            await asyncio.sleep(0)
            # It watches now. What was saved into a new folder before that is told here.
            if saved := frozenset(path for folder in fresh for path in _files_of(folder) if is_wanted(path, root)):
                yield saved
            while (burst := await following) is not None:
                yield burst
                if any(path.is_dir() for path in burst):
                    break
                following = asyncio.ensure_future(anext(bursts, None))
            else:
                return
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
            await bursts.aclose()
        found = folders_of(root)
        fresh, known = [folder for folder in found if folder not in known], found


def _files_of(folder: Path) -> list[Path]:
    try:
        return [Path(entry.path) for entry in os.scandir(folder) if not entry.is_dir()]
    except OSError:
        return []


def folders_of(root: Path) -> list[Path]:
    """The folders that can hold something that matters, the root first."""
    found, seen = [root], {_identity(root)}
    for folder in found:
        try:
            inside = [entry for entry in os.scandir(folder) if entry.is_dir()]
        except OSError:
            continue  # it is gone again, or not ours to read
        for entry in inside:
            path = Path(entry.path)
            if is_wanted(path, root) and (identity := _identity(path)) not in seen:
                seen.add(identity)  # links may lead in a circle
                found.append(path)
    return found


def _identity(path: Path) -> tuple[int, int]:
    try:
        stat = path.stat()
    except OSError:
        return 0, 0
    return stat.st_dev, stat.st_ino


async def _watch(
    root: Path, folders: list[Path], *, stop: asyncio.Event | None, force_polling: bool | None
) -> AsyncGenerator[frozenset[Path], None]:
    def wanted(_change: Change, path: str) -> bool:
        return is_wanted(Path(path), root)

    watching = awatch(
        *folders,
        watch_filter=wanted,
        step=BURST_MS,
        debounce=LONGEST_BURST_MS,
        stop_event=stop,
        rust_timeout=0,  # none: it would only be asked again
        force_polling=force_polling,
        poll_delay_ms=POLL_MS,
        recursive=False,
        ignore_permission_denied=True,
    )
    async for burst in watching:
        yield frozenset(Path(path) for _change, path in burst)
