"""Child runs in tests: the real start, gather and cancel, on the test's clock."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

import tako
from tako import AsyncContext, Context, Signal, workflow
from tako.sdk import workflow as workflows
from tako.testing import Engine

go = Signal("go", str)


@workflow
def double(ctx: Context, n: int) -> int:
    if n == 13:
        raise ValueError("unlucky")
    return ctx.step("double", lambda: 2 * n)


@workflow
def doubles(ctx: Context, numbers: list[int]) -> int:
    return sum(ctx.gather(*[ctx.start(f"double-{n}", double, n) for n in numbers]))


@workflow(signals=[go])
async def waits_for_both(ctx: AsyncContext) -> list[str]:
    async def told() -> str:
        return await ctx.wait_for(go, timeout="9d")

    async def child() -> str:
        run = await ctx.start("double", double.using(delay="1d"), 4)
        return str(await ctx.gather(run))

    return list(await asyncio.gather(told(), child()))


@pytest.fixture(autouse=True)
def _declared(_nothing_of_other_tests: None) -> Iterator[None]:
    for one in (double, doubles, waits_for_both):
        workflows._remember(one)
    yield


def test_children_run_and_their_results_come_back(engine: Engine) -> None:
    assert doubles.enqueue([1, 2, 3]).result() == 12


@pytest.mark.parametrize("step", ["double-1", "double-3"])
def test_a_crash_after_a_start_starts_no_second_child(engine: Engine, step: str) -> None:
    with engine.crash(after=step):
        run = doubles.enqueue([1, 2, 3])
        engine.drain()

    assert run.result() == 12
    assert len(list(tako.runs(workflow=double))) == 3


def test_a_child_that_failed_fails_its_parent_after_its_own_retries(engine: Engine) -> None:
    run = doubles.enqueue([1, 13])
    for _ in range(10):
        engine.drain()
        engine.advance("1h")

    with pytest.raises(tako.RunFailed, match="unlucky"):
        run.result()
    assert [step.child.status() for step in run.steps() if step.child] == ["succeeded", "dead"]


def test_a_cancelled_parent_takes_its_children_along(engine: Engine) -> None:
    run = waits_for_both.enqueue()
    engine.drain()

    run.cancel("changed my mind")
    engine.advance("2d")
    engine.drain()

    [child] = [step.child for step in run.steps() if step.child]
    assert child.status() == "cancelled"


@pytest.mark.parametrize("first", ["signal", "child"])
def test_branches_wait_for_a_signal_and_a_child_at_once(engine: Engine, first: str) -> None:
    run = waits_for_both.enqueue()
    engine.drain()

    if first == "signal":
        waits_for_both.signal(run, go, "now")
        engine.drain()
    engine.advance("1d")
    engine.drain()
    if first == "child":
        waits_for_both.signal(run, go, "now")

    assert run.result() == ["now", "[8]"]


def test_a_child_of_a_broken_group_is_stored_and_waits(engine: Engine) -> None:
    @workflow(group="mail")
    def post(ctx: Context) -> str:
        return "posted"

    @workflow
    def sends(ctx: Context) -> list[str]:
        return ctx.gather(ctx.start("post", post))

    with engine.unhealthy("mail"):
        run = sends.enqueue()
        engine.drain()
        [child] = [step.child for step in run.steps() if step.child]
        assert (run.status(), child.status()) == ("waiting", "blocked")

    assert run.result() == ["posted"]
