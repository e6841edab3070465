"""The gate's tool for state machines runs them at the size it is told, and says so when one does not hold."""

from __future__ import annotations

import pytest
from reliability.model import __main__ as model


def test_a_machine_runs_at_the_size_that_was_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["model", "--examples", "3", "--steps", "7", "--only", "framing"])

    assert model.main() == 0
    assert capsys.readouterr().out.startswith("framing: 3 histories of 7 steps: all held, ")


def test_what_does_not_hold_is_told_with_its_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert not model.run("nothing", "tests/no_such_file.py", {})

    told = capsys.readouterr().out
    assert "nothing: BROKEN" in told
    assert "no_such_file.py" in told
