from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
from tests.support.terminal import Terminal

from tako.dev.screen import Header
from tako.dev.session import Mode, Session
from tako.logs.redact import redactor
from tako.protocol.messages import LogLine

TRACEBACK = "\n".join(
    [*(f"  File 'x.py', line {n}" for n in range(6)), "ModuleNotFoundError: No module named 'jinja2'"]
)
KEY = "workflows/send_email.py"
RUN = "01a20c3e-7b1d-7e50-8aa1-0d51c94f2a1c"


class Stage:
    """A session, and what is seen of it."""

    def __init__(self, mode: Mode, *, columns: int = 80, rows: int = 24, redact: Callable[[str], str] = str) -> None:
        self.terminal = Terminal(columns, rows)
        self.bytes = ""
        self.session = Session(
            write=self._write,
            mode=mode,
            size=lambda: (columns, rows),
            now_ms=lambda: 50_531_000,
            redact=redact,
        )

    def _write(self, text: str) -> None:
        self.bytes += text
        self.terminal.write(text)

    def screen(self) -> list[str]:
        assert self.session.flush(timeout_s=10)
        return self.terminal.screen()

    def text(self) -> str:
        assert self.session.flush(timeout_s=10)
        return self.bytes

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text().splitlines()]


@pytest.fixture
def stage(utc: None) -> Iterator[Callable[..., Stage]]:
    made: list[Stage] = []

    def build(mode: Mode, **options: Any) -> Stage:
        made.append(Stage(mode, **options))
        return made[-1]

    yield build
    for one in made:
        one.session.close()


def line(message: str, **more: Any) -> LogLine:
    return cast(LogLine, {"ts_ms": 50_531_000, "level": "info", "scope": "web", "message": message, **more})


@pytest.mark.parametrize("columns", [80, 200])
def test_a_problem_stays_the_last_thing_on_the_screen_however_much_is_printed(
    stage: Callable[..., Stage], columns: int
) -> None:
    one = stage("terminal", columns=columns)

    one.session.problem(KEY, f"{KEY} cannot be imported", TRACEBACK)
    for number in range(300):
        one.session.line(line(f"GET /{number} 200 {'x' * (number % 150)}"))

    screen = one.screen()
    assert screen[-1].startswith("╰")
    assert "No module named 'jinja2'" in screen[-2]
    assert sum("cannot be imported" in row for row in one.terminal.everything()) == 1
    assert any("GET /299 " in row for row in screen)


def test_saving_the_mended_file_takes_the_box_away_and_says_so(stage: Callable[..., Stage]) -> None:
    one = stage("terminal", columns=100)
    one.session.problem(KEY, f"{KEY} cannot be imported", TRACEBACK)
    one.screen()

    assert one.session.mended(KEY)

    assert one.screen() == [f"14:02:11 INFO  tako     ✔ {KEY} is mended; enqueues are accepted."]


def test_mending_what_was_not_broken_says_nothing(stage: Callable[..., Stage]) -> None:
    one = stage("terminal")

    assert not one.session.mended(KEY)
    assert one.text() == ""


def test_the_same_problem_again_is_not_shown_again_but_a_new_one_of_the_file_is(stage: Callable[..., Stage]) -> None:
    one = stage("plain")

    one.session.problem(KEY, "cannot be imported", "first")
    one.session.problem(KEY, "cannot be imported", "first")
    one.session.problem(KEY, "cannot be imported", "second")

    assert one.screen() == ["┌─ ✘ cannot be imported", "│ first", "└─", "┌─ ✘ cannot be imported", "│ second", "└─"]


def test_the_same_failure_with_another_duration_is_no_news(stage: Callable[..., Stage]) -> None:
    plain, terminal = stage("plain"), stage("terminal")

    for one in (plain, terminal):
        one.session.problem(KEY, "exited after 84ms", TRACEBACK)
        one.session.problem(KEY, "exited after 45ms", TRACEBACK)

    assert plain.text().count("No module named") == 1
    assert "exited after 45ms" in terminal.screen()[0]


def test_a_box_that_does_not_fit_is_printed_whole_in_the_stream_once(stage: Callable[..., Stage]) -> None:
    one = stage("terminal", rows=15)
    body = "\n".join(f"frame {number}" for number in range(40))

    one.session.problem(KEY, "cannot be imported", body)
    one.session.line(line("GET /"))

    one.screen()
    everything = "\n".join(one.terminal.everything())
    assert all(f"frame {number} " in everything for number in range(40))
    assert one.terminal.screen()[-1].startswith("╰")


