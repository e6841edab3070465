from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Git = Callable[..., str]


@pytest.fixture
def git(tmp_path: Path) -> Git:
    """git in a repository of its own, `tmp_path/app`."""
    folder = tmp_path / "app"
    folder.mkdir()

    def run(*args: str) -> str:
        settings = ["-c", "user.name=Ann", "-c", "user.email=ann@example.com", "-c", "init.defaultBranch=main"]
        argv = ["git", "-C", str(folder), *settings, *args]
        return subprocess.run(argv, check=True, capture_output=True, text=True).stdout

    run("init", "--quiet")
    return run


@pytest.fixture
def app(tmp_path: Path, git: Git) -> Path:
    """The folder of that repository, with an app that is committed."""
    folder = tmp_path / "app"
    (folder / "tako.toml").write_text('name = "shop"\n[envs.production]\nservers = ["fra1"]\n')
    (folder / "app.py").write_text("app = 1\n")
    (folder / "workflows").mkdir()
    (folder / "workflows/order.py").write_text("x = 1\n")
    git("add", ".")
    git("commit", "--quiet", "-m", "The first one")
    return folder
