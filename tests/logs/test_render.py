from __future__ import annotations

from typing import Any, cast

import pytest

from tako.logs.redact import redactor
from tako.logs.render import clean, render, short_id
from tako.protocol.messages import LogLine

RUN = "01a20c3e-7b1d-7e50-8aa1-0d51c94f2a1c"


pytestmark = pytest.mark.usefixtures("utc")


def line(message: str, **more: Any) -> LogLine:
    found = {"ts_ms": 50_531_000, "level": "info", "scope": "web", "message": message, **more}
    return cast(LogLine, found)


def test_a_line_looks_as_the_design_shows_it() -> None:
    assert render(line("GET /signup 200 12ms")) == "14:02:11 INFO  web      GET /signup 200 12ms"


def test_a_line_about_a_run_names_workflow_and_run() -> None:
    shown = render(line("started", scope="worker", workflow="send_email", run_id=RUN))

    assert shown == "14:02:11 INFO  worker   send_email 01a2…4f2a1c started"


def test_a_message_that_names_the_run_itself_is_not_prefixed_again() -> None:
    shown = render(line("send_email 01a2 started", scope="worker", workflow="send_email", run_id=RUN))

    assert shown.endswith("worker   send_email 01a2 started")


def test_the_group_is_named_unless_it_is_the_default_one() -> None:
    assert render(line("ready", scope="worker", group="mail")).endswith("worker   mail: ready")
    assert render(line("ready", scope="worker", group="default")).endswith("worker   ready")


def test_fields_follow_the_message() -> None:
    shown = render(
        line(
            "worker exited",
            level="error",
            scope="tako",
            fields={"code": 1, "why": "no module", "ok": True, "crash": True},
        )
    )

    assert shown == '14:02:11 ERROR tako     worker exited code=1 why="no module" ok=true'


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("\x1b[2J\x1b]0;title\x07", "\\x1b[2J\\x1b]0;title\\x07"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("a\rb", "a\\x0db"),
        ("\x9b31m", "\\x9b31m"),
        ("\u202eevil", "\\u202eevil"),
        ("\ud800", "\\ud800"),
        ("tab\there", "tab    here"),
        ("ünïcode ✔ 日本", "ünïcode ✔ 日本"),
    ],
)
def test_what_acts_on_a_terminal_is_made_visible(raw: str, shown: str) -> None:
    assert clean(raw) == shown


def test_a_message_of_several_lines_cannot_forge_a_line() -> None:
    shown = render(line("first\n14:02:12 ERROR tako     forged"))

    assert shown.split("\n") == ["14:02:11 INFO  web      first", "  │ 14:02:12 ERROR tako     forged"]


@pytest.mark.parametrize("field", ["workflow", "run_id", "group", "step", "scope", "level"])
def test_no_part_of_a_line_can_forge_another(field: str) -> None:
    assert "\n" not in render(line("m", **{"workflow": "w", field: "x\n14:02:12 ERROR tako     forged\x1b[2J"}))
    assert "\x1b" not in render(line("m", **{"workflow": "w", field: "x\n\x1b[2J"}))


def test_colour_only_where_it_was_asked_for() -> None:
    assert "\x1b" not in render(line("m", level="error"))
    assert "\x1b[31mERROR\x1b[0m" in render(line("m", level="error"), colour=True)


def test_secrets_are_taken_out_by_the_function_passed_in() -> None:
    assert "hunter22" not in render(line("pw hunter22"), redact=redactor({"PW": "hunter22"}))


def test_a_short_id_keeps_the_end_that_differs() -> None:
    assert short_id(RUN) == "01a2…4f2a1c"
    assert short_id("abc") == "abc"
