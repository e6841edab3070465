"""The store's file, deleted or replaced under the engine."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from tako.engine.store import Store
from tako.errors import StoreUnavailable
from tako.host import rescue


def test_a_deleted_store_is_written_back_whole(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    store = Store.open(path)
    before = rescue.identity(path)
    with store.transaction():
        store.set_meta("kept", "yes")
    for file in tmp_path.iterdir():
        file.unlink()
    assert rescue.identity(path) != before

    store.begin()
    error = rescue.rescue(store, path)
    store.commit()
    store.close()

    assert "nothing was lost" in error.message
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    again = Store.open(path)
    assert again.get_meta("kept") == "yes"
    again.close()


def test_a_replaced_store_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    store = Store.open(path)
    path.unlink()
    path.write_bytes(b"somebody else's")

    store.begin()
    error = rescue.rescue(store, path)
    store.rollback()
    store.close()

    assert "was replaced" in error.message
    assert path.read_bytes() == b"somebody else's"


def test_a_disk_that_is_nearly_full_is_named_before_sqlite_meets_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rescue.require_room(tmp_path)
    monkeypatch.setattr(rescue, "MIN_FREE_BYTES", 2**62)
    monkeypatch.setattr(rescue, "MIN_FREE_SHARE", 1.1)
    with pytest.raises(StoreUnavailable, match="nearly full") as refused:
        rescue.require_room(tmp_path)
    assert refused.value.detail["reason"] == "DISK_FULL"
