"""Sleeps and waits: a run lets go of its worker and goes on later. And code that changed under a run (O3)."""

from __future__ import annotations

import json
import time

import pytest

from tests.worker.conftest import Start
from tests.worker.engine import Engine, WorkerProcess

FLOWS = """
    import os, pathlib
    from datetime import datetime, timedelta, timezone
    from tako import {Context}, Signal, workflow

    approval = Signal("approval", bool)
    marks = pathlib.Path(os.environ["TAKO_DATA_DIR"]) / "marks"

    @workflow
    {adef} naps(ctx: {Context}) -> str:
        try:
            {wait}ctx.sleep("nap", "1h")
            return "awake"
        finally:
            marks.open("a").write("finally\\n")

    @workflow
    {adef} naps_until(ctx: {Context}) -> str:
        {wait}ctx.sleep_until("nap", datetime(2100, 1, 1, tzinfo=timezone.utc))
        return "awake"

    @workflow
    {adef} naps_in_the_past(ctx: {Context}) -> str:
        {wait}ctx.sleep_until("nap", datetime(2001, 1, 1, tzinfo=timezone.utc))
        return "awake"

    @workflow(signals=[approval])
    {adef} asks(ctx: {Context}) -> list[bool]:
        first = {wait}ctx.wait_for(approval, timeout="1h")
        second = {wait}ctx.wait_for(approval, timeout=None, default=None)
        return [first, second]

    @workflow
    {adef} asks_undeclared(ctx: {Context}) -> None:
        {wait}ctx.wait_for(approval, timeout="1h")

    @workflow(signals=[approval], retries=0)
    {adef} asks_once(ctx: {Context}, fallback: bool = False) -> str:
        if fallback:
            return str({wait}ctx.wait_for(approval, timeout="1m", default="nobody"))
        return str({wait}ctx.wait_for(approval, timeout="1m"))

    @workflow
    {adef} swallows(ctx: {Context}) -> str:
        try:
            {wait}ctx.sleep("nap", "1h")
        except BaseException:
            marks.open("a").write("swallowed\\n")
        {wait}ctx.step("next", lambda: marks.open("a").write("stepped\\n"))
        return "went on"

    @workflow
    {adef} changed(ctx: {Context}) -> int:
        {wait}ctx.step("added", lambda: 1)
        {wait}ctx.step("charge", lambda: 2)
        return 3

    @workflow(strict=True)
    {adef} strict(ctx: {Context}) -> int:
        {wait}ctx.step("added", lambda: marks.open("a").write("ran\\n"))
        {wait}ctx.step("charge", lambda: 2)
        return 3

    {adef} nap_in_step(ctx: {Context}) -> None:
        {wait}ctx.sleep("nap", 0.01)

    @workflow
    {adef} naps_in_a_step(ctx: {Context}) -> None:
        {wait}ctx.step("outer", nap_in_step, ctx)

    @workflow
    {adef} shorter(ctx: {Context}) -> int:
        return {wait}ctx.step("kept", lambda: 1)

    @workflow(strict=True)
    {adef} strictly_shorter(ctx: {Context}) -> int:
        return {wait}ctx.step("kept", lambda: 1)
"""

KINDS = {
    "def": {"adef": "def", "wait": "", "Context": "Context"},
    "async def": {"adef": "async def", "wait": "await ", "Context": "AsyncContext"},
}


@pytest.fixture(params=list(KINDS))
def worker(request: pytest.FixtureRequest, start: Start) -> WorkerProcess:
    return start(FLOWS.format(**KINDS[request.param]))


def marks(worker: WorkerProcess) -> list[str]:
    path = worker.spool.parent / "marks"
    return path.read_text().split() if path.exists() else []


def busy(engine: Engine) -> None:
    """Have the worker run something else, so that what it would have said of the last run it has said."""
    engine.give("naps_in_the_past")
    engine.until(lambda: engine.all("finish", result_json='"awake"'), what="another run")


def test_a_long_sleep_parks_the_run_until_its_time(engine: Engine, worker: WorkerProcess) -> None:
    run = engine.give("naps")

    park = engine.wait("park")

    assert (park["id"], park["epoch"], park["step_name"]) == (run, 1, "nap")
    assert abs(park["wake_at_ms"] - time.time() * 1000 - 3_600_000) < 60_000
    engine.until(lambda: marks(worker) == ["finally"], what="the handler's finally")
    busy(engine)
    assert engine.all("finish", id=run) == []


def test_a_sleep_until_a_time_parks_until_then(engine: Engine, worker: WorkerProcess) -> None:
    engine.give("naps_until")

    assert engine.wait("park")["wake_at_ms"] == 4_102_444_800_000


def test_a_sleep_until_the_past_is_over_at_once(engine: Engine, worker: WorkerProcess) -> None:
    engine.give("naps_in_the_past")

    assert engine.wait("finish")["result_json"] == '"awake"'


def test_a_run_that_has_slept_goes_on_behind_the_sleep(engine: Engine, worker: WorkerProcess) -> None:
    engine.give("naps", steps={"nap": "null"})

    assert engine.wait("finish")["result_json"] == '"awake"'
    assert engine.all("park") == []


def test_a_sleep_that_is_over_already_does_not_park(engine: Engine, worker: WorkerProcess) -> None:
    engine.answers["park"] = lambda message: {"status": "ok", "data": {"parked": False, "value_json": "null"}}

    engine.give("naps")

    assert engine.wait("finish")["result_json"] == '"awake"'


def test_a_parked_run_gives_its_place_free(engine: Engine, worker: WorkerProcess) -> None:
    for _ in range(9):
        engine.give("naps")

    engine.wait("park", count=9)


