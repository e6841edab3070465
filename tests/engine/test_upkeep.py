"""The hourly pass."""

from __future__ import annotations

import asyncio
import logging

import pytest

from tako.engine import retention, runs, upkeep, waiters
from tako.engine.store import Store
from tako.engine.upkeep import Upkeep
from tako.engine.writer import Writer
from tests.support.clock import FakeClock
from tests.support.engine import Rig

DAY_MS = 86_400_000


def test_a_pass_deletes_in_batches_and_tells_of_signals_that_nobody_took(
    engine: Rig, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(retention, "BATCH", 3)
    for _ in range(10):
        engine.succeed(engine.start())
    waiting = engine.enqueue(delay_ms=90 * DAY_MS)
    engine.signal(waiting, "shipped")
    clock.advance(ms=31 * DAY_MS)

    async def story() -> int:
        writer = Writer(engine.store, on_commit=lambda events: None, loop=asyncio.get_running_loop())
        service = Upkeep(writer, clock=clock, retention_ms=30 * DAY_MS)
        deleted = await service.run_once(clock.now_ms())
        await writer.stop()
        return deleted

    with caplog.at_level(logging.INFO, "tako.engine"):
        assert asyncio.run(story()) == 10
    assert [record.getMessage() for record in caplog.records] == [
        f"signal 'shipped' was taken by nobody in seven days and is forgotten (run {waiting})",
        "10 ended runs were deleted after their retention",
    ]
    assert engine.store.counts["charge", "later"] == 1


def test_the_service_begins_by_itself_and_stops_twice(
    store: Store, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "_FIRST_S", 0.0)
    with store.transaction():
        runs.enqueue(store, [{"id": "a", "workflow": "w", "payload_json": "{}"}], now_ms=clock.now_ms())
        waiters.signal(store, run_id="a", event_name="e", payload_json="1", now_ms=clock.now_ms() - 8 * DAY_MS)

    async def story() -> None:
        committed = asyncio.Event()
        writer = Writer(store, on_commit=lambda events: None, loop=asyncio.get_running_loop())
        service = Upkeep(writer, clock=clock, retention_ms=DAY_MS)
        real = service.run_once

        async def run_once(*args: object, **kwargs: object) -> int:
            try:
                return await real(*args, **kwargs)  # type: ignore[arg-type]
            finally:
                committed.set()

        service.run_once = run_once  # type: ignore[method-assign]
        service.start()
        service.start()
        await asyncio.wait_for(committed.wait(), 5)
        await service.stop()
        await service.stop()
        await writer.stop()

    asyncio.run(story())
    assert store.one("first_signal", run=1, event="e") is None
