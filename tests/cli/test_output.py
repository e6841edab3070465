from __future__ import annotations

from io import StringIO

import pytest

from tako.cli.output import Output
from tako.logs.width import cells


class Tty(StringIO):
    def isatty(self) -> bool:
        return True


def output(
    *, tty: bool = True, environ: dict[str, str] | None = None, typed: str = ""
) -> tuple[Output, StringIO, StringIO]:
    kind = Tty if tty else StringIO
    out, err = kind(), kind()
    return Output(stdout=out, stderr=err, stdin=kind(typed), environ=environ or {}), out, err


def test_narration_is_on_stderr_and_results_on_stdout() -> None:
    said, out, err = output(tty=False)

    said.done("Copied.")
    said.result("row")

    assert (out.getvalue(), err.getvalue()) == ("row\n", "✔ Copied.\n")


@pytest.mark.parametrize("environ", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_colour_when_it_was_asked_for(environ: dict[str, str]) -> None:
    said, out, err = output(environ=environ)

    said.fail("x")
    said.table(["status"], [["dead"]])

    assert "\x1b" not in out.getvalue() + err.getvalue()


def test_a_terminal_shows_statuses_in_colour() -> None:
    said, out, _ = output()

    said.table(["status"], [["dead"]])

    assert "\x1b[31mdead\x1b[0m" in out.getvalue()


def test_columns_stand_below_each_other_also_with_wide_characters() -> None:
    said, out, _ = output(tty=False)

    said.table(["name", "status"], [["日本", "dead"], ["abcdef", "ok"]])

    assert out.getvalue().splitlines() == ["name    status", "日本    dead", "abcdef  ok"]


def test_a_cell_cannot_act_on_the_terminal_or_break_its_row() -> None:
    said, out, _ = output(tty=False)

    said.table(["key"], [["a\x1b[2J\nforged"]])

    assert out.getvalue().splitlines() == ["key", "a\\x1b[2J\\nforged"]


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_on_a_terminal_every_row_is_one_line_and_a_run_is_still_told_from_others(
    columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    said, out, _ = output(environ={"NO_COLOR": "1"})
    headers = ["run", "workflow", "status", "error"]
    rows = [["01a2242e-2c56-7126-abf2-773604eac577", name, "dead", "x" * 500] for name in ("报告" * 20, "b" * 60)]

    said.table(headers, rows)

    lines = out.getvalue().splitlines()
    assert all(cells(line) <= columns + 8 for line in lines)
    assert all(line.startswith("01a22") and "c577 " in line for line in lines[1:])
    assert max(map(cells, lines)) <= max(columns, 46)


def test_a_reason_has_more_room_than_an_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    said, out, _ = output(environ={"NO_COLOR": "1"})

    said.table(
        ["run", "workflow", "status", "attempt", "created", "error"],
        [["01a2242e-2c56-7126-abf2-773604eac577", "sell", "dead", "2", "5s ago", "ValueError: no such order: -3"]],
    )

    (line,) = out.getvalue().splitlines()[1:]
    assert cells(line) <= 80
    assert "ValueError: no such" in line


def test_without_a_terminal_nothing_is_cut_and_nothing_can_be_asked() -> None:
    said, out, _ = output(tty=False)

    said.table(["error"], [["x" * 500]])

    assert "x" * 500 in out.getvalue()
    assert not said.can_ask


@pytest.mark.parametrize(
    ("typed", "answer"), [("y\n", True), ("YES\n", True), ("\n", False), ("n\n", False), ("", False)]
)
def test_only_a_yes_is_a_yes(typed: str, answer: bool) -> None:
    said, _, _ = output(typed=typed)

    assert said.ask("Sure?") is answer
