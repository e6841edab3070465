"""Steps, as a handler meets them: saved once, given back ever after. Each for `def` and for `async def`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.worker.conftest import Start
from tests.worker.engine import Engine, WorkerProcess

FLOWS = """
    import asyncio, functools, threading, time
    from dataclasses import dataclass
    from datetime import datetime, timezone
    from tako import {Context}, Fatal, Retry, workflow

    calls = []

    {adef} work(x: int) -> int:
        calls.append(x)
        return x * 10

    {adef} broken() -> int:
        calls.append("broken")
        raise ValueError("no luck")

    def sync_work(x: int) -> str:
        return threading.current_thread().name

    @dataclass
    class Order:
        id: int
        when: datetime

    {adef} load() -> Order:
        return Order(7, datetime(2026, 1, 2, tzinfo=timezone.utc))

    {adef} unstorable():
        return {{"items": [1, {{"due": object()}}]}}

    {adef} tagged(x, retries=0):
        return x

    @workflow
    {adef} three(ctx: {Context}) -> list[int]:
        return [{wait}ctx.step(f"s{{i}}", work, i) for i in range(3)]

    @workflow
    {adef} order(ctx: {Context}) -> str:
        found = {wait}ctx.step("load", load)
        return f"{{found!r}}"

    @workflow
    {adef} loses_type(ctx: {Context}) -> str:
        found = {wait}ctx.step("tuple", lambda: {{"a": (1, 2)}})
        return repr(found)

    @workflow
    {adef} cannot_store(ctx: {Context}) -> None:
        {wait}ctx.step("bad", unstorable)

    @workflow
    {adef} twice(ctx: {Context}) -> None:
        {wait}ctx.step("same", work, 1)
        {wait}ctx.step("same", work, 2)

    @workflow
    {adef} retried(ctx: {Context}) -> int:
        {wait}ctx.step("flaky", broken, retries=Retry(2, first=0.01, jitter=0))
        return 1

    @workflow
    {adef} catches(ctx: {Context}) -> str:
        try:
            {wait}ctx.step("flaky", broken)
        except ValueError as error:
            return f"caught {{error}}"
        return "nothing"

    @workflow
    {adef} ambiguous(ctx: {Context}) -> None:
        {wait}ctx.step("tagged", tagged, 1, retries=2)

    @workflow
    {adef} partial(ctx: {Context}) -> int:
        return {wait}ctx.step("tagged", functools.partial(tagged, retries=5), 1, retries=2)

    @workflow
    {adef} mapped(ctx: {Context}) -> list[int]:
        return {wait}ctx.map("each", work, range(5), limit=2)

    {adef} odd(x: int) -> int:
        if x % 2:
            raise ValueError(f"odd {{x}}")
        return x

    @workflow(retries=0)
    {adef} some_fail(ctx: {Context}) -> list[int]:
        return {wait}ctx.map("each", odd, range(4))

    @workflow
    {adef} some_fail_quietly(ctx: {Context}) -> list[str]:
        return [repr(one) for one in {wait}ctx.map("each", odd, range(4), return_exceptions=True)]

    @workflow
    {adef} naps(ctx: {Context}) -> str:
        {wait}ctx.sleep("nap", 0.01)
        return "awake"

    @workflow
    {adef} large(ctx: {Context}) -> None:
        {wait}ctx.step("large", lambda: "x" * 2_000_000)

    @workflow
    {adef} quotes(ctx: {Context}) -> None:
        {wait}ctx.step("quotes", lambda: '"' * 600_000)

    @workflow
    {adef} typed(ctx: {Context}) -> str:
        return repr({wait}ctx.step("float", lambda: 3, returns=float))
