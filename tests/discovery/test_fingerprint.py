from __future__ import annotations

import os
from pathlib import Path

import pytest

from tako.discovery import fingerprint


@pytest.fixture
def app(tmp_path: Path) -> Path:
    root = tmp_path / "app"
    (root / "workflows").mkdir(parents=True)
    (root / "workflows/a.py").write_text("a = 1\n")
    (root / "helpers.py").write_text("b = 1\n")
    (root / "uv.lock").write_text("one\n")
    return root


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """An environment with an interpreter and a folder of packages."""
    packages = tmp_path / "venv/lib/python3.11/site-packages"
    packages.mkdir(parents=True)
    program = tmp_path / "venv/bin/python"
    program.parent.mkdir()
    program.write_text("")
    return program


def later(path: Path) -> None:
    found = path.stat().st_mtime_ns + 1_000_000
    os.utime(path, ns=(found, found))


def test_the_same_code_has_the_same_fingerprint_though_it_was_saved_again(app: Path, python: Path) -> None:
    first = fingerprint.take(app, python=python)

    later(app / "helpers.py")
    second = fingerprint.take(app, python=python, previous=first)

    assert second.digest == first.digest
    assert second.changed_since(first) == []


@pytest.mark.parametrize(
    "path", ["workflows/a.py", "helpers.py", "uv.lock", "new.py", "requirements-dev.txt", "tako.toml"]
)
def test_changed_code_or_lock_files_change_it_and_are_named(app: Path, python: Path, path: str) -> None:
    first = fingerprint.take(app, python=python)

    (app / path).write_text("changed = True  # longer than before\n")
    second = fingerprint.take(app, python=python, previous=first)

    assert second.digest != first.digest
    assert second.changed_since(first) == [path]


def test_a_removed_file_changes_it(app: Path, python: Path) -> None:
    first = fingerprint.take(app, python=python)

    (app / "helpers.py").unlink()

    assert fingerprint.take(app, python=python, previous=first).changed_since(first) == ["helpers.py"]


@pytest.mark.parametrize("path", ["data.csv", ".tako/x.py", "node_modules/x.py", "__pycache__/a.py", "my-env/x.py"])
def test_what_is_not_code_of_the_app_does_not_count(app: Path, python: Path, path: str) -> None:
    (app / "my-env").mkdir()
    (app / "my-env/pyvenv.cfg").write_text("")
    first = fingerprint.take(app, python=python)

    (app / path).parent.mkdir(exist_ok=True)
    (app / path).write_text("x = 1\n")

    assert fingerprint.take(app, python=python, previous=first).digest == first.digest


def test_an_installed_package_changes_it(app: Path, python: Path) -> None:
    first = fingerprint.take(app, python=python)

    packages = python.parent.parent / "lib/python3.11/site-packages"
    (packages / "jinja2-3.1.dist-info").mkdir()
    later(packages)
    second = fingerprint.take(app, python=python, previous=first)

    assert second.changed_since(first) == ["environment"]


def test_another_interpreter_changes_it(app: Path, python: Path) -> None:
    first = fingerprint.take(app, python=python)

    assert fingerprint.take(app, previous=first).changed_since(first) == ["environment"]


def test_the_paths_that_count_can_be_told_without_looking() -> None:
    assert fingerprint.counts("shop/models.py")
    assert fingerprint.counts("uv.lock")
    assert not fingerprint.counts("README.md")
    assert not fingerprint.counts(".venv/lib/x.py")
