"""Virtual environments of releases, by what is in them."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest
from tests.support.dev import write

from tako.errors import DeployRefused
from tako.server.environments import Environments, Tools


def environments(tmp_path: Path, **tools: object) -> Environments:
    (tmp_path / "venvs").mkdir()
    return Environments(tmp_path / "venvs", Tools(**tools))  # type: ignore[arg-type]


def test_the_name_changes_with_the_lock_file_and_with_nothing_else(tmp_path: Path) -> None:
    found = environments(tmp_path)
    names = []
    for text, extra in (("flask==3", "a"), ("flask==3", "b"), ("flask==3.1", "b")):
        write(tmp_path / "src", {"requirements.txt": text, "app.py": extra})
        names.append(found.name_for(tmp_path / "src"))

    assert names[0] == names[1] != names[2]


def test_a_fixed_environment_is_everybodys(tmp_path: Path) -> None:
    found = environments(tmp_path, fixed=Path(sys.prefix))

    assert found.name_for(tmp_path) == "fixed"
    assert found.python("fixed") == f"{sys.prefix}/bin/python"
    assert asyncio.run(found.build("fixed", tmp_path, on_line=print)) is False


@pytest.mark.parametrize("lock", ["uv.lock", "pylock.toml"])
def test_a_lock_file_that_needs_uv_is_refused_where_there_is_none(tmp_path: Path, lock: str) -> None:
    found = environments(tmp_path, uv=None)
    write(tmp_path / "src", {lock: ""})

    with pytest.raises(DeployRefused, match="needs uv, and this server has none"):
        asyncio.run(found.build("x", tmp_path / "src", on_line=print))


def test_what_cannot_be_installed_refuses_the_release_with_the_installers_words_and_leaves_nothing(
    tmp_path: Path,
) -> None:
    (tmp_path / "wheels").mkdir()
    found = environments(tmp_path, uv=None, wheels=tmp_path / "wheels")
    write(tmp_path / "src", {"requirements.txt": "--no-index\nno-such-package==9.9"})
    lines: list[str] = []

    with pytest.raises(DeployRefused, match="no-such-package"):
        asyncio.run(found.build("x", tmp_path / "src", on_line=lines.append))

    assert any("no-such-package" in line for line in lines)
    assert not found.is_there("x")
    assert not (tmp_path / "venvs/x").exists()


def test_environments_that_no_release_runs_in_are_removed(tmp_path: Path) -> None:
    found = environments(tmp_path)
    for name in ("one", "two"):
        (tmp_path / "venvs" / name).mkdir()

    assert found.prune({"one"}) == 1
    assert [path.name for path in (tmp_path / "venvs").iterdir()] == ["one"]
