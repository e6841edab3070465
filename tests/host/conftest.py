"""An app's folder and the engine in it."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host.running import RunningHost


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A runtime folder of the test's own, with a short path."""
    folder = Path("/tmp") / f"tako-host-{os.getpid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def v0_folder(tmp_path: Path, runtime: Path) -> Path:
    """An app whose workers are written in another language, as far as Tako can tell."""
    folder = tmp_path / "shop"
    (folder / "workflows").mkdir(parents=True)
    (folder / "workflows/names.py").write_text(
        "from tako import Context, workflow\n\n@workflow\ndef greet(ctx: Context, name: str) -> None: ...\n"
    )
    worker = Path(__file__).with_name("v0_worker.py")
    interpreter = folder / "other-language"
    interpreter.write_text(f"#!/bin/sh\nexec {sys.executable} {worker}\n")
    interpreter.chmod(0o700)
    (folder / "tako.toml").write_text('python = "./other-language"\n[workflows]\nidle_timeout = "30s"\n')
    return folder


@pytest.fixture
def v0(v0_folder: Path) -> Iterator[RunningHost]:
    """The engine of that app, with one worker that has said what it knows."""
    with RunningHost(v0_folder) as running:
        yield running
