"""Django: the checks of `django_project/` run in a process of their own, since a process has one Django for good."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PROJECT = "django_project"


def checks(file: str, *, project: str = PROJECT) -> list[str]:
    """`Class::test` of each check in a file."""
    tree = ast.parse((HERE / project / file).read_text())
    return [
        f"{cls.name}::{fn.name}"
        for cls in tree.body
        if isinstance(cls, ast.ClassDef)
        for fn in cls.body
        if isinstance(fn, ast.FunctionDef | ast.AsyncFunctionDef) and fn.name.startswith("test_")
    ]


def run(file: str, folder: Path, *, project: str = PROJECT) -> str:
    """What pytest says of the checks in a file. The database lies in `folder`."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("TAKO_", "PYTEST_", "DJANGO_"))}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rA", "--tb=short", file],
        cwd=HERE / project,
        env={**clean, "SHOP_DATABASE": str(folder / "shop.sqlite3"), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return done.stdout + done.stderr


@pytest.fixture(scope="session")
def outbox(tmp_path_factory: pytest.TempPathFactory) -> str:
    return run("check_outbox.py", tmp_path_factory.mktemp("outbox"))


@pytest.fixture(scope="session")
def web(tmp_path_factory: pytest.TempPathFactory) -> str:
    return run("check_web.py", tmp_path_factory.mktemp("web"))


@pytest.mark.parametrize("name", checks("check_outbox.py"))
def test_outbox(outbox: str, name: str) -> None:
    assert re.search(rf"^PASSED check_outbox.py::{name}$", outbox, re.MULTILINE), outbox


@pytest.mark.parametrize("name", checks("check_web.py"))
def test_requests_and_workers(web: str, name: str) -> None:
    assert re.search(rf"^PASSED check_web.py::{name}$", web, re.MULTILINE), web
