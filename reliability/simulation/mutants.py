"""Defects, put into the engine on purpose: each breaks one promise in a few lines, and the simulation must find it.

A defect is a list of patches that hold while it is on: a function replaced, a statement of SQL worded otherwise. They
are applied to the real rules, so what finds them finds the same mistake when somebody makes it by accident.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple
from unittest import mock

from reliability.simulation.daemon import SimulatedWriter
from reliability.simulation.machine import Disk
from reliability.simulation.timeline import BEGINNING_MS
from tako.cron import ticker
from tako.engine import (
    children,
    claims,
    endings,
    guard,
    intake,
    leases,
    limits,
    runs,
    sql,
    steps,
    waiters,
    wakers,
)
from tako.engine import health as health_rows
from tako.engine.call import Call
from tako.engine.dispatcher import Dispatcher
from tako.engine.leases import Leases, Released
from tako.engine.store import Store
from tako.engine.writer import Writer
from tako.errors import LeaseLost
from tako.host import holding, recovery
from tako.host.admission import Admission
from tako.host.claims import Claims
from tako.supervisor import deaths, events, health, records, rows
from tako.supervisor.states import GroupState
from tako.supervisor.turn import Turn
from tako.supervisor.workers import WorkerPool

Patches = list[Any]


class Mutant(NamedTuple):
    """A defect. `promise` is the one of the contract that it breaks."""

    name: str
    promise: str
    patches: Callable[[], Patches]


@contextmanager
def broken(name: str | None) -> Iterator[None]:
    """The engine with this defect; None: as it is."""
    with ExitStack() as stack:
        for patch in MUTANTS[name].patches() if name is not None else ():
            stack.enter_context(patch)
        yield


def _put(owner: Any, name: str, value: Any) -> Any:
    return mock.patch.object(owner, name, value)


def _sql(statement: str, old: str, new: str) -> Any:
    text = sql.STATEMENTS[statement]
    assert old in text, f"{statement} does not say {old!r} any more"
    return mock.patch.dict(sql.STATEMENTS, {statement: text.replace(old, new)})


def _row(event: type[events.Event], name: str, act: Callable[[Turn, Any], None]) -> Any:
    """The table with another action in one of its rows."""
    answers = tuple(row if row.name != name else health.Row(name, row.healths, act, row.guard)
                    for row in health.TABLE[event])  # fmt: skip
    assert answers != health.TABLE[event], f"no row {name} answers {event.__name__}"
    return mock.patch.dict(health.TABLE, {event: answers})


# --- durability -----------------------------------------------------------------------------------------------------


def _answer_before_commit() -> Patches:
    """D3: callers are answered when their rules have run, and the commit comes a little later."""

    def transact(self: SimulatedWriter, batch: list[Any], *, since: float) -> None:
        store = self._store
        if not store.connection.in_transaction:
            store.begin()
        for call in batch:
            self._run([call])
        self._post(self._come_back, batch, store.take_events())
        self.world.timeline.later(0.004, commit, store)

    def commit(store: Store) -> None:
        if store.connection.in_transaction:
            store.commit()

    def hand_over(self: SimulatedWriter, batch: list[Any]) -> None:
        self._send_away(lambda: self._transact(batch, since=0.0))

    return [_put(SimulatedWriter, "_transact", transact), _put(SimulatedWriter, "_hand_over", hand_over)]


def _sync_later() -> Patches:
    """D2: the disk is synced now and then only, as with synchronous = NORMAL."""
    return [_put(Disk, "is_lazy", True)]


def _full_disk_is_no_error() -> Patches:
    """D8: a refused transaction is answered like one that was stored."""

    def recover(self: Writer, batch: list[Any], error: Exception) -> list[Any]:
        for call in batch:
            call.error = None
        return []

    return [_put(Writer, "_recover", recover)]


def _deadline_ignored() -> Patches:
    """D4: an enqueue is stored after its caller has given up."""
    return [_put(Call, "is_late", lambda self, now: False)]


def _repeated_enqueue_is_new() -> Patches:
    """D4: an enqueue that is said again makes a second run."""
    real, numbers = intake._resolve, itertools.count()

    def resolve(store: Any, new: Any) -> Any:
        known = [run for run in new if store.one("held_run", id=run["id"]) is not None]
        for run in known:
            run["id"] = f"{run['id']}-again-{next(numbers)}"
        return real(store, new)

    return [_put(intake, "_resolve", resolve)]


def _last_write_wins() -> Patches:
    """D5: a step that is saved again has the newer result; with the fence by process, which lets it happen."""
    return [*_fence_by_worker(), _sql("insert_step", "INSERT INTO", "INSERT OR REPLACE INTO"),
            _sql("insert_step", "ON CONFLICT (run, generation, name) DO NOTHING", "")]  # fmt: skip


def _steps_left_behind() -> Patches:
    """D5, E1: a claim brings no saved steps along."""
    return [_put(steps, "page", lambda store, *, run, generation, after=0: ({}, None))]


def _no_recovery() -> Patches:
    """D6, L1: runs that were in flight when the daemon died stay so."""
    return [_put(leases, "recover", lambda store, **how: Released()), _row(events.Recorded, "23", rows.nothing),
            _put(holding.Holding, "adopt", lambda self, running: None)]  # fmt: skip


# --- execution ------------------------------------------------------------------------------------------------------


def _fence_by_worker() -> Patches:
    """E2: who may write is judged by the worker's name, whichever of its claims it speaks of."""

    def holds(run: Any, *, worker_id: str, epoch: int | None) -> bool:
        return bool(run["status"] == "running" and run["worker_id"] == worker_id)

    return [_put(guard, "holds", holds),
            _sql("succeed_run", "AND epoch = coalesce(:epoch, epoch)", "AND coalesce(:epoch, 1) > 0")]  # fmt: skip


