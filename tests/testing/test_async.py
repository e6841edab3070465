from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

import tako
from tako import AsyncContext, Context, Signal, workflow
from tako.testing import Engine

go = Signal("go", str)


async def double(n: int) -> int:
    await asyncio.sleep(0)
    return 2 * n


@workflow(signals=[go])
async def journey(ctx: AsyncContext, n: int) -> str:
    doubled = await ctx.step("double", double, n)
    both = await asyncio.gather(ctx.step("a", double, doubled), ctx.step("b", double, doubled))
    await ctx.sleep("rest", "2s")
    word = await ctx.wait_for(go, timeout="1d", default="nothing")
    return f"{sum(both)} {word}"


@pytest.fixture(autouse=True)
def _known(monkeypatch: pytest.MonkeyPatch, _nothing_of_other_tests: None) -> None:
    monkeypatch.setattr("tako.sdk.workflow._declared", {"journey": journey})


def test_async_handlers_run_in_a_plain_test(engine: Engine) -> None:
    run = journey.enqueue(1)
    engine.drain()
    assert run.status() == "sleeping"

    engine.advance("2s")
    engine.drain()
    journey.signal(run, go, "left")

    assert run.result() == "8 left"


def test_async_handlers_run_in_an_async_test(engine: Engine) -> None:
    async def story() -> str:
        run = await journey.aenqueue(1)
        await engine.adrain()
        assert await run.astatus() == "sleeping"
        engine.advance("2s")
        await engine.adrain()
        engine.advance("1d")
        return await run.aresult()

    assert asyncio.run(story()) == "8 nothing"


def test_sync_handlers_and_steps_run_on_the_thread_of_an_async_test_with_no_loop_in_sight(engine: Engine) -> None:
    seen: list[tuple[int, int]] = []

    async def one() -> int:
        return 1

    def look() -> None:
        # What a thread of a worker allows: a loop of its own.
        seen.append((threading.get_ident(), asyncio.run(one())))

    @workflow
    def sync(ctx: Context) -> None:
        look()
        ctx.step("look", look)

    @workflow
    async def mixed(ctx: AsyncContext) -> None:
        await ctx.step("look", look)

    async def story() -> None:
        tako.enqueue("sync")
        tako.enqueue("mixed")
        here = asyncio.current_task()
        await engine.adrain()
        assert asyncio.current_task() is here

    asyncio.run(story())
    tako.enqueue("mixed")
    engine.drain()

    assert seen == [(threading.get_ident(), 1)] * 4


def test_drain_in_a_running_loop_says_what_to_await(engine: Engine) -> None:
    async def story() -> None:
        run = await journey.aenqueue(1)
        with pytest.raises(RuntimeError, match=r"await engine\.adrain\(\)"):
            engine.drain()
        with pytest.raises(RuntimeError, match=r"await run\.aresult\(\)"):
            run.result()

    asyncio.run(story())


def test_a_handler_waits_for_runs_of_either_kind(engine: Engine) -> None:
    @workflow
    async def inner(ctx: AsyncContext, n: int) -> int:
        return await ctx.step("double", double, n)

    @workflow
    def sync_outer(ctx: Context) -> int:
        return ctx.step("inner", lambda: inner.enqueue(1).result())

    @workflow
    async def async_outer(ctx: AsyncContext) -> int:
        async def wait() -> int:
            run = await inner.aenqueue(2)
            return await run.aresult()

        return await ctx.step("inner", wait) + await ctx.step("sync", lambda: sync_outer.enqueue().result())

    assert async_outer.enqueue().result() == 6

    async def story() -> int:
        run = await async_outer.aenqueue()
        return await run.aresult()

    assert asyncio.run(story()) == 6


def test_a_step_without_await_fails_the_run_and_names_the_line(engine: Engine) -> None:
    @workflow
    async def hasty(ctx: AsyncContext) -> None:
        ctx.step("double", double, 1)  # type: ignore[unused-coroutine]

    with pytest.raises(tako.RunFailed, match=r"ctx.step\('double'\) at .*test_async.py:\d+ was called without await"):
        hasty.enqueue().result()


def test_a_steps_retries_of_an_async_handler_follow_at_once(engine: Engine) -> None:
    tries: list[int] = []

    async def send() -> str:
        tries.append(1)
        if len(tries) < 3:
            raise ConnectionError
        return "sent"

    @workflow
    async def mail(ctx: AsyncContext) -> str:
        return await ctx.step("send", send, retries=tako.Retry(2, first="1h"))

    assert mail.enqueue().result() == "sent"


def test_a_client_of_the_loop_lives_from_one_drain_to_the_next(engine: Engine) -> None:
    loops: list[Any] = []

    @tako.on_start
    async def connect() -> None:
        loops.append(asyncio.get_running_loop())

    @workflow
    async def use(ctx: AsyncContext) -> None:
        loops.append(asyncio.get_running_loop())

    for _ in range(2):
        use.enqueue()
        engine.drain()

    assert len(loops) == 3
    assert len(set(loops)) == 1


def test_a_cancelled_drain_ends_as_cancelled(engine: Engine) -> None:
    @workflow
    async def hang(ctx: AsyncContext) -> None:
        await asyncio.Event().wait()

    async def story() -> None:
        await hang.aenqueue()
        draining = asyncio.create_task(engine.adrain())
        await asyncio.sleep(0.01)
        draining.cancel()
        with pytest.raises(asyncio.CancelledError):
            await draining

    asyncio.run(story())


def test_branches_that_sleep_go_on_when_each_is_due(engine: Engine) -> None:
    woken: list[str] = []

    @workflow
    async def naps(ctx: AsyncContext) -> str:
        async def nap(name: str, duration: str) -> None:
            await ctx.sleep(name, duration)
            await ctx.step(f"note {name}", woken.append, name)

        await asyncio.gather(nap("long", "2h"), nap("short", "1h"))
        return " ".join(woken)

    run = naps.enqueue()
    engine.drain()
    engine.advance("1h")
    engine.drain()
    assert woken == ["short"]
    engine.advance("1h")

    assert run.result() == "short long"
