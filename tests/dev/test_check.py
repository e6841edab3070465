"""`tako check`: the app and every group are booted once, for real."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.dev import runtime_folder, write

from tako.config import load
from tako.dev import check

APP = "from fastapi import FastAPI\n\napp = FastAPI()\n"
GREET = "from tako import Context, workflow\n\n\n@workflow\ndef greet(ctx: Context, name: str) -> None: ...\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "shop"
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime_folder(folder)))
    write(folder, {"app.py": APP, "workflows/__init__.py": "", "workflows/greet.py": GREET})
    yield folder
    shutil.rmtree(runtime_folder(folder), ignore_errors=True)


def found(folder: Path) -> dict[str, Any]:
    return asyncio.run(check.check(load.load(folder), {}))


def test_an_app_that_starts_has_no_problems_and_leaves_nothing_behind(folder: Path) -> None:
    assert found(folder) == {
        "problems": [],
        "groups": [{"group": "default", "workflows": ["greet"]}],
        "web": "app:app",
    }
    assert not (folder / ".tako").exists()


def test_a_workflow_that_cannot_be_imported_is_named_with_its_line(folder: Path) -> None:
    write(folder, {"workflows/greet.py": "import nothing_of_that_name\n" + GREET})
    (problem,) = found(folder)["problems"]
    assert problem["what"].startswith('group "default": worker exited with status 1 after ')
    assert "workflows/greet.py:1" in problem["what"]


def test_a_web_app_that_cannot_be_imported_is_named_with_its_line(folder: Path) -> None:
    write(folder, {"app.py": "import nothing_of_that_name\n" + APP})
    (problem,) = found(folder)["problems"]
    assert problem["what"].startswith("web app: web app exited with status 1 after ")
    assert "app.py:1" in problem["what"]


def test_every_problem_is_told_at_once(folder: Path) -> None:
    write(folder, {"app.py": "1 / 0\n" + APP, "workflows/greet.py": "1 / 0\n" + GREET})
    assert len(found(folder)["problems"]) == 2


def test_a_check_of_nothing_does_not_pass_and_says_where_an_app_seems_to_be(folder: Path) -> None:
    (folder / "workflows/greet.py").unlink()
    (folder / "app.py").rename(folder / "server.py")
    (problem,) = found(folder)["problems"]
    assert problem["what"] == f"There is nothing to start in {folder}: no web app, and no workflow."
    assert problem["cure"] == 'Is the app server:app? Write main = "server:app" into tako.toml.'
