"""Workers that live and do not listen: runs wait, a worker has room, and asks for none (loud.md 10).

A worker with room has a claim with us at all times, waiting or being answered. So one that has none, and has not asked
for so long, while something was there to be had, has lost the part of itself that asks. Its heartbeat may go on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tako.supervisor.states import SERVING, Slot

if TYPE_CHECKING:
    from tako.host.app import AppHost
    from tako.supervisor.workers import WorkerPool

# Longer than a thread that was cut short may keep its place before the worker recycles itself.
DEAF_AFTER_S = 30.0


class Hearing:
    """Remembers who asked when. `run_once` is called every few seconds."""

    def __init__(self, host: AppHost) -> None:
        self._host = host
        self._asked: dict[str, float] = {}  # by worker
        self._waiting_since: dict[tuple[str, bool], float] = {}  # by group and lane: since when runs have waited

    def asked(self, worker_id: str) -> None:
        """The worker has asked for runs."""
        self._asked[worker_id] = self._host.clock.monotonic()

    def forget(self, worker_id: str) -> None:
        """Its process is gone."""
        self._asked.pop(worker_id, None)

    def run_once(self) -> None:
        """Look at every group where runs wait; a deaf worker is told to its supervisor, which replaces it."""
        groups = self._host.groups
        for name, pool in groups.pools.items():
            for solo, waiting in ((False, groups.runnable(name)), (True, groups.suspects(name))):
                if not waiting:
                    self._waiting_since.pop((name, solo), None)
                    continue
                since = self._waiting_since.setdefault((name, solo), self._host.clock.monotonic())
                self._look(pool, solo=solo, since=since)

    def _look(self, pool: WorkerPool, *, solo: bool, since: float) -> None:
        now = self._host.clock.monotonic()
        in_flight = self._host.groups.in_flight(pool.group)
        for slot in pool.state.slots:
            if slot.solo is not solo or slot.phase not in SERVING or not self._has_room(pool, slot, in_flight):
                continue
            if self._host.holding.claims.is_waiting(slot.id):
                continue
            quiet_s = min(now - since, now - self._asked.get(slot.id, 0.0), pool.idle_s(slot.id))
            if quiet_s >= DEAF_AFTER_S:
                self._tell(pool, slot, quiet_s)

    def _has_room(self, pool: WorkerPool, slot: Slot, in_flight: dict[str, int]) -> bool:
        held = in_flight.get(slot.id, 0)
        if slot.v0:  # how many runs it takes at a time, it has not told
            return not held
        return held < (1 if slot.solo else self._host.config.group(pool.group).concurrency)

    def _tell(self, pool: WorkerPool, slot: Slot, quiet_s: float) -> None:
        what = f'a worker of group "{pool.group}" took no run for {quiet_s:.0f} s while some waited, and was replaced'
        cure = "If it happens again: `tako logs --level warning`, and what its code does in threads of its own."
        self._host.recent.note("deaf_worker", pool.group, what, cure=cure, now_ms=self._host.clock.now_ms())
        pool.deaf(slot.id, quiet_s=quiet_s)
