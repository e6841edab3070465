"""The supervisor's table, pure: a group's state and an event go in, the next state and what is to be done come out.

This is `contract.md` 3.2 row by row. `TABLE` lists for each event the rows that may answer it, in the order in which
they are asked; the first whose health and guard fit does. Rows are small functions that carry their number. Nothing
here knows a process, a socket, a clock or a database: `workers.py` carries the effects out and holds no decisions.

The idea behind it: a worker that dies *before its first claim* says that the code is broken, so starting it again at
once is pointless and hides the bug; the group refuses enqueues with the reason, and tries again ever more rarely, but
never gives up. A worker that dies *after a claim* is replaced at once, until that happens too often in a minute.

Two rules that no row states alone:
- DEGRADED means that somebody serves; when the last serving slot goes, it is COOLDOWN (`_settle`).
- A stopped group stays stopped when code changes; an operator's retry starts it again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tako.supervisor import deaths, events, rows
from tako.supervisor.rows import slot_of
from tako.supervisor.states import GroupConfig, GroupState, Health, Now, Phase
from tako.supervisor.turn import Turn

if TYPE_CHECKING:
    import random


def step(
    state: GroupState, event: events.Event, *, now: Now, rng: random.Random, config: GroupConfig
) -> tuple[GroupState, list[events.Effect]]:
    """Move the group along by one event. The effects are to be carried out in their order."""
    turn = Turn(state, now=now, rng=rng, config=config)
    for each in _due(state, now) if isinstance(event, events.Tick) else (event,):
        row_for(turn, each).act(turn, each)
        _settle(turn)
    if _durable(turn.state) != _durable(state):
        turn.emit(events.SaveHealth())
    return turn.state, turn.effects


def how_it_ended(state: GroupState, event: events.Exited, *, now: Now, rng: random.Random, config: GroupConfig) -> str:
    """Whether this exit is asked, warm or cold."""
    return deaths.how(Turn(state, now=now, rng=rng, config=config), event)


def _settle(turn: Turn) -> None:
    if turn.state.health is Health.DEGRADED and not turn.state.serving():
        turn.change(health=Health.COOLDOWN)


def _durable(state: GroupState) -> tuple[object, ...]:
    return state.failures, state.since_ms, state.failure, state.until, state.health


def _due(state: GroupState, now: Now) -> Iterator[events.Event]:
    """The timers that have gone off, in a fixed order."""

    def gone(at: float | None) -> bool:
        return at is not None and at <= now.mono

    for slot in state.slots:
        if gone(slot.boot_by):
            yield events.BootTimer(slot.id)
        if gone(slot.reconnect_by):
            yield events.ReconnectTimer(slot.id)
        if gone(slot.kill_by):
            yield events.KillTimer(slot.id)
    for held in state.held:
        if gone(held.until):
            yield events.HeldTimer(held.ticket)
    if gone(state.respawn_at):
        yield events.RespawnTimer()
    if gone(state.until):
        yield events.HealthTimer()


# --- guards ---------------------------------------------------------------------------------------------------------


def _always(turn: Turn, event: events.Event) -> bool:
    return True


def _in_phase(*phases: Phase) -> Callable[[Turn, Any], bool]:
    return lambda turn, event: slot_of(turn, event).phase in phases


def _is_unspawned(turn: Turn, event: events.OfWorker) -> bool:
    slot = slot_of(turn, event)
    return slot.phase is Phase.BOOTING and slot.spawned_at is None


def _says_hello(turn: Turn, event: events.Hello) -> bool:
    """A READY slot says it again after a reconnect; one that was adopted proves the code by it."""
    return slot_of(turn, event).phase in (Phase.BOOTING, Phase.READY)


def _is_wanted(turn: Turn, event: events.Event) -> bool:
    return turn.is_wanted


def _is_elapsed(turn: Turn, event: events.Event) -> bool:
    return turn.state.is_elapsed


def _is_elapsed_and_wanted(turn: Turn, event: events.Event) -> bool:
    return turn.state.is_elapsed and turn.is_wanted


def _is_alive(turn: Turn, event: events.Recorded) -> bool:
    return event.alive


# --- the table ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Row:
    """A row of `contract.md` 3.2: its number, the healths it is for, what must hold, what it does."""

    name: str
    healths: frozenset[Health]
    act: Callable[[Turn, Any], None]
    guard: Callable[[Turn, Any], bool] = _always


ANY = frozenset(Health)
RUNNING = ANY - {Health.STOPPED}
OPEN = frozenset({Health.UNPROVEN, Health.HEALTHY})
BROKEN = frozenset({Health.COOLDOWN, Health.PROBING})
COOLDOWN = frozenset({Health.COOLDOWN})
STOPPED = frozenset({Health.STOPPED})

_IGNORED = Row("-", ANY, rows.nothing)

TABLE: dict[type[events.Event], tuple[Row, ...]] = {
    events.Work: (
        Row("1", OPEN, rows.row_1),
        Row("12b", COOLDOWN, rows.row_12, _is_elapsed_and_wanted),
        Row("16", BROKEN, rows.row_16),
    ),
    events.Enqueue: (
        Row("open", frozenset({Health.HEALTHY, Health.DEGRADED}), rows.accept),
        Row("5b", frozenset({Health.UNPROVEN}), rows.row_5b),
        Row("14", COOLDOWN, rows.row_14, _is_elapsed),
        Row("11", COOLDOWN, rows.row_11),
        Row("15", frozenset({Health.PROBING}), rows.row_15),
        Row("25", STOPPED, rows.row_25_enqueue),
    ),
    events.GaveUp: (Row("gave up", ANY, rows.gave_up),),
    events.HeldTimer: (Row("14 timer", ANY, rows.row_14_timer),),
    events.Spawned: (Row("2", RUNNING, rows.row_2, _is_unspawned),),
    events.SpawnError: (Row("3", RUNNING, rows.row_3, _is_unspawned),),
    events.Hello: (Row("4", RUNNING, rows.row_4, _says_hello), Row("22 back", ANY, rows.row_22_back),),
    events.Claim: (Row("5", RUNNING, rows.row_5, _in_phase(Phase.READY, Phase.BOOTING)),),
    events.BootTimer: (Row("6", ANY, rows.row_6, _in_phase(Phase.BOOTING)),),
    events.Exited: (
        Row("20", ANY, deaths.row_20, deaths.was_asked),
        Row("10", RUNNING, deaths.row_10, deaths.is_crash_loop),
        Row("9", RUNNING, deaths.row_9, deaths.is_second_quick),
        Row("8", RUNNING, deaths.row_8, deaths.is_warm),
        Row("7c", BROKEN, deaths.row_7c, deaths.is_sibling),
        Row("7b", RUNNING, deaths.row_7, deaths.serves_beside),
        Row("7", RUNNING, deaths.row_7),
        Row("25", STOPPED, deaths.row_20),
    ),
    events.HealthTimer: (
        Row("12", COOLDOWN, rows.row_12, _is_wanted),
        Row("13", COOLDOWN, rows.row_13),
        Row("17", frozenset({Health.DEGRADED}), rows.row_17),
    ),
    events.RespawnTimer: (Row("9 timer", ANY, deaths.row_9_timer),),
    events.NewCode: (Row("18", RUNNING, rows.row_18),),
    events.OperatorRetry: (Row("18", ANY, rows.row_18),),
    events.IdleAsked: (Row("19", ANY, rows.row_19),),
    events.KillTimer: (Row("20 timer", ANY, rows.row_20_timer),),
    events.LeaseExpired: (
        Row("21", ANY, rows.row_21, _in_phase(Phase.READY, Phase.ACTIVE, Phase.DRAINING)),
    ),
    events.Deaf: (
        Row("21b", ANY, deaths.row_21b, _in_phase(Phase.READY, Phase.ACTIVE)),
    ),
    events.Leaving: (
        Row("21c", ANY, deaths.row_21c, _in_phase(Phase.READY, Phase.ACTIVE)),
    ),
    events.ReconnectTimer: (
        Row("21", ANY, rows.row_21, _in_phase(Phase.READY, Phase.ACTIVE, Phase.DRAINING)),
    ),
    events.ConnectionLost: (Row("22", ANY, rows.row_22, _in_phase(Phase.READY, Phase.ACTIVE)),),
    events.Reconnected: (Row("22 back", ANY, rows.row_22_back),),
    events.Recorded: (
        Row("24", RUNNING, rows.row_24, _is_alive),
        Row("23", ANY, rows.row_23),
    ),
    events.Shutdown: (Row("25", ANY, rows.row_25),),
}  # fmt: skip


def row_for(turn: Turn, event: events.Event) -> Row:
    """The row that answers the event; one that does nothing when none fits."""
    if isinstance(event, events.OfWorker) and not _is_for(turn, event):
        return _IGNORED
    for row in TABLE[type(event)]:
        if turn.state.health in row.healths and row.guard(turn, event):
            return row
    return _IGNORED


def _is_for(turn: Turn, event: events.OfWorker) -> bool:
    """Whether the event concerns a slot of ours: its exit may have been seen, or it may be of an earlier engine."""
    return isinstance(event, events.Recorded | events.IdleAsked) or turn.state.slot(event.worker_id) is not None
