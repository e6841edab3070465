from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.cli import Cli
from tests.support.fake_engine import FakeEngine


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Commands in an empty folder, without a terminal."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.delenv("TAKO_DEBUG", raising=False)
    return Cli(tmp_path, capsys)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[FakeEngine]:
    """An engine of that folder that answers from a script."""
    with FakeEngine(tmp_path) as fake:
        yield fake
