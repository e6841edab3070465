"""What a caller is told, whichever client it uses and however its connection ends."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tako import __version__
from tako.errors import (
    DuplicateRun,
    EnqueueUnknown,
    InvalidRequest,
    PayloadError,
    RunNotFound,
    StoreUnavailable,
    TakoError,
    Unauthorized,
    VersionMismatch,
    WorkerUnhealthy,
)
from tako.protocol.framing import MAX_FRAME_BYTES
from tako.rpc import request as requests
from tako.rpc.client import Client
from tests.rpc.conftest import Ask, new_run
from tests.support.rpc import Caller, RealEngine, Script, ScriptedEngine, line

STORED = {"runs": [{"id": "run-1", "is_new": True}]}


def answers(data: Any) -> Script:
    return lambda caller: caller.answer_all(data)


def reads_and_dies(caller: Caller) -> None:
    caller.read()


def refuses(code: str, message: str = "no", **detail: Any) -> Script:
    def script(caller: Caller) -> None:
        caller.refuse(caller.read(), code, message, **detail)
        caller.wait_for_end()

    return script


# --- all is well ---


def test_a_call_returns_the_data_of_its_reply(path: Path, ask: Ask) -> None:
    with ScriptedEngine(path, answers({"n": 1})):
        assert ask("get_run", {"id": "x"}) == {"n": 1}


def test_the_first_request_of_a_connection_introduces_the_caller_and_the_next_ones_do_not(path: Path, ask: Ask) -> None:
    with ScriptedEngine(path, answers(None)) as engine:
        ask("status")
        ask("status")

    first, second = engine.seen
    assert first == {
        "app": "shop", "token": "a-token", "protocol": 1, "sdk": __version__, "command": "status", "request": 1,
    }  # fmt: skip
    assert second == {"command": "status", "request": 2}


def test_an_enqueue_tells_its_deadline_on_the_machines_monotonic_clock(path: Path, ask: Ask) -> None:
    with ScriptedEngine(path, answers(STORED)) as engine:
        before = time.monotonic() * 1000
        ask("enqueue_runs", new_run(), deadline_s=5)

    assert before + 4999 <= engine.seen[0]["deadline_mono_ms"] <= before + 5000 + 5000


def test_a_reply_may_come_in_any_pieces(path: Path, ask: Ask) -> None:
    def script(caller: Caller) -> None:
        reply = line(status="ok", data="é" * 20, request=caller.read()["request"])
        for byte in reply:
            caller.send(bytes([byte]))
        caller.wait_for_end()

    with ScriptedEngine(path, script):
        assert ask("status") == "é" * 20


def test_a_reply_has_no_limit(path: Path, ask: Ask) -> None:
    with ScriptedEngine(path, answers("x" * 5_000_000)):
        assert len(ask("get_run", {"id": "x"})) == 5_000_000


# --- refusals ---


def test_an_error_is_raised_as_what_it_stands_for_with_its_cure(path: Path, ask: Ask) -> None:
    with (
        ScriptedEngine(path, refuses("run_not_found", "no such run", cure="look elsewhere", id="x")),
        pytest.raises(RunNotFound) as raised,
    ):
        ask("get_run", {"id": "x"})

    assert raised.value.message == "no such run"
    assert raised.value.cure == "look elsewhere"
    assert raised.value.detail == {"id": "x"}


def test_an_error_of_a_newer_engine_is_a_tako_error(path: Path, ask: Ask) -> None:
    with ScriptedEngine(path, refuses("code_of_next_year", "not today")), pytest.raises(TakoError, match="not today"):
        ask("get_run", {"id": "x"})


@pytest.mark.parametrize(("code", "kind"), [("version_mismatch", VersionMismatch), ("unauthorized", Unauthorized)])
def test_who_is_turned_away_is_told_why(path: Path, ask: Ask, code: str, kind: type[TakoError]) -> None:
    def script(caller: Caller) -> None:
        caller.read()
        caller.send(line(status="error", code=code, message="upgrade the app", detail={"cure": "pip install"}))

    with ScriptedEngine(path, script), pytest.raises(kind) as raised:
        ask("enqueue_runs", new_run())

    assert str(raised.value) == "upgrade the app\n  pip install"


def test_who_is_turned_away_before_it_could_send_is_told_why(path: Path, ask: Ask) -> None:
    with (
        ScriptedEngine(path, lambda caller: caller.send(line(status="error", code="unauthorized", message="too many"))),
        pytest.raises(Unauthorized, match="too many"),
    ):
        ask("enqueue_runs", new_run())


def test_a_request_that_breaks_a_rule_is_told_which_and_the_next_one_goes_through(path: Path, ask: Ask) -> None:
    with RealEngine(path, {}):
        with pytest.raises(InvalidRequest, match="unknown command 'dance'"):
            ask("dance")

        assert ask("echo", {"value": 1}) == 1


def test_an_app_that_the_engine_does_not_know_is_told_so(path: Path) -> None:
    from tako.rpc.client import Client

    client = Client(str(path), "other")
    with RealEngine(path, {}), pytest.raises(Unauthorized, match="unknown app: other"):
        client.call("echo", {}, deadline_s=10)
    client.close()


# --- what cannot be sent ---


def test_the_longest_request_is_served_and_a_longer_one_is_refused_before_it_is_sent(path: Path, ask: Ask) -> None:
    introduction = len(requests.introduction("shop", "a-token"))
    room = MAX_FRAME_BYTES - introduction - len(b'{"request":1,"command":"echo","value":""}\n')
    with RealEngine(path, {}) as engine:
        assert len(ask("echo", {"value": "x" * room})) == room
        with pytest.raises(InvalidRequest, match=r"1,048,577 bytes.* at most 1,048,576; nothing was sent"):
            ask("echo", {"value": "x" * (room + 1)})

        assert engine.connections() == 1


@pytest.mark.parametrize("payload", ["x" * MAX_FRAME_BYTES, '{"name":"\ud800"}'], ids=["too long", "not UTF-8"])
def test_a_payload_that_cannot_be_sent_is_refused_as_one(path: Path, ask: Ask, payload: str) -> None:
    with ScriptedEngine(path) as engine:
        with pytest.raises(PayloadError, match="nothing was sent"):
            ask("enqueue_runs", new_run(payload_json=payload))

        assert engine.seen == []


# --- not sent ---


def test_without_an_engine_a_call_says_so_at_once_and_where_it_looked(path: Path) -> None:
    with pytest.raises(StoreUnavailable) as raised:
        Client(str(path), "shop").call("enqueue_runs", new_run(), deadline_s=60)

    assert f"nothing listens at {path}; `enqueue_runs` was not sent" in raised.value.message
    assert "tako dev" in raised.value.cure
    assert raised.value.detail == {"reason": "NO_ENGINE"}


def test_a_process_that_an_engine_has_started_waits_for_the_next_one(path: Path, ask: Ask) -> None:
    engine = ScriptedEngine(path, answers(STORED))
    late = threading.Timer(0.3, engine.start)
    late.start()
    try:
        assert ask("enqueue_runs", new_run(), deadline_s=60) == STORED
    finally:
        late.join()
        engine.stop()


def test_and_says_that_there_is_none_at_its_deadline(path: Path, ask: Ask) -> None:
    with pytest.raises(StoreUnavailable) as raised:
        ask("enqueue_runs", new_run(), deadline_s=0.05)

    assert f"nothing listens at {path}; `enqueue_runs` was not sent" in raised.value.message
    assert raised.value.detail == {"reason": "NO_ENGINE"}


def test_an_engine_out_of_reach_is_told_with_the_systems_words(tmp_path: Path, path: Path, ask: Ask) -> None:
    path.symlink_to(path)

    with pytest.raises(StoreUnavailable, match="Too many levels of symbolic links") as raised:
        ask("enqueue_runs", new_run())
    assert raised.value.detail == {"reason": "UNREACHABLE"}


def test_an_engine_that_came_back_is_used_again_also_for_what_must_not_be_repeated(path: Path, ask: Ask) -> None:
    with RealEngine(path, {"cancel": lambda connection, message: "done"}) as engine:
        assert ask("cancel") == "done"
        engine.stop()
        engine.start()

        assert ask("cancel") == "done"


def test_an_engine_that_takes_nothing_is_left_at_the_deadline_and_nothing_was_sent(path: Path, ask: Ask) -> None:
    large = new_run(payload_json="x" * 1_000_000)  # more than a socket holds unread

    with (
        ScriptedEngine(path, lambda caller: caller.wait_unread()),
        pytest.raises(StoreUnavailable, match="was not sent") as raised,
    ):
        ask("enqueue_runs", large, deadline_s=0.05)
    assert raised.value.detail == {"reason": "NOT_SENT"}


def test_an_engine_that_closes_each_connection_unread_has_stored_nothing(path: Path, ask: Ask) -> None:
    large = new_run(payload_json="x" * 1_000_000)

    with (
        ScriptedEngine(path, *[lambda caller: None] * 2),
        pytest.raises(StoreUnavailable, match="closes its connections") as raised,
    ):
        ask("enqueue_runs", large, deadline_s=60)
    assert raised.value.detail == {"reason": "UNREACHABLE"}


# --- sent, no reply ---


def test_an_enqueue_whose_reply_was_lost_is_asked_again_word_for_word(path: Path, ask: Ask) -> None:
    with ScriptedEngine(path, reads_and_dies, reads_and_dies, answers(STORED)) as engine:
        assert ask("enqueue_runs", new_run()) == STORED

    assert len(engine.seen) == 3
    assert engine.seen[0] == engine.seen[1] == engine.seen[2]


def test_half_a_reply_is_none(path: Path, ask: Ask) -> None:
    def script(caller: Caller) -> None:
        caller.read()
        caller.send(b'{"status":"ok","da')

    with ScriptedEngine(path, script, answers(STORED)):
        assert ask("enqueue_runs", new_run()) == STORED


def test_an_answer_that_is_no_line_of_ours_is_none(path: Path, ask: Ask) -> None:
    def script(caller: Caller) -> None:
        caller.read()
        caller.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with ScriptedEngine(path, script, answers(STORED)):
        assert ask("enqueue_runs", new_run()) == STORED


@pytest.mark.parametrize(
    ("command", "fields"),
    [("get_run", {"id": "x"}), ("status", {}), ("wait_run", {"id": "x"}), ("signal_run", {"signal_id": "s1"})],
)
def test_what_changes_nothing_when_it_is_done_twice_is_asked_again(
    path: Path, ask: Ask, command: str, fields: dict[str, Any]
) -> None:
    with ScriptedEngine(path, reads_and_dies, answers("done")):
        assert ask(command, fields) == "done"


@pytest.mark.parametrize(("command", "fields"), [("cancel", {"id": "x"}), ("retry", {"id": "x"}), ("signal_run", {})])
def test_what_may_not_be_done_twice_is_not_asked_again_and_the_caller_learns_that_nobody_knows(
    path: Path, ask: Ask, command: str, fields: dict[str, Any]
) -> None:
    with (
        ScriptedEngine(path, reads_and_dies) as engine,
        pytest.raises(StoreUnavailable, match=f"`{command}` may or may not have been done") as raised,
    ):
        ask(command, fields)

    assert raised.value.detail == {"reason": "NO_REPLY"}
    assert len(engine.seen) == 1


def test_an_engine_that_died_with_the_enqueue_and_stays_dead_leaves_it_unknown_by_its_id(path: Path, ask: Ask) -> None:
    def script(caller: Caller) -> None:
        caller.read()
        path.unlink()

    engine = ScriptedEngine(path, script)
    engine.start()

    with pytest.raises(EnqueueUnknown) as raised:
        ask("enqueue_runs", new_run("run-7"), deadline_s=0.05)
    engine.stop()
    assert raised.value.run_id == "run-7"
    assert "run-7 may or may not be stored" in raised.value.message
    assert raised.value.detail["run_ids"] == ["run-7"]


def test_an_engine_that_is_silent_leaves_an_enqueue_unknown_after_deadline_and_grace(path: Path, ask: Ask) -> None:
    started = time.monotonic()
    with (
        ScriptedEngine(path, lambda caller: caller.wait_for_end() if caller.read() else None),
        pytest.raises(EnqueueUnknown, match=r"did not answer within 0.05 s: the run run-1 and 1 more"),
    ):
        ask("enqueue_runs", {"runs": [*new_run()["runs"], *new_run("run-2")["runs"]]}, deadline_s=0.05)
    assert time.monotonic() - started >= 0.05 + requests.GRACE_S


def test_what_the_engine_says_shortly_after_the_deadline_is_heard(path: Path, ask: Ask) -> None:
    def script(caller: Caller) -> None:
        request = caller.read()
        while time.monotonic() * 1000 < request["deadline_mono_ms"] + 50:
            pass
        caller.refuse(request, "store_unavailable", "too late, nothing was stored", reason="DEADLINE")
        caller.wait_for_end()

    with ScriptedEngine(path, script), pytest.raises(StoreUnavailable, match="too late"):
        ask("enqueue_runs", new_run(), deadline_s=0.05)


def test_a_reply_that_came_too_late_is_not_taken_for_that_of_the_next_call(path: Path, ask: Ask) -> None:
    def script(caller: Caller) -> None:
        late, next_one = caller.read(), caller.read()
        caller.answer(late, "late")
        caller.answer(next_one, "next")
        caller.wait_for_end()

    with ScriptedEngine(path, script):
        with pytest.raises(StoreUnavailable, match=r"did not answer within 0\.05 s"):
            ask("status", deadline_s=0.05)

        assert ask("status") == "next"


# --- sent, and refused when asked again ---


@pytest.mark.parametrize("code", [WorkerUnhealthy.code, StoreUnavailable.code, Unauthorized.code])
def test_an_enqueue_that_was_lost_and_then_refused_is_unknown_for_the_first_copy_may_be_stored(
    path: Path, ask: Ask, code: str
) -> None:
    with (
        ScriptedEngine(path, reads_and_dies, refuses(code, "not now")),
        pytest.raises(EnqueueUnknown, match=r"refuses the repetition \(not now\): the run run-1 may or may not"),
    ):
        ask("enqueue_runs", new_run())


def test_an_enqueue_that_was_lost_and_then_turned_away_is_unknown(path: Path, ask: Ask) -> None:
    def script(caller: Caller) -> None:
        caller.read()
        caller.send(line(status="error", code="version_mismatch", message="upgrade"))

    with ScriptedEngine(path, reads_and_dies, script), pytest.raises(EnqueueUnknown, match="upgrade"):
        ask("enqueue_runs", new_run())


def test_a_refusal_that_looked_for_the_id_first_is_certain_also_when_asked_again(path: Path, ask: Ask) -> None:
    with ScriptedEngine(path, reads_and_dies, refuses(DuplicateRun.code)), pytest.raises(DuplicateRun):
        ask("enqueue_runs", new_run())


@pytest.mark.parametrize("code", ["internal", "error"])
def test_an_engine_that_fails_while_it_answers_leaves_an_enqueue_unknown(path: Path, ask: Ask, code: str) -> None:
    with ScriptedEngine(path, refuses(code, "oops")), pytest.raises(EnqueueUnknown, match=r"\(oops\)"):
        ask("enqueue_runs", new_run())


def test_an_engine_that_cannot_know_whether_it_stored_leaves_an_enqueue_unknown(path: Path, ask: Ask) -> None:
    def script(caller: Caller) -> None:
        request = caller.read()
        detail = {"reason": "DISK_FULL", "outcome": "unknown"}
        caller.send(
            line(request=request["request"], status="error", code="store_unavailable", message="full", detail=detail)
        )

    with ScriptedEngine(path, script), pytest.raises(EnqueueUnknown, match=r"\(full\)"):
        ask("enqueue_runs", new_run())


# --- every command of ours can be told apart ---


def test_nothing_that_may_be_asked_again_claims_starts_or_cancels() -> None:
    changing = {"cancel", "retry", "signal", "signal_run", "backup", "enqueue_run", "register_schedules"}

    assert not requests.REPEATABLE & changing


def test_a_line_is_json_with_nothing_lost() -> None:
    fields = {"runs": [{"id": "x", "payload_json": '{"ü":"\\u0000 "}'}]}
    request = requests.Request(7, "enqueue_runs", fields, path="p", now=1.0, deadline_s=2.0, reserve=0)

    assert json.loads(request.line) == {
        "request": 7, "command": "enqueue_runs", "deadline_mono_ms": 3000, **fields
    }  # fmt: skip
    assert request.line.count(b"\n") == 1
