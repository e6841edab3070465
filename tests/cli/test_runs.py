from __future__ import annotations

import re
from typing import Any

import pytest
from tests.support.cli import Cli
from tests.support.fake_engine import FakeEngine, Message, run_info

from tako.errors import RunNotFound

TRACEBACK = "Traceback (most recent call last):\n  File x\nValueError: no"


def page(*runs: Message, after: str | None = None) -> Message:
    return {"runs": list(runs), "next": after}


def test_list_json_has_exactly_the_promised_shape(cli: Cli, engine: FakeEngine) -> None:
    engine.answers["list_runs"] = page(run_info(1, status="blocked", error=None), run_info(2, error="E"), after="n")

    said = cli("runs", "list", "--json")

    assert said.code == 0
    assert said.json == {
        "runs": [
            {"id": run_info(1)["id"], "workflow": "send_email", "status": "blocked", "attempt": 1,
             "created_ms": 1_795_435_200_001, "error": None},
            {"id": run_info(2)["id"], "workflow": "send_email", "status": "succeeded", "attempt": 1,
             "created_ms": 1_795_435_200_002, "error": "E"},
        ],
        "next": "n",
    }  # fmt: skip
    assert said.err == ""


def test_list_sends_every_filter(cli: Cli, engine: FakeEngine) -> None:
    engine.answers["list_runs"] = page()
    parent = run_info(7)["id"]

    cli(
        "runs", "list", "--workflow", "w", "--status", "dead", "--group", "g", "--key", "k", "--parent", parent,
        "--since", "1970-01-01T00:00:01Z", "--until", "1970-01-01T00:00:02Z", "--limit", "5", "--after", "n",
    )  # fmt: skip

    assert engine.asked("list_runs") == [
        {"workflow": "w", "status": "dead", "group": "g", "key": "k", "parent_id": parent, "since_ms": 1000,
         "until_ms": 2000, "limit": 5, "after": "n"}
    ]  # fmt: skip


def test_list_for_people_is_a_table_whose_errors_are_one_line(cli: Cli, engine: FakeEngine) -> None:
    engine.answers["list_runs"] = page(run_info(1, status="dead", error="ValueError: a\x1b[2J\nsecond"), after="n")

    said = cli("runs", "list")

    head, row = said.out.splitlines()
    assert head.split() == ["run", "workflow", "status", "attempt", "created", "error"]
    assert "ValueError: a\\x1b[2J" in row
    assert "second" not in said.out
    assert "--after n" in said.err


@pytest.mark.parametrize(
    ("options", "words"), [([], "There are no runs yet"), (["--status", "dead"], "No run matches.")]
)
def test_an_empty_list_says_why(cli: Cli, engine: FakeEngine, options: list[str], words: str) -> None:
    engine.answers["list_runs"] = page()

    said = cli("runs", "list", *options)

    assert (said.code, said.out) == (0, "")
    assert words in said.err


def test_an_empty_list_of_a_workflow_that_nobody_declares_doubts_its_name(cli: Cli, engine: FakeEngine) -> None:
    engine.answers["list_runs"] = {"runs": [], "next": None}
    engine.answers["list_workflows"] = {"workflows": [{"name": "greet", "aliases": []}]}

    said = cli("runs", "list", "--workflow", "gret")

    assert "No run matches. No code declares a workflow 'gret'. Did you mean greet?" in said.err
    assert "doubt" not in cli("runs", "list", "--workflow", "greet").err


def test_an_unknown_status_is_wrong_usage(cli: Cli, engine: FakeEngine) -> None:
    assert cli("runs", "list", "--status", "failed").code == 2


def full_run() -> Message:
    return run_info(
        1,
        status="dead",
        error="ValueError: no",
        traceback=TRACEBACK,
        key="welcome:42",
        warnings=["saved step was not reached"],
        payload_json='{"user_id": 42}',
        result_json=None,
        steps=[
            {"name": "load", "status": "saved", "attempt": 1, "started_ms": 1000, "ended_ms": 1012,
             "result_json": '"a@b"'}
        ],
        attempts=[
            {"attempt": 1, "epoch": 1, "worker_id": "w", "release": "dev", "started_ms": 1000, "ended_ms": 3000,
             "outcome": "failed", "error": "ValueError: no", "traceback": TRACEBACK}
        ],
    )  # fmt: skip


