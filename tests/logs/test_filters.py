from __future__ import annotations

from tako.logs.filters import EVERYTHING, Filter, rank
from tako.protocol.messages import LogLine

LINE: LogLine = {
    "ts_ms": 1, "level": "warning", "scope": "worker", "message": "m", "run_id": "r1", "workflow": "w", "group": "mail",
    "pid": 7,
}  # fmt: skip


def test_a_filter_that_asks_nothing_wants_everything() -> None:
    assert EVERYTHING.wants(LINE)


def test_each_thing_asked_for_must_hold() -> None:
    for right, wrong in (
        (Filter(run="r1"), Filter(run="r2")),
        (Filter(workflow="w"), Filter(workflow="v")),
        (Filter(group="mail"), Filter(group="default")),
        (Filter(scope="worker"), Filter(scope="web")),
        (Filter(pid=7), Filter(pid=8)),
        (Filter(level="warning"), Filter(level="error")),
    ):
        assert right.wants(LINE)
        assert not wrong.wants(LINE)


def test_a_line_without_a_run_is_not_of_any_run() -> None:
    assert not Filter(run="r1").wants({"ts_ms": 1, "level": "info", "scope": "web", "message": "m"})


def test_an_unknown_level_is_neither_hidden_nor_alarming() -> None:
    assert rank("notice") == rank("info")
    assert rank("CRITICAL") == rank("error")
