"""How a run ends: succeeded, failed, fatal, stopped; what is told of it, and what is not."""

from __future__ import annotations

import json

import pytest

from tests.worker.conftest import Start
from tests.worker.engine import Engine, WorkerProcess

FLOWS = """
    import sys
    from tako import {Context}, Fatal, Retry, secrets, workflow
    import helpers

    {adef} inner(x: int) -> int:
        return helpers.divide(x)

    @workflow(retries=Retry(4, first="2s", factor=3, max="1m", jitter=0.5))
    {adef} fails(ctx: {Context}) -> None:
        {wait}ctx.step("divide", inner, 0)

    @workflow
    {adef} gives_up(ctx: {Context}) -> None:
        raise Fatal("the account is closed")

    @workflow
    {adef} stops(ctx: {Context}) -> None:
        raise ctx.stop("the order was withdrawn")

    @workflow
    {adef} typo(ctx: {Context}) -> None:
        undefined_name

    @workflow
    {adef} missing_module(ctx: {Context}) -> None:
        import no_such_module

    @workflow
    {adef} bad_source(ctx: {Context}) -> None:
        compile("def (", "x.py", "exec")

    @workflow
    {adef} type_error(ctx: {Context}) -> None:
        len(5)

    @workflow
    {adef} typo_in_step(ctx: {Context}) -> None:
        {wait}ctx.step("s", lambda: undefined_name, retries=5)

    @workflow(retries=Retry(3, on=(OSError,)))
    {adef} only_os_errors(ctx: {Context}, kind: str) -> None:
        raise OSError("disk") if kind == "os" else ValueError("value")

    @workflow
    {adef} leaks(ctx: {Context}) -> None:
        raise ValueError("token " + secrets["KEY"])

    @workflow
    {adef} takes(ctx: {Context}, a: int, b: str = "x") -> None: ...

    @workflow
    {adef} returns(ctx: {Context}) -> list[object]:
        return [1, {{"due": object()}}]

    @workflow
    {adef} exits(ctx: {Context}) -> None:
        sys.exit(3)

    @workflow
    {adef} chained(ctx: {Context}) -> None:
        try:
            1 / 0
        except ZeroDivisionError as error:
            raise RuntimeError("while dividing") from error

    class Rude(Exception):
        def __str__(self):
            raise KeyError("no")

    @workflow
    {adef} rude(ctx: {Context}) -> None:
        raise Rude()

    @workflow(name="new", aliases=["old"])
    {adef} renamed(ctx: {Context}) -> list[str]:
        return [ctx.workflow, ctx.run_id, str(ctx.attempt), str(ctx.key), str(ctx.scheduled_for)]

    @workflow
    {adef} logs(ctx: {Context}) -> None:
        ctx.log.info("halfway", order=7, run_id="forged", secret=secrets["KEY"])
        {wait}ctx.step("inside", {log_step})
"""

KINDS = {
    "def": {"adef": "def", "wait": "", "Context": "Context", "log_step": "lambda: ctx.log.warning('in the step')"},
    "async def": {
        "adef": "async def",
        "wait": "await ",
        "Context": "AsyncContext",
        "log_step": "lambda: ctx.log.warning('in the step')",
    },
}


@pytest.fixture(params=list(KINDS))
def worker(request: pytest.FixtureRequest, start: Start) -> WorkerProcess:
    files = {"workflows/flows.py": FLOWS.format(**KINDS[request.param]), "helpers.py": "def divide(x): return 1 / x\n"}
    return start(files, secrets={"KEY": "swordfish"})


def test_a_failed_attempt_is_told_with_its_traceback_and_the_workflows_retry(
    engine: Engine, worker: WorkerProcess
) -> None:
    engine.give("fails")

    finish = engine.wait("finish")

    assert finish["outcome"] == "failed"
    assert finish["retry"] == {"first_ms": 2000, "factor": 3.0, "max_ms": 60000, "jitter": 0.5, "retries": 4}
    assert (finish["error"]["type"], finish["error"]["message"]) == ("ZeroDivisionError", "division by zero")


def test_a_traceback_has_the_users_frames_and_no_others(engine: Engine, worker: WorkerProcess) -> None:
    engine.give("fails")

    lines = engine.wait("finish")["error"]["traceback"].splitlines()

    files = [line.strip().split(", in ")[-1] for line in lines if line.startswith("  File")]
    assert files == ["fails", "inner", "divide"]
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-1] == "ZeroDivisionError: division by zero"


def test_the_first_failure_is_logged_with_its_traceback(engine: Engine, worker: WorkerProcess) -> None:
    run = engine.give("fails")
    engine.wait("finish")

    (line,) = [line for line in worker.logged() if line["level"] == "error"]

    assert line["msg"] == "ZeroDivisionError: division by zero"
    assert (line["run_id"], line["workflow"]) == (run, "fails")
    assert "helpers.py" in line["traceback"]


