"""Folders that only their owner can enter."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from tako.errors import TakoError
from tako.host.places import make, make_private, places_of


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_folders_of_an_app_are_private_and_kept_out_of_git(tmp_path: Path, runtime: Path) -> None:
    places = places_of(tmp_path)
    make(places)
    make(places)

    assert [mode(path) for path in (places.state, places.logs, places.spool, places.sockets)] == [0o700] * 4
    assert (places.state / ".gitignore").read_text() == "*\n"


def test_sockets_of_two_folders_do_not_meet(tmp_path: Path, runtime: Path) -> None:
    assert places_of(tmp_path / "a").sockets != places_of(tmp_path / "b").sockets
    assert len(str(places_of(tmp_path / ("deep/" * 40)).internal_socket)) < 100


def test_a_runtime_folder_that_is_open_to_others_is_closed(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir(mode=0o777)
    (tmp_path / "open").chmod(0o777)
    make_private(tmp_path / "open")
    assert mode(tmp_path / "open") == 0o700


def test_a_link_in_place_of_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(TakoError, match="is not a folder of yours"):
        make_private(tmp_path / "link")


def test_a_runtime_folder_whose_path_is_too_long_for_sockets_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("x" * 80)
    long.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(long))
    assert len(str(places_of(tmp_path).internal_socket)) < 100
