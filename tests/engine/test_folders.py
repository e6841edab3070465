"""Names survive a power cut when their folder was synced; reliability/powercut shows what happens otherwise."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tako.engine import folders
from tako.engine.store import Store
from tako.errors import StoreDamaged


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of what was synced, in order."""
    found: list[str] = []
    fsync = os.fsync

    def note(fd: int) -> None:
        found.append(Path(f"/proc/self/fd/{fd}").readlink().name)
        fsync(fd)

    monkeypatch.setattr(os, "fsync", note)
    return found


def test_a_finished_file_gets_its_name_after_its_content_is_safe_and_then_the_name_is(
    tmp_path: Path, synced: list[str]
) -> None:
    part = tmp_path / "copy.part"
    part.write_text("all of it")

    folders.put(part, tmp_path / "copy")

    assert (tmp_path / "copy").read_text() == "all of it"
    assert synced == ["copy.part", tmp_path.name]


def test_a_whole_folder_is_made_safe_with_the_name_it_has(tmp_path: Path, synced: list[str]) -> None:
    (tmp_path / "backup/data").mkdir(parents=True)
    (tmp_path / "backup/data/file").write_text("x")

    folders.sync_all(tmp_path / "backup")

    assert set(synced) == {"file", "data", "backup", tmp_path.name}
    assert synced[-1] == tmp_path.name


def test_a_store_whose_folder_cannot_be_synced_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(fd: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)

    with pytest.raises(StoreDamaged, match=r"runs\.db: the disk did not take what was written"):
        Store.open(tmp_path / "runs.db")