def test_show_tells_all_that_is_known_and_how_to_run_it_again(cli: Cli, engine: FakeEngine) -> None:
    run = full_run()
    engine.answers["get_run"] = run
    engine.answers["list_runs"] = page(run_info(2, parent_id=run["id"], status="dead", error="ValueError: the child"))

    said = cli("runs", "show", run["id"])

    for part in (
        "dead",
        "welcome:42",
        '{"user_id": 42}',
        "load",
        "12ms",
        '"a@b"',
        "failed",
        "File x",
        "was not reached",
        "ValueError: the child",
    ):
        assert part in said.out, part
    assert f"tako runs retry {run['id']}" in said.err
    assert engine.asked("get_run") == [{"id": run["id"], "with": ["payload", "result", "steps", "attempts"]}]
    assert engine.asked("list_runs") == [{"parent_id": run["id"], "limit": 100}]


@pytest.mark.parametrize(
    ("waiting", "words"),
    [
        ({"step": "nap", "signal": None, "until_ms": 1_767_225_600_000}, "in sleep nap, until 2026-01-01"),
        ({"step": "signal:go", "signal": "go", "until_ms": None}, "for signal go, without end"),
        ({"step": "gather", "signal": None, "until_ms": None, "runs": ["a"]}, "for 1 run: a"),
        (
            {"step": "gather", "signal": None, "until_ms": None, "runs": list("abcde")},
            "for 5 runs: a, b, c, and 2 more",
        ),
    ],
)
def test_show_tells_what_a_parked_run_waits_for(cli: Cli, engine: FakeEngine, waiting: Message, words: str) -> None:
    run = {**run_info(1, status="waiting"), "waiting": waiting}
    engine.answers["get_run"] = run
    engine.answers["list_runs"] = page()

    assert words in cli("runs", "show", run["id"]).out


def test_show_of_a_run_that_succeeded_in_the_end_leaves_out_what_is_over(cli: Cli, engine: FakeEngine) -> None:
    run = run_info(status="succeeded", attempt=4, retries=1, error=None, reason=None, traceback=TRACEBACK)
    engine.answers |= {"get_run": run, "list_runs": page()}

    said = cli("runs", "show", run["id"]).out

    assert re.search(r"^  attempt   4$", said, re.MULTILINE), "not 4 of 2: it was retried by hand"
    assert "Traceback" not in said


def test_show_json_has_values_instead_of_texts(cli: Cli, engine: FakeEngine) -> None:
    run = full_run()
    engine.answers["get_run"] = run
    engine.answers["list_runs"] = page()

    shown = cli("runs", "show", run["id"], "--json").json

    assert shown["payload"] == {"user_id": 42}
    assert shown["result"] is None
    assert shown["steps"][0]["result"] == "a@b"
    assert "payload_json" not in shown


@pytest.mark.parametrize("shape", ["{id}", "{begin}…{end}", "{begin}...{end}", "{end}"])
def test_an_id_may_be_given_as_the_log_shows_it(cli: Cli, engine: FakeEngine, shape: str) -> None:
    run = run_info(0xABCD)
    engine.answers["list_runs"] = page(run_info(1), run, run_info(2))
    engine.answers["get_run"] = run
    text = shape.format(id=run["id"], begin=run["id"][:4], end=run["id"][-6:])

    said = cli("runs", "show", text)

    assert said.code == 0
    assert engine.asked("get_run")[0]["id"] == run["id"]


def test_an_id_that_is_two_runs_does_nothing_and_lists_them(cli: Cli, engine: FakeEngine) -> None:
    engine.answers["list_runs"] = page(run_info(1), run_info(2))

    said = cli("runs", "cancel", "01a2")

    assert said.code == 1
    assert "stands for 2 runs; nothing was done" in said.err
    assert run_info(1)["id"] in said.err
    assert engine.asked("cancel") == []


def test_an_id_that_is_none_says_so(cli: Cli, engine: FakeEngine) -> None:
    engine.answers["list_runs"] = page(run_info(1))

    assert "None of the newest 2000 runs" in cli("runs", "show", "ffff").err
    assert "is not the id of a run" in cli("runs", "show", "zebra!").err


def test_a_run_that_never_was_is_not_found(cli: Cli, engine: FakeEngine) -> None:
    engine.answers["get_run"] = RunNotFound("no run has this id", cure="See `tako runs list`.")

    said = cli("runs", "show", run_info(1)["id"])

    assert (said.code, said.out) == (1, "")
    assert "no run has this id" in said.err


