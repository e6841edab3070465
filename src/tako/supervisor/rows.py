"""Rows of the table that answer work, enqueues, boots, new code, idleness, silence, start and stop.

Each function carries the number of its row in `contract.md` 3.2 and says it in one sentence. How processes end is in
`deaths.py`; which row answers what, `health.TABLE` says.
"""

from __future__ import annotations

from dataclasses import replace

from tako.supervisor import events, exits, states
from tako.supervisor.exits import ExitKind
from tako.supervisor.states import Health, Phase, Slot, Why
from tako.supervisor.turn import HELD_LIMIT, SIGTERM_GRACE_S, Turn

RECONNECT_S = 15.0


# --- work and enqueues ----------------------------------------------------------------------------------------------


def row_1(turn: Turn, event: events.Event) -> None:
    """UNPROVEN, HEALTHY; WORK; fewer than the target: spawn the difference."""
    turn.spawn_missing()


def row_5b(turn: Turn, event: events.Enqueue) -> None:
    """UNPROVEN; ENQUEUE: hold it, and spawn if nobody boots. At the limit store it: nothing is known to be wrong.

    One that was adopted before its first claim is about to say HELLO as well: another would be one too many.
    """
    if not turn.state.booting() and not turn.state.live():
        turn.spawn()
    if len(turn.state.held) < HELD_LIMIT:
        turn.hold(event)
    else:
        turn.emit(events.Accept(event.ticket))


def row_11(turn: Turn, event: events.Enqueue) -> None:
    """COOLDOWN; ENQUEUE before its end: reject with the reason."""
    turn.emit(events.Reject(event.ticket, events.Refusal.UNHEALTHY))


def row_12(turn: Turn, event: events.Event) -> None:
    """COOLDOWN; timer; work waits, or min > 0: PROBING, spawn exactly one. Row 12b: elapsed, and work arrives."""
    turn.probe()


def row_13(turn: Turn, event: events.Event) -> None:
    """COOLDOWN; timer; nothing waits: elapsed, stay at zero."""
    turn.change(until=None)


def row_14(turn: Turn, event: events.Enqueue) -> None:
    """COOLDOWN elapsed; ENQUEUE: PROBING, spawn one, hold the enqueue for its HELLO."""
    turn.probe()
    turn.hold(event)


def row_15(turn: Turn, event: events.Enqueue) -> None:
    """PROBING; ENQUEUE: hold it too; beyond the limit reject."""
    if len(turn.state.held) < HELD_LIMIT:
        turn.hold(event)
    else:
        turn.emit(events.Reject(event.ticket, events.Refusal.STARTING))


def row_14_timer(turn: Turn, event: events.HeldTimer) -> None:
    """A held enqueue can wait no longer: rejected while PROBING; stored while UNPROVEN, as row 5b says."""
    if not _forget_held(turn, event.ticket):
        return
    if turn.state.health is Health.UNPROVEN:
        turn.emit(events.Accept(event.ticket))
    else:
        turn.emit(events.Reject(event.ticket, events.Refusal.STARTING))


def row_16(turn: Turn, event: events.Event) -> None:
    """COOLDOWN, PROBING; cron fire, signal, due sleep, retry: stored durably; said once for each failure."""
    waiting = turn.now.waiting + turn.now.suspects
    if waiting and turn.state.failure is not None and not turn.state.told_queued:
        turn.change(told_queued=True)
        runs = "1 run is" if waiting == 1 else f"{waiting} runs are"
        turn.log("warning", f"{runs} queued while unhealthy: {turn.state.failure.words}", waiting=waiting)


def accept(turn: Turn, event: events.Enqueue) -> None:
    """HEALTHY, DEGRADED; ENQUEUE: it is stored."""
    turn.emit(events.Accept(event.ticket))


def gave_up(turn: Turn, event: events.GaveUp) -> None:
    """The caller of a held enqueue is gone: nobody is answered."""
    _forget_held(turn, event.ticket)


def _forget_held(turn: Turn, ticket: int) -> bool:
    held = tuple(each for each in turn.state.held if each.ticket != ticket)
    was_held = len(held) < len(turn.state.held)
    turn.change(held=held)
    return was_held


# --- boots ----------------------------------------------------------------------------------------------------------


def row_2(turn: Turn, event: events.Spawned) -> None:
    """Any; spawned: arm the boot timer."""
    slot = slot_of(turn, event)
    turn.put(replace(slot, spawned_at=turn.now.mono, boot_by=turn.now.mono + turn.config.boot_timeout_s))
    turn.emit(events.SaveWorker(slot.id))


def row_3(turn: Turn, event: events.SpawnError) -> None:
    """Any; K6 spawn error: as row 7, there is no process to wait for."""
    turn.drop(slot_of(turn, event))
    turn.fail(
        states.Failure(
            words=exits.spawn_error_words(event.error),
            kind=ExitKind.SPAWN_ERROR,
            at_ms=turn.now.unix_ms,
            release=turn.config.release,
        ),
        worker_id=event.worker_id,
    )


