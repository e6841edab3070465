"""A pool with real processes: small scripts instead of workers, and a house that writes down what it is told."""

from __future__ import annotations

import asyncio
import os
import random
import sys
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from tako.clock import SystemClock
from tako.errors import TakoError
from tako.supervisor import spawn
from tako.supervisor.states import GroupConfig, Slot
from tako.supervisor.workers import BootPermits, WorkerPool

PATIENCE_S = 20.0
SLEEP = "import time; time.sleep(60)"
# A worker that drains at SIGTERM, as a real one does.
DRAINS = "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(0)); print('up', flush=True); time.sleep(60)"
DEAF = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"


class FakeHouse:
    """The host's side: a queue that tests set, and lists of what happened."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.script = SLEEP
        self.argv: list[str] | None = None
        self.waiting = 0
        self.solo = 0
        self.holds: dict[str, int] = {}
        self.started: list[str] = []
        self.stopped_claims: list[str] = []
        self.reclaimed: list[tuple[str, bool, str | None]] = []
        self.health: list[dict[str, Any]] = []
        self.workers: dict[str, dict[str, Any]] = {}
        self.counts: Counter[str] = Counter()
        self.lines: list[str] = []
        self.logged: list[tuple[str, str]] = []
        self.store_error: TakoError | None = None
        self.spawn_error: Exception | None = None

    def runnable(self, group: str) -> int:
        return self.waiting

    def suspects(self, group: str) -> int:
        return self.solo

    def in_flight(self, group: str) -> dict[str, int]:
        return self.holds

    def spawn_request(self, group: str, worker_id: str, solo: bool) -> spawn.SpawnRequest:
        if self.spawn_error is not None:
            raise self.spawn_error
        self.started.append(worker_id)
        return spawn.SpawnRequest(
            argv=self.argv or [sys.executable, "-c", self.script],
            env={"PATH": os.environ["PATH"]},
            cwd=self.folder,
            envelope=b"{}",
            spool=self.folder / f"{worker_id}.spool",
        )

    def stop_claims(self, worker_id: str) -> None:
        self.stopped_claims.append(worker_id)

    async def reclaim(self, worker_id: str, counted: bool, death: str | None) -> None:
        if self.store_error is not None:
            raise self.store_error
        self.holds.pop(worker_id, None)
        self.reclaimed.append((worker_id, counted, death))

    def save_health(self, group: str, record: dict[str, Any]) -> None:
        self.health.append(record)

    def save_worker(self, record: dict[str, Any]) -> None:
        self.workers[record["worker_id"]] = record

    def forget_worker(self, worker_id: str) -> None:
        self.workers.pop(worker_id, None)

    def count(self, group: str, what: str) -> None:
        self.counts[what] += 1

    def changed(self, group: str) -> None: ...

    def redact(self, text: str) -> str:
        return text.replace("hunter22", "[secret KEY]")

    def output(self, group: str, worker_id: str, pid: int, line: str) -> None:
        self.lines.append(line)

    def log(self, level: str, message: str, **fields: Any) -> None:
        self.logged.append((level, message))


class LeapingClock(SystemClock):
    """The machine's clock, which a test may set ahead."""

    ahead_s = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead_s


class Room:
    """A pool in its house."""

    def __init__(self, folder: Path, *, permits: BootPermits | None = None, **config: Any) -> None:
        self.house = FakeHouse(folder)
        self.clock = LeapingClock()
        self.permits = permits or BootPermits(2)
        self.pool = self.new_pool(**config)

    def new_pool(self, **config: Any) -> WorkerPool:
        return WorkerPool(
            GroupConfig(**config), house=self.house, clock=self.clock, rng=random.Random(1), permits=self.permits
        )

    @property
    def slots(self) -> tuple[Slot, ...]:
        return self.pool.state.slots

    def pid(self, worker_id: str) -> int:
        found = {worker["id"]: worker["pid"] for worker in self.pool.snapshot()["workers"]}
        assert found[worker_id] is not None
        return int(found[worker_id])

    def work(self, *, waiting: int = 1) -> None:
        self.house.waiting = waiting
        self.pool.work()

    async def spawned(self, count: int = 1) -> str:
        """Wait until so many processes exist; the newest."""
        await until(lambda: sum(slot.spawned_at is not None for slot in self.slots) >= count)
        return self.slots[-1].id

    async def ready(self) -> str:
        """A worker that has said HELLO."""
        self.work()
        worker_id = await self.spawned()
        self.pool.hello(worker_id)
        return worker_id

    async def active(self, *, runs: int = 1) -> str:
        """A worker that has claimed."""
        worker_id = await self.ready()
        self.house.waiting = 0
        self.house.holds[worker_id] = runs
        self.pool.claimed(worker_id)
        return worker_id

    async def gone(self) -> None:
        """Wait until no process is left."""
        await until(lambda: not self.slots)


async def until(is_so: Callable[[], object]) -> None:
    """Wait until something is so, for a while."""
    async with asyncio.timeout(PATIENCE_S):
        while not is_so():  # noqa: ASYNC110 -- it may be anything
            await asyncio.sleep(0.002)


def on_a_loop(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(work(), PATIENCE_S * 2))
