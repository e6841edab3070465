"""A fresh folder for each test, and no process of it afterwards."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from tests.support.dev import runtime_folder
from tests.support.loud import Shop, Shopkeeper


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """An empty folder. What a test left running in it is killed; nothing may survive a passed test but on purpose."""
    folder = tmp_path / "shop"
    folder.mkdir()
    yield folder
    for pid in processes_in(folder):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    shutil.rmtree(runtime_folder(folder), ignore_errors=True)


def processes_in(folder: Path) -> list[int]:
    """The processes whose working folder it is."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                if Path(os.readlink(entry / "cwd")) == folder:  # noqa: PTH115  (a deleted folder has no real path)
                    found.append(int(entry.name))
    return found


@pytest.fixture
def shop(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shopkeeper]:
    """Opens an app with its engine in this process: `with shop("…code…", settings="…") as it:`."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime_folder(folder)))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield partial(Shop, folder)