def test_retry_runs_again_what_is_named(cli: Cli, engine: FakeEngine) -> None:
    engine.answers["retry"] = run_info(1, status="pending")

    said = cli("runs", "retry", run_info(1)["id"], "--from-step", "send")

    assert said.code == 0
    assert engine.asked("retry") == [{"id": run_info(1)["id"], "from_step": "send"}]
    assert "Enqueued again: send_email" in said.err


def each(message: Message, **changed: Any) -> Message:
    return {"runs": [run_info(1, id=run_id, **changed) for run_id in message["ids"]], "refused": []}


def test_retry_all_takes_every_page_of_dead_runs_of_the_workflow(cli: Cli, engine: FakeEngine) -> None:
    engine.answers["list_runs"] = lambda m: page(run_info(2)) if m.get("after") else page(run_info(1), after="n")
    engine.answers["retry"] = lambda m: each(m, status="pending")

    said = cli("runs", "retry", "--all", "--workflow", "send_email", "--json")

    assert said.code == 0
    assert [run["id"] for run in said.json["runs"]] == [run_info(1)["id"], run_info(2)["id"]]
    assert engine.asked("list_runs")[0] == {"status": "dead", "workflow": "send_email", "limit": 500}
    assert engine.asked("retry") == [{"ids": [run_info(1)["id"], run_info(2)["id"]]}]


def test_what_is_done_to_many_runs_tells_how_far_it_is(cli: Cli, engine: FakeEngine) -> None:
    engine.answers["list_runs"] = page(*[run_info(number) for number in range(1_001)])
    engine.answers["retry"] = lambda m: each(m, status="pending")

    said = cli("runs", "retry", "--all")

    assert said.err.splitlines() == [
        "Run 1 of 1,001…", "Run 501 of 1,001…", "Run 1,001 of 1,001…", "✔ Enqueued again: 1001 runs.",
    ]  # fmt: skip


def test_retry_all_can_be_of_those_with_one_error_and_of_the_last_hour(cli: Cli, engine: FakeEngine) -> None:
    runs = [run_info(1, error="TimeoutError: smtp"), run_info(2, error="KeyError: x"), run_info(3, error=None)]
    engine.answers["list_runs"] = page(*runs)
    engine.answers["retry"] = run_info(1, status="pending")

    said = cli("runs", "retry", "--all", "--error", "Timeout", "--since", "1970-01-01T00:00:01Z")

    assert engine.asked("list_runs")[0]["since_ms"] == 1000
    assert engine.asked("retry") == [{"id": run_info(1)["id"]}]
    assert "✔ Enqueued again: 1 run." in said.err


def test_one_run_that_refuses_does_not_stop_the_others(cli: Cli, engine: FakeEngine) -> None:
    first, second = run_info(1)["id"], run_info(2)["id"]
    refused = {"id": first, "code": "run_finished", "error": "it has ended", "cure": ""}
    engine.answers["cancel"] = {"runs": [run_info(2, status="cancelled")], "refused": [refused]}

    said = cli("runs", "cancel", first, second, "--reason", "no longer wanted")

    assert said.code == 1
    assert f"✘ {first} was not cancelled: it has ended" in said.err
    assert f"✔ Cancelled: send_email {second} is cancelled." in said.err
    assert engine.asked("cancel") == [{"ids": [first, second], "reason": "no longer wanted"}]
    assert cli("runs", "cancel", first, second, "--json").json["refused"] == [refused]


def test_cancel_all_takes_what_has_not_ended_after_a_yes(cli: Cli, engine: FakeEngine) -> None:
    engine.answers["list_runs"] = lambda m: page(*{"running": [run_info(1)], "waiting": [run_info(1), run_info(2)]}.get(
        m["status"], []
    ))  # fmt: skip
    engine.answers["cancel"] = lambda m: each(m, status="cancelled")

    refused = cli("runs", "cancel", "--all", "--workflow", "old")
    assert refused.code == 2
    assert "Cancel 2 runs of old? There is nobody to ask; nothing was cancelled.\n  Add --yes." in refused.err
    assert engine.asked("cancel") == []

    said = cli("runs", "cancel", "--workflow", "old", "--yes")
    assert said.code == 0
    assert "✔ Cancelled: 2 runs." in said.err
    assert engine.asked("cancel") == [{"ids": [run_info(1)["id"], run_info(2)["id"]]}]
    asked = {message["status"] for message in engine.asked("list_runs")}
    assert asked == {"pending", "running", "sleeping", "waiting", "limited", "blocked"}


