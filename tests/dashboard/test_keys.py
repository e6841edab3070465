"""The key in a file."""

from __future__ import annotations

import stat
from pathlib import Path

from tako.dashboard import keys


def test_the_key_is_made_once_and_its_owner_alone_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "dashboard.key"

    key = keys.load(path)

    assert len(key) >= 22
    assert keys.load(path) == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["dashboard.key"]


def test_a_key_that_others_could_have_read_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "dashboard.key"
    key = keys.load(path)
    path.chmod(0o644)

    assert keys.load(path) != key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_damaged_key_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "dashboard.key"
    path.write_bytes(b"\xff/../short")
    path.chmod(0o600)

    assert len(keys.load(path)) >= 22
