from __future__ import annotations

import pytest
from tests.support.terminal import Terminal

from tako.dev.screen import Canvas, Header, Problem, box, fits, header, pinned, plain_box, wrap
from tako.logs.width import cells

TRACEBACK = """\
Traceback (most recent call last):
  File "workflows/send_email.py", line 3, in <module>
    from jinja2 import Environment
ModuleNotFoundError: No module named 'jinja2'"""
BROKEN = Problem("workflows/send_email.py", "workflows/send_email.py cannot be imported", TRACEBACK)
INFO = Header(
    app="my-app",
    version="0.1.0",
    urls=("http://my-app.localhost:7777", "http://localhost:8000"),
    dashboard="http://127.0.0.1:8100",
    workflows=tuple(f"workflow_number_{number}" for number in range(12)),
    groups=("default: scales to zero, 10 at once", "mail: 1 worker, always on"),
    schedules=('nightly "0 9 * * 1-5" UTC, next 09:00',),
)


def test_the_header_names_everything_there_is() -> None:
    text = "\n".join(header(INFO, columns=200, colour=False))

    for part in (INFO.app, *INFO.urls, str(INFO.dashboard), *INFO.workflows, *INFO.groups, *INFO.schedules):
        assert part in text
    assert "\x1b" not in text


@pytest.mark.parametrize("columns", [80, 200])
def test_no_line_of_the_header_is_wider_than_the_terminal(columns: int) -> None:
    assert max(cells(line) for line in header(INFO, columns=columns, colour=False)) <= columns


def test_a_url_is_never_broken_or_followed_by_a_comma() -> None:
    lines = header(INFO, columns=40, colour=False)

    for url in INFO.urls:
        assert any(url in line and f"{url}," not in line for line in lines)


def test_an_app_without_workflows_is_told_how_to_make_one() -> None:
    assert any("tako init" in line for line in header(Header(app="a", version="1"), columns=80, colour=False))


@pytest.mark.parametrize("columns", [20, 40, 80, 200])
def test_a_box_holds_every_character_and_no_line_is_wider_than_asked(columns: int) -> None:
    lines = box(BROKEN, columns=columns, colour=False)

    inner = "".join(line[2:-2].rstrip() for line in lines[1:-1])
    assert inner.replace(" ", "") == TRACEBACK.replace("\n", "").replace(" ", "")
    assert {cells(line) for line in lines} == {max(min(columns, 120), 24)}


def test_a_box_keeps_its_shape_with_wide_characters() -> None:
    lines = box(Problem("k", "日本語のファイル", "エラー: 名前がありません " * 10), columns=60, colour=False)

    assert {cells(line) for line in lines} == {60}


def test_a_problem_cannot_act_on_the_terminal() -> None:
    evil = Problem("k", "title\x1b[2J\nforged", "body\x1b]0;x\x07")

    for lines in (
        box(evil, columns=80, colour=False),
        plain_box(evil),
        pinned([evil], columns=80, rows=24, colour=False),
    ):
        assert not any("\x1b" in line or "\n" in line for line in lines)


def test_without_a_terminal_no_line_is_broken() -> None:
    assert "│ " + "x" * 500 in plain_box(Problem("k", "t", "x" * 500))


@pytest.mark.parametrize("rows", [3, 5, 8, 12, 24, 60])
@pytest.mark.parametrize("count", [1, 2, 5, 40])
def test_what_is_pinned_always_leaves_room_for_the_stream(rows: int, count: int) -> None:
    problems = [
        Problem(str(number), f"file {number} cannot be imported", "\n".join("abc" * 9)) for number in range(count)
    ]

    lines = pinned(problems, columns=80, rows=rows, colour=True)

    assert len(lines) < max(rows - 1, 4)
    assert any(f"file {count - 1} " in line for line in lines)


def test_a_box_that_is_too_high_loses_its_middle_and_says_so() -> None:
    body = "\n".join(f"line {number}" for number in range(50))
    problem = Problem("k", "broken", body)

    shown = "\n".join(pinned([problem], columns=80, rows=20, colour=False))

    assert not fits(problem, columns=80, rows=20)
    assert "line 0" in shown
    assert "line 49" in shown
    assert "more lines: scroll up" in shown


def test_the_newest_problem_has_the_box_and_the_others_a_line_each() -> None:
    lines = pinned([Problem("a", "a is broken", "x"), BROKEN], columns=80, rows=40, colour=False)

    assert lines[0] == "✘ a is broken"
    assert BROKEN.title in lines[1]


def test_wrapping_keeps_indentation_and_empty_lines() -> None:
    assert wrap("    four", 6) == ["    fo", "ur"]
    assert wrap("", 6) == [""]


def test_a_new_line_of_the_stream_stands_above_what_is_pinned() -> None:
    canvas, terminal = Canvas(), Terminal(40, 10)

    terminal.write(canvas.frame(["one"], ["PINNED", "BELOW"], columns=40))
    terminal.write(canvas.frame(["two"], ["PINNED", "BELOW"], columns=40))

    assert terminal.screen() == ["one", "two", "PINNED", "BELOW"]


def test_what_is_no_longer_pinned_is_gone() -> None:
    canvas, terminal = Canvas(), Terminal(40, 10)

    terminal.write(canvas.frame(["one"], ["PINNED"], columns=40))
    terminal.write(canvas.frame(["two"], [], columns=40))
    terminal.write(canvas.frame(["three"], [], columns=40))

    assert terminal.screen() == ["one", "two", "three"]
    assert not canvas.is_pinning


def test_lines_that_a_narrower_terminal_has_folded_are_taken_away_whole() -> None:
    canvas, terminal = Canvas(), Terminal(40, 20)
    canvas.frame(["one"], ["P" * 39, "Q" * 39], columns=40)
    terminal = Terminal(20, 20)  # what a terminal makes of it when it is resized: each line in two rows
    terminal.write("one\n" + "P" * 39 + "\n" + "Q" * 39 + "\n")

    terminal.write(canvas.frame(["two"], ["p" * 19], columns=20))

    assert terminal.screen() == ["one", "two", "p" * 19]