def test_fatal_ends_the_run_whatever_retries_are_left(engine: Engine, worker: WorkerProcess) -> None:
    engine.give("gives_up")

    finish = engine.wait("finish")

    assert (finish["outcome"], finish["error"]["message"]) == ("fatal", "the account is closed")


def test_stop_ends_the_run_as_stopped_with_its_reason(engine: Engine, worker: WorkerProcess) -> None:
    engine.give("stops")

    finish = engine.wait("finish")

    assert (finish["outcome"], finish["reason"]) == ("stopped", "the order was withdrawn")


@pytest.mark.parametrize("flow", ["typo", "missing_module", "bad_source", "typo_in_step"])
def test_programming_errors_burn_no_retries(engine: Engine, worker: WorkerProcess, flow: str) -> None:
    engine.give(flow)

    assert engine.wait("finish")["outcome"] == "fatal"


def test_a_type_error_inside_of_the_handler_is_retried(engine: Engine, worker: WorkerProcess) -> None:
    engine.give("type_error")

    assert engine.wait("finish")["outcome"] == "failed"


@pytest.mark.parametrize(("kind", "outcome"), [("os", "failed"), ("value", "fatal")])
def test_what_the_retry_excludes_is_not_retried(engine: Engine, worker: WorkerProcess, kind: str, outcome: str) -> None:
    engine.give("only_os_errors", {"kind": kind})

    assert engine.wait("finish")["outcome"] == outcome


@pytest.mark.parametrize(
    ("payload", "words"),
    [({"a": "x"}, "a: expected int"), ({}, "missing 'a'"), ({"a": 1, "c": 2}, "unknown argument 'c'")],
)
def test_a_stored_payload_that_does_not_fit_ends_the_run_with_the_reason_and_burns_no_retries(
    engine: Engine, worker: WorkerProcess, payload: dict[str, object], words: str
) -> None:
    engine.give("takes", payload)

    finish = engine.wait("finish")

    assert finish["outcome"] == "fatal"
    assert finish["reason"].startswith("the stored payload does not fit: ")
    assert words in finish["reason"]


def test_a_result_that_cannot_be_stored_ends_the_run_with_its_path(engine: Engine, worker: WorkerProcess) -> None:
    engine.give("returns")

    finish = engine.wait("finish")

    assert finish["outcome"] == "fatal"
    assert finish["error"]["message"].startswith("result[1].due: found object")


def test_no_secret_leaves_in_errors_tracebacks_or_logs(engine: Engine, worker: WorkerProcess) -> None:
    engine.give("leaks")
    engine.give("logs")

    engine.wait("finish", count=2)

    (failed,) = engine.all("finish", outcome="failed")
    assert failed["error"]["message"] == "token [secret KEY]"
    assert "swordfish" not in json.dumps(engine.messages)
    assert "swordfish" not in worker.output()


def test_sys_exit_in_a_handler_fails_the_run_and_not_the_worker(engine: Engine, worker: WorkerProcess) -> None:
    engine.give("exits")
    assert engine.wait("finish")["error"]["type"] == "SystemExit"

    engine.give("takes", {"a": 1})

    assert engine.wait("finish", count=2)["outcome"] == "succeeded"


def test_the_cause_of_an_error_stands_in_the_traceback(engine: Engine, worker: WorkerProcess) -> None:
    engine.give("chained")

    trace = engine.wait("finish")["error"]["traceback"]

    assert "ZeroDivisionError: division by zero" in trace
    assert "direct cause" in trace
    assert "tako/worker" not in trace


def test_an_error_that_cannot_even_be_shown_is_still_told(engine: Engine, worker: WorkerProcess) -> None:
    engine.give("rude")

    error = engine.wait("finish")["error"]

    assert error["type"].endswith("Rude")
    assert error["message"] == "<its __str__ raised KeyError>"


def test_a_run_under_an_old_name_reaches_the_renamed_workflow(engine: Engine, worker: WorkerProcess) -> None:
    run = engine.give("old", key="k", attempt=3, scheduled_for_ms=1_767_312_000_000)

    told = json.loads(engine.wait("finish")["result_json"])

    assert told == ["new", run, "3", "k", "2026-01-02 00:00:00+00:00"]


def test_a_run_of_a_workflow_that_the_code_does_not_declare_is_fatal(engine: Engine, worker: WorkerProcess) -> None:
    engine.give("nobody")

    finish = engine.wait("finish")

    assert finish["outcome"] == "fatal"
    assert "declares no workflow 'nobody'" in finish["reason"]


def test_log_lines_carry_run_workflow_and_step_and_cannot_forge_them(engine: Engine, worker: WorkerProcess) -> None:
    run = engine.give("logs")
    engine.wait("finish")

    first, second = [line for line in worker.logged() if line["workflow"] == "logs"]

    assert (first["msg"], first["level"], first["order"]) == ("halfway", "info", 7)
    assert (first["run_id"], first["workflow"]) == (run, "logs")
    assert (second["msg"], second["level"], second["step"]) == ("in the step", "warning", "inside")