def row_4(turn: Turn, event: events.Hello) -> None:
    """Any; HELLO: HEALTHY, accept the held, let the old code's drain time begin. n is kept until a claim."""
    slot = slot_of(turn, event)
    # A probe whose HELLO lets an enqueue through is about to have work: were it to idle out, another would be started.
    probe = slot.probe and not turn.state.held
    ready_at = slot.ready_at if slot.ready_at is not None else turn.now.mono
    turn.put(
        replace(slot, phase=Phase.READY, ready_at=ready_at, probe=probe, v0=event.v0, boot_by=None, reconnect_by=None)
    )
    turn.change(health=Health.HEALTHY, until=None)
    turn.accept_held()
    for old in turn.state.slots:
        if old.phase is Phase.DRAINING and old.why is Why.DEPLOY and old.kill_by is None:
            turn.drain(old, Why.DEPLOY, within_s=turn.config.drain_timeout_s)
    turn.emit(events.SaveWorker(slot.id))
    turn.spawn_missing()


def row_5(turn: Turn, event: events.Claim) -> None:
    """Any; CLAIM of a READY slot: ACTIVE, n = 0. The claim of a v0 worker is also its HELLO."""
    slot = slot_of(turn, event)
    if slot.phase is Phase.BOOTING:
        row_4(turn, events.Hello(slot.id, v0=True))
        slot = slot_of(turn, event)
    turn.put(replace(slot, phase=Phase.ACTIVE, claimed=True, probe=False))
    failures = turn.state.failures
    was_healthy = turn.state.health is Health.HEALTHY
    turn.change(health=Health.HEALTHY, failures=0, until=None, failure=None, since_ms=None)
    turn.accept_held()
    if failures:
        starts = "1 failed start" if failures == 1 else f"{failures} failed starts"
        turn.log("info", f"recovered after {starts}", failures=failures)
    turn.emit(events.SaveWorker(slot.id))
    if not was_healthy:
        turn.spawn_missing()  # the timer of DEGRADED would have, and it is gone


def row_6(turn: Turn, event: events.BootTimer) -> None:
    """Any; boot timer of a BOOTING slot: SIGKILL; its exit is row 7 as K5. The stack was dumped a little earlier."""
    turn.kill(slot_of(turn, event), Why.BOOT_HANG)


# --- timers of health -----------------------------------------------------------------------------------------------


def row_17(turn: Turn, event: events.Event) -> None:
    """DEGRADED; timer: HEALTHY (n kept until a new slot claims), spawn one if there are too few."""
    turn.change(health=Health.HEALTHY, until=None)
    turn.spawn_missing(at_most=1)


# --- change, idleness, silence --------------------------------------------------------------------------------------


def row_18(turn: Turn, event: events.Event) -> None:
    """Any; new code, operator's retry: UNPROVEN, n = 0; old slots claim no more; one probe boot at once.

    Code that a gate has proven (a deploy's) is HEALTHY at once: nobody waits for another probe, and old slots' time
    begins now.

    Their drain time begins at the new HELLO, so that a broken deploy interrupts nothing; those with nothing in flight
    have nothing to wait for. A worker that is still booting the code of before is killed.
    """
    proven = isinstance(event, events.NewCode) and event.proven
    for slot in turn.state.slots:
        if slot.phase is Phase.BOOTING:
            turn.kill(slot, Why.DEPLOY)
        elif slot.phase is Phase.KILLING:
            turn.put(replace(slot, why=Why.DEPLOY))  # how it ends says nothing about the new code
        elif slot.phase in states.SERVING and turn.in_flight(slot) and not proven:
            turn.drain(slot, Why.DEPLOY, within_s=None, signal=False)
        elif slot.phase in states.SERVING:
            turn.drain(slot, Why.DEPLOY, within_s=turn.config.drain_timeout_s)
    turn.change(
        health=Health.HEALTHY if proven else Health.UNPROVEN, failures=0, until=None, failure=None, since_ms=None,
        warm_exits=(), quick_exits=(), respawn_at=None, told_queued=False, paused=False,
    )  # fmt: skip
    if proven:
        turn.accept_held()
        turn.spawn_missing()
    else:
        turn.spawn(probe=True)


def row_19(turn: Turn, event: events.IdleAsked) -> None:
    """Any; IDLE?: permission when there is no work, more live than min, and it has been idle long enough."""
    slot = turn.state.slot(event.worker_id)
    may_exit = slot is None or _may_idle(turn, slot, idle_s=event.idle_s)
    if may_exit and slot is not None and slot.is_live:
        turn.drain(slot, Why.IDLE, within_s=turn.config.drain_timeout_s, signal=False)
    turn.emit(events.AnswerIdle(event.worker_id, may_exit=may_exit))


def _may_idle(turn: Turn, slot: Slot, *, idle_s: float) -> bool:
    if turn.in_flight(slot) or slot.phase is Phase.BOOTING:
        return False
    if not slot.is_live:
        return True
    if slot.solo:
        return not turn.now.suspects
    if turn.now.waiting or len(turn.state.live()) <= turn.config.min_workers:
        return False
    return slot.probe or idle_s >= turn.config.idle_timeout_s


