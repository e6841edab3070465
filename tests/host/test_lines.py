"""Printed lines as lines of the log."""

from __future__ import annotations

from typing import Any

import pytest

from tako.host.lines import parse


def parsed(line: str) -> dict[str, Any]:
    return dict(parse(line, now_ms=5, scope="worker", pid=7, group="mail"))


@pytest.mark.parametrize("line", ["hello", "", "{", '{"a": 1}', '{"msg": 1}', "[1]", '{"msg": "x"'])
def test_what_is_not_ours_is_text(line: str) -> None:
    assert parsed(line) == {
        "ts_ms": 5, "level": "info", "scope": "worker", "message": line, "pid": 7, "group": "mail",
    }  # fmt: skip


def test_json_with_msg_is_structured() -> None:
    line = '{"msg": "sent", "level": "WARNING", "run_id": "r", "workflow": "w", "step": "s", "ts_ms": 3, "n": 1}'
    assert parsed(line) == {
        "ts_ms": 3, "level": "warning", "scope": "worker", "message": "sent", "pid": 7, "group": "mail",
        "run_id": "r", "workflow": "w", "step": "s", "fields": {"n": 1},
    }  # fmt: skip


def test_a_traceback_stands_below_the_message() -> None:
    found = parsed('{"msg": "failed", "traceback": "Traceback:\\n  here\\n", "level": "loud"}')
    assert found["message"] == "failed\nTraceback:\n  here"
    assert found["level"] == "info"
    assert "fields" not in found
