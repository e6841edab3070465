from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.support.fake_engine import FakeEngine

from tako.vault import file as vault

TAKO = str(Path(sys.executable).with_name("tako"))
TELL = """
import json, os, sys
with os.fdopen(3) as file:
    envelope = json.load(file)
print(json.dumps({"env": dict(os.environ), "envelope": envelope, "cwd": os.getcwd(), "argv": sys.argv[1:]}))
"""


def tako_run(folder: Path, *command: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **(env or {})}
    return subprocess.run(
        [TAKO, "run", *command], cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=30
    )


def told(folder: Path, *arguments: str, env: dict[str, str] | None = None) -> dict[str, Any]:
    done = tako_run(folder, "--", sys.executable, "-c", TELL, *arguments, env=env)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_command_is_a_process_of_the_app(engine: FakeEngine) -> None:
    (engine.folder / "tako.toml").write_text('name = "my-app"\n[vars]\nLOG_LEVEL = "info"\n')
    vault.set(engine.folder / ".tako" / "secrets.json", "KEY", "hunter22")

    found = told(engine.folder, "--plain", "x y", env={"AWS_SECRET": "of the shell"})

    assert found["env"]["TAKO_APP_NAME"] == "my-app"
    assert found["env"]["TAKO_INTERNAL_SOCKET"] == str(engine.socket)
    assert found["env"]["ENV"] == "development"
    assert found["env"]["TAKO_BUILD"] == "dev"
    assert found["env"]["TAKO_DATA_DIR"] == str(engine.folder / ".tako" / "data")
    assert found["env"]["TAKO_URL_MY_APP"] == "http://localhost:8000"
    assert found["env"]["LOG_LEVEL"] == "info"
    assert "AWS_SECRET" not in found["env"]
    assert found["envelope"]["secrets"] == {"KEY": "hunter22"}
    assert "hunter22" not in json.dumps(found["env"])
    assert found["argv"] == ["--plain", "x y"]


def test_secrets_larger_than_a_pipe_arrive_whole(engine: FakeEngine) -> None:
    for number in range(8):
        vault.set(engine.folder / ".tako" / "secrets.json", f"KEY_{number}", str(number) * 60_000)

    secrets = told(engine.folder)["envelope"]["secrets"]

    assert secrets == {f"KEY_{number}": str(number) * 60_000 for number in range(8)}


def test_dotenv_is_read_beside_tako_toml(engine: FakeEngine) -> None:
    (engine.folder / ".env").write_text("FROM_DOTENV=yes\n")

    assert told(engine.folder)["env"]["FROM_DOTENV"] == "yes"


def test_it_runs_in_the_apps_folder_and_says_so(engine: FakeEngine) -> None:
    below = engine.folder / "below"
    below.mkdir()

    done = tako_run(below, "--", sys.executable, "-c", TELL)

    assert json.loads(done.stdout)["cwd"] == str(engine.folder)
    assert f"Running in {engine.folder}" in done.stderr


def test_python_is_the_interpreter_of_the_workers(engine: FakeEngine) -> None:
    done = tako_run(engine.folder, "--", "python", "-c", "import sys; print(sys.executable)")

    assert Path(done.stdout.strip()).parent == Path(sys.executable).parent


def test_its_exit_code_is_the_commands(engine: FakeEngine) -> None:
    assert tako_run(engine.folder, "--", sys.executable, "-c", "raise SystemExit(7)").returncode == 7


def test_the_dashes_may_be_forgotten(engine: FakeEngine) -> None:
    done = tako_run(engine.folder, sys.executable, "-c", "print('ok')")

    assert done.stdout == "ok\n"


@pytest.mark.parametrize("words", [[], ["--"]])
def test_without_a_command_it_says_how(engine: FakeEngine, words: list[str]) -> None:
    done = tako_run(engine.folder, *words)

    assert done.returncode == 2
    assert "tako run -- python manage.py shell" in done.stderr


def test_a_command_that_is_not_there_is_named(engine: FakeEngine) -> None:
    done = tako_run(engine.folder, "--", "no-such-program")

    assert done.returncode == 1
    assert "There is no command 'no-such-program'. Nothing was started." in done.stderr


def test_a_file_that_cannot_be_run_is_named(engine: FakeEngine) -> None:
    (engine.folder / "script").write_text("x")

    done = tako_run(engine.folder, "--", "./script")

    assert done.returncode == 1
    assert "./script cannot be run: Permission denied" in done.stderr


def test_without_an_engine_nothing_is_started(tmp_path: Path) -> None:
    done = tako_run(tmp_path, "--", sys.executable, "-c", "print('ran')")

    assert (done.returncode, done.stdout) == (1, "")
    assert "No engine runs in this folder." in done.stderr
