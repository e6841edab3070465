"""The workers of one group as processes: the shell around `health.py`, with no decisions of its own.

News comes in by the methods of `WorkerPool` and from the children; it becomes events. Each event goes through the
table, one after the other (`_feed`), and what the table wants done is done by the method that `_DO` names for it. One
timer stands at the time that the state wants to be looked at again. Beside the state of a slot there is its process
(`places.py`), and beside an enqueue that is held who waits for it (`tickets.py`).

The pool knows processes, not runs: what it needs of the rest of the house it asks through `House`.
"""

from __future__ import annotations

import asyncio
import random
import signal
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

from tako.clock import Clock
from tako.errors import TakoError
from tako.protocol.messages import GroupHealth
from tako.supervisor import events, health, output, records, spawn, tracebacks
from tako.supervisor.exits import Exit
from tako.supervisor.house import House as House  # part of this module's interface, as is the next
from tako.supervisor.permits import BootPermits as BootPermits
from tako.supervisor.places import Place, Places
from tako.supervisor.process import Listener, Process, Processes
from tako.supervisor.states import GroupConfig, GroupState, Health, Now, Phase, Why, next_due
from tako.supervisor.tickets import Tickets

RECLAIM_AGAIN_S = 1.0
LAST_PATIENCE_S = 5.0  # beyond the drain time, for processes that even SIGKILL does not end at once


