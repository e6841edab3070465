"""`tako alerts test`: by the engine that runs, else from here."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from tests.support.cli import Cli
from tests.support.fake_engine import FakeEngine
from tests.support.receivers import Hook


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hook]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Hook() as found:
        yield found


def test_the_running_engine_tries_its_channels_and_each_is_told(cli: Cli, engine: FakeEngine) -> None:
    engine.answers["test_alerts"] = {
        "channels": [
            {"channel": "webhook", "error": None},
            {"channel": "email", "error": "the mail server answered 550 no such mailbox"},
        ]
    }

    said = cli("alerts", "test")

    assert said.code == 1
    assert "✔ webhook delivered a test." in said.err
    assert "✘ email delivered nothing: the mail server answered 550 no such mailbox" in said.err


def test_all_delivered_exits_0_and_json_is_one_document(cli: Cli, engine: FakeEngine) -> None:
    engine.answers["test_alerts"] = {"channels": [{"channel": "webhook", "error": None}]}

    said = cli("alerts", "test", "--json")

    assert said.code == 0
    assert json.loads(said.out) == {"channels": [{"channel": "webhook", "error": None}]}


def test_without_an_engine_they_are_tried_from_here(cli: Cli, hook: Hook) -> None:
    (cli.folder / "tako.toml").write_text(f'name = "shop"\n[alerts]\nwebhook = "{hook.url}"\ncommand = "not-there"\n')

    said = cli("alerts", "test")

    assert said.code == 1
    assert "✔ webhook delivered a test." in said.err
    assert "✘ command delivered nothing: the command could not be started" in said.err
    (told,) = hook.wait()
    assert (told["app"], told["kind"]) == ("shop", "test")


def test_no_channel_at_all_is_a_failure_that_says_how_to_write_one(cli: Cli) -> None:
    (cli.folder / "tako.toml").write_text('name = "shop"\n')

    said = cli("alerts", "test")

    assert said.code == 1
    assert "nobody is told" in said.err
    assert "[alerts]" in said.err
