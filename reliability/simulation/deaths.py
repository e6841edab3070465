"""The oracle's books of how workers ended: which deaths may be charged to a run, and which leases may run out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from reliability.simulation.mirror import Change, Row
from tako.engine import health
from tako.supervisor.states import Why

if TYPE_CHECKING:
    from reliability.simulation.machine import Life, SimulatedStore
    from reliability.simulation.network import Message, ServerSide
    from reliability.simulation.worker import Worker
    from reliability.simulation.world import World

LEASE_S = 30.0
RECORDED_S = 0.05
_OURS = (Why.IDLE, Why.DEPLOY, Why.SHUTDOWN, Why.DEAF)
_WORDS = {why.value for why in _OURS}


class Deaths:
    """L2 to L4, and C1, C2."""

    def __init__(self, world: World, fail: Callable[[str, str], None]) -> None:
        self._world = world
        self._fail = fail
        # Workers that the daemon has asked to end: by which daemon, and those of which the store says so.
        self._asked: dict[str, object] = {}
        self._recorded: set[str] = set()
        self._powerless: set[str] = set()  # workers that ended with the power
        self._ended: dict[str, Worker] = {}
        self._charged: defaultdict[str, int] = defaultdict(int)
        self._heard: dict[tuple[str, str], float] = {}
        self._frozen_since: float | None = None
        self._frozen_s = 0.0
        self._silent: set[str] = set()  # workers whose lease, or whose time to reconnect, ran out

    # --- who ended how ----------------------------------------------------------------------------------------------

    def process_signalled(self, life: Life) -> None:
        """The daemon sends a signal: does it ask a worker to end?"""
        worker = _worker(life)
        daemon = self._world.daemon
        pool = None if daemon is None else daemon.host.groups.pool_of_worker(worker.worker_id)
        slot = None if pool is None else pool.state.slot(worker.worker_id)
        if slot is not None and slot.why in _OURS:
            self._asked.setdefault(worker.worker_id, daemon)
            self._world.timeline.later(RECORDED_S, self._record, worker.worker_id)

    def _record(self, worker_id: str) -> None:
        """By now the daemon has written down that it asked, if it could: the next one charges nobody with that end."""
        world = self._world
        daemon = world.daemon
        if daemon is None or daemon is not self._asked[worker_id] or worker_id in self._ended:
            return
        # After a full disk what was not stored is stored once a second.
        has_room = not world.disk.is_full and world.timeline.now > world.full_until + 1.2
        if has_room and not daemon.loop.is_frozen and worker_id not in self._recorded:
            self._fail("L4", f"{worker_id} was asked to end {RECORDED_S}s ago, and the store does not say so")

    def _look(self, store: SimulatedStore) -> None:
        """Which of them are recorded as of this commit. Who had ended before was not: the mark of new code is put on
        every record, also on that of a worker that died by itself while nobody looked."""
        if self._asked.keys() - self._recorded:
            for record in health.workers(store):
                if record.get("why") in _WORDS and record["worker_id"] not in self._ended:
                    self._recorded.add(record["worker_id"])

    def process_ended(self, life: Life) -> None:
        """A process is gone."""
        worker = _worker(life)
        self._ended[worker.worker_id] = worker

    def power_cut(self) -> None:
        """Whoever lives ends with the power."""
        for life in self._world.machine.lives():
            self._powerless.add(_worker(life).worker_id)

    def committed(self, store: SimulatedStore, changes: list[Change], before: dict[int, Row]) -> None:
        """A commit may have charged deaths, or recorded that somebody was asked to end."""
        self._look(store)
        blamed: defaultdict[str, list[str]] = defaultdict(list)
        for old, row in changes:
            if old is None or old.worker_id is None or old.status != "running":
                continue
            if row.lifetime_crashes > old.lifetime_crashes:
                blamed[old.worker_id].append(row.id)
                self._check_charge(old, row, before)
            if row.suspect_ms is not None and old.suspect_ms is None:
                self._check_blame(old, row)
        for worker_id, charged in blamed.items():
            if len(charged) > 1:
                self._fail("L3", f"{charged} are charged with one death, of {worker_id}")

    def _check_charge(self, old: Row, row: Row, before: dict[int, Row]) -> None:
        worker_id = old.worker_id
        assert worker_id is not None
        self._charged[row.id] += 1
        self._check_blame(old, row)
        still = [other for other in before.values() if other.status == "running" and other.worker_id == worker_id]
        taken = [other.id for other in still
                 if other.seq != row.seq and self._world.oracle.mirror.rows[other.seq].suspect_ms is not None
                 and other.suspect_ms is None]  # fmt: skip
        if taken:
            self._fail("L3", f"{row.id} is charged with the death of {worker_id}, which ran {taken} as well")

    def _check_blame(self, old: Row, row: Row) -> None:
        """L4: nobody is charged with an end that we asked for, or that came with the power."""
        worker_id = old.worker_id
        assert worker_id is not None
        if worker_id not in self._ended and worker_id not in self._silent:
            self._fail("L2", f"{row.id} is charged with the end of {worker_id}, which lives")
        elif worker_id in self._powerless:
            self._fail("L4", f"{row.id} is charged with a power cut")
        elif worker_id in self._recorded or self._asked.get(worker_id, 0) is self._world.daemon:
            self._fail("L4", f"{row.id} is charged with the end of {worker_id}, which we had asked to end")

    def check_dead(self, row: Row) -> None:
        """L2: dead by crashes means three of them, alone, without progress."""
        if self._charged[row.id] < 3:
            self._fail("L2", f"{row} is dead after {self._charged[row.id]} deaths of its workers")

    # --- leases -----------------------------------------------------------------------------------------------------

    def heard(self, message: Message, side: ServerSide) -> None:
        """A worker renews."""
        if side.principal is None or side.principal.worker_id is None:
            return
        for run in message.get("runs") or message.get("in_flight") or ():
            self._heard[side.principal.worker_id, run["id"]] = self._awake_s()

    def _awake_s(self) -> float:
        now = self._world.timeline.now
        frozen = self._frozen_s + (now - self._frozen_since if self._frozen_since is not None else 0.0)
        return now - frozen

    def daemon_freezes(self) -> None:
        """SIGSTOP."""
        self._frozen_since = self._world.timeline.now

    def daemon_thaws(self) -> None:
        """SIGCONT."""
        if self._frozen_since is not None:
            self._frozen_s += self._world.timeline.now - self._frozen_since
            self._frozen_since = None

    def silent(self, worker_id: str) -> None:
        """It has not come back in time: its runs are taken back, although it lives."""
        self._silent.add(worker_id)

    def lease_expired(self, worker_id: str, held: list[Row]) -> None:
        """C1, C2: has it really been silent for so long, by the monotonic clock, while the daemon could hear it?"""
        self._silent.add(worker_id)
        quiet_s = [self._awake_s() - self._heard.get((worker_id, row.id), 0.0) for row in held]
        if quiet_s and max(quiet_s) < LEASE_S - 1.1:
            self._fail("C1", f"a lease of {worker_id} ran out, which was silent for {max(quiet_s):.3f}s")


def _worker(life: Life) -> Any:
    return life
