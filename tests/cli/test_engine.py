from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.fake_engine import FakeEngine

from tako.cli.engine import Engine, Place, find
from tako.errors import NoEngine, TakoError, WorkerUnhealthy


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_the_engine_of_the_nearest_folder_above_is_found(engine: FakeEngine) -> None:
    below = engine.folder / "a" / "b"
    below.mkdir(parents=True)

    assert find(below).folder == engine.folder
    assert find(below).app == "my-app"


def test_no_engine_says_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(NoEngine) as caught:
        find(tmp_path)

    assert str(caught.value) == "No engine runs in this folder.\n  Start it with `tako dev`."


def test_an_engine_that_died_is_no_engine(engine: FakeEngine) -> None:
    engine.write_place(pid=dead_pid())

    with pytest.raises(NoEngine):
        find(engine.folder)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"socket": 1, "pid": "x", "app": "a"}', "\x00"])
def test_a_damaged_engine_json_is_an_error_that_names_it(tmp_path: Path, content: str) -> None:
    (tmp_path / ".tako").mkdir()
    (tmp_path / ".tako" / "engine.json").write_text(content)

    with pytest.raises(NoEngine, match=r"engine\.json cannot be read"):
        find(tmp_path)


def test_a_socket_that_nobody_answers_on_is_no_engine(tmp_path: Path) -> None:
    (tmp_path / ".tako").mkdir()
    (tmp_path / ".tako" / "engine.json").write_text(
        f'{{"socket": "{tmp_path / "gone"}", "pid": {os.getpid()}, "app": "a"}}'
    )

    connected = Engine(find(tmp_path))

    with pytest.raises(NoEngine):
        connected.call("status")
    with pytest.raises(NoEngine), connected.stream(["logs"]):
        pass


def test_what_the_engine_refuses_is_raised_as_what_it_is(engine: FakeEngine) -> None:
    engine.answers["status"] = WorkerUnhealthy("worker unhealthy: x", cure="mend it", detail={"reason": "x"})
    connected = Engine(find(engine.folder))

    with pytest.raises(WorkerUnhealthy) as caught:
        connected.call("status")
    connected.close()

    assert caught.value.message == "worker unhealthy: x"
    assert caught.value.cure == "mend it"


def test_fields_that_are_none_are_not_sent(engine: FakeEngine) -> None:
    engine.answers["list_runs"] = {"runs": [], "next": None}
    connected = Engine(find(engine.folder))

    connected.call("list_runs", {"workflow": None, "limit": 3})
    connected.close()

    assert engine.asked("list_runs") == [{"limit": 3}]


def test_a_stream_gives_events_in_order_and_ends_with_the_engine(engine: FakeEngine) -> None:
    engine.events = [{"event": "log", "n": n} for n in range(3)]

    with Engine(find(engine.folder)).stream(["logs"]) as events:
        first = [next(events)["n"] for _ in range(3)]
        engine.hang_up()
        rest = list(events)

    assert first == [0, 1, 2]
    assert rest == []


def test_a_stream_that_is_left_unread_is_closed(engine: FakeEngine) -> None:
    with Engine(find(engine.folder)).stream(["logs"]):
        pass

    engine.wait_asked("subscribe")


def test_a_stream_that_is_refused_raises_why(engine: FakeEngine) -> None:
    engine.write_place(app="another")

    with pytest.raises(TakoError, match="unknown app"), Engine(find(engine.folder)).stream(["logs"]):
        pass


def test_what_an_engine_json_of_a_cloned_repository_says_acts_neither_on_the_terminal_nor_on_the_browser(
    tmp_path: Path,
) -> None:
    place = Place(
        tmp_path,
        {
            "socket": "/s",
            "pid": 1,
            "app": "a\x1b]0;owned\x07",
            "url": "http://\x1b[2J",
            "dashboard": "https://evil.example/",
        },
    )

    assert "\x1b" not in place.app + place.url
    assert place.dashboard == ""
