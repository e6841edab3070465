from __future__ import annotations

import json
import re
import stat
from io import StringIO
from pathlib import Path

import pytest

from tako.cli import errors
from tako.cli.arguments import UsageError
from tako.cli.output import Output
from tako.errors import TakoError, WorkerUnhealthy


class Leave:
    """Leaves through the doors; tells what was said."""

    def __init__(self, *, json_wanted: bool = False) -> None:
        self.out, self.err = StringIO(), StringIO()
        self.output = Output(stdout=self.out, stderr=self.err, stdin=StringIO(), environ={}, json=json_wanted)

    def by(self, error: BaseException) -> int:
        def fail() -> int:
            raise error

        return errors.guarded(fail, command="tako enqueue", output=self.output)


@pytest.fixture
def reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.delenv("TAKO_DEBUG", raising=False)
    return tmp_path


def test_what_was_expected_exits_1_with_the_result_first_and_the_cure_below() -> None:
    leave = Leave()

    assert leave.by(TakoError("The thing was refused.", cure="Do this.\nThen that.")) == 1
    assert leave.err.getvalue() == "✘ The thing was refused.\n  Do this.\n  Then that.\n"
    assert leave.out.getvalue() == ""


def test_a_message_of_several_lines_keeps_them() -> None:
    leave = Leave()

    leave.by(WorkerUnhealthy("worker unhealthy: x\n  Traceback", cure="Mend it."))

    assert leave.err.getvalue() == "✘ worker unhealthy: x\n  Traceback\n  Mend it.\n"


def test_wrong_usage_exits_2() -> None:
    assert Leave().by(UsageError("Which run?")) == 2


def test_an_interrupt_exits_130_and_says_what_goes_on() -> None:
    leave = Leave()

    assert leave.by(errors.Interrupted("The run goes on.")) == 130
    assert leave.err.getvalue() == "\nInterrupted. The run goes on.\n"
    assert Leave().by(KeyboardInterrupt()) == 130


def test_a_fault_of_the_system_is_named_and_is_no_bug() -> None:
    leave = Leave()

    assert leave.by(PermissionError(13, "Permission denied", "/x/y")) == 1
    assert "tako enqueue was stopped by the system: Permission denied: /x/y." in leave.err.getvalue()


def test_a_message_cannot_act_on_the_terminal() -> None:
    leave = Leave()

    leave.by(TakoError("bad \x1b[2J", cure="\x1b]0;x\x07"))

    assert "\x1b" not in leave.err.getvalue()


def test_a_bug_exits_70_and_writes_a_report_that_only_we_can_read(reports: Path) -> None:
    leave = Leave()

    assert leave.by(ZeroDivisionError("division by zero")) == 70
    (report,) = reports.iterdir()
    assert str(report) in leave.err.getvalue()
    assert stat.S_IMODE(report.stat().st_mode) == 0o600
    assert "Traceback" not in leave.err.getvalue()


def test_a_report_says_where_and_on_what_but_holds_no_data(reports: Path) -> None:
    secret = "hunter22"

    def inner(value: str) -> None:
        raise KeyError(value)

    def outer() -> int:
        try:
            inner(secret)
        except KeyError as error:
            raise ValueError(f"bad {secret}") from error
        return 0

    leave = Leave()
    assert errors.guarded(outer, command="tako enqueue", output=leave.output) == 70

    (report,) = reports.iterdir()
    text = report.read_text()
    assert secret not in text + leave.err.getvalue()
    assert "ValueError" in text
    assert "KeyError" in text
    assert "in inner" in text
    assert re.search(r"python: 3\.\d+", text)


def test_with_json_a_bug_is_one_document(reports: Path) -> None:
    leave = Leave(json_wanted=True)

    assert leave.by(ZeroDivisionError()) == 70
    assert json.loads(leave.out.getvalue())["error"]["code"] == "bug"


def test_a_report_that_cannot_be_written_does_not_hide_the_bug(reports: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(reports / "nowhere"))
    leave = Leave()

    assert leave.by(ZeroDivisionError()) == 70
    assert "No report was written" in leave.err.getvalue()
