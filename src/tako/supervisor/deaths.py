"""Rows of the table that answer the end of a process, and the guards that tell them apart.

*Cold*: it had not claimed yet, so starting it again would fail again: rows 7, 7b, 7c. *Warm*: it had, so it is
replaced: rows 8, 9, 10. *Asked for*, by us or by itself with permission: row 20. *Deaf*, and ended by us: row 21b.
*Leaving*, by itself: row 21c.
"""

from __future__ import annotations

from tako.supervisor import events, exits, states
from tako.supervisor.exits import ExitKind
from tako.supervisor.rows import slot_of
from tako.supervisor.states import Health, Phase, Slot, Why
from tako.supervisor.turn import SIGTERM_GRACE_S, Turn

WARM_WINDOW_S = 60.0
WARM_LIMIT = 5
QUICK_S = 1.0  # a worker that was ready for less than this died young


def row_7(turn: Turn, event: events.Exited) -> None:
    """Cold exit: COOLDOWN(n+1) when nobody serves, with row 7b DEGRADED(n+1) when somebody does."""
    slot = _gone(turn, event, counted=True)
    turn.fail(_cold_failure(turn, slot, event), worker_id=slot.id)


def row_7c(turn: Turn, event: events.Exited) -> None:
    """COOLDOWN, PROBING; cold exit of a sibling that booted before the failure: the same news once more, n stays."""
    slot = _gone(turn, event, counted=True)
    failure = _cold_failure(turn, slot, event)
    turn.log("info", f"{failure.words}; it was started before the failure that is known", worker_id=slot.id)


def row_8(turn: Turn, event: events.Exited) -> None:
    """Warm exit, at most 5 in 60 s: reclaim, respawn at once if there is work or too few live."""
    slot = _gone(turn, event, counted=True)
    _tell_warm(turn, slot, event)
    _count_warm(turn, slot)
    _respawn(turn)


def row_9(turn: Turn, event: events.Exited) -> None:
    """Second warm exit in 60 s of a slot that had been READY for less than 1 s: as row 8, but spawn after 1 s."""
    slot = _gone(turn, event, counted=True)
    _tell_warm(turn, slot, event)
    _count_warm(turn, slot)
    turn.change(respawn_at=turn.now.mono + QUICK_S)


def row_9_timer(turn: Turn, event: events.RespawnTimer) -> None:
    """That second is over."""
    turn.change(respawn_at=None)
    _respawn(turn)


def row_10(turn: Turn, event: events.Exited) -> None:
    """Sixth warm exit in 60 s: a crash loop counts as a failed start; reclaim, no spawn."""
    slot = _gone(turn, event, counted=True)
    last = _warm_words(turn, slot, event).removeprefix("worker ")
    words = exits.crash_loop_words(len(_recent(turn)) + 1, window_s=WARM_WINDOW_S, last=last)
    turn.change(warm_exits=(), quick_exits=())
    turn.fail(turn.failure_of(event.exit, words, _kind(event), event), worker_id=slot.id)


def row_20(turn: Turn, event: events.Exited) -> None:
    """Exit that was asked for (K0) or permitted (K1): runs back uncounted; spawn if work arrived meanwhile."""
    slot = _gone(turn, event, counted=False)
    if slot.is_live and event.exit.code == exits.RECYCLED_STATUS:
        turn.log("warning", "worker recycled itself: code of a run that was over would not end", worker_id=slot.id)
    expected = (0, exits.RECYCLED_STATUS, None) if slot.why is Why.RECYCLED else (0, None)
    if slot.why is not Why.SHUTDOWN and slot.phase is Phase.DRAINING and event.exit.code not in expected:
        turn.log("warning", f"{event.exit.words()} while draining", worker_id=slot.id)
    if turn.state.health in (Health.UNPROVEN, Health.HEALTHY):
        turn.spawn_missing()
    elif turn.state.is_elapsed and turn.is_wanted:
        turn.probe()


def row_21b(turn: Turn, event: events.Deaf) -> None:
    """READY, ACTIVE; runs wait, it has room, and it asks for none: drain it and start another.

    What it runs may finish, since nothing is wrong with that. One that never claimed is a failed start (row 7): its
    successor would most likely be as deaf.
    """
    slot = slot_of(turn, event)
    words = exits.deaf_words(event.quiet_s)
    turn.drain(slot, Why.DEAF, within_s=turn.config.drain_timeout_s if turn.in_flight(slot) else SIGTERM_GRACE_S)
    if slot.phase is Phase.READY and not slot.solo:
        failure = states.Failure(words=words, kind=ExitKind.DEAF, at_ms=turn.now.unix_ms, release=turn.config.release)
        turn.fail(failure, worker_id=slot.id)
        return
    turn.log("error", f"{words}; it is replaced", worker_id=slot.id)
    _respawn(turn)


def row_21c(turn: Turn, event: events.Leaving) -> None:
    """READY, ACTIVE; it recycles itself: it drains, and another is started at once, not when it is gone."""
    slot = slot_of(turn, event)
    turn.drain(slot, Why.RECYCLED, within_s=turn.config.drain_timeout_s, signal=False)
    turn.log("warning", "worker recycles itself: code of a run that was over would not end", worker_id=slot.id)
    _respawn(turn)


def _gone(turn: Turn, event: events.Exited, *, counted: bool) -> Slot:
    """The slot whose process is gone; its runs are taken back, counted unless they were already, or we ended it."""
    slot = slot_of(turn, event)
    turn.drop(slot)
    counted = counted and slot.is_live
    turn.emit(events.Reclaim(slot.id, counted=counted, death=event.exit.cause() if counted else None))
    turn.emit(events.ForgetWorker(slot.id))
    return slot


