"""A consistent copy of store and data folder, made while they are in use."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tako.engine import folders
from tako.engine.store import Reader
from tako.errors import TakoError

if TYPE_CHECKING:
    from tako.host.app import AppHost


async def backup(host: AppHost, target: str) -> dict[str, Any]:
    """Copy the store (one snapshot) and the data folder into `target`, a folder that must not be there yet.

    Raises:
        TakoError: it is there, or cannot be written. What was begun is removed.
    """
    folder = Path(target)
    if not folder.is_absolute():
        raise TakoError(f"backup: {target!r} is not an absolute path")
    try:
        os.makedirs(folder, mode=0o700)  # noqa: PTH103  (a moment's work, done here and not in a thread)
    except FileExistsError:
        raise TakoError(f"{folder} is there already; nothing was copied", cure="Name a new folder.") from None
    except OSError as error:
        raise TakoError(f"{folder} cannot be made: {error.strerror}; nothing was copied") from error
    try:
        await host.writer.read(copy_store, folder / "runs.db")
        size = await asyncio.to_thread(_copy_data, host.places.data, folder)
    except (OSError, sqlite3.Error, shutil.Error) as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise TakoError(f"the backup to {folder} failed, and was removed: {error}") from error
    return {"path": str(folder), "bytes": size}


def copy_store(reader: Reader, path: Path) -> None:
    """Copy the store by SQLite's own backup, which sees one snapshot and does not stop writers."""
    with_mode = path.parent / f".{path.name}.part"
    with sqlite3.connect(with_mode) as copy:
        reader.connection.backup(copy)
    copy.close()
    with_mode.chmod(0o600)
    folders.put(with_mode, path)


def _copy_data(data: Path, folder: Path) -> int:
    if data.is_dir():
        shutil.copytree(data, folder / "data", symlinks=True)
    folders.sync_all(folder)
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