def _epoch_stands_still() -> Patches:
    """E3: a claim does not raise the epoch."""

    def claimed(*args: Any, **kwargs: Any) -> Any:
        found = real(*args, **kwargs)
        found["epoch"] = max(1, found["epoch"] - 1)
        return found

    real = claims._claimed
    return [_sql("claim_run", "epoch = epoch + 1", "epoch = max(epoch, 1)"), _put(claims, "_claimed", claimed)]


def _stale_is_told_ok() -> Patches:
    """E2: a save that changes nothing is answered as if it had."""
    real = steps.save

    def save(store: Any, *, result_json: str, **how: Any) -> str:
        try:
            return real(store, result_json=result_json, **how)
        except LeaseLost:
            return result_json

    return [_put(steps, "save", save)]


def _finish_is_not_repeatable() -> Patches:
    """E5: saying the end again after a lost reply is STALE."""

    def first_answer(store: Any, run: Any, *, worker_id: str, epoch: int | None) -> Any:
        raise guard.stale(run)

    return [_put(endings, "_first_answer", first_answer)]


def _cancelled_runs_can_succeed() -> Patches:
    """E6: the end of a run can be overwritten by its worker."""
    return [_sql("succeed_run", "AND status = 'running'", "AND status IN ('running', 'cancelled', 'dead')")]


def _schedule_in_two_transactions() -> Patches:
    """E7: the run of a schedule and its bookkeeping are not one: a mark is lost now and then, and ids are by chance."""
    real, turns = ticker._mark, itertools.count(1)

    def mark(store: Any, row: Any, **how: Any) -> None:
        if next(turns) % 3:
            real(store, row, **how)

    return [_put(ticker, "_mark", mark), _put(ticker, "derived_id", lambda now_ms, seed: str(uuid.uuid4()))]


def _old_boundaries_fire() -> Patches:
    """E7: after a pause of the daemon the oldest missed boundary fires, not the newest."""
    real = ticker._fire_due

    def fire_due(store: Any, row: Any, ticked: Any, *, now_ms: int) -> None:
        real(store, row, ticked, now_ms=min(now_ms, row["next_ms"]))

    return [_put(ticker, "_fire_due", fire_due)]


def _signals_are_dropped() -> Patches:
    """E8: a signal for which nobody waits is acknowledged and forgotten."""
    before, _, values = sql.STATEMENTS["insert_signal"].partition("VALUES")
    dropped = f"{before} SELECT {values.strip().strip('()')} WHERE :taken_ms IS NOT NULL"
    return [mock.patch.dict(sql.STATEMENTS, {"insert_signal": dropped})]


def _signals_are_given_twice() -> Patches:
    """E8: a signal stays in the mailbox after a wait has taken it."""
    return [_sql("take_signal", "taken_ms = :now_ms, payload = ''", "sent_ms = sent_ms + 0 * :now_ms"),
            _sql("delete_signal", "WHERE", "WHERE 0 AND")]  # fmt: skip