def _respawn(turn: Turn) -> None:
    if turn.state.health is Health.HEALTHY:
        turn.spawn_missing()
    elif turn.state.health is Health.DEGRADED and turn.state.serving():
        turn.spawn_missing(at_most=1)  # the one that went; those that failed cold wait for the timer
    elif turn.state.health is Health.UNPROVEN:
        turn.spawn_missing(at_most=1)


def _cold_failure(turn: Turn, slot: Slot, event: events.Exited) -> states.Failure:
    if slot.why is Why.BOOT_HANG:
        words = exits.hang_words(timeout_s=turn.config.boot_timeout_s, frame=event.frame)
        return turn.failure_of(event.exit, words, ExitKind.BOOT_HANG, event)
    return turn.failure_of(event.exit, event.exit.words(claimed=False), _kind(event), event)


def _kind(event: events.Exited) -> ExitKind:
    if event.exit.signal is not None:
        return ExitKind.OUT_OF_MEMORY if event.exit.oom else ExitKind.SIGNAL
    if event.exit.code == exits.MISCONFIGURED_STATUS:
        return ExitKind.MISCONFIGURED
    return ExitKind.EARLY_ZERO if event.exit.code == 0 else ExitKind.STATUS


def _warm_words(turn: Turn, slot: Slot, event: events.Exited) -> str:
    if slot.why is Why.UNRESPONSIVE:
        return f"worker stopped answering for {turn.config.lease_s:g}s"
    return event.exit.words()


def _tell_warm(turn: Turn, slot: Slot, event: events.Exited) -> None:
    held = turn.in_flight(slot)
    runs = f", {held} run{'s' if held > 1 else ''} in flight" if held else ""
    turn.log("error", _warm_words(turn, slot, event) + runs, worker_id=slot.id, traceback_tail=event.traceback_tail,
             stderr_tail=list(event.stderr_tail[-20:]))  # fmt: skip


def _count_warm(turn: Turn, slot: Slot) -> None:
    if slot.solo:
        return
    turn.change(warm_exits=(*_recent(turn), turn.now.mono))
    if _died_young(turn, slot):
        turn.change(quick_exits=(*_recent_quick(turn), turn.now.mono))


def _recent(turn: Turn) -> tuple[float, ...]:
    return tuple(at for at in turn.state.warm_exits if turn.now.mono - at < WARM_WINDOW_S)


def _recent_quick(turn: Turn) -> tuple[float, ...]:
    return tuple(at for at in turn.state.quick_exits if turn.now.mono - at < WARM_WINDOW_S)


def _died_young(turn: Turn, slot: Slot) -> bool:
    return slot.ready_at is not None and turn.now.mono - slot.ready_at < QUICK_S


def how(turn: Turn, event: events.Exited) -> str:
    """The kind of an exit in one word: asked, warm or cold. For who counts them."""
    if turn.state.slot(event.worker_id) is None or was_asked(turn, event):
        return "asked"
    return "warm" if is_warm(turn, event) else "cold"


# --- guards ---------------------------------------------------------------------------------------------------------


def was_asked(turn: Turn, event: events.Exited) -> bool:
    """K0: we ended it, or it had to end itself, with nothing in flight any more. K1: it idled out, which an ACTIVE
    worker with nothing in flight may, and an idle v0 worker."""
    slot = slot_of(turn, event)
    if not slot.is_live:
        return slot.why not in (Why.BOOT_HANG, Why.UNRESPONSIVE)
    if event.exit.code == exits.RECYCLED_STATUS and slot.phase is Phase.ACTIVE:
        return not turn.in_flight(slot)
    if event.exit.is_known and event.exit.code != 0:
        return False
    if slot.phase is Phase.ACTIVE:
        return not turn.in_flight(slot)
    return slot.v0 and slot.ready_at is not None and turn.now.mono - slot.ready_at >= turn.config.idle_timeout_s


def is_warm(turn: Turn, event: events.Exited) -> bool:
    """In ACTIVE; and a READY slot, at least 1 s old, that a signal killed: that is no fault of the code's start."""
    slot = slot_of(turn, event)
    if slot.phase is Phase.ACTIVE or slot.why is Why.UNRESPONSIVE:
        return True
    return slot.phase is Phase.READY and event.exit.signal is not None and not _died_young(turn, slot)


def is_crash_loop(turn: Turn, event: events.Exited) -> bool:
    """Warm, for the sixth time in a minute. The deaths of solo workers do not count: they are the suspects' (L3)."""
    return is_warm(turn, event) and not slot_of(turn, event).solo and len(_recent(turn)) >= WARM_LIMIT


def is_second_quick(turn: Turn, event: events.Exited) -> bool:
    """Warm, less than a second after HELLO, and not for the first time in a minute."""
    slot = slot_of(turn, event)
    return is_warm(turn, event) and not slot.solo and _died_young(turn, slot) and bool(_recent_quick(turn))


def serves_beside(turn: Turn, event: events.Exited) -> bool:
    """Another slot serves."""
    return any(slot.id != event.worker_id for slot in turn.state.serving())


def is_sibling(turn: Turn, event: events.Exited) -> bool:
    """In COOLDOWN every booting worker began before the failure; in PROBING, when another is the probe."""
    others = [slot for slot in turn.state.booting() if slot.id != event.worker_id and not slot.solo]
    return turn.state.health is Health.COOLDOWN or bool(others)
