"""Who may work on which run, and what becomes of runs whose worker is gone.

A lease lives in memory, on the monotonic clock: no step of the wall clock ends it, and a restart of the daemon gives
every living worker a full one. The guard in the store is worker and epoch; a lease only says when to stop waiting.

A run that was alone when its worker died is charged with the death. One of several is not, since nobody knows who did
it: all of them become suspects and are re-run one at a time, in a worker of their own, so that an innocent run is
never killed by its neighbour (L2, L3). Deaths that we caused charge nobody (L4).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tako.engine import endings, intake, line
from tako.engine.store import Reader, Store

CRASH_CAP = 3
LIFETIME_CRASH_CAP = 20
# A suspect that has run alone for so much longer than it had when its worker died is none.
SUSPECT_GRACE_MS = 10_000
# Of the steps that were under way together, as in a `map`.
MAX_STEPS_TOLD = 3


@dataclass(slots=True)
class Lease:
    """A worker's right to a run until `deadline`, in seconds of the monotonic clock."""

    run_id: str
    epoch: int
    worker_id: str
    deadline: float


class Leases:
    """The leases of all runs in flight. `monotonic` is the clock they are measured by."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._by_run: dict[str, Lease] = {}
        self._by_worker: dict[str, set[str]] = {}

    def __len__(self) -> int:
        return len(self._by_run)

    def grant(self, run_id: str, epoch: int, worker_id: str, lease_s: float) -> None:
        """Give a lease, after a claim or at the start of a daemon. The one before, if any, is void."""
        self.drop_run(run_id)
        self._by_run[run_id] = Lease(run_id, epoch, worker_id, self._monotonic() + lease_s)
        self._by_worker.setdefault(worker_id, set()).add(run_id)

    def get(self, run_id: str) -> Lease | None:
        """The lease of a run, None when nobody holds it."""
        return self._by_run.get(run_id)

    def renew(self, run_id: str, epoch: int, worker_id: str, lease_s: float) -> bool:
        """Extend a lease from now; False when this worker does not hold the run at this epoch."""
        lease = self._by_run.get(run_id)
        if lease is None or lease.epoch != epoch or lease.worker_id != worker_id:
            return False
        lease.deadline = self._monotonic() + lease_s
        return True

    def renew_for(self, run_id: str, epoch: int, lease_s: float) -> None:
        """Set the length that a v0 worker asked for in its claim."""
        lease = self._by_run.get(run_id)
        if lease is not None and lease.epoch == epoch:
            lease.deadline = self._monotonic() + lease_s

    def renew_worker(self, worker_id: str, lease_s: float) -> None:
        """Extend all that a worker holds: it said something that only a living worker says."""
        deadline = self._monotonic() + lease_s
        for run_id in self._by_worker.get(worker_id, ()):
            self._by_run[run_id].deadline = deadline

    def drop_run(self, run_id: str, *, epoch: int | None = None) -> None:
        """End a lease: the run ended, parked or was taken away. With `epoch`, only that claim's."""
        lease = self._by_run.get(run_id)
        if lease is None or epoch not in (None, lease.epoch):
            return
        del self._by_run[run_id]
        held = self._by_worker[lease.worker_id]
        held.discard(run_id)
        if not held:
            del self._by_worker[lease.worker_id]

    def drop_worker(self, worker_id: str) -> None:
        """End all leases of a worker."""
        for run_id in list(self._by_worker.get(worker_id, ())):
            self.drop_run(run_id)

    def of_worker(self, worker_id: str) -> list[Lease]:
        """What a worker holds."""
        return [self._by_run[run_id] for run_id in sorted(self._by_worker.get(worker_id, ()))]

    def count_by_worker(self) -> dict[str, int]:
        """How many runs each worker holds; workers that hold none are not in it."""
        return {worker_id: len(held) for worker_id, held in self._by_worker.items()}

    def expired(self) -> list[Lease]:
        """Leases that have run out. They stay until they are dropped or renewed."""
        now = self._monotonic()
        return [lease for lease in self._by_run.values() if lease.deadline <= now]

    def next_deadline(self) -> float | None:
        """When the first lease runs out, None without any."""
        return min((lease.deadline for lease in self._by_run.values()), default=None)

    def stall(self, extra_s: float) -> None:
        """The daemon stood still for so long: no heartbeat could be heard, so every lease gets the time back (C2)."""
        for lease in self._by_run.values():
            lease.deadline += extra_s


