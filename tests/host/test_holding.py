"""Leases as the host judges them: what becomes of one whose worker nobody knows any more."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tako.engine.answer import Answer
from tako.engine.runs import Finished
from tako.errors import StoreUnavailable
from tako.host import holding
from tako.host.app import AppHost
from tako.host.holding import LEASE_S, Holding
from tests.support.clock import FakeClock


class Host:
    """What Holding asks of an engine whose disk is full, and which has seen the exits of all its workers."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.groups = SimpleNamespace(pool_of_worker=lambda worker_id: None)
        self.writer = SimpleNamespace(do=self.do)
        self.rng = random.Random(0)
        self.is_full = True
        self.has_begun = True
        self.asked: list[dict[str, Any]] = []
        self.has_asked_again = asyncio.Event()
        self.tasks: list[asyncio.Task[Any]] = []

    async def do(self, rule: Any, **arguments: Any) -> list[str]:
        self.asked.append(arguments)
        if len(self.asked) > 1:
            self.has_asked_again.set()
        if self.is_full:
            raise StoreUnavailable("the disk is full")
        return ["run-1"]

    def in_background(self, work: Coroutine[Any, Any, Any]) -> None:
        self.tasks.append(asyncio.get_running_loop().create_task(work))


def test_what_is_said_again_of_an_earlier_claim_leaves_the_lease_of_the_present_one() -> None:
    clock = FakeClock()
    host = Host(clock)
    host.writer.ask_with_others = lambda *args, **kwargs: Answer.of(Finished("pending", 1))
    held = Holding(cast(AppHost, host))
    held.leases.grant("run-1", 2, "w2", LEASE_S)

    held.finish(run_id="run-1", worker_id="w1", epoch=1, outcome="failed")
    assert held.heartbeat("w2", [("run-1", 2)]) == [], "it would let go of a run that it holds, for ever"

    held.finish(run_id="run-1", worker_id="w2", epoch=2, outcome="failed")
    assert held.leases.get("run-1") is None


def test_a_lease_of_a_worker_that_is_gone_is_judged_once_also_while_the_disk_is_full(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def story() -> None:
        clock = FakeClock()
        host = Host(clock)
        held = Holding(cast(AppHost, host))
        held.adopt([("run-1", 1, "w1")])
        clock.advance(s=LEASE_S)

        held._judge(clock.monotonic())

        assert held.leases.next_deadline() is None, "it would be judged again at once, for ever"
        assert len(host.tasks) == 1
        await asyncio.wait_for(host.has_asked_again.wait(), 5)
        host.is_full = False
        await asyncio.wait_for(host.tasks[0], 5)
        assert host.asked[-1]["counted"] is False
        held.stop()

    monkeypatch.setattr(holding, "TAKE_BACK_AGAIN_S", 0.001)
    asyncio.run(story())