def row_20_timer(turn: Turn, event: events.KillTimer) -> None:
    """DRAINING or KILLING, and its time is over: SIGKILL."""
    slot = slot_of(turn, event)
    turn.kill(slot, slot.why or Why.SHUTDOWN)


def row_21(turn: Turn, event: events.OfWorker) -> None:
    """Any; lease expired, process alive: runs back; SIGTERM, 5 s, SIGKILL; then row 8 as "stopped answering"."""
    slot = slot_of(turn, event)
    counted = slot.is_live
    death = f"stopped answering for {turn.config.lease_s:g}s" if counted else None
    turn.emit(events.Reclaim(slot.id, counted=counted, death=death))
    turn.emit(events.StopClaims(slot.id))
    turn.kill(slot, Why.UNRESPONSIVE if counted else slot.why or Why.SHUTDOWN, after_s=SIGTERM_GRACE_S)


def row_22(turn: Turn, event: events.ConnectionLost) -> None:
    """Any; connection lost, process alive: 15 s to reconnect, else row 21."""
    turn.put(replace(slot_of(turn, event), reconnect_by=turn.now.mono + RECONNECT_S))


def row_22_back(turn: Turn, event: events.OfWorker) -> None:
    """It is back."""
    turn.put(replace(slot_of(turn, event), reconnect_by=None))


# --- start and stop -------------------------------------------------------------------------------------------------


def row_23(turn: Turn, event: events.Recorded) -> None:
    """Daemon start; the recorded worker is dead: its runs back at once, counted only on the same boot.

    Uncounted as well, if the engine before had asked it to end (L4).
    """
    counted = event.same_boot and event.why is None
    death = "ended while the engine was down" if counted else None
    turn.emit(events.Reclaim(event.worker_id, counted=counted, death=death))
    turn.emit(events.ForgetWorker(event.worker_id))


def row_24(turn: Turn, event: events.Recorded) -> None:
    """Daemon start; the recorded worker is alive: adopt it; HEALTHY if it had claimed, UNPROVEN if it had said HELLO.
    Row 22 gives it 15 s to call.

    One that drains goes on with that, and its time for it begins anew; it proves nothing about the code.
    """
    if event.why is not None:
        _adopt_draining(turn, event, event.why)
        return
    phase = Phase.ACTIVE if event.claimed else Phase.READY if event.ready else Phase.BOOTING
    boot_by = turn.now.mono + turn.config.boot_timeout_s if phase is Phase.BOOTING else None
    slot = Slot(
        id=event.worker_id,
        phase=phase,
        asked_at=turn.now.mono,
        spawned_at=turn.now.mono,
        ready_at=turn.now.mono if phase is not Phase.BOOTING else None,
        claimed=event.claimed,
        solo=event.solo,
        v0=event.v0,
        boot_by=boot_by,
        reconnect_by=turn.now.mono + RECONNECT_S if phase is not Phase.BOOTING and not event.v0 else None,
    )
    turn.change(slots=(*turn.state.slots, slot))
    if event.claimed:
        turn.change(health=Health.HEALTHY, until=None)
        turn.accept_held()
    elif event.ready and turn.state.is_elapsed and not event.solo:
        turn.change(health=Health.UNPROVEN)  # it says HELLO again in a moment, so nobody is tried beside it


def _adopt_draining(turn: Turn, event: events.Recorded, why: Why) -> None:
    now = turn.now.mono
    slot = Slot(id=event.worker_id, phase=Phase.DRAINING, why=why, asked_at=now, spawned_at=now, claimed=event.claimed,
                solo=event.solo, v0=event.v0, kill_by=now + turn.config.drain_timeout_s)  # fmt: skip
    turn.change(slots=(*turn.state.slots, slot))


def row_25(turn: Turn, event: events.Shutdown) -> None:
    """Any; SHUTDOWN, remove, pause: STOPPED, SIGTERM to all, then SIGKILL; held enqueues are refused."""
    turn.change(health=Health.STOPPED, until=None, respawn_at=None, paused=event.paused)
    turn.reject_held(events.Refusal.STOPPED)
    for slot in turn.state.slots:
        # To a worker that drains already, a second SIGTERM says: hand back now. Only a second shutdown means that.
        drains = slot.why is Why.DEPLOY and slot.kill_by is not None
        if slot.phase is not Phase.KILLING:
            turn.drain(slot, Why.SHUTDOWN, within_s=event.timeout_s, signal=not drains)


def row_25_enqueue(turn: Turn, event: events.Enqueue) -> None:
    """STOPPED; ENQUEUE: refused."""
    turn.emit(events.Reject(event.ticket, events.Refusal.STOPPED))


def nothing(turn: Turn, event: events.Event) -> None:
    """The event has no meaning (any more) in this state."""


def slot_of(turn: Turn, event: events.OfWorker) -> Slot:
    """The event's slot. The guards of the table let only events of known workers through."""
    slot = turn.state.slot(event.worker_id)
    assert slot is not None, event
    return slot
