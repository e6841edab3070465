"""Who holds which run: claims, leases and what ends a hold, between the store's rules and the workers' connections.

A lease is a deadline in memory. It is renewed by heartbeats, and judged by one timer that stands at the earliest
deadline; a stall of this process itself is added to every lease, after the heartbeats that queued up have been read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tako.engine import leases as lease_rules
from tako.engine import runs
from tako.engine.answer import Answer
from tako.engine.leases import Leases
from tako.errors import LeaseLost, StoreUnavailable
from tako.host.claims import Claims, Want
from tako.protocol.messages import ClaimedRun
from tako.rpc.connection import Connection

if TYPE_CHECKING:
    from tako.host.app import AppHost

LEASE_S = 30.0
HEARTBEAT_S = 10.0
STALL_S = 1.0  # a timer that comes later than this tells of a stall of our own
TAKE_BACK_AGAIN_S = 1.0
CANCEL_PATIENCE_S = 2.0  # how long a cancel waits for the worker to say that the handler has stopped


class Holding:
    """The runs that workers hold. `connections` are those of workers that have said HELLO."""

    def __init__(self, host: AppHost) -> None:
        self._host = host
        self.leases = Leases(host.clock.monotonic)
        self.claims = Claims(claim=self._submit_claim, on_claimed=self._on_claimed)
        self.connections: dict[str, Connection] = {}
        self._in_steps: dict[str, dict[str, list[str]]] = {}  # by worker and run; only of runs that killed a worker
        self.handed_back = 0  # runs that came back unfinished, through no fault of theirs
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = float("inf")

    def stop(self) -> None:
        """Answer waiting claims with nothing; judge no lease any more."""
        self.claims.stop()
        self._disarm()

    # --- claims -----------------------------------------------------------------------------------------------------

    def claim(self, worker_id: str, *, max_runs: int, wait_s: float) -> Answer[dict[str, Any]]:
        """Runs for a worker, as soon as there are some; none for one that drains."""
        pool = self._host.groups.pool_of_worker(worker_id)
        if pool is None or not pool.may_claim(worker_id) or self._host.groups.is_probe(worker_id):
            return Answer.of({"runs": []})
        self._host.rounds.hearing.asked(worker_id)
        asked = self.claims.ask(
            group=pool.group, worker_id=worker_id, max_runs=max_runs, wait_s=wait_s, solo=pool.is_solo(worker_id)
        )
        return asked.shaped(lambda claimed: {"runs": claimed})

    def _submit_claim(self, group: str, worker_id: str, max_runs: int, solo: bool) -> Answer[list[ClaimedRun]]:
        host = self._host
        return host.writer.ask(
            runs.claim,
            worker_id=worker_id,
            names=host.registry.names_of(group),
            max_runs=max_runs,
            now_ms=host.clock.now_ms(),
            release=host.release,
            solo=solo,
            group=group,
        )

    def _on_claimed(self, want: Want, claimed: list[ClaimedRun]) -> None:
        for run in claimed:
            self.leases.grant(run["id"], run["epoch"], want.worker_id, LEASE_S)
            self._host.claimed_watch.tell(run["id"])
        if self._timer is None:  # else it stands at an earlier deadline, since all leases are equally long
            self._arm()
        if pool := self._host.groups.pools.get(want.group):
            pool.claimed(want.worker_id)

    async def claim_v0(self, worker_id: str, *, names: list[str], lease_s: float) -> ClaimedRun | None:
        """One run for a v0 worker. Its first claim is its HELLO, and its names are what its group declares."""
        host = self._host
        pool = host.groups.pool_of_worker(worker_id)
        if pool is None:
            return None
        host.registry.told_names(pool.group, names)
        pool.hello(worker_id, v0=True)
        if not pool.may_claim(worker_id) or host.groups.is_probe(worker_id):
            return None
        host.rounds.hearing.asked(worker_id)
        claimed = await host.writer.do(
            runs.claim,
            worker_id=worker_id,
            names=names,
            max_runs=1,
            now_ms=host.clock.now_ms(),
            release=host.release,
            solo=pool.is_solo(worker_id),
            group=pool.group,
        )
        for run in claimed:
            self.leases.grant(run["id"], run["epoch"], worker_id, lease_s)
            self._arm()
            host.claimed_watch.tell(run["id"])
            pool.claimed(worker_id)
            return run
        return None

    def renew_v0(self, run_id: str, worker_id: str, *, lease_s: float) -> None:
        """v0's heartbeat, which knows no epoch.

        Raises:
            LeaseLost: the worker holds the run no more.
        """
        lease = self.leases.get(run_id)
        if lease is None or not self.leases.renew(run_id, lease.epoch, worker_id, lease_s):
            raise LeaseLost("stale worker: run is no longer owned by this worker")

    def executes(self, run_id: str, worker_id: str, *, epoch: int, steps: list[str]) -> None:
        """These steps of a run are being executed: so that its worker's death can be told with its place.

        Raises:
            LeaseLost: the worker holds the run no more.
        """
        lease = self.leases.get(run_id)
        if lease is None or lease.epoch != epoch or lease.worker_id != worker_id:
            raise LeaseLost("stale worker: run is no longer owned by this worker")
        told = self._in_steps.setdefault(worker_id, {})
        told[run_id] = steps
        if not any(told.values()):
            del self._in_steps[worker_id]

    # --- what ends a hold -------------------------------------------------------------------------------------------

    def finish(self, *, run_id: str, worker_id: str, epoch: int | None, **how: Any) -> Answer[dict[str, Any]]:
        """End an attempt as its worker says. Durable when answered."""
        host = self._host
        asked = {"run_id": run_id, "worker_id": worker_id, "epoch": epoch, "warnings": (), "result_json": None, **how}
        finished = host.writer.ask_with_others(runs.finish_all, asked, now_ms=host.clock.now_ms(), rng=host.rng)

        def answer(result: runs.Finished) -> dict[str, Any]:
            self.let_go(run_id, worker_id, epoch=epoch)
            return {"status": result.status, "run_at_ms": result.run_at_ms}

        return finished.shaped(answer)

    def let_go(self, run_id: str, worker_id: str, *, epoch: int | None) -> None:
        """A run ended or parked: it is held no more, and its worker is idle from now on if it was the last.

        What is said twice may come when somebody has claimed the run anew, whose lease must stay. v0 tells no epoch.
        """
        self.leases.drop_run(run_id, epoch=epoch)
        if pool := self._host.groups.pool_of_worker(worker_id):
            pool.run_ended(worker_id)

    async def hand_back(
        self, worker_id: str, held: Sequence[tuple[str, int]], *, spent_ms: Mapping[str, int] | None = None
    ) -> None:
        """A worker gives back runs; neither an attempt nor a crash is counted."""
        host = self._host
        found = await host.writer.do(
            lease_rules.hand_back, worker_id=worker_id, runs=held, spent_ms=spent_ms, now_ms=host.clock.now_ms()
        )
        self.handed_back += len(found)
        for run_id, epoch in held:
            self.leases.drop_run(run_id, epoch=epoch)

    async def reclaim(self, worker_id: str, *, counted: bool, death: str | None) -> None:
        """Take back all that a worker holds; `counted` as L2 to L4 say."""
        host = self._host
        found = await host.writer.do(
            lease_rules.release,
            worker_id=worker_id,
            counted=counted,
            death=death,
            in_steps=self._in_steps.get(worker_id),
            now_ms=host.clock.now_ms(),
        )
        self._in_steps.pop(worker_id, None)
        self.handed_back += 0 if counted else len(found)
        self.leases.drop_worker(worker_id)

    async def cancel(self, run_id: str, *, reason: str) -> None:
        """Cancel a run and its children. On return no further step of them starts and no result is saved."""
        host = self._host
        held = await host.writer.do(runs.cancel, run_id, reason=reason, now_ms=host.clock.now_ms())
        stopping = []
        for one in held:
            if one.worker_id in self.connections:
                stopping.append((one.id, host.stopped_watch.expect(one.id)))
            self.tell_cancelled(one)
        if stopping:
            # What a worker saves from now on is stale anyway; this waits for handlers that would begin a next step.
            await asyncio.wait([future for _, future in stopping], timeout=CANCEL_PATIENCE_S)
            for stopped_id, future in stopping:
                host.stopped_watch.forget(stopped_id, future)

    def tell_cancelled(self, held: runs.Held) -> None:
        """A run was taken from its worker: no further step of it may start there."""
        self.leases.drop_run(held.id)
        if connection := self.connections.get(held.worker_id):
            connection.push({"push": "cancel", "runs": [{"id": held.id, "epoch": held.epoch}]})

    # --- leases -----------------------------------------------------------------------------------------------------

    def heartbeat(self, worker_id: str, held: Iterable[tuple[str, int]]) -> list[dict[str, str]]:
        """Renew; the runs that this worker holds no more, and why."""
        pool = self._host.groups.pool_of_worker(worker_id)
        if pool is not None and pool.is_solo(worker_id):
            now_ms = self._host.clock.now_ms()
            self._host.in_background(self._host.writer.do(lease_rules.clear_suspects, now_ms=now_ms))
        stale = []
        for run_id, epoch in held:
            if not self.leases.renew(run_id, epoch, worker_id, LEASE_S):
                stale.append({"id": run_id, "why": "it was cancelled, or another worker has it"})
        return stale

    async def reconnected(self, worker_id: str, held: list[tuple[str, int]]) -> list[str]:
        """A worker is back with these runs: renew them, and give back what it does not know it was given.

        Returns the runs that it holds no more.
        """
        stale = [entry["id"] for entry in self.heartbeat(worker_id, held)]
        known = {run_id for run_id, _ in held}
        lost = [(one.run_id, one.epoch) for one in self.leases.of_worker(worker_id) if one.run_id not in known]
        if lost:
            await self.hand_back(worker_id, lost)
        return stale

    def adopt(self, running: Iterable[tuple[str, int, str]]) -> None:
        """Grant full leases for what adopted workers hold: an engine that was down expires nobody's lease."""
        for run_id, epoch, worker_id in running:
            self.leases.grant(run_id, epoch, worker_id, LEASE_S)
        self._arm()

    def _arm(self) -> None:
        at = self.leases.next_deadline()
        if at is None or at >= self._timer_at:
            return
        self._disarm()
        self._timer_at = at
        delay = max(0.0, at - self._host.clock.monotonic())
        self._timer = asyncio.get_running_loop().call_later(delay, self._judge, at)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timer_at = float("inf")

    def _judge(self, due_at: float) -> None:
        self._timer, self._timer_at = None, float("inf")
        late_s = self._host.clock.monotonic() - due_at
        if late_s > STALL_S:
            # We were stopped, not the workers (C2). Their heartbeats lie in the sockets and are read before we judge.
            self.leases.stall(late_s)
            self._host.say("warning", f"the engine stood still for {late_s:.1f}s; leases were extended by as much")
        for worker_id in sorted({lease.worker_id for lease in self.leases.expired()}):
            if pool := self._host.groups.pool_of_worker(worker_id):
                self.leases.drop_worker(worker_id)
                pool.lease_expired(worker_id)
            else:
                # Its exit was seen, and whoever saw it takes its runs back as soon as the store lets him; that this
                # happens too is for the case that nobody does. The lease ends now: else it would be judged for ever.
                self.leases.drop_worker(worker_id)
                self._host.in_background(self._take_back(worker_id))
        self._arm()

    async def _take_back(self, worker_id: str) -> None:
        while True:
            try:
                await self.reclaim(worker_id, counted=False, death=None)
            except StoreUnavailable:
                if not self._host.has_begun:
                    return  # the next engine does it
                await asyncio.sleep(TAKE_BACK_AGAIN_S)
            else:
                return
