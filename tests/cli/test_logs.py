from __future__ import annotations

from typing import Any, cast

import pytest
from tests.support.cli import Cli
from tests.support.fake_engine import FakeEngine, run_info

from tako.logs.files import LogFiles
from tako.protocol.messages import LogLine


def line(message: str, **more: Any) -> LogLine:
    return cast(LogLine, {"ts_ms": 50_531_000, "level": "info", "scope": "web", "message": message, **more})


def test_lines_are_shown_on_stdout_oldest_first(cli: Cli, engine: FakeEngine) -> None:
    engine.answers["logs"] = {"lines": [line("GET /1"), line("evil\x1b[2J")]}

    said = cli("logs")

    assert said.code == 0
    first, second = said.out.splitlines()
    assert first.endswith(" INFO  web      GET /1")
    assert second.endswith(" INFO  web      evil\\x1b[2J")


def test_every_filter_is_sent(cli: Cli, engine: FakeEngine) -> None:
    engine.answers["logs"] = {"lines": []}
    run_id = run_info(1)["id"]

    cli("logs", "--run", run_id, "--workflow", "w", "--group", "g", "--level", "error", "--scope", "web", "-n", "5")
    cli("logs", "--last-crash")

    assert engine.asked("logs") == [
        {"run": run_id, "workflow": "w", "group": "g", "level": "error", "scope": "web", "limit": 5},
        {"last_crash": True, "limit": 200},
    ]


def test_json_is_one_document(cli: Cli, engine: FakeEngine) -> None:
    engine.answers["logs"] = {"lines": [line("a"), line("b")]}

    assert cli("logs", "--json").json == {"lines": [line("a"), line("b")]}


def test_since_leaves_out_what_is_older(cli: Cli, engine: FakeEngine) -> None:
    engine.answers["logs"] = {"lines": [line("old"), line("new", ts_ms=4_000_000_000_000)]}

    out = cli("logs", "--since", "1h").out

    assert "new" in out
    assert "old" not in out


def test_follow_goes_on_until_the_engine_stops(cli: Cli, engine: FakeEngine) -> None:
    engine.events = [{"event": "log", "line": line(str(number))} for number in range(3)]
    engine.on_subscribe = engine.hang_up

    said = cli("logs", "--follow", "--json")

    assert [found["message"] for found in said.json_lines] == ["0", "1", "2"]
    assert "The engine has stopped" in said.err
    assert engine.asked("subscribe") == [{"topics": ["logs"], "tail": 200}]


def test_the_last_crash_cannot_be_followed(cli: Cli, engine: FakeEngine) -> None:
    assert cli("logs", "--follow", "--last-crash").code == 2


@pytest.fixture
def left_behind(cli: Cli) -> None:
    """The files of an engine that has stopped."""
    files = LogFiles(cli.folder / ".tako" / "logs")
    files.write(line("Traceback", scope="worker", pid=1))
    files.write(line("worker exited", scope="tako", pid=1, fields={"crash": True}))
    files.write(line("GET /", run_id="r1"))
    files.close()


@pytest.mark.usefixtures("left_behind")
def test_without_an_engine_its_files_are_read(cli: Cli) -> None:
    said = cli("logs")

    assert said.code == 0
    assert len(said.out.splitlines()) == 3
    assert "No engine runs in this folder; these lines are from" in said.err
    assert [line["scope"] for line in cli("logs", "--scope", "tako", "--json").json["lines"]] == ["tako"]


@pytest.mark.usefixtures("left_behind")
def test_the_last_crash_is_in_the_files_too(cli: Cli) -> None:
    lines = cli("logs", "--last-crash", "--json").json["lines"]

    assert [found["message"] for found in lines] == ["Traceback", "worker exited"]


@pytest.mark.usefixtures("left_behind")
def test_without_an_engine_nothing_can_be_followed(cli: Cli) -> None:
    said = cli("logs", "--follow")

    assert said.code == 1
    assert "Start it with `tako dev`" in said.err


def test_without_engine_and_files_there_is_nothing_to_read(cli: Cli) -> None:
    assert cli("logs").code == 1
