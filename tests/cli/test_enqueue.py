from __future__ import annotations

import io
import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.support.cli import Cli
from tests.support.fake_engine import FakeEngine, Message, run_info

from tako.errors import WorkerUnhealthy

TAKO = str(Path(sys.executable).with_name("tako"))
WORKFLOW = {
    "name": "send_email",
    "aliases": ["mail"],
    "parameters": [
        {"name": "user_id", "type": "int", "required": True},
        {"name": "template", "type": "str", "required": False},
    ],
}
UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


@pytest.fixture
def engine(engine: FakeEngine) -> FakeEngine:
    engine.answers["list_workflows"] = {"workflows": [WORKFLOW]}
    engine.answers["enqueue_runs"] = lambda m: {"runs": [{"id": m["runs"][0]["id"], "is_new": True}]}
    return engine


def enqueued(engine: FakeEngine) -> dict[str, Any]:
    (request,) = engine.asked("enqueue_runs")
    (new,) = request["runs"]
    found: dict[str, Any] = new
    return found


def test_arguments_are_read_by_the_types_of_the_signature(cli: Cli, engine: FakeEngine) -> None:
    said = cli("enqueue", "send_email", "user_id=42", "template=7")

    assert said.code == 0
    new = enqueued(engine)
    assert new["workflow"] == "send_email"
    assert json.loads(new["payload_json"]) == {"user_id": 42, "template": "7"}
    assert UUID7.fullmatch(new["id"])
    assert said.out == f"{new['id']}\n"
    assert f"tako runs show {new['id']}" in said.err


def test_options_may_stand_between_the_name_and_its_arguments(cli: Cli, engine: FakeEngine) -> None:
    assert cli("enqueue", "send_email", "--key", "k", "user_id=42", "--priority", "3", "template=a=b").code == 0

    new = enqueued(engine)
    assert (new["key"], new["priority"]) == ("k", 3)
    assert json.loads(new["payload_json"]) == {"user_id": 42, "template": "a=b"}


def test_an_alias_has_the_types_too(cli: Cli, engine: FakeEngine) -> None:
    cli("enqueue", "mail", "user_id=42")

    assert json.loads(enqueued(engine)["payload_json"]) == {"user_id": 42}


def test_a_value_of_the_wrong_type_is_refused_before_anything_is_sent(cli: Cli, engine: FakeEngine) -> None:
    said = cli("enqueue", "send_email", "user_id=forty")

    assert said.code == 2
    assert "user_id: expected int, found 'forty'. Nothing was enqueued." in said.err
    assert engine.asked("enqueue_runs") == []


@pytest.mark.parametrize(
    "words",
    [
        ["send_email", "--json", '{"user_id": 42}'],
        ["--json", '{"user_id": 42}', "send_email"],
        ["send_email", '--json={"user_id": 42}'],
        ["send_email", "--payload", '{"user_id": 42}'],
    ],
)
def test_the_payload_may_be_one_json_object(cli: Cli, engine: FakeEngine, words: list[str]) -> None:
    said = cli("enqueue", *words)

    assert said.code == 0
    assert json.loads(enqueued(engine)["payload_json"]) == {"user_id": 42}
    assert said.out.strip() == enqueued(engine)["id"], "`--json PAYLOAD` does not ask for JSON output"


def test_the_payload_may_come_from_stdin(cli: Cli, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO('{"user_id": 42}'))

    cli("enqueue", "send_email", "--json", "-")

    assert json.loads(enqueued(engine)["payload_json"]) == {"user_id": 42}


def test_json_alone_asks_for_output_as_json(cli: Cli, engine: FakeEngine) -> None:
    said = cli("enqueue", "--json", "send_email", "user_id=42")

    assert said.json == {"id": enqueued(engine)["id"], "is_new": True}


def test_payload_and_output_can_both_be_json(cli: Cli, engine: FakeEngine) -> None:
    assert cli("enqueue", "send_email", "--json", "{}", "--json").json["is_new"] is True


@pytest.mark.parametrize("payload", ["{", "[1]", '{"a": NaN}'])
def test_a_payload_that_is_no_object_is_refused(cli: Cli, engine: FakeEngine, payload: str) -> None:
    said = cli("enqueue", "send_email", "--payload", payload)

    assert said.code == 2
    assert "Nothing was enqueued" in said.err


@pytest.mark.parametrize("words", [["user_id"], ["=42"], ["user_id=1", "user_id=2"], ["user_id=1", "--json", "{}"]])
def test_arguments_that_say_nothing_or_two_things_are_wrong_usage(
    cli: Cli, engine: FakeEngine, words: list[str]
) -> None:
    assert cli("enqueue", "send_email", *words).code == 2
    assert engine.asked("enqueue_runs") == []


def test_a_value_may_hold_any_character(cli: Cli, engine: FakeEngine) -> None:
    cli("enqueue", "send_email", "user_id=1", "template=a=b ü\n{}")

    assert json.loads(enqueued(engine)["payload_json"])["template"] == "a=b ü\n{}"