@dataclass(slots=True)
class Released:
    """Ids of runs that were taken from a worker, by what became of them. False when there were none.

    `ready` and `solo` hold also those that a limit or a pause holds back for now.
    """

    ready: list[str] = field(default_factory=list)
    solo: list[str] = field(default_factory=list)
    dead: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.ready) + len(self.solo) + len(self.dead)


def release(
    store: Store,
    *,
    worker_id: str,
    counted: bool,
    death: str | None,
    now_ms: int,
    run_ids: Collection[str] | None = None,
    spent_ms: Mapping[str, int] | None = None,
    in_steps: Mapping[str, Sequence[str]] | None = None,
) -> Released:
    """Take back what a worker holds (of it only `run_ids`, if given), at once and ahead of its leases.

    `counted`: the death is the runs' doing, if anybody's; `death` says in words how it came, and `in_steps`, by id,
    what was being executed, where that is known. Uncounted: it was ours (drain, deploy, shutdown), or a hand-back; no
    attempt and no crash is charged.
    """
    runs = store.all("runs_of_worker", worker_id=worker_id)
    is_alone = len(runs) == 1
    found = Released()
    for run in runs:
        if run_ids is not None and run["id"] not in run_ids:
            continue
        place = _place((in_steps or {}).get(run["id"], ()))
        if not counted:
            _give_back(store, run, found, spent_ms=(spent_ms or {}).get(run["id"]), now_ms=now_ms)
        elif is_alone:
            _charge(store, run, death or "it gave no reason", found, place=place, now_ms=now_ms)
        else:
            others = len(runs) - 1
            beside = f", with {others} other run{'s' if others > 1 else ''} in flight"
            _suspect(store, run, f"{death or 'it gave no reason'}{place}{beside}", found, now_ms=now_ms)
    return found


def hand_back(
    store: Store, *, worker_id: str, runs: Iterable[tuple[str, int]], spent_ms: Mapping[str, int] | None = None,
    now_ms: int,
) -> Released:  # fmt: skip
    """A draining worker gives back runs, named by id and epoch; those it holds no more are left alone.

    `spent_ms`, by id: for how long their attempts have been executed by now.
    """
    held = {(row["id"], row["epoch"]) for row in store.all("runs_of_worker", worker_id=worker_id)}
    mine = [run_id for run_id, epoch in runs if (run_id, epoch) in held]
    return release(
        store, worker_id=worker_id, counted=False, death=None, now_ms=now_ms, run_ids=mine, spent_ms=spent_ms
    )  # fmt: skip


def recover(store: Store, *, recorded: Collection[str], now_ms: int) -> Released:
    """At the start of a daemon: take back the runs of every worker that is not `recorded`, as when its start could not
    be stored on a full disk. Nobody can know how such a worker ended, or whether it has, so nobody is charged (L4).
    """
    found = Released()
    for row in store.all("workers_with_runs"):
        if row["worker_id"] not in recorded:
            more = release(store, worker_id=row["worker_id"], counted=False, death=None, now_ms=now_ms)
            found.ready += more.ready
            found.solo += more.solo
            found.dead += more.dead
    return found


def running(store: Reader) -> list[tuple[str, int, str]]:
    """Every run in flight as (id, epoch, worker), for the leases of a daemon that has just started."""
    return [(row["id"], row["epoch"], row["worker_id"]) for row in store.all("running_runs")]


