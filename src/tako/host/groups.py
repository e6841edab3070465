"""The worker groups of an app: a supervisor for each, and what the supervisors need of the rest of the house."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from tako.engine import health as health_rows
from tako.engine import pausing
from tako.engine import registry as registry_rows
from tako.engine.store import Store
from tako.errors import LeaseLost, TakoError
from tako.host import lines, timetable
from tako.host.holding import HEARTBEAT_S, LEASE_S
from tako.host.launch import Launch
from tako.host.registry import check_registry
from tako.protocol.messages import HelloData
from tako.protocol.messages import Registry as GroupRegistry
from tako.rpc.connection import Connection
from tako.supervisor.spawn import SpawnRequest
from tako.supervisor.states import Failure, GroupConfig, Health, Phase, Why
from tako.supervisor.workers import BootPermits, WorkerPool

if TYPE_CHECKING:
    from tako.host.app import AppHost
    from tako.host.gate import Gate


class Groups:
    """One WorkerPool a group, made for every group that the configuration or the code names."""

    def __init__(self, host: AppHost) -> None:
        self._host = host
        self._permits = BootPermits(os.cpu_count() or 1)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._kept: dict[str, tuple[str, GroupRegistry]] = {}  # by group: the release, and what it declares
        self.pools: dict[str, WorkerPool] = {}
        self._changed = asyncio.Event()
        self._releases: dict[str, str] = {}  # by worker, for its lines in the log
        self._leaving: list[WorkerPool] = []
        self.gate: Gate | None = None  # of a release that is being tried
        self._on_trial: Callable[[str, Failure], None] | None = None  # hears of each group that cannot start

    def start(self, *, proven: Collection[str] = ()) -> None:
        """After recovery: boot a probe of each group of which nothing is known; look for work in the others."""
        for pool in self.pools.values():
            if pool.is_unproven and not pool.state.slots:
                pool.new_code(self.config_of(pool.group), proven=pool.group in proven)
            else:
                pool.work()
                self._host.health_changed(pool.group)

    def new_code(self, *, proven: Collection[str] = ()) -> None:
        """Code, environment or settings changed: every group boots a probe, old workers drain (row 18).

        But for groups that a gate has `proven`, which may be used at once.
        """
        if gone := self.arrange():
            for group in gone:
                self._host.in_background(self._let_go(self.pools.pop(group)))
            self._host.in_background(self.forget(gone))
        for pool in self.pools.values():
            pool.new_code(self.config_of(pool.group), proven=pool.group in proven)

    async def kill(self) -> None:
        """SIGKILL to every worker; what they held is handed back uncounted. For an engine that ends now."""
        workers = [worker for pool in self.pools.values() for worker in pool.snapshot()["workers"]]
        for worker in workers:
            if worker["pid"]:
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(worker["pid"], signal.SIGKILL)
        for worker in workers:
            await self._host.holding.reclaim(worker["id"], counted=False, death=None)

    def try_out(self, on_failure: Callable[[str, Failure], None] | None) -> None:
        """From now on tell this one of each group that no worker can be started of; None: nobody any more."""
        self._on_trial = on_failure
        for group in self.pools:
            self._try(group)

    def _try(self, group: str) -> None:
        pool = self.pools.get(group)
        if self._on_trial is None or pool is None or pool.state.failure is None:
            return
        if pool.state.health in (Health.COOLDOWN, Health.PROBING):
            self._on_trial(group, pool.state.failure)

    async def old_ones_gone(self) -> None:
        """Return when no worker of code before the present one is left; each has its drain time, and no more."""
        while self._leaving or any(
            slot.phase in (Phase.DRAINING, Phase.KILLING) and slot.why is Why.DEPLOY
            for pool in self.pools.values()
            for slot in pool.state.slots
        ):
            await self._changed.wait()
            self._changed.clear()

    async def detach(self) -> None:
        """Let go of all workers; they live on."""
        for pool in (*self.pools.values(), *self._leaving):
            pool.detach()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def stop(self) -> None:
        """Drain all groups at once."""
        await asyncio.gather(*(pool.stop() for pool in self.pools.values()))
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _let_go(self, pool: WorkerPool) -> None:
        """Stop a group that is no more. Until then its workers' runs are theirs to finish."""
        self._leaving.append(pool)
        try:
            await pool.stop()
        finally:
            self._leaving.remove(pool)
            self._changed.set()

    def arrange(self) -> list[str]:
        """Make a pool for every group that has files; the names of those that have none any more.

        Called at start and when code or configuration changed.
        """
        wanted = set(self._host.code.scan.groups)
        for group in sorted(wanted - self.pools.keys()):
            self.pools[group] = WorkerPool(
                self.config_of(group),
                house=self,
                clock=self._host.clock,
                rng=self._host.rng,
                permits=self._permits,
                processes=self._host.processes,
            )
            self.stop_if_paused(group)
        return sorted(self.pools.keys() - wanted)

    def stop_if_paused(self, group: str) -> None:
        """A pause outlives the engine, and the code that it was made for."""
        if group in self._host.store.pauses.groups:
            self.pools[group].pause()

    def config_of(self, group: str) -> GroupConfig:
        """A group's settings from `tako.toml`, as its supervisor wants them."""
        return config_of(self._host.launch, group)

    # --- what workers say -------------------------------------------------------------------------------------------

    async def hello(
        self, connection: Connection, worker_id: str, registry: dict[str, Any], held: list[tuple[str, int]]
    ) -> HelloData:
        """A worker has imported its files, or is back on a new connection."""
        host = self._host
        pool = self.pool_of_worker(worker_id)
        if pool is None:
            raise LeaseLost("stale worker: its exit has been seen", cure="Start the worker through Tako.")
        told = check_registry(registry, group=pool.group)
        timetable.check(told)
        if self.is_probe(worker_id):
            assert self.gate is not None
            host.holding.connections[worker_id] = connection
            self.gate.hello(worker_id, told)
            return {"lease_ms": round(LEASE_S * 1000), "heartbeat_ms": round(HEARTBEAT_S * 1000), "stale": []}
        before = host.holding.connections.get(worker_id)
        host.holding.connections[worker_id] = connection
        if before is not None and before is not connection:
            before.close()
        stale = await host.holding.reconnected(worker_id, held)
        if pool.may_claim(worker_id) and not self._is_known(told):
            # Before the pool: what it accepts now is checked against this registry.
            if changed := host.registry.told(told):
                host.on_signatures(changed)
                host.in_background(host.misfits.look(changed))
            await self._keep_registry(told)
        pool.hello(worker_id)
        return {"lease_ms": round(LEASE_S * 1000), "heartbeat_ms": round(HEARTBEAT_S * 1000), "stale": stale}

    def _is_known(self, told: GroupRegistry) -> bool:
        """Whether the last worker of this code declared the same, and that is stored: a cold start is not made to wait
        for four transactions that change nothing."""
        group, host = told["group"], self._host
        return host.registry.live.get(group) == told and self._kept.get(group) == (host.release, told)

    async def _keep_registry(self, told: GroupRegistry) -> None:
        host = self._host
        await host.writer.do(registry_rows.save, release=host.release, registry=told, now_ms=host.clock.now_ms())
        await self._obey_registries()
        self._kept[told["group"]] = (host.release, told)

    async def forget(self, groups: Iterable[str]) -> None:
        """These groups have no files any more, so no worker will ever say that their schedules are gone."""
        host = self._host
        for group in groups:
            self._kept.pop(group, None)
            await host.writer.do(registry_rows.forget_group, release=host.release, group=group)
        await self._obey_registries()

    async def _obey_registries(self) -> None:
        """Let rules and schedules be those that the code declares, and say which schedules that changes."""
        host = self._host
        await host.writer.do(_obey, dict(host.registry.stored))
        wanted = timetable.declared(host.registry.stored.values())
        replaced = await host.writer.do(timetable.replace_declared, wanted, now_ms=host.clock.now_ms())
        for change, schedules in (("added", replaced.added), ("removed", replaced.removed)):
            for workflow, spec in schedules:
                host.say("info", f"schedule {spec} of {workflow} was {change}", workflow=workflow)
        host.ticker.look()
        host.view.check_names()

    async def asks_idle(self, worker_id: str) -> bool:
        """May the worker exit? When it may, it gets no more runs."""
        pool = self.pool_of_worker(worker_id)
        return pool is None or pool.asks_idle(worker_id)

    def connection_closed(self, connection: Connection) -> None:
        """A connection is gone; if it was a worker's, the worker has a while to come back."""
        for worker_id, its in list(self._host.holding.connections.items()):
            if its is connection:
                del self._host.holding.connections[worker_id]
                self._host.holding.claims.dismiss(worker_id)
                if pool := self.pool_of_worker(worker_id):
                    pool.connection_lost(worker_id)

    def worker_of_process(self, pid: int) -> str | None:
        """The worker in whose process group this process is, None when it is in none of ours."""
        if pid <= 0:
            return None
        return next((found for pool in self.pools.values() if (found := pool.worker_of_pid(pid))), None)

    def pool_of_worker(self, worker_id: str) -> WorkerPool | None:
        """The supervisor of this worker, None when its exit was seen."""
        gate = self.gate.pools.values() if self.gate is not None else ()
        return next((pool for pool in (*self.pools.values(), *gate, *self._leaving) if pool.has(worker_id)), None)

    def is_probe(self, worker_id: str) -> bool:
        """Whether this is a worker of a release that is being tried: it gets no runs."""
        return self.gate is not None and any(pool.has(worker_id) for pool in self.gate.pools.values())

    # --- what a supervisor asks of the house ------------------------------------------------------------------------

    def runnable(self, group: str) -> int:
        """Due runs of the group that nobody has claimed, but for what people have paused."""
        return self._count(group, "ready")

    def suspects(self, group: str) -> int:
        """Those that must run alone."""
        return self._count(group, "solo")

    def _count(self, group: str, lane: str) -> int:
        store = self._host.store
        waiting = ((name, store.counts.get((name, lane), 0)) for name in self._host.registry.names_of(group))
        return sum(n for name, n in waiting if n and not pausing.is_paused(store, name))

    def in_flight(self, group: str) -> dict[str, int]:
        """How many runs each worker holds."""
        return self._host.holding.leases.count_by_worker()

    def spawn_request(self, group: str, worker_id: str, solo: bool) -> SpawnRequest:
        """What to start for a worker of this group."""
        host = self._host
        self._releases[worker_id] = host.release
        return host.launch.worker(
            group,
            worker_id=worker_id,
            solo=solo,
            token=host.tokens.issue(worker_id=worker_id),
            files=host.code.scan.files_of(group),
        )

    def stop_claims(self, worker_id: str) -> None:
        """The worker gets no more runs: end the claim that it waits in."""
        self._host.holding.claims.dismiss(worker_id)

    async def reclaim(self, worker_id: str, counted: bool, death: str | None) -> None:
        """Take back what a worker held, as its end demands (L2 to L4)."""
        host = self._host
        host.holding.claims.dismiss(worker_id)
        await host.holding.reclaim(worker_id, counted=counted, death=death)

    def save_health(self, group: str, record: dict[str, Any]) -> None:
        """Keep what must survive a restart."""
        self._later(health_rows.save, group=group, record=record)

    def save_worker(self, record: dict[str, Any]) -> None:
        """Record a worker, with its token's hash, so that the next engine can adopt it."""
        token_hash = self._host.tokens.hash_of(record["worker_id"])
        self._later(health_rows.record_worker, record={**record, "token_hash": token_hash})

    def forget_worker(self, worker_id: str) -> None:
        """Its process is gone."""
        self._releases.pop(worker_id, None)
        self._host.tokens.forget(worker_id)
        self._host.rounds.hearing.forget(worker_id)
        self._later(health_rows.forget_worker, worker_id=worker_id)

    def redact(self, text: str) -> str:
        """The text without secrets."""
        return self._host.hub.redact(text)

    def output(self, group: str, worker_id: str, pid: int, line: str) -> None:
        """A worker has printed a line."""
        self._host.hub.publish(
            lines.parse(
                line, now_ms=self._host.clock.now_ms(), scope="worker", group=group, pid=pid,
                release=self._releases.get(worker_id, self._host.release) if self._host.is_fixed else None,
            )
        )  # fmt: skip

    def count(self, group: str, what: str) -> None:
        """A worker was started, or is gone."""
        self._host.meter.worker(group, what)

    def changed(self, group: str) -> None:
        """Health or slots changed: tell screens and subscribers."""
        self._changed.set()
        self._host.health_changed(group)
        self._try(group)

    def log(self, level: str, message: str, **fields: Any) -> None:
        """A supervisor's line. What a dead worker printed was logged line by line; the line of its death says whose."""
        if fields.pop("stderr_tail", None) is not None:
            fields.pop("traceback_tail", None)
            fields["crash"] = True
        self._host.say(level, message, **fields)

    def _later(self, rule: Any, **arguments: Any) -> None:
        """Write without holding up the supervisor. A refused write is told; the next change writes again."""

        async def write() -> None:
            try:
                await self._host.writer.do(rule, **arguments)
            except TakoError as error:
                self._host.say("warning", f"a supervisor's record was not stored: {error.message}")

        task = asyncio.get_running_loop().create_task(write())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def config_of(launch: Launch, group: str) -> GroupConfig:
    """A group's settings as its supervisor wants them."""
    settings = launch.config.group(group)
    return GroupConfig(
        group=group,
        release=launch.release,
        min_workers=settings.workers,
        max_workers=settings.max_workers,
        concurrency=settings.concurrency,
        idle_timeout_s=settings.idle_timeout_s,
        boot_timeout_s=settings.boot_timeout_s,
        drain_timeout_s=settings.drain_timeout_s,
    )


def _obey(store: Store, registries: dict[str, GroupRegistry]) -> None:
    registry_rows.obey(store, registries)