def test_cancel_all_of_nothing_asks_nothing(cli: Cli, engine: FakeEngine) -> None:
    engine.answers["list_runs"] = page()

    said = cli("runs", "cancel", "--all", "--status", "blocked")

    assert said.code == 0
    assert "There is nothing to be cancelled." in said.err
    assert len(engine.asked("list_runs")) == 1


def test_runs_that_are_named_are_not_chosen_as_well(cli: Cli, engine: FakeEngine) -> None:
    said = cli("runs", "cancel", run_info(1)["id"], "--workflow", "w")

    assert said.code == 2
    assert "Name runs, or say --workflow, not both." in said.err


@pytest.mark.parametrize("words", [["retry"], ["retry", "ab", "--all"], ["ack"], ["ack", "ab", "--all"]])
def test_neither_nothing_nor_both_can_be_chosen(cli: Cli, engine: FakeEngine, words: list[str]) -> None:
    assert cli("runs", *words).code == 2


@pytest.mark.parametrize(
    ("words", "fields"),
    [
        (["--all"], {"all": True}),
        (["--workflow", "w"], {"workflow": "w", "all": True}),
        ([run_info(1)["id"]], {"ids": [run_info(1)["id"]]}),
    ],
)
def test_ack_says_how_many(cli: Cli, engine: FakeEngine, words: list[str], fields: dict[str, Any]) -> None:
    engine.answers["ack"] = {"count": 2}

    said = cli("runs", "ack", *words)

    assert "Acknowledged 2 dead runs" in said.err
    assert engine.asked("ack") == [fields]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"delivered": True, "kept": False}, "was waiting for it"),
        ({"delivered": False, "kept": True}, "is kept until"),
        ({"delivered": False, "kept": True, "known": True}, "was sent before with this id, and it is kept"),
        ({"delivered": True, "kept": False, "known": True}, "was sent before with this id, and the run has taken it"),
    ],
)
def test_signal_says_what_became_of_it(cli: Cli, engine: FakeEngine, answer: Message, words: str) -> None:
    engine.answers["signal_run"] = answer

    said = cli("runs", "signal", run_info(1)["id"], "shipped", '{"by": "ups"}', "--id", "e1")

    assert said.code == 0
    assert words in said.err
    assert engine.asked("signal_run") == [
        {"id": run_info(1)["id"], "signal": "shipped", "payload_json": '{"by": "ups"}', "signal_id": "e1"}
    ]


def test_signal_finds_the_run_by_its_key(cli: Cli, engine: FakeEngine) -> None:
    engine.answers["signal_run"] = {"delivered": True, "kept": False}

    cli("runs", "signal", "order:7", "paid", "--workflow", "fulfil")

    assert engine.asked("signal_run") == [
        {"workflow": "fulfil", "key": "order:7", "signal": "paid", "payload_json": "null"}
    ]


def test_a_signal_whose_value_is_no_json_is_not_sent(cli: Cli, engine: FakeEngine) -> None:
    said = cli("runs", "signal", run_info(1)["id"], "paid", "yes")

    assert said.code == 2
    assert "Nothing was sent" in said.err
    assert engine.asked("signal_run") == []


def test_tail_prints_each_change_as_a_line_until_the_engine_stops(cli: Cli, engine: FakeEngine) -> None:
    engine.events = [
        {"event": "run", "ts_ms": 50_531_000, "run": run_info(1, status="running")},
        {"event": "health", "group": {}},
        {"event": "run", "ts_ms": 50_532_000, "run": run_info(1, status="dead", error="E\nmore")},
    ]
    engine.on_subscribe = engine.hang_up

    lines = cli("runs", "tail", "--json").json_lines

    assert [line["status"] for line in lines] == ["running", "dead"]
    assert lines[1] == {
        "id": run_info(1)["id"], "workflow": "send_email", "status": "dead", "attempt": 1,
        "created_ms": run_info(1)["created_ms"], "error": "E\nmore", "ts_ms": 50_532_000,
    }  # fmt: skip