"""

KINDS = {
    "def": {"adef": "def", "wait": "", "Context": "Context"},
    "async def": {"adef": "async def", "wait": "await ", "Context": "AsyncContext"},
}


@pytest.fixture(params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def worker(kind: str, start: Start) -> WorkerProcess:
    return start(FLOWS.format(**KINDS[kind]))


def value(message: dict[str, Any]) -> Any:
    return json.loads(message["result_json"])


def test_each_step_is_saved_before_the_next_one_starts(engine: Engine, worker: WorkerProcess) -> None:
    run = engine.give("three")

    finish = engine.wait("finish")

    assert value(finish) == [0, 10, 20]
    saves = engine.all("save_step")
    assert [(save["id"], save["step_name"], save["result_json"]) for save in saves] == [
        (run, "s0", "0"), (run, "s1", "10"), (run, "s2", "20"),
    ]  # fmt: skip
    assert all(save["epoch"] == 1 and save["attempt"] == 1 and save["started_ms"] > 1e12 for save in saves)


def test_a_saved_step_is_given_back_and_not_called(engine: Engine, worker: WorkerProcess) -> None:
    engine.give("three", steps={"s0": "111", "s1": "222"})

    assert value(engine.wait("finish")) == [111, 222, 20]
    assert [save["step_name"] for save in engine.all("save_step")] == ["s2"]


def test_steps_that_did_not_fit_into_the_claim_are_fetched(engine: Engine, worker: WorkerProcess) -> None:
    pages = {"1": {"steps": {"s1": "222"}, "next": "2"}, "2": {"steps": {"s2": "333"}, "next": None}}
    engine.answers["load_steps"] = lambda message: {"status": "ok", "data": pages[message["after"]]}

    engine.give("three", steps={"s0": "111"}, steps_next="1")

    assert value(engine.wait("finish")) == [111, 222, 333]
    assert engine.all("save_step") == []


def test_a_value_has_its_type_on_the_first_pass_and_on_a_replay(engine: Engine, worker: WorkerProcess) -> None:
    engine.give("order")
    first = engine.wait("finish")
    saved = engine.wait("save_step")["result_json"]

    engine.give("order", steps={"load": saved})

    assert "Order(id=7, when=datetime.datetime(2026, 1, 2" in first["result_json"]
    assert engine.wait("finish", count=2)["result_json"] == first["result_json"]


def test_the_stored_value_is_what_is_returned_at_once(engine: Engine, worker: WorkerProcess) -> None:
    engine.give("loses_type")
    engine.give("typed")

    assert value(engine.wait("finish", count=1)) in ("{'a': [1, 2]}", "3.0")
    assert value(engine.wait("finish", count=2)) in ("{'a': [1, 2]}", "3.0")


def test_a_value_that_cannot_be_stored_ends_the_run_with_its_path(engine: Engine, worker: WorkerProcess) -> None:
    engine.give("cannot_store")

    finish = engine.wait("finish")

    assert finish["outcome"] == "fatal"
    assert finish["error"]["type"] == "tako.errors.StepResultError"
    assert "step 'bad': result.items[1].due: found object" in finish["error"]["message"]


def test_a_value_that_is_too_large_ends_the_run_and_says_what_to_do(engine: Engine, worker: WorkerProcess) -> None:
    for flow in ("large", "quotes"):
        engine.give(flow)

    for count in (1, 2):
        finish = engine.wait("finish", count=count)
        assert finish["outcome"] == "fatal"
        assert "pass a reference" in finish["error"]["message"]


def test_a_saved_value_that_no_longer_fits_ends_the_run_with_its_path(engine: Engine, worker: WorkerProcess) -> None:
    engine.give("order", steps={"load": '{"id": "seven", "when": "2026-01-02T00:00:00+00:00"}'})

    finish = engine.wait("finish")

    assert finish["outcome"] == "fatal"
    assert "no longer reads back as its type: result.id" in finish["error"]["message"]


def test_a_damaged_saved_value_ends_the_run(engine: Engine, worker: WorkerProcess) -> None:
    engine.give("three", steps={"s0": "{broken"})

    finish = engine.wait("finish")

    assert finish["outcome"] == "fatal"
    assert "step 's0': stored result unreadable" in finish["error"]["message"]


def test_one_name_twice_in_an_attempt_is_an_error_that_suggests_an_f_string(
    engine: Engine, worker: WorkerProcess
) -> None:
    engine.give("twice")

    finish = engine.wait("finish")

    assert finish["outcome"] == "fatal"
    assert "'same' was called twice" in finish["error"]["message"]
    assert 'f"same-{item_id}"' in finish["error"]["message"]


def test_a_step_is_retried_in_the_process_with_its_own_retries(engine: Engine, worker: WorkerProcess) -> None:
    engine.give("retried")

    finish = engine.wait("finish")

    assert finish["outcome"] == "failed"
    tries = [line for line in worker.logged() if "step 'flaky' failed" in line["msg"]]
    assert [line["level"] for line in tries] == ["error", "warning"]
    assert tries[0]["step"] == "flaky"
    assert tries[0]["workflow"] == "retried"
    assert "no luck" in tries[0]["traceback"]


def test_a_handler_that_catches_a_steps_error_and_goes_on_gets_a_warning(engine: Engine, worker: WorkerProcess) -> None:
    engine.give("catches")

    finish = engine.wait("finish")

    assert finish["outcome"] == "succeeded"
    assert finish["warnings"] == [
        "step 'flaky' failed (ValueError: no luck) and the handler went on; a failed step is not stored"
    ]


def test_an_option_that_the_function_has_too_is_an_error_and_a_partial_says_which(
    engine: Engine, worker: WorkerProcess
) -> None:
    engine.give("ambiguous")
    refused = engine.wait("finish")
    engine.give("partial")

    assert refused["outcome"] == "fatal"
    assert "retries=" in refused["error"]["message"]
    assert value(engine.wait("finish", count=2)) == 1


def test_map_is_a_step_for_each_item(engine: Engine, worker: WorkerProcess) -> None:
    engine.give("mapped", steps={"each[1]": "111", "each[4]": "444"})

    assert value(engine.wait("finish")) == [0, 111, 20, 30, 444]
    assert {save["step_name"] for save in engine.all("save_step")} == {"each[0]", "each[2]", "each[3]"}


def test_map_waits_for_all_then_raises_the_first_error_and_lists_the_rest(
    engine: Engine, worker: WorkerProcess
) -> None:
    engine.give("some_fail")

    finish = engine.wait("finish")

    assert finish["outcome"] == "failed"
    assert finish["error"]["message"] == "odd 1"
    assert "also failed: each[3]: ValueError: odd 3" in finish["error"]["traceback"]
    assert {save["step_name"] for save in engine.all("save_step")} == {"each[0]", "each[2]"}


def test_map_can_give_errors_back_in_their_places_without_a_warning(engine: Engine, worker: WorkerProcess) -> None:
    engine.give("some_fail_quietly")

    finish = engine.wait("finish")

    assert value(finish) == ["0", "ValueError('odd 1')", "2", "ValueError('odd 3')"]
    assert "warnings" not in finish


def test_a_short_sleep_stays_in_the_process_and_is_saved(engine: Engine, worker: WorkerProcess) -> None:
    engine.give("naps")

    assert value(engine.wait("finish")) == "awake"
    assert engine.wait("save_step")["step_name"] == "nap"
    assert engine.all("park") == []
