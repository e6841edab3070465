"""When something of ours, or something odd of the user's, fails where nobody expects it: loud, and not for ever."""

from __future__ import annotations

import pytest

from tests.worker.conftest import Start
from tests.worker.engine import Engine, WorkerProcess

FLOWS = """
    from dataclasses import dataclass
    import tako.worker.execute
    from tako import {Context}, workflow

    @dataclass
    class Picky:
        x: int

        def __post_init__(self):
            if self.x < 0:
                raise RuntimeError("negative")

    @workflow
    {adef} takes(ctx: {Context}, picky: Picky) -> int:
        return picky.x

    @workflow
    {adef} ours(ctx: {Context}) -> None: ...

    real = tako.worker.execute.report

    def broken(attempt, result, failure):
        if attempt.workflow.name == "ours":
            raise AssertionError("our bug")
        real(attempt, result, failure)

    tako.worker.execute.report = broken
"""

KINDS = {
    "def": {"adef": "def", "wait": "", "Context": "Context"},
    "async def": {"adef": "async def", "wait": "await ", "Context": "AsyncContext"},
}


@pytest.fixture(params=list(KINDS))
def worker(request: pytest.FixtureRequest, start: Start) -> WorkerProcess:
    return start(FLOWS.format(**KINDS[request.param]))


def test_a_payload_that_a_class_of_the_users_refuses_is_fatal_with_the_reason(
    engine: Engine, worker: WorkerProcess
) -> None:
    engine.give("takes", {"picky": {"x": -1}})

    finish = engine.wait("finish")

    assert finish["outcome"] == "fatal"
    assert "negative" in finish["reason"]


def test_a_bug_of_ours_fails_the_run_is_logged_and_the_worker_goes_on(engine: Engine, worker: WorkerProcess) -> None:
    engine.give("ours")
    failed = engine.wait("finish")

    engine.give("takes", {"picky": {"x": 3}})

    assert (failed["outcome"], failed["error"]["message"]) == ("failed", "our bug")
    assert engine.wait("finish", count=2)["result_json"] == "3"
    (line,) = [line for line in worker.logged() if "a bug of Tako's" in line["msg"]]
    assert "AssertionError: our bug" in line["traceback"]


def test_a_worker_whose_reader_fails_exits_instead_of_being_deaf(engine: Engine, worker: WorkerProcess) -> None:
    engine.wait("claim_runs", count=2)

    engine.push({"push": "cancel"})

    assert worker.exit_code() == 70
    assert "a bug of Tako's ends this worker: KeyError: 'runs'" in worker.output()


def test_a_heart_that_fails_goes_on_beating(engine: Engine, start: Start) -> None:
    engine.heartbeat_ms = 30
    worker = start(
        """
        import threading
        import tako.worker.heart
        from tako import Context, workflow

        real = tako.worker.heart.Heart.beat
        failures = [RuntimeError("skipped")]

        def beat(self):
            if failures:
                raise failures.pop()
            real(self)

        tako.worker.heart.Heart.beat = beat

        @workflow
        def flow(ctx: Context) -> None:
            threading.Event().wait(0.3)
        """
    )

    engine.give("flow")

    engine.wait("heartbeat")
    assert "heartbeat failed: RuntimeError: skipped" in worker.output()
    engine.wait("finish")


@pytest.mark.parametrize("kind", list(KINDS))
def test_what_contrib_sets_up_stands_around_handlers_and_sync_steps(engine: Engine, start: Start, kind: str) -> None:
    start(
        """
        import contextlib
        from tako import {Context}, workflow
        from tako.sdk import startup

        inside = []

        @contextlib.contextmanager
        def around(what):
            inside.append(what)
            yield
            inside.remove(what)

        startup.around(handler=lambda: around("handler"), step=lambda: around("step"))

        @workflow
        {adef} flow(ctx: {Context}) -> list[list[str]]:
            return [list(inside), {wait}ctx.step("s", lambda: list(inside)), list(inside)]
        """.format(**KINDS[kind])
    )
    engine.give("flow")

    assert engine.wait("finish")["result_json"] == '[["handler"],["handler","step"],["handler"]]'


def test_a_worker_that_runs_def_handlers_has_loaded_nothing_heavy(engine: Engine, start: Start) -> None:
    start(
        """
        import sys
        from tako import Context, workflow

        @workflow
        def flow(ctx: Context) -> list[str]:
            ctx.step("s", lambda: 1)
            return sorted(sys.modules)
        """
    )
    engine.give("flow")
    found = set(eval(engine.wait("finish")["result_json"]))

    heavy = {
        "argparse", "asyncio", "concurrent.futures", "contextlib", "dataclasses", "enum", "inspect", "json", "logging",
        "pathlib", "queue", "random", "re", "runpy", "selectors", "signal", "socket", "sqlite3", "subprocess",
        "tomllib", "traceback", "typing", "uuid",
    }  # fmt: skip
    assert heavy & found == set()
    # Each costs about 0.3 ms of a cold start. To raise a number is a decision.
    assert len([name for name in found if name.startswith("tako")]) <= 46
    assert len(found) <= 115