class WorkerPool:
    """The workers of one group. Use it on the event loop's thread."""

    def __init__(
        self,
        config: GroupConfig,
        *,
        house: House,
        clock: Clock,
        rng: random.Random,
        permits: BootPermits,
        processes: Processes = Process,
    ) -> None:
        self._config = config
        self._house = house
        self._clock = clock
        self._rng = rng
        self._processes = processes
        self._state = GroupState()
        self._places = Places(clock=clock, permits=permits, processes=processes)
        self._events: deque[events.Event] = deque()
        self._is_feeding = False
        self._look: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._tickets = Tickets()
        self._may_idle = False
        self._reclaims: set[asyncio.Task[None]] = set()

    # --- what the host asks -----------------------------------------------------------------------------------------

    @property
    def group(self) -> str:
        """The group's name."""
        return self._config.group

    @property
    def is_unproven(self) -> bool:
        """Whether no worker of the current code has said HELLO yet, nor failed."""
        return self._state.health is Health.UNPROVEN

    @property
    def state(self) -> GroupState:
        """The state of the table; for reading."""
        return self._state

    def has(self, worker_id: str) -> bool:
        """Whether this is a worker of the group whose exit was not seen yet."""
        return self._state.slot(worker_id) is not None

    def may_claim(self, worker_id: str) -> bool:
        """Whether the worker may be given runs: it does not drain, and runs the current code."""
        slot = self._state.slot(worker_id)
        return slot is not None and slot.is_live

    def is_solo(self, worker_id: str) -> bool:
        """Whether the worker re-runs suspects, one at a time."""
        slot = self._state.slot(worker_id)
        return slot is not None and slot.solo

    def worker_of_pid(self, pid: int) -> str | None:
        """The worker in whose process group `pid` is: who a v0 worker is, its peer credentials tell."""
        return self._places.worker_of_pid(pid)

    def snapshot(self) -> GroupHealth:
        """The group as `tako status` shows it."""
        return records.shown(
            self._state,
            config=self._config,
            now=self._now(),
            pids=self._places.pids(),
            since_ms=self._places.since_ms(),
        )

    # --- enqueues ---------------------------------------------------------------------------------------------------

    def admit_now(self) -> bool:
        """Whether an enqueue may be stored at once. False: it must wait for `admit`.

        Raises:
            WorkerUnhealthy: it is refused.
        """
        if self._state.health in (Health.HEALTHY, Health.DEGRADED):
            return True
        due = next_due(self._state)
        if due is not None and due <= self._clock.monotonic():  # the timer is about to go off
            self._feed(events.Tick())
        state = self._state
        if state.health is Health.STOPPED:
            raise self._refused(events.Refusal.STOPPED)
        if state.health is Health.COOLDOWN and not state.is_elapsed:
            raise self._refused(events.Refusal.UNHEALTHY)
        return state.health in (Health.HEALTHY, Health.DEGRADED)

    async def admit(self, deadline: float) -> None:
        """Return when an enqueue may be stored. `deadline` is the caller's, in monotonic seconds.

        Raises:
            WorkerUnhealthy: it is refused; half a second before the deadline at the latest.
        """
        ticket, answer = self._tickets.issue()
        self._feed(events.Enqueue(ticket, deadline))
        try:
            await answer
        finally:
            if self._tickets.withdraw(ticket):  # the caller is gone
                self._feed(events.GaveUp(ticket))

    # --- news -------------------------------------------------------------------------------------------------------

    def work(self) -> None:
        """Something is or may be runnable. Cheap; many calls in one turn of the loop are one."""
        if self._look is None:
            self._look = asyncio.get_running_loop().call_soon(self._look_for_work)

    def hello(self, worker_id: str, *, v0: bool = False) -> None:
        """The worker has imported its files, or is back on a new connection."""
        self._feed(events.Hello(worker_id, v0=v0))

    def claimed(self, worker_id: str) -> None:
        """The worker was given a run."""
        place = self._places.get(worker_id)
        if place is not None:
            place.idle_since = self._clock.monotonic()
            if place.is_active:
                return
        self._feed(events.Claim(worker_id))

    def run_ended(self, worker_id: str) -> None:
        """A run of the worker ended or was parked: its idle time begins anew."""
        self._places.touch(worker_id)

    def asks_idle(self, worker_id: str) -> bool:
        """Whether the worker may exit. When it may, it gets no more runs."""
        if self._house.in_flight(self.group).get(worker_id):
            self._places.touch(worker_id)
        self._may_idle = False
        self._feed(events.IdleAsked(worker_id, idle_s=self._places.idle_s(worker_id)))
        return self._may_idle

    def connection_lost(self, worker_id: str) -> None:
        """The worker's connection is gone. Not for v0 workers, which connect for each request."""
        self._feed(events.ConnectionLost(worker_id))

    def reconnected(self, worker_id: str) -> None:
        """The worker is back; `hello` says so too."""
        self._feed(events.Reconnected(worker_id))

    def lease_expired(self, worker_id: str) -> None:
        """A lease of the worker ran out."""
        self._feed(events.LeaseExpired(worker_id))

    def idle_s(self, worker_id: str) -> float:
        """For how long nothing has happened between the worker and its runs: no HELLO, no claim, no end of a run."""
        return self._places.idle_s(worker_id)

    def deaf(self, worker_id: str, *, quiet_s: float) -> None:
        """The worker has room and has asked for no run for so long, while some waited."""
        self._feed(events.Deaf(worker_id, quiet_s))

    def leaving(self, worker_id: str) -> None:
        """The worker ends itself: a thread of it would not end."""
        self._feed(events.Leaving(worker_id))

    def new_code(self, config: GroupConfig, *, proven: bool = False) -> None:
        """The group's files, environment or settings have changed (row 18); `proven`: a gate has booted them."""
        self._config = config
        self._feed(events.NewCode(proven=proven))

    def rescale(self, config: GroupConfig) -> None:
        """Other numbers of workers, the same code: start what is missing; what is too much idles out."""
        self._config = config
        self.work()

    def operator_retry(self) -> None:
        """A person says that the cause is mended, or that a paused group is to go on."""
        self._feed(events.OperatorRetry())

    def remember(self) -> None:
        """Have health and workers recorded once more: the store took no writes for a while and may have missed some."""
        self._do_save_health(events.SaveHealth())
        for slot in self._state.slots:
            self._do_save_worker(events.SaveWorker(slot.id))

    # --- start and stop ---------------------------------------------------------------------------------------------

    def pause(self) -> None:
        """Drain all workers and start none, until `operator_retry`. Enqueues are refused. Twice is harmless."""
        if not self._state.paused:
            self._feed(events.Shutdown(self._config.drain_timeout_s, paused=True))

    def restore(self, record: Mapping[str, Any] | None) -> None:
        """Begin with the health that an earlier engine stored (row 23). Call it before anything else."""
        self._state = records.restored(record)

    def adopt(self, recorded: Iterable[Mapping[str, Any]]) -> None:
        """Take over the workers that an earlier engine recorded: watch those that live, reclaim of the others."""
        for record in recorded:
            worker_id = record["worker_id"]
            lives = self._places.adopt(record, self._listener(worker_id))
            self._feed(
                events.Recorded(
                    worker_id,
                    alive=lives,
                    same_boot=record["boot_id"] == self._processes.boot_id(),
                    ready=record["ready"],
                    claimed=record["claimed"],
                    solo=record["solo"],
                    v0=record["v0"],
                    why=Why(record["why"]) if record.get("why") else None,
                )
            )

    async def stop(self, timeout_s: float | None = None) -> None:
        """Drain all workers; those that do not end in `timeout_s` (default: the drain timeout) are killed.

        On return all processes are gone and their runs handed back. Twice does no harm.
        """
        timeout_s = self._config.drain_timeout_s if timeout_s is None else timeout_s
        self._feed(events.Shutdown(timeout_s))
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s + LAST_PATIENCE_S):
                await self._places.all_closed()
        while self._reclaims:
            await asyncio.wait(self._reclaims)
        self.detach()

    def detach(self) -> None:
        """Let go of everything; processes live on, for the next engine to adopt."""
        for handle in (self._timer, self._look):
            if handle is not None:
                handle.cancel()
        self._timer = self._look = None
        self._places.detach()

    # --- the table --------------------------------------------------------------------------------------------------

    def _feed(self, event: events.Event) -> None:
        """Put an event through the table. One that an effect causes waits until the effects before it are done."""
        self._events.append(event)
        if self._is_feeding:
            return
        self._is_feeding = True
        try:
            while self._events:
                self._step(self._events.popleft())
        finally:
            self._is_feeding = False
            self._arm()

    def _step(self, event: events.Event) -> None:
        before = self._state
        self._state, effects = health.step(before, event, now=self._now(), rng=self._rng, config=self._config)
        for effect in effects:
            try:
                self._DO[type(effect)](self, effect)
            except Exception as error:  # the effects after it must be done all the same: a run waits for each of them
                self._house.log("error", f"{type(effect).__name__} failed: {error!r}", group=self.group)
        if self._state != before:
            self._places.note_phases(before.slots, self._state.slots)
            self._house.changed(self.group)

    def _now(self) -> Now:
        house, group = self._house, self.group
        return Now(
            mono=self._clock.monotonic(),
            unix_ms=self._clock.now_ms(),
            waiting=house.runnable(group),
            suspects=house.suspects(group),
            in_flight=house.in_flight(group),
        )

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = next_due(self._state)
        if due is not None:
            delay = max(0.0, due - self._clock.monotonic())
            self._timer = asyncio.get_running_loop().call_later(delay, self._feed, events.Tick())

    def _look_for_work(self) -> None:
        self._look = None
        self._feed(events.Work())

    # --- effects ----------------------------------------------------------------------------------------------------

    def _do_spawn(self, effect: events.Spawn) -> None:
        self._places.open(effect.worker_id, solo=effect.solo, start=self._spawn)

    def _do_withdraw(self, effect: events.Withdraw) -> None:
        self._places.close(effect.worker_id)

    def _do_kill(self, effect: events.Kill) -> None:
        process = self._places.process(effect.worker_id)
        if process is not None:
            process.child.send(signal.Signals[effect.signal])

    def _do_stop_claims(self, effect: events.StopClaims) -> None:
        self._house.stop_claims(effect.worker_id)

    def _do_accept(self, effect: events.Accept) -> None:
        self._tickets.accept(effect.ticket)

    def _do_reject(self, effect: events.Reject) -> None:
        self._tickets.reject(effect.ticket, self._refused(effect.refusal))

    def _do_nothing(self, effect: events.Hold) -> None:
        """Its ticket waits."""

    def _do_answer_idle(self, effect: events.AnswerIdle) -> None:
        self._may_idle = effect.may_exit

    def _do_reclaim(self, effect: events.Reclaim) -> None:
        task = asyncio.get_running_loop().create_task(self._reclaim(effect))
        self._reclaims.add(task)
        task.add_done_callback(self._reclaims.discard)

    async def _reclaim(self, effect: events.Reclaim) -> None:
        while True:
            try:
                await self._house.reclaim(effect.worker_id, effect.counted, effect.death)
            except TakoError as error:  # the disk is full, or the store is locked: the runs must come back all the same
                self._house.log("error", f"runs of {effect.worker_id} not taken back yet: {error.message}")
                if self._state.health is Health.STOPPED and not self._state.paused:
                    return  # the next engine does it, from the worker's record
                await asyncio.sleep(RECLAIM_AGAIN_S)
            else:
                break
        if self._state.health is not Health.STOPPED:
            self.work()

    def _do_save_worker(self, effect: events.SaveWorker) -> None:
        place, slot = self._places.get(effect.worker_id), self._state.slot(effect.worker_id)
        if place is None or place.process is None or slot is None:
            return
        self._house.save_worker(
            {
                "worker_id": slot.id,
                "group": self.group,
                "release": self._config.release,
                "started_ms": place.started_ms,
                "ready": slot.phase is not Phase.BOOTING,
                "claimed": slot.claimed,
                "solo": slot.solo,
                "v0": slot.v0,
                "why": slot.why.value if slot.why else None,
                **place.process.record(),
            }
        )

    def _do_forget_worker(self, effect: events.ForgetWorker) -> None:
        self._house.forget_worker(effect.worker_id)

    def _do_save_health(self, effect: events.SaveHealth) -> None:
        self._house.save_health(self.group, records.stored(self._state, now=self._now()))

    def _do_log(self, effect: events.Log) -> None:
        fields = dict(effect.fields)
        process = self._places.process(str(fields.get("worker_id")))
        if process is not None:  # people know a process by its pid
            fields["pid"] = process.pid
            del fields["worker_id"]
        self._house.log(effect.level, effect.message, **fields)

    _DO: Mapping[type[events.Effect], Callable[[WorkerPool, Any], None]] = {
        events.Spawn: _do_spawn,
        events.Withdraw: _do_withdraw,
        events.Kill: _do_kill,
        events.StopClaims: _do_stop_claims,
        events.Accept: _do_accept,
        events.Hold: _do_nothing,
        events.Reject: _do_reject,
        events.AnswerIdle: _do_answer_idle,
        events.Reclaim: _do_reclaim,
        events.SaveWorker: _do_save_worker,
        events.ForgetWorker: _do_forget_worker,
        events.SaveHealth: _do_save_health,
        events.Log: _do_log,
    }

    def _refused(self, refusal: events.Refusal) -> TakoError:
        return records.refused(refusal, self._state, config=self._config, now=self._now())

    # --- processes --------------------------------------------------------------------------------------------------

    def _spawn(self, worker_id: str, place: Place) -> None:
        """There is a permit: start the process."""
        try:
            request = self._house.spawn_request(self.group, worker_id, place.solo)
            place.process = self._processes.start(request, self._listener(worker_id))
        except (spawn.SpawnFailed, OSError, TakoError) as error:
            self._places.close(worker_id)
            self._house.count(self.group, "cold")
            self._feed(events.SpawnError(worker_id, str(error)))
            return
        place.started_ms = self._clock.now_ms()
        self._house.count(self.group, "started")
        self._feed(events.Spawned(worker_id))

    def _listener(self, worker_id: str) -> Listener:
        return Listener(
            on_line=lambda pid, line: self._house.output(self.group, worker_id, pid, line),
            on_exit=lambda exit_, lines: self._ended(worker_id, exit_, lines),
            redact=self._house.redact,
        )

    def _ended(self, worker_id: str, exit_: Exit, lines: list[str]) -> None:
        process = self._places.process(worker_id)
        if process is None:
            return
        root = process.root
        event = events.Exited(
            worker_id,
            exit_,
            frame=tracebacks.hang_frame(lines, root=root),
            traceback_tail=tracebacks.tail(lines, root=root),
            stderr_tail=tuple(output.plain(line) for line in lines),
        )
        how = health.how_it_ended(self._state, event, now=self._now(), rng=self._rng, config=self._config)
        self._house.count(self.group, how)
        self._feed(event)
        self._places.close(worker_id)