def _waits_park_again() -> Patches:
    """E9: a wait that timed out is not saved, so its handler waits once more."""

    def time_out(store: Any, run: Any, *, now_ms: int) -> None:
        store.run("delete_waiter", run=run["seq"])

    return [_put(waiters, "time_out", time_out)]


def _keys_are_not_unique() -> Patches:
    """E10: two unfinished runs have one key."""
    return [_put(intake, "holder", lambda store, workflow, key: None),
            _sql("insert_run", "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?,",
                 "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ? || substr('               ', 1, abs(random()) % 15),")]  # fmt: skip


def _runs_start_early() -> Patches:
    """E11: what is due in three seconds is due now."""
    return [_sql("due_runs", "run_at_ms <= :now_ms", "run_at_ms <= :now_ms + 3000")]


def _children_without_their_step() -> Patches:
    """E1: a child is stored, and that it was started is not; the next attempt starts another one."""

    def start(store: Any, *, run_id: str, worker_id: str, epoch: int, step_name: str, new: Any, now_ms: int) -> Any:
        run = guard.find(store, run_id)
        if not guard.holds(run, worker_id=worker_id, epoch=epoch):
            raise guard.stale(run)
        new["parent_id"] = run_id
        return intake.enqueue(store, [new], now_ms=now_ms)[0]

    return [_put(children, "start", start)]


def _gathers_end_early() -> Patches:
    """E1, L1: of several children the last one is not waited for."""
    real = wakers.unfinished
    return [_put(wakers, "unfinished", lambda store, runs: real(store, runs)[:-1])]


def _failures_are_called_success() -> Patches:
    """E6: a parent is told that its child has succeeded, whatever became of it."""
    real = children._outcome

    def outcome(reader: Any, run_id: str) -> Any:
        found = real(reader, run_id)
        return {**found, "status": "succeeded", "result_json": "null"} if found["status"] == "dead" else found

    return [_put(children, "_outcome", outcome)]


def _cancels_leave_children() -> Patches:
    """E6: who cancels a run leaves its children to themselves."""
    return [_put(endings, "cancel_children", lambda store, run, *, reason, now_ms: [])]


# --- releases -------------------------------------------------------------------------------------------------------


def _old_releases_claim() -> Patches:
    """O4: the workers of a release that is superseded, or not accepted yet, get runs; nobody keeps them from asking."""
    real = claims.claim

    def claim(store: Any, *, release: str, **how: Any) -> Any:
        return real(store, release=store.active_release or release, **how)

    return [_put(runs, "claim", claim), _put(WorkerPool, "may_claim", lambda self, worker_id: True),
            _put(WorkerPool, "_do_stop_claims", lambda self, effect: None)]  # fmt: skip


def _rolls_are_forgotten() -> Patches:
    """D1: the release that is active is known to this daemon only."""

    def activate(self: Store, release: str) -> None:
        if self.get_meta("active_release") is None or not self.get_meta("active_release"):
            self.set_meta("active_release", release)
        self.active_release = release

    return [_put(Store, "activate", activate)]


def _proven_code_is_tried_again() -> Patches:
    """Row 18: who has passed the gate of a deploy must boot once more before enqueues are accepted."""
    return [_row(events.NewCode, "18", lambda turn, event: rows.row_18(turn, events.NewCode()))]


# --- invariants and liveness ----------------------------------------------------------------------------------------


def _parked_without_a_waiter() -> Patches:
    """I4: a run waits, and nothing says for what."""
    before, _, values = sql.STATEMENTS["insert_waiter"].partition("VALUES")
    lost = f"{before} SELECT {values.strip().strip('()')} WHERE 0"
    return [mock.patch.dict(sql.STATEMENTS, {"insert_waiter": lost})]


def _poison_has_no_cap() -> Patches:
    """L2, I7: a run that kills its workers is started again and again."""
    return [_put(leases, "CRASH_CAP", 1_000_000), _put(leases, "LIFETIME_CRASH_CAP", 1_000_000),
            _sql("release_run", "crashes = crashes + :crashed, lifetime_crashes = lifetime_crashes + :crashed",
                 "crashes = crashes + 0 * :crashed, lifetime_crashes = lifetime_crashes")]  # fmt: skip


def _neighbours_are_charged() -> Patches:
    """L3: a worker's death is charged to all that it ran."""
    return [_put(leases, "_suspect", lambda store, run, words, found, *, now_ms:
                 leases._charge(store, run, words, found, now_ms=now_ms))]  # fmt: skip


