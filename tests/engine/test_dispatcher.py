"""Due runs become ready by themselves."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tako.engine import claims, dispatcher, runs
from tako.engine.dispatcher import Dispatcher
from tako.engine.events import Event
from tako.engine.store import Store
from tako.engine.writer import Writer
from tests.support.clock import FakeClock

TIMEOUT_S = 5


class House:
    """A dispatcher at work, and a place to wait for what it calls."""

    def __init__(self, store: Store, clock: FakeClock) -> None:
        self.store = store
        self.clock = clock
        self.ready: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        self.writer = Writer(store, on_commit=self.on_commit, loop=asyncio.get_running_loop())
        self.dispatcher = Dispatcher(
            self.writer, clock=clock, on_ready=lambda workflow, lane: self.ready.put_nowait((workflow, lane))
        )

    def on_commit(self, events: list[Event]) -> None:
        self.dispatcher.tell(events)

    async def enqueue(self, workflow: str = "w", **options: Any) -> None:
        new: Any = {"id": f"{workflow}-{options}", "workflow": workflow, "payload_json": "{}", **options}
        await self.writer.do(runs.enqueue, [new], now_ms=self.clock.now_ms())

    async def next(self) -> tuple[str, str]:
        return await asyncio.wait_for(self.ready.get(), TIMEOUT_S)


def tell(path: Path, clock: FakeClock, story: Callable[[House], Awaitable[None]]) -> None:
    async def whole() -> None:
        store = Store.open(path / "runs.db")
        house = House(store, clock)
        try:
            await story(house)
        finally:
            await house.dispatcher.stop()
            await house.dispatcher.stop()
            await house.writer.stop()
            store.close()

    asyncio.run(whole())


def test_a_run_that_is_ready_is_told_within_its_commit(tmp_path: Path, clock: FakeClock) -> None:
    async def story(house: House) -> None:
        await house.enqueue()
        assert house.ready.get_nowait() == ("w", "ready")

    tell(tmp_path, clock, story)


def test_what_was_due_before_the_start_is_made_ready_at_the_start(tmp_path: Path, clock: FakeClock) -> None:
    async def story(house: House) -> None:
        await house.enqueue(delay_ms=3_600_000)
        clock.advance(ms=3_600_000)
        house.dispatcher.start()
        house.dispatcher.start()
        assert await house.next() == ("w", "ready")

    tell(tmp_path, clock, story)


def test_a_run_becomes_ready_when_its_time_comes(tmp_path: Path, clock: FakeClock) -> None:
    async def story(house: House) -> None:
        house.dispatcher.start()
        await house.enqueue("late", delay_ms=60_000)
        await house.enqueue("soon", delay_ms=20)
        clock.advance(ms=20)
        assert await house.next() == ("soon", "ready")
        assert house.ready.empty()

    tell(tmp_path, clock, story)


def test_more_runs_than_a_batch_become_ready_in_one_round(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "_BATCH", 3)

    async def story(house: House) -> None:
        for number in range(10):
            await house.enqueue(delay_ms=1, priority=number)
        clock.advance(ms=1)
        assert await house.dispatcher.run_once(clock.now_ms()) == 10
        assert house.store.counts["w", "ready"] == 10

    tell(tmp_path, clock, story)


def test_a_step_of_the_clock_forward_is_noticed(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "_LOOK_AGAIN_S", 0.02)

    async def story(house: House) -> None:
        house.dispatcher.start()
        await house.enqueue(delay_ms=3_600_000)
        clock.step_wall(ms=3_600_000)
        assert await house.next() == ("w", "ready")

    tell(tmp_path, clock, story)


def test_a_store_that_is_locked_for_a_while_stops_nothing_for_good(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "_RETRY_S", 0.02)

    async def story(house: House) -> None:
        house.store.connection.execute("PRAGMA busy_timeout = 1").fetchall()
        await house.enqueue(delay_ms=1)
        other = sqlite3.connect(tmp_path / "runs.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        clock.advance(ms=1)
        house.dispatcher.start()
        await asyncio.wait([asyncio.ensure_future(house.ready.get())], timeout=0.1)
        other.execute("ROLLBACK")
        other.close()
        async with asyncio.timeout(TIMEOUT_S):
            while house.store.counts.get(("w", "ready"), 0) == 0:
                clock.advance(ms=1)
                await asyncio.wait([asyncio.ensure_future(asyncio.sleep(0.01))])

    tell(tmp_path, clock, story)


def test_a_mistake_of_ours_in_one_round_is_told_and_the_next_one_comes(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(dispatcher, "_RETRY_S", 0.0)

    async def story(house: House) -> None:
        bugs: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: bugs.append(context))
        real = house.dispatcher.run_once

        async def fails_once(now_ms: int) -> int:
            if not bugs:
                raise ZeroDivisionError
            return await real(now_ms)

        monkeypatch.setattr(house.dispatcher, "run_once", fails_once)
        await house.enqueue(delay_ms=1)
        clock.advance(ms=1)
        house.dispatcher.start()

        assert await asyncio.wait_for(house.ready.get(), TIMEOUT_S) == ("w", "ready")
        assert [type(bug["exception"]) for bug in bugs] == [ZeroDivisionError]
        assert "due runs could not be made ready, by a mistake of Tako's: ZeroDivisionError()" in caplog.text

    tell(tmp_path, clock, story)


def test_an_alarm_that_rings_during_a_round_is_not_lost(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(house: House) -> None:
        has_looked, may_end = asyncio.Event(), asyncio.Event()
        do = house.writer.do

        async def slow(rule: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            found = await do(rule, *args, **kwargs)
            if rule is claims.next_due_ms and not has_looked.is_set():
                has_looked.set()
                await may_end.wait()
            return found

        monkeypatch.setattr(house.writer, "do", slow)
        house.dispatcher.start()
        await has_looked.wait()  # it has found that nothing is due, and has not said so yet

        has_rung = asyncio.Event()
        look = house.dispatcher._look

        def ring() -> None:
            look()
            has_rung.set()

        monkeypatch.setattr(house.dispatcher, "_look", ring)
        await house.enqueue(delay_ms=1)
        await asyncio.wait_for(has_rung.wait(), TIMEOUT_S)
        clock.advance(ms=10)
        may_end.set()

        assert await house.next() == ("w", "ready")

    tell(tmp_path, clock, story)
