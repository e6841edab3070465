from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.cli import Cli

from tako.vault import file as vault

TAKO = str(Path(sys.executable).with_name("tako"))


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    stdin = io.StringIO()
    monkeypatch.setattr(sys, "stdin", stdin)
    return stdin


def secrets(folder: Path) -> dict[str, str]:
    return vault.load(folder / ".tako" / "secrets.json")


def test_a_value_is_read_from_stdin_without_its_last_newline(cli: Cli, typed: io.StringIO) -> None:
    typed.write("sk_live\nsecond line\n")
    typed.seek(0)

    said = cli("secrets", "set", "STRIPE_KEY")

    assert said.code == 0
    assert secrets(cli.folder) == {"STRIPE_KEY": "sk_live\nsecond line"}
    assert "sk_live" not in said.out + said.err


def test_a_value_in_the_arguments_is_refused_unless_told(cli: Cli) -> None:
    said = cli("secrets", "set", "KEY=hunter22")

    assert said.code == 2
    assert "was not taken" in said.err
    assert "hunter22" not in said.err
    assert secrets(cli.folder) == {}

    assert cli("secrets", "set", "KEY", "--value", "value").code == 0
    assert secrets(cli.folder) == {"KEY": "value"}


def test_a_prompt_does_not_show_what_is_typed(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [TAKO, "secrets", "set", "KEY"], cwd=tmp_path, stdin=theirs, stdout=theirs, stderr=theirs,
        start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    screen = b""
    while b"(not shown)" not in screen:
        screen += os.read(ours, 1024)
    os.write(ours, b"hunter22\n")
    process.wait(20)
    while True:
        try:
            screen += os.read(ours, 1024)
        except OSError:
            break
    os.close(ours)

    assert process.returncode == 0
    assert b"hunter22" not in screen
    assert secrets(tmp_path) == {"KEY": "hunter22"}


def test_an_empty_value_changes_nothing(cli: Cli, typed: io.StringIO) -> None:
    said = cli("secrets", "set", "KEY")

    assert said.code == 1
    assert "KEY was not changed" in said.err
    assert secrets(cli.folder) == {}


def test_names_are_listed_and_values_never(cli: Cli) -> None:
    cli("secrets", "set", "B", "--value", "hunter22")
    cli("secrets", "set", "A", "--value", "hunter23")

    assert cli("secrets", "ls").out == "A\nB\n"
    assert cli("secrets", "ls", "--json").json == {"secrets": ["A", "B"]}


def test_removing_names_all_or_nothing(cli: Cli) -> None:
    cli("secrets", "set", "A", "--value", "x")

    said = cli("secrets", "rm", "A", "B")
    assert said.code == 1
    assert "There is no secret 'B'; none was removed." in said.err
    assert "Known: A." in said.err

    assert cli("secrets", "rm", "A").code == 0
    assert secrets(cli.folder) == {}


def test_secrets_belong_to_the_app_whatever_folder_of_it_we_are_in(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    (cli.folder / "tako.toml").write_text('name = "a"\n')
    (cli.folder / "below").mkdir()
    monkeypatch.chdir(cli.folder / "below")

    cli("secrets", "set", "A", "--value", "x")

    assert secrets(cli.folder) == {"A": "x"}


# Of deployed environments


@pytest.fixture
def deployed(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(cli.folder / "config"))
    monkeypatch.delenv("TAKO_SECRET_KEY", raising=False)
    (cli.folder / "tako.toml").write_text('name = "shop"\n[envs.production]\n[envs.staging]\n')
    return cli


def test_a_secret_of_an_environment_is_sealed_and_its_key_lies_elsewhere(deployed: Cli) -> None:
    said = deployed("secrets", "set", "KEY", "--env", "production", "--value", "hunter22")

    assert said.code == 0
    assert f"Made the key of production: {deployed.folder}/config/tako/keys/shop/production" in said.err
    assert "Set KEY of production in tako.secrets.json." in said.err
    assert "hunter22" not in (deployed.folder / "tako.secrets.json").read_text()
    assert deployed("secrets", "ls", "--env", "production").out == "KEY\n"
    assert deployed("secrets", "ls", "--env", "staging").out == ""
    assert deployed("secrets", "ls").out == ""


def test_an_environment_that_tako_toml_has_not_is_refused_before_a_key_is_made(deployed: Cli) -> None:
    said = deployed("secrets", "set", "KEY", "--env", "prodution", "--value", "x")

    assert said.code == 1
    assert "no environment 'prodution'" in said.err
    assert "Did you mean --env production?" in said.err
    assert not (deployed.folder / "config").exists()


def test_rotating_says_where_the_new_key_is_and_what_it_does_not_do(deployed: Cli) -> None:
    deployed("secrets", "set", "KEY", "--env", "production", "--value", "x")
    before = (deployed.folder / "tako.secrets.json").read_text()

    said = deployed("secrets", "rotate-key", "--env", "production")

    assert said.code == 0
    assert "Sealed 1 secret of production for a new key" in said.err
    assert "older commits" in said.err
    assert (deployed.folder / "tako.secrets.json").read_text() != before


def test_an_app_without_a_name_cannot_seal(deployed: Cli) -> None:
    (deployed.folder / "tako.toml").write_text("[envs.production]\n")

    said = deployed("secrets", "set", "KEY", "--env", "production", "--value", "x")

    assert said.code == 1
    assert "tako.toml has no name" in said.err