def _drains_are_charged() -> Patches:
    """L4: an end that we asked for counts as a crash."""

    def row_20(turn: Turn, event: events.Exited) -> None:
        with mock.patch.object(deaths, "_gone", gone):
            deaths.row_20(turn, event)

    def gone(turn: Turn, event: events.Exited, *, counted: bool) -> Any:
        slot = real(turn, event, counted=counted)
        at = next(at for at, effect in enumerate(turn.effects) if isinstance(effect, events.Reclaim))
        turn.effects[at] = events.Reclaim(slot.id, counted=True, death="it ended")
        return slot

    real = deaths._gone
    return [_row(events.Exited, "20", row_20)]


def _living_workers_are_robbed() -> Patches:
    """L2: a daemon that starts takes back the runs of workers that live."""

    async def recover(host: Any) -> None:
        await real(host)
        for name in list(host.groups.pools):
            for slot in host.groups.pools[name].state.slots:
                await host.holding.reclaim(slot.id, counted=True, death="nobody knows")

    real = recovery.recover
    return [_put(recovery, "recover", recover)]


def _sleepers_are_not_woken() -> Patches:
    """L1: nothing is told to look when a run becomes due later."""

    def tell(self: Dispatcher, found: Any) -> None:
        real(self, [event for event in found if type(event).__name__ != "Later"])

    real = Dispatcher.tell
    return [_put(Dispatcher, "tell", tell), _put(claims, "next_due_ms", lambda store: None)]


def _parents_are_not_woken() -> Patches:
    """L1: a child's end is nothing to the parent that waits for it."""
    return [_put(wakers, "taken", lambda store, run_id: [])]


def _permits_leak() -> Patches:
    """L1: a permit of `concurrency` is never given back."""
    return [_put(limits, "_give", lambda store, options, kind, key: None)]


def _retries_are_not_counted() -> Patches:
    """A failed attempt does not spend a retry: a run that always fails never ends."""
    return [_sql("fail_run", "failures = failures + 1", "failures = failures")]


def _claims_are_forgotten() -> Patches:
    """L1: a claim that waits is not answered when its worker could have a run, and is never given up."""
    return [_put(Claims, "_serve_next", lambda self, desk: bool(desk.parked)),
            _put(Claims, "_give_up", lambda self, want: None)]  # fmt: skip


# --- supervisor -----------------------------------------------------------------------------------------------------


def _accepted_while_unhealthy() -> Patches:
    """S1, S2: an enqueue is stored while no worker can start."""
    return [_put(WorkerPool, "admit_now", lambda self: True)]


def _no_backoff() -> Patches:
    """S3: a worker that cannot start is started again at once."""
    return [_put(Turn, "delay_s", lambda self, failures: 0.01)]


def _health_is_forgotten() -> Patches:
    """S3: a restart of the daemon begins with a clean slate."""
    return [_put(records, "restored", lambda record: GroupState())]


def _exit_0_is_idleness() -> Patches:
    """S4: a worker that exits with 0 has idled out, whatever it was doing."""
    real = deaths.was_asked

    def was_asked(turn: Turn, event: events.Exited) -> bool:
        return event.exit.code == 0 or real(turn, event)

    answers = tuple(row if row.name != "20" else health.Row("20", row.healths, row.act, was_asked)
                    for row in health.TABLE[events.Exited])  # fmt: skip
    return [mock.patch.dict(health.TABLE, {events.Exited: answers})]


def _groups_fail_together() -> Patches:
    """S5: one group's failure refuses another's enqueues."""
    real = Admission._groups_of

    def groups_of(self: Admission, news: Any) -> Any:
        return None if real(self, news) is None else set(self._gates)

    return [_put(Admission, "_groups_of", groups_of)]


def _gives_up() -> Patches:
    """S6: after a failure nobody tries again."""
    return [_row(events.HealthTimer, "12", rows.nothing), _row(events.HealthTimer, "13", rows.nothing),
            _row(events.HealthTimer, "17", rows.nothing)]  # fmt: skip


# --- clocks ---------------------------------------------------------------------------------------------------------


def _leases_on_the_wall_clock() -> Patches:
    """C1: leases go by the clock that people set."""

    def made(monotonic: Callable[[], float]) -> Leases:
        return Leases(lambda: 1_000.0 + (monotonic.__self__.now_ms() - BEGINNING_MS) / 1000)  # type: ignore[attr-defined]

    return [_put(holding, "Leases", made)]


