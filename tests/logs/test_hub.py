from __future__ import annotations

import asyncio
from typing import Any, cast

from tako.logs.filters import Filter
from tako.logs.hub import Hub, Subscription
from tako.logs.redact import redactor
from tako.protocol.messages import LogLine

DEADLINE_S = 10


def line(message: str, **more: Any) -> LogLine:
    return cast(LogLine, {"ts_ms": 1, "level": "info", "scope": "worker", "message": message, **more})


async def take(subscription: Subscription, count: int) -> list[str]:
    async with asyncio.timeout(DEADLINE_S):
        return [(await anext(subscription))["message"] for _ in range(count)]


def test_a_subscriber_gets_what_is_published_after_it_and_the_tail_it_asked_for() -> None:
    async def story() -> list[str]:
        hub = Hub()
        for number in range(5):
            hub.publish(line(f"old {number}"))
        with hub.subscribe(tail=2) as subscription:
            hub.publish(line("new"))
            return await take(subscription, 3)

    assert asyncio.run(story()) == ["old 3", "old 4", "new"]


def test_a_subscriber_that_waits_is_woken() -> None:
    async def story() -> list[str]:
        hub = Hub()
        with hub.subscribe() as subscription:
            asyncio.get_running_loop().call_soon(hub.publish, line("here"))
            return await take(subscription, 1)

    assert asyncio.run(story()) == ["here"]


def test_only_wanted_lines_arrive() -> None:
    async def story() -> list[str]:
        hub = Hub()
        with hub.subscribe(Filter(run="r1")) as subscription:
            hub.publish(line("other", run_id="r2"))
            hub.publish(line("mine", run_id="r1"))
            return await take(subscription, 1)

    assert asyncio.run(story()) == ["mine"]


def test_a_slow_subscriber_loses_the_oldest_and_is_told_how_many() -> None:
    async def story() -> list[str]:
        hub = Hub()
        with hub.subscribe(queue_lines=3) as subscription:
            for number in range(10):
                hub.publish(line(str(number)))
            return await take(subscription, 4)

    first, *rest = asyncio.run(story())
    assert first == "7 lines were left out here: they came faster than they were read"
    assert rest == ["7", "8", "9"]


def test_a_slow_subscriber_costs_the_others_nothing() -> None:
    async def story() -> list[str]:
        hub = Hub()
        with hub.subscribe(queue_lines=1), hub.subscribe() as quick:
            for number in range(3):
                hub.publish(line(str(number)))
            return await take(quick, 3)

    assert asyncio.run(story()) == ["0", "1", "2"]


def test_closing_the_hub_ends_a_waiting_subscriber_after_what_was_queued() -> None:
    async def story() -> list[str]:
        hub = Hub()
        subscription = hub.subscribe()
        hub.publish(line("last"))
        asyncio.get_running_loop().call_soon(hub.close)
        async with asyncio.timeout(DEADLINE_S):
            found = [entry["message"] async for entry in subscription]
        hub.close()
        hub.publish(line("nobody hears this"))
        return found

    assert asyncio.run(story()) == ["last"]


def test_the_ring_holds_the_newest_lines_only() -> None:
    hub = Hub(capacity=3)
    for number in range(5):
        hub.publish(line(str(number)))

    assert [entry["message"] for entry in hub.recent()] == ["2", "3", "4"]
    assert [entry["message"] for entry in hub.recent(limit=1)] == ["4"]


def test_secrets_reach_neither_ring_nor_sinks_nor_subscribers() -> None:
    async def story() -> tuple[list[LogLine], list[LogLine], list[str]]:
        sunk: list[LogLine] = []
        hub = Hub(redact=redactor({"KEY": "hunter22"}), sinks=(sunk.append,))
        with hub.subscribe() as subscription:
            hub.publish(line("key hunter22"))
            return hub.recent(), sunk, await take(subscription, 1)

    assert "hunter22" not in str(asyncio.run(story()))


def test_the_last_crash_is_told_by_the_lines_of_that_worker() -> None:
    hub = Hub()
    hub.publish(line("earlier crash", pid=1, group="mail"))
    hub.publish(line("worker exited", scope="tako", pid=1, group="mail", fields={"crash": True}))
    hub.publish(line("Traceback", pid=2, group="default"))
    hub.publish(line("GET /", scope="web", pid=9))
    hub.publish(line("worker exited", scope="tako", pid=2, group="default", fields={"crash": True}))
    hub.publish(line("fresh worker", pid=3))

    assert [entry["message"] for entry in hub.last_crash()] == ["Traceback", "worker exited"]
    assert [entry["message"] for entry in hub.last_crash(group="mail")] == ["earlier crash", "worker exited"]
    assert hub.last_crash(group="none") == []
