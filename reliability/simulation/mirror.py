"""The oracle's copy of the store: after each commit it looks at what has changed, and whether that may happen."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from reliability.simulation.counters import count
from tako.engine import invariants
from tako.engine.states import NEXT, RunStatus

if TYPE_CHECKING:
    from reliability.simulation.machine import SimulatedStore

_COLUMNS = (
    "seq, id, workflow, status, lane, parked, run_at_ms, key, epoch, worker_id, crashes, lifetime_crashes, "
    "suspect_ms, generation, ended_ms, reason, failures, scheduled_for_ms, created_ms, claimed_ms, parent"
)
# All invariants, as the engine itself asks them, after so many commits; what has changed is looked at after each.
_FULL_CHECK_EVERY = 24
_ENDED = ("succeeded", "cancelled", "dead")


class Row(NamedTuple):
    """A run as it is stored."""

    seq: int
    id: str
    workflow: str
    status: str
    lane: str | None
    parked: str | None
    run_at_ms: int | None
    key: str | None
    epoch: int
    worker_id: str | None
    crashes: int
    lifetime_crashes: int
    suspect_ms: int | None
    generation: int
    ended_ms: int | None
    reason: str | None
    failures: int
    scheduled_for_ms: int | None
    created_ms: int
    claimed_ms: int | None
    parent: int | None

    @property
    def has_ended(self) -> bool:
        """Whether it is over."""
        return self.ended_ms is not None


class Step(NamedTuple):
    """A saved step."""

    position: int
    run: int
    generation: int
    name: str
    kind: str
    epoch: int
    result: str


class Change(NamedTuple):
    """What one commit did to a run. `before` None: it was made."""

    before: Row | None
    after: Row


def _reachable() -> dict[str, frozenset[str]]:
    """To which statuses a run can get in one transaction, which many callers share."""
    found: dict[str, set[str]] = {status: {status} for status in RunStatus}
    for _ in range(4):
        for status, reached in found.items():
            for via in list(reached):
                moves = {event: to for event, to in NEXT[RunStatus(via)].items() if event != "retry"}
                found[status] |= {str(to) for to in moves.values()}
    return {status: frozenset(map(str, reached)) for status, reached in found.items()}


REACHABLE = _reachable()


class Mirror:
    """Rows by number and by id, steps by run, generation and name, as of the last commit."""

    def __init__(self, fail: Callable[[str, str], None]) -> None:
        self.fail = fail
        self.rows: dict[int, Row] = {}
        self.by_id: dict[str, Row] = {}
        self.steps: dict[tuple[int, int, str], Step] = {}
        self.waiters: dict[int, tuple[str, str | None]] = {}
        self._last_position = 0
        self._changes = -1
        self._commits = 0
        self._seen = invariants.Seen()
        self._raw: list[tuple[object, ...]] = []

    def look(self, store: SimulatedStore) -> tuple[list[Change], list[Step]]:
        """What the last commit has changed; the simplest rules are checked here."""
        connection = store.connection
        if connection.total_changes == self._changes:
            return [], []
        self._changes = connection.total_changes
        self._commits += 1
        cursor = connection.cursor()
        cursor.row_factory = None
        changes = self._changed_rows(cursor)
        steps = self._new_steps(cursor)
        self._look_at_waiters(cursor)
        if self._commits % _FULL_CHECK_EVERY == 0:
            self.check_all(store)
        for change in changes:
            self._check_row(change)
        return changes, steps

    def check_all(self, store: SimulatedStore) -> None:
        """I1 to I9, and that no step has changed since it was saved (D5, I8)."""
        for problem in invariants.check(store, seen=self._seen):
            self.fail(problem.split(":")[0], problem)
        cursor = store.connection.cursor()
        cursor.row_factory = None
        stored = {
            (run, generation, name): result
            for run, generation, name, result in cursor.execute("SELECT run, generation, name, result FROM steps")
        }
        for key, step in self.steps.items():
            if stored.get(key) != step.result:
                self.fail("D5", f"step {key} was {step.result!r}, is {stored.get(key)!r}")

    def _changed_rows(self, cursor: sqlite3.Cursor) -> list[Change]:
        raw = cursor.execute(f"SELECT {_COLUMNS} FROM runs ORDER BY seq").fetchall()
        if raw == self._raw:
            return []
        self._raw = raw
        changes = []
        rows = self.rows
        for found in raw:
            before = rows.get(found[0])
            if before == found:
                continue
            row = Row._make(found)
            rows[row.seq] = row
            self.by_id[row.id] = row
            changes.append(Change(before, row))
        if len(raw) != len(rows):
            there = {found[0] for found in raw}
            for seq in [seq for seq in rows if seq not in there]:
                gone = rows.pop(seq)
                del self.by_id[gone.id]
                self.fail("I1", f"run {gone.id} is gone")
        return changes

    def _new_steps(self, cursor: sqlite3.Cursor) -> list[Step]:
        found = cursor.execute(
            "SELECT position, run, generation, name, kind, epoch, result FROM steps WHERE position > ? "
            "ORDER BY position",
            (self._last_position,),
        ).fetchall()
        steps = [Step._make(each) for each in found]
        for step in steps:
            self._last_position = step.position
            key = step[1:4]
            if key in self.steps:
                self.fail("I8", f"step {step.name!r} of run {step.run} was saved again, in place of the first")
            self.steps[key] = step
        return steps

    def _look_at_waiters(self, cursor: sqlite3.Cursor) -> None:
        self.waiters = {
            run: (step, event) for run, step, event in cursor.execute("SELECT run, step, event FROM waiters")
        }
        for run in self.waiters:
            row = self.rows.get(run)
            if row is None or row.status != "pending":
                self.fail("I5", f"run {run} has a waiter and is {row}")

    def _check_row(self, change: Change) -> None:
        before, row = change
        if row.status == "running":
            if row.worker_id is None or row.epoch < 1 or row.claimed_ms is None:
                self.fail("I3", f"{row}")
        elif row.status == "pending":
            if row.run_at_ms is None and row.seq not in self.waiters:
                self.fail("I4", f"{row} waits for nothing")
        elif row.status not in _ENDED:
            self.fail("I2", f"{row}")
        elif row.run_at_ms is not None or row.lane is not None or row.parked is not None or not row.has_ended:
            self.fail("I6", f"{row}")
        elif row.status != "succeeded" and not row.reason:
            self.fail("I9", f"{row}")
        if row.crashes > 3 or (row.crashes == 3 and row.status != "dead"):
            self.fail("I7", f"{row}")
        if before is None:
            return
        if row.epoch < before.epoch or row.generation < before.generation:
            self.fail("E3", f"{before} became {row}")
        if before.suspect_ms is not None and row.suspect_ms is None and row.status == "running":
            count("suspect cleared")

    def rows_of_worker(self, worker_id: str) -> list[Row]:
        """What it holds."""
        return [row for row in self.rows.values() if row.status == "running" and row.worker_id == worker_id]