def test_when_key_and_priority_are_sent(cli: Cli, engine: FakeEngine) -> None:
    cli("enqueue", "send_email", "--delay", "10m", "--key", "k", "--priority", "-3")

    new = enqueued(engine)
    assert (new["delay_ms"], new["key"], new["priority"]) == (600_000, "k", -3)


def test_a_time_is_sent_in_milliseconds(cli: Cli, engine: FakeEngine) -> None:
    cli("enqueue", "send_email", "--at", "1970-01-01T00:00:01Z")

    assert enqueued(engine)["run_at_ms"] == 1000


def test_delay_and_at_exclude_each_other(cli: Cli, engine: FakeEngine) -> None:
    assert cli("enqueue", "send_email", "--at", "1970-01-01T00:00:01Z", "--delay", "1s").code == 2


def test_the_founding_promise_reaches_the_terminal(cli: Cli, engine: FakeEngine) -> None:
    engine.answers["enqueue_runs"] = WorkerUnhealthy(
        "worker unhealthy: worker exited with status 1 after 84ms without claiming any runs\n"
        "  ModuleNotFoundError: No module named 'jinja2'\n"
        '  group "default", 2 failed starts since 14:02:11, next start in 2s; nothing was enqueued'
    )

    said = cli("enqueue", "send_email", "user_id=42")

    assert (said.code, said.out) == (1, "")
    assert said.err.splitlines()[0] == (
        "✘ worker unhealthy: worker exited with status 1 after 84ms without claiming any runs"
    )
    assert "nothing was enqueued" in said.err


def test_a_workflow_that_no_worker_has_told_of_is_left_to_the_engine(cli: Cli, engine: FakeEngine) -> None:
    engine.answers["list_workflows"] = {"workflows": []}

    cli("enqueue", "send_email", "user_id=42", "name=Ada", "on=true")

    assert json.loads(enqueued(engine)["payload_json"]) == {"user_id": 42, "name": "Ada", "on": True}


def test_a_run_that_was_there_already_is_told(cli: Cli, engine: FakeEngine) -> None:
    engine.answers["enqueue_runs"] = {"runs": [{"id": run_info(1)["id"], "is_new": False}]}

    said = cli("enqueue", "send_email", "--key", "k")

    assert "Nothing new was enqueued" in said.err
    assert said.out == f"{run_info(1)['id']}\n"


def lifecycle(engine: FakeEngine, **ended: Any) -> None:
    """Let the run that is enqueued say a line and end, as soon as it is asked for."""

    def get_run(message: Message) -> Message:
        running = run_info(1, id=message["id"], status="running")
        final = run_info(1, id=message["id"], result_json='{"ok": true}', **ended)
        if len(engine.asked("get_run")) > 1:
            return final
        engine.push(
            {"event": "log", "line": {"ts_ms": 1, "level": "info", "scope": "worker", "message": "half way"}},
            {"event": "run", "run": {**running, "id": "another", "status": "dead"}},
            {"event": "run", "run": final},
        )
        return running

    engine.answers["get_run"] = get_run


def test_wait_shows_what_the_run_says_and_prints_its_result(cli: Cli, engine: FakeEngine) -> None:
    lifecycle(engine)

    said = cli("enqueue", "send_email", "user_id=1", "--wait")

    assert said.code == 0
    assert said.out == '{"ok": true}\n'
    assert "half way" in said.err
    assert engine.asked("subscribe") == [{"topics": ["logs", "runs"], "run": enqueued(engine)["id"]}]


def test_wait_exits_1_when_the_run_does_not_succeed(cli: Cli, engine: FakeEngine) -> None:
    lifecycle(engine, status="dead", error="ValueError: no address")

    said = cli("enqueue", "send_email", "--wait")

    assert (said.code, said.out) == (1, "")
    assert "send_email ended as dead: ValueError: no address" in said.err
    assert "tako runs retry" in said.err


def test_wait_with_json_prints_one_document_when_it_has_ended(cli: Cli, engine: FakeEngine) -> None:
    lifecycle(engine)

    said = cli("enqueue", "send_email", "--wait", "--json")

    assert said.json["status"] == "succeeded"
    assert said.json["result"] == {"ok": True}


def test_wait_goes_on_by_asking_when_the_stream_is_cut(cli: Cli, engine: FakeEngine) -> None:
    run = run_info(1, status="running")
    engine.answers["enqueue_runs"] = {"runs": [{"id": run["id"], "is_new": True}]}
    engine.answers["get_run"] = run
    engine.answers["wait_run"] = run_info(1, result_json="7")
    engine.on_subscribe = engine.hang_up

    said = cli("enqueue", "send_email", "--wait")

    assert (said.code, said.out) == (0, "7\n")


def test_ctrl_c_while_waiting_says_that_the_run_goes_on(tmp_path: Path, engine: FakeEngine) -> None:
    run = run_info(1, status="running")
    engine.answers["enqueue_runs"] = {"runs": [{"id": run["id"], "is_new": True}]}
    engine.answers["get_run"] = run
    process = subprocess.Popen(
        [TAKO, "enqueue", "send_email", "--wait"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    engine.wait_asked("get_run")

    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)

    assert process.returncode == 130
    assert f"The run goes on: `tako runs show {run['id']}`." in err