def clear_suspects(store: Store, *, now_ms: int) -> list[str]:
    """Clear the suspects that have run alone long enough; their ids. They go on as they are."""
    rows = store.all("cleared_suspects", now_ms=now_ms, grace_ms=SUSPECT_GRACE_MS)
    for row in rows:
        store.run("clear_suspect", seq=row["seq"])
    return [row["id"] for row in rows]


def _give_back(store: Store, run: sqlite3.Row, found: Released, *, spent_ms: int | None, now_ms: int) -> None:
    """As it was before the claim: a suspect stays one."""
    lane = "ready" if run["suspect_ms"] is None else "solo"
    _return_to(store, run, lane, crashed=0, suspect_ms=run["suspect_ms"], spent_ms=spent_ms, now_ms=now_ms)
    (found.ready if lane == "ready" else found.solo).append(run["id"])


def _place(steps: Sequence[str]) -> str:
    """Where it died: " in step 'render'"; "" when nobody knows."""
    if not steps:
        return ""
    told = [repr(name) for name in steps[:MAX_STEPS_TOLD]]
    if len(steps) > MAX_STEPS_TOLD:
        told.append(f"{len(steps) - MAX_STEPS_TOLD} more")
    *first, last = told
    return f" in steps {', '.join(first)} and {last}" if first else f" in step {last}"


def _charge(store: Store, run: sqlite3.Row, death: str, found: Released, *, place: str = "", now_ms: int) -> None:
    """It was alone: one more crash, and the end at the cap."""
    crashes, lifetime = run["crashes"] + 1, run["lifetime_crashes"] + 1
    if crashes < CRASH_CAP and lifetime < LIFETIME_CRASH_CAP:
        endings.record(store, run, "crashed", error=f"its worker died: {death}{place}", now_ms=now_ms)
        lane = "ready" if run["suspect_ms"] is None else "solo"
        _return_to(store, run, lane, crashed=1, suspect_ms=run["suspect_ms"], now_ms=now_ms)
        (found.ready if lane == "ready" else found.solo).append(run["id"])
        return
    times = f"{crashes} times" if crashes >= CRASH_CAP else f"{lifetime} times in all"
    reason = f"worker died {times} running it ({death}){place}"
    store.run("count_last_crash", seq=run["seq"], epoch=run["epoch"], reason=reason, now_ms=now_ms)
    endings.record(store, run, "crashed", error=reason, now_ms=now_ms)
    endings.conclude(store, run, before="running", status="dead", reason=reason, now_ms=now_ms)
    found.dead.append(run["id"])


def _suspect(store: Store, run: sqlite3.Row, death: str, found: Released, *, now_ms: int) -> None:
    """It was one of several: re-run alone. Its crashes so far stand."""
    endings.record(store, run, "crashed", error=f"its worker died: {death}", now_ms=now_ms)
    ran_ms = max(0, now_ms - run["claimed_ms"])
    _return_to(store, run, "solo", crashed=0, suspect_ms=ran_ms, cut_short=1, now_ms=now_ms)
    found.solo.append(run["id"])


def _return_to(
    store: Store, run: sqlite3.Row, lane: str, *, crashed: int, suspect_ms: int | None, cut_short: int | None = None,
    spent_ms: int | None = None, now_ms: int,
) -> None:  # fmt: skip
    back = line.enter_again(store, run)
    if back != line.READY:
        lane = back
    store.run(
        "release_run", seq=run["seq"], epoch=run["epoch"], lane=lane, crashed=crashed, suspect_ms=suspect_ms,
        cut_short=crashed if cut_short is None else cut_short, spent_ms=spent_ms, now_ms=now_ms,
    )  # fmt: skip
    store.move(run["workflow"], "running", lane)
    intake.tell_pending(store, run["id"], run["workflow"], lane, now_ms)