def test_a_wait_parks_for_its_signal_and_its_timeout(engine: Engine, worker: WorkerProcess) -> None:
    engine.give("asks")

    park = engine.wait("park")

    assert (park["step_name"], park["event_name"]) == ("signal:approval", "approval")
    assert abs(park["timeout_at_ms"] - time.time() * 1000 - 3_600_000) < 60_000
    assert "wake_at_ms" not in park


def test_a_wait_for_a_signal_that_nobody_could_send_ends_the_run(engine: Engine, worker: WorkerProcess) -> None:
    engine.give("asks_undeclared")

    finish = engine.wait("finish")

    assert finish["outcome"] == "fatal"
    assert "wait_for('approval'): workflow 'asks_undeclared' declares no such signal" in finish["error"]["message"]
    assert engine.all("park") == []


def test_a_second_wait_for_the_same_signal_is_another_step(engine: Engine, worker: WorkerProcess) -> None:
    engine.give("asks", steps={"signal:approval": "true"})

    park = engine.wait("park")

    assert (park["step_name"], park["event_name"]) == ("signal:approval#2", "approval")
    assert "timeout_at_ms" not in park


def test_signals_are_decoded_to_their_type(engine: Engine, worker: WorkerProcess) -> None:
    engine.give("asks", steps={"signal:approval": "true", "signal:approval#2": "false"})

    assert engine.wait("finish")["result_json"] == "[true,false]"


def test_a_signal_that_is_there_already_is_taken_without_parking(engine: Engine, worker: WorkerProcess) -> None:
    engine.answers["park"] = lambda message: {"status": "ok", "data": {"parked": False, "value_json": "true"}}

    engine.give("asks_once")

    assert engine.wait("finish")["result_json"] == '"True"'


def test_a_signal_that_does_not_fit_ends_the_run_at_once_with_a_way_on(engine: Engine, worker: WorkerProcess) -> None:
    engine.answers["park"] = lambda message: {"status": "ok", "data": {"parked": False, "value_json": "3"}}

    engine.give("asks")

    finish = engine.wait("finish")
    assert finish["outcome"] == "fatal", "no retry would read it"
    assert "the signal approval: expected bool, found 3" in finish["error"]["message"]
    assert f"tako runs retry {finish['id']} --from-step signal:approval" in finish["error"]["message"]


@pytest.mark.parametrize("is_saved", [True, False])
def test_a_wait_that_timed_out_raises_or_gives_the_default(
    engine: Engine, worker: WorkerProcess, is_saved: bool
) -> None:
    engine.answers["park"] = lambda message: {"status": "ok", "data": {"parked": False, "value_json": ""}}
    steps = {"signal:approval": ""} if is_saved else {}

    engine.give("asks_once", steps=dict(steps))
    raised = engine.wait("finish")
    engine.give("asks_once", {"fallback": True}, steps=dict(steps))

    assert raised["error"]["type"] == "tako.errors.SignalTimeout"
    assert engine.wait("finish", count=2)["result_json"] == '"nobody"'


def test_a_handler_that_catches_everything_cannot_go_on_after_parking(engine: Engine, worker: WorkerProcess) -> None:
    run = engine.give("swallows")
    engine.until(lambda: marks(worker), what="the handler's except")
    busy(engine)

    assert engine.all("finish", id=run) == []
    assert marks(worker) == ["swallowed"]


def test_a_sleep_inside_of_a_step_is_an_error(engine: Engine, worker: WorkerProcess) -> None:
    engine.give("naps_in_a_step")

    finish = engine.wait("finish")

    assert finish["outcome"] == "fatal"
    assert "'nap' waits inside a step" in finish["error"]["message"]


def test_a_run_that_was_lost_while_it_parked_is_left_alone(engine: Engine, worker: WorkerProcess) -> None:
    engine.answers["park"] = lambda message: {"status": "error", "code": "stale", "message": "not yours"}
    run = engine.give("naps")
    worker.wait_for_output("lost the run")
    busy(engine)

    assert engine.all("finish", id=run) == []


def test_a_new_step_in_front_of_saved_ones_puts_a_warning_on_the_run(engine: Engine, worker: WorkerProcess) -> None:
    engine.give("changed", steps={"charge": "7"})

    finish = engine.wait("finish")

    assert finish["outcome"] == "succeeded"
    (warning,) = finish["warnings"]
    assert (
        warning == "step 'added' ran before step 'charge', saved by earlier code, had been reached (release release-1)"
    )


def test_saved_steps_that_are_never_reached_put_a_warning_on_the_run(engine: Engine, worker: WorkerProcess) -> None:
    engine.give("shorter", steps={"kept": "1", "gone": "2"})

    assert engine.wait("finish")["warnings"] == [
        "step 'gone', saved by earlier code, was not reached (release release-1)"
    ]


@pytest.mark.parametrize(
    ("flow", "steps", "unreached"),
    [("strict", {"charge": "7"}, "charge"), ("strictly_shorter", {"kept": "1", "gone": "2"}, "gone")],
)
def test_a_strict_workflow_is_dead_when_code_changed_under_it(
    engine: Engine, worker: WorkerProcess, flow: str, steps: dict[str, str], unreached: str
) -> None:
    engine.give(flow, steps=steps)

    finish = engine.wait("finish")

    assert finish["outcome"] == "fatal"
    assert finish["error"]["message"] == f'code changed under it (saved step "{unreached}" was not reached)'
    assert marks(worker) == []


def test_a_replay_of_unchanged_code_has_no_warnings(engine: Engine, worker: WorkerProcess) -> None:
    engine.give("changed", steps={"added": "1"})

    assert "warnings" not in engine.wait("finish")
    assert json.loads(engine.wait("finish")["result_json"]) == 3