def test_two_broken_files_are_both_told_and_mended_one_by_one(stage: Callable[..., Stage]) -> None:
    one = stage("terminal")
    one.session.problem("a.py", "a.py cannot be imported", "in a")
    one.session.problem("b.py", "b.py cannot be imported", "in b")
    assert any("a.py cannot" in row for row in one.screen())

    one.session.mended("b.py")

    screen = one.screen()
    assert "in a" in screen[-2]
    assert not any("in b" in row for row in screen)


def test_without_a_terminal_nothing_is_drawn_twice_and_nothing_moves_the_cursor(stage: Callable[..., Stage]) -> None:
    one = stage("plain")

    one.session.header(Header(app="my-app", version="1", urls=("http://localhost:8000",)))
    one.session.problem(KEY, "cannot be imported", TRACEBACK)
    for number in range(50):
        one.session.line(line(f"GET /{number}"))
    one.session.mended(KEY)

    assert "\x1b" not in one.text()
    assert one.text().count("No module named") == 1
    assert "http://localhost:8000" in one.text()


@pytest.mark.parametrize("mode", ["terminal", "plain"])
def test_what_is_said_before_the_header_is_shown_below_it(stage: Callable[..., Stage], mode: Mode) -> None:
    one = stage(mode)

    one.session.hold()
    one.session.line(line("early"))
    one.session.problem(KEY, f"{KEY} cannot be imported", TRACEBACK)
    assert one.text() == ""
    one.session.header(Header(app="my-app", version="1", urls=("http://localhost:8000",)))

    text = "\n".join(one.screen())
    assert text.index("http://localhost:8000") < text.index("early") < text.index("cannot be imported")


def test_what_was_said_before_a_header_that_never_came_is_shown_at_the_end(stage: Callable[..., Stage]) -> None:
    one = stage("plain")
    one.session.hold()
    one.session.line(line("early"))

    one.session.close()

    assert "early" in one.bytes


def test_a_dead_run_comes_with_the_command_that_runs_it_again(stage: Callable[..., Stage]) -> None:
    one = stage("plain")

    words = f"is dead: ValueError: no address\nRun it again: tako runs retry {RUN}"
    one.session.line(line(words, level="error", scope="tako", run_id=RUN, workflow="send_email", fields={"dead": True}))

    assert one.screen() == [
        "14:02:11 ERROR tako     send_email 01a2…4f2a1c is dead: ValueError: no address",
        f"  │ Run it again: tako runs retry {RUN}",
    ]


def test_each_line_of_json_is_an_event(stage: Callable[..., Stage]) -> None:
    one = stage("json")

    one.session.header(Header(app="my-app", version="1"))
    one.session.line(line("GET / ü\n"))
    one.session.problem(KEY, "cannot be imported", "in full\nin two lines")
    one.session.mended(KEY)
    one.session.note("noted")
    one.session.closing("waiting")

    header, logged, problem, *rest = one.events()
    assert (header["event"], header["app"]) == ("header", "my-app")
    assert logged == {"event": "log", "line": line("GET / ü\n")}
    assert problem == {"event": "problem", "key": KEY, "title": "cannot be imported", "body": "in full\nin two lines"}
    assert rest == [
        {"event": "mended", "key": KEY},
        {"event": "note", "text": "noted"},
        {"event": "closing", "text": "waiting"},
    ]


@pytest.mark.parametrize("mode", ["terminal", "plain", "json"])
def test_no_secret_is_shown_in_any_way(stage: Callable[..., Stage], mode: Mode) -> None:
    one = stage(mode, redact=redactor({"KEY": "hunter22"}))

    one.session.line(line("hunter22", fields={"a": "hunter22"}))
    one.session.problem("k", "hunter22", "KeyError: hunter22")
    one.session.note("hunter22")
    one.session.closing("hunter22")

    assert "hunter22" not in one.text()


def test_a_note_cannot_act_on_the_terminal(stage: Callable[..., Stage]) -> None:
    one = stage("plain")

    one.session.note("file \x1b[2Jname\nforged")

    assert one.screen() == ["14:02:11 INFO  tako     file \\x1b[2Jname\\nforged"]


def test_closing_leaves_what_is_still_broken_on_the_screen(stage: Callable[..., Stage]) -> None:
    one = stage("terminal")
    one.session.problem(KEY, "cannot be imported", TRACEBACK)
    one.session.closing("Stopping: waiting for 2 runs, 30s at most. Ctrl-C again kills them.")

    one.session.close()
    one.session.close()

    assert "waiting for 2 runs" in one.terminal.screen()[0]
    assert one.terminal.screen()[-1].startswith("╰")
