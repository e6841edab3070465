"""A fresh folder for each test, and no process of it afterwards."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from tests.support.box import tell_what_was_left_out, why_no_box
from tests.support.dev import runtime_folder
from tests.support.disk import Disk, small_disk
from tests.support.loud import Shop, Shopkeeper
from tests.support.server import App, Server

from tako.errors import TakoError

_NUMBERS = itertools.count(1)
_NO_BOX = why_no_box()

# On a machine that cannot boot a Debian, the half that needs none stands alone, and the run says so at its end.
collect_ignore = ["test_deploy_box.py"] if _NO_BOX else []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    tell_what_was_left_out(terminalreporter, _NO_BOX)


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
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A disk of 24 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    with small_disk(folder) as disk:
        yield disk


@pytest.fixture
def shop(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shopkeeper]:
    """Opens an app with its engine in this process: `with shop("…code…", settings="…") as it:`."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime_folder(folder)))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield partial(Shop, folder)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One `tako-server` for the tests of a file; each has an app of its own."""
    with Server(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def app(server: Server, tmp_path: Path) -> Iterator[App]:
    """An app that nothing has been deployed of yet. Removed afterwards, as far as the server still runs."""
    name = f"app{next(_NUMBERS)}"
    with App(server, name, tmp_path) as made:
        yield made
        with suppress(TakoError, OSError, AssertionError):
            made.ask("delete", by="test", confirm=f"{name}/production")
