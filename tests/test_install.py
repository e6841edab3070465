"""scripts/install, on machines that lack something: it says what, by the name one can install it by."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TOOLS = ("sh", "env", "dirname", "cat", "flock")


class Machine:
    """A checkout's scripts, and a PATH on which only a few programs are, some of them fakes."""

    def __init__(self, folder: Path) -> None:
        self.checkout = folder / "checkout"
        shutil.copytree(ROOT / "scripts", self.checkout / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", self.checkout)
        self.bin = folder / "bin"
        self.bin.mkdir()
        for tool in TOOLS:
            if found := shutil.which(tool):
                (self.bin / tool).symlink_to(found)
        self.has("python3", f'exec {sys.executable} "$@"')

    def has(self, program: str, script: str) -> None:
        (self.bin / program).write_text(f"#!/bin/sh\n{script}\n")
        (self.bin / program).chmod(0o755)

    def install(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": str(self.bin), "HOME": str(self.checkout)}
        return subprocess.run(
            [self.checkout / "scripts/install", *arguments],
            env=environment, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_without_a_package_and_without_root_it_names_the_package_and_the_command(machine: Machine) -> None:
    machine.has("apt-get", "echo must not be called >&2; exit 1")
    machine.has("id", "echo 1000")
    for there in ("cc", "git", "mount"):
        machine.has(there, "exit 0")

    done = machine.install("--tests")

    assert done.returncode == 1
    missing = re.search(r"Debian packages are missing: (.*)\n", done.stderr)
    assert missing is not None
    assert "tmux" in missing[1].split()
    assert not {"gcc", "git", "mount"} & set(missing[1].split())
    assert f"sudo apt-get install {missing[1]}\n" in done.stderr
    assert "must not be called" not in done.stderr


def test_as_root_it_installs_what_is_missing_and_names_what_apt_cannot(machine: Machine) -> None:
    machine.has("apt-get", 'echo "apt-get $*" >&2; [ "$1" = update ]')
    machine.has("id", "echo 0")

    done = machine.install("--tests")

    assert done.returncode == 1
    assert "apt-get update" in done.stderr
    assert "apt-get could not install: gcc git mount tmux" in done.stderr


def test_what_only_the_tests_need_is_not_asked_of_the_demo(machine: Machine) -> None:
    machine.has("python3", f'case "$*" in *ensurepip*) exit 1 ;; esac; exec {sys.executable} "$@"')
    machine.has("apt-get", "exit 1")
    machine.has("id", "echo 1000")

    done = machine.install()

    assert done.returncode == 1
    assert "Debian packages are missing: python3-venv\n" in done.stderr


def test_a_machine_without_apt_is_told_what_it_lacks(machine: Machine) -> None:
    done = machine.install("--tests")

    assert done.returncode == 1
    assert "missing: gcc git mount tmux" in done.stderr
    assert "no apt-get" in done.stderr


def test_a_python_that_is_too_old_is_no_python(machine: Machine) -> None:
    machine.has("python3", "exit 1")

    done = machine.install()

    assert done.returncode == 1
    assert "no Python 3.11 or newer was found" in done.stderr


def test_the_scripts_can_be_executed() -> None:
    for script in ("install", "check", "test", "quick", "demo"):
        assert os.access(ROOT / "scripts" / script, os.X_OK)


def test_what_quick_leaves_out_is_there_to_be_left_out() -> None:
    paths = [line for line in (ROOT / "scripts/quick").read_text().splitlines() if line.startswith("tests/")]
    assert len(paths) > 5

    assert [path for path in paths if not (ROOT / path).exists()] == []
