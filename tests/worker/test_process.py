"""A worker's life: HELLO, runs, idle, drain, exit."""

from __future__ import annotations

import json

from tests.worker.conftest import Start
from tests.worker.engine import Engine

ADD = """
    from tako import Context, workflow

    @workflow
    def add(ctx: Context, a: int, b: int = 1) -> int:
        return a + b
"""


def test_a_worker_says_hello_with_what_its_files_declare(engine: Engine, start: Start) -> None:
    start(ADD)

    hello = engine.wait("hello")

    assert (hello["app"], hello["token"], hello["role"], hello["worker_id"]) == ("shop", "the-token", "worker", "w1")
    assert hello["group"] == "default"
    assert hello["in_flight"] == []
    assert hello["registry"]["files"] == ["workflows/flows.py"]
    (told,) = hello["registry"]["workflows"]
    assert (told["name"], told["file"], told["line"]) == ("add", "workflows/flows.py", 4)


def test_a_run_is_executed_and_its_result_told(engine: Engine, start: Start) -> None:
    run = engine.give("add", {"a": 2})

    start(ADD)

    finish = engine.wait("finish")
    assert (finish["id"], finish["epoch"], finish["outcome"]) == (run, 1, "succeeded")
    assert json.loads(finish["result_json"]) == 3


MIXED = """
    import sys
    from tako import AsyncContext, Context, workflow

    @workflow
    def plain(ctx: Context) -> bool:
        return "asyncio" in sys.modules

    @workflow
    async def awaited(ctx: AsyncContext) -> bool:
        return "asyncio" in sys.modules
"""


def test_a_def_handler_beside_async_ones_does_not_wait_for_asyncio(engine: Engine, start: Start) -> None:
    engine.give("plain")
    start(MIXED)

    assert engine.wait("finish")["result_json"] == "false"
    engine.give("awaited")
    assert engine.wait("finish", count=2)["result_json"] == "true"
    engine.give("plain")
    assert engine.wait("finish", count=3)["outcome"] == "succeeded"


def test_a_claim_that_waits_is_answered_when_there_is_a_run(engine: Engine, start: Start) -> None:
    start(ADD)
    waiting = engine.wait("claim_runs", count=2)
    assert (waiting["max"], waiting["wait_ms"]) == (4, 60_000)

    engine.give("add", {"a": 5})

    assert engine.wait("finish")["result_json"] == "6"