def _stalls_are_not_made_good() -> Patches:
    """C2: what a daemon could not hear while it stood still counts as silence; and it judges before it listens."""
    real = holding.Holding.heartbeat

    def heartbeat(self: Any, worker_id: str, held: Any) -> Any:
        expired = {lease.run_id for lease in self.leases.expired()}
        return real(self, worker_id, [(run_id, epoch) for run_id, epoch in held if run_id not in expired])

    return [_put(Leases, "stall", lambda self, extra_s: None), _put(holding.Holding, "heartbeat", heartbeat)]


def _drains_are_not_recorded() -> Patches:
    """Why a worker was asked to end is known to this engine, and to no other after it."""
    real = health_rows.record_worker

    def record_worker(store: Store, *, record: Any) -> None:
        real(store, record={**record, "why": None})

    return [_put(health_rows, "record_worker", record_worker)]


def _retries_begin_what_had_succeeded() -> Patches:
    return [_sql("failed_runs", "status IN ('dead', 'cancelled')", "ended_ms IS NOT NULL")]


_ALL = (
    ("answer before commit", "D3", _answer_before_commit),
    ("sync later", "D2", _sync_later),
    ("full disk is no error", "D8", _full_disk_is_no_error),
    ("deadline ignored", "D4", _deadline_ignored),
    ("repeated enqueue is new", "D4", _repeated_enqueue_is_new),
    ("last write wins", "D5", _last_write_wins),
    ("steps left behind", "D5", _steps_left_behind),
    ("no recovery", "L1", _no_recovery),
    ("fence by worker", "E2", _fence_by_worker),
    ("epoch stands still", "E3", _epoch_stands_still),
    ("stale is told ok", "E2", _stale_is_told_ok),
    ("finish is not repeatable", "E5", _finish_is_not_repeatable),
    ("cancelled runs can succeed", "E6", _cancelled_runs_can_succeed),
    ("schedule in two transactions", "E7", _schedule_in_two_transactions),
    ("old boundaries fire", "E7", _old_boundaries_fire),
    ("signals are dropped", "E8", _signals_are_dropped),
    ("signals are given twice", "E8", _signals_are_given_twice),
    ("waits park again", "E9", _waits_park_again),
    ("keys are not unique", "E10", _keys_are_not_unique),
    ("runs start early", "E11", _runs_start_early),
    ("children without their step", "E1", _children_without_their_step),
    ("gathers end early", "E1", _gathers_end_early),
    ("failures are called success", "E6", _failures_are_called_success),
    ("cancels leave children", "E6", _cancels_leave_children),
    ("retries begin what had succeeded", "E6", _retries_begin_what_had_succeeded),
    ("old releases claim", "O4", _old_releases_claim),
    ("rolls are forgotten", "D1", _rolls_are_forgotten),
    ("proven code is tried again", "S2", _proven_code_is_tried_again),
    ("parked without a waiter", "I4", _parked_without_a_waiter),
    ("poison has no cap", "L2", _poison_has_no_cap),
    ("neighbours are charged", "L3", _neighbours_are_charged),
    ("drains are charged", "L4", _drains_are_charged),
    ("drains are not recorded", "L4", _drains_are_not_recorded),
    ("living workers are robbed", "L2", _living_workers_are_robbed),
    ("sleepers are not woken", "L1", _sleepers_are_not_woken),
    ("parents are not woken", "L1", _parents_are_not_woken),
    ("permits leak", "L1", _permits_leak),
    ("retries are not counted", "L1", _retries_are_not_counted),
    ("claims are forgotten", "L1", _claims_are_forgotten),
    ("accepted while unhealthy", "S2", _accepted_while_unhealthy),
    ("no backoff", "S3", _no_backoff),
    ("health is forgotten", "S3", _health_is_forgotten),
    ("exit 0 is idleness", "S4", _exit_0_is_idleness),
    ("groups fail together", "S5", _groups_fail_together),
    ("gives up", "S6", _gives_up),
    ("leases on the wall clock", "C1", _leases_on_the_wall_clock),
    ("stalls are not made good", "C2", _stalls_are_not_made_good),
)
MUTANTS = {name: Mutant(name, promise, patches) for name, promise, patches in _ALL}
