"""Walking through the supervisor's table: a group with its clock and queue, what must be true after every event, and
how a group is served again once nothing goes wrong any more."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

from tako.supervisor import events, health
from tako.supervisor.exits import Exit
from tako.supervisor.states import GroupConfig, GroupState, Health, Held, Now, Phase, Slot, Why, next_due
from tako.supervisor.turn import HELD_LIMIT, Turn

ENDS = (
    Exit(1, None, 84),
    Exit(0, None, 51),
    Exit(78, None, 60),
    Exit(None, "SIGKILL", 2310, 1 << 30, True),
    Exit(None, None, 9),
)


@dataclass(frozen=True)
class World:
    """A group with its clock and queue. Times are kept relative to `now` = 1000, so that equal situations are equal."""

    state: GroupState
    waiting: int = 0
    suspects: int = 0
    busy: frozenset[str] = frozenset()

    @property
    def now(self) -> Now:
        return Now(1000.0, 5_000_000, self.waiting, self.suspects, dict.fromkeys(self.busy, 1))


class Walker:
    """Applies events, checks what must hold after each, and remembers which rows have answered."""

    def __init__(self, config: GroupConfig, *, seed: int = 7) -> None:
        self.config = config
        self.rng = random.Random(seed)
        self.rows: set[str] = set()
        self._ticket = 100

    def step(self, world: World, event: events.Event) -> World:
        before = world.state
        self._note(world, event)
        state, effects = health.step(before, event, now=world.now, rng=self.rng, config=self.config)
        check(before, event, state, effects, now=world.now, config=self.config)
        busy = world.busy
        for effect in effects:
            if isinstance(effect, events.Reclaim):
                busy -= {effect.worker_id}
        if isinstance(event, events.Claim) and state.slot(event.worker_id) is not None:
            busy |= {event.worker_id}
        return replace(world, state=state, busy=busy)

    def _note(self, world: World, event: events.Event) -> None:
        turn = Turn(world.state, now=world.now, rng=self.rng, config=self.config)
        due = health._due(world.state, world.now) if isinstance(event, events.Tick) else [event]
        self.rows |= {health.row_for(turn, each).name for each in due}

    def tick(self, world: World) -> World:
        """Time passes until the next thing is due."""
        due = next_due(world.state)
        if due is None:
            return self.step(shifted(world, 70.0), events.Tick())
        return self.step(shifted(world, max(0.0, due - 1000.0)), events.Tick())

    def ticket(self) -> int:
        self._ticket += 1
        return self._ticket

    def moves(self, world: World) -> Iterator[World]:
        """All that can happen next."""
        for waiting, suspects in ((0, 0), (1, 0), (3, 1)):
            yield self.step(replace(world, waiting=waiting, suspects=suspects), events.Work())
        yield self.step(world, events.Enqueue(self.ticket(), deadline=1005.0))
        yield self.tick(world)
        yield self.step(shifted(world, 0.5), events.Tick())
        yield self.step(world, events.NewCode())
        yield self.step(world, events.NewCode(proven=True))
        yield self.step(world, events.OperatorRetry())
        yield self.step(world, events.Shutdown(timeout_s=30))
        yield self.step(world, events.Recorded("adopted", alive=False, same_boot=True))
        if not world.state.slots:
            for claimed in (False, True):
                recorded = events.Recorded("adopted", alive=True, same_boot=True, ready=True, claimed=claimed)
                yield self.step(world, recorded)
        for slot in world.state.slots:
            for event in happenings(slot):
                yield self.step(world, event)
            if slot.id in world.busy:
                yield replace(world, busy=world.busy - {slot.id})


def happenings(slot: Slot) -> Iterator[events.Event]:
    """What can happen to one worker."""
    if slot.spawned_at is None:
        yield events.Spawned(slot.id)
        yield events.SpawnError(slot.id, "[Errno 11] Resource temporarily unavailable")
        return
    yield from (events.Exited(slot.id, end) for end in ENDS)
    yield events.Hello(slot.id)
    yield events.Claim(slot.id)
    yield events.IdleAsked(slot.id, idle_s=400)
    yield events.IdleAsked(slot.id, idle_s=0)
    yield events.LeaseExpired(slot.id)
    yield events.Deaf(slot.id, quiet_s=30)
    yield events.Leaving(slot.id)
    yield events.ConnectionLost(slot.id)
    yield events.Reconnected(slot.id)


def shifted(world: World, seconds: float) -> World:
    """The same world `seconds` later: all its times lie that much nearer."""

    def moved(at: float | None) -> float | None:
        return None if at is None else round(at - seconds, 3)

    def slot_later(slot: Slot) -> Slot:
        return replace(
            slot,
            asked_at=slot.asked_at - seconds,
            spawned_at=moved(slot.spawned_at),
            ready_at=moved(slot.ready_at),
            boot_by=moved(slot.boot_by),
            kill_by=moved(slot.kill_by),
            reconnect_by=moved(slot.reconnect_by),
        )

    state = world.state
    state = replace(
        state,
        until=moved(state.until),
        respawn_at=moved(state.respawn_at),
        slots=tuple(slot_later(slot) for slot in state.slots),
        held=tuple(Held(held.ticket, round(held.until - seconds, 3)) for held in state.held),
        warm_exits=tuple(round(at - seconds, 3) for at in state.warm_exits),
        quick_exits=tuple(round(at - seconds, 3) for at in state.quick_exits),
    )
    return replace(world, state=state)


def check(
    before: GroupState,
    event: events.Event,
    state: GroupState,
    effects: list[events.Effect],
    *,
    now: Now,
    config: GroupConfig,
) -> None:
    """What must be true after every event."""
    normal = [slot for slot in state.slots if slot.is_live and not slot.solo]
    serving = state.serving()
    if state.health is Health.PROBING:
        probes = [slot for slot in state.slots if slot.phase is Phase.BOOTING or slot.why is Why.BOOT_HANG]
        assert probes, "PROBING, and nobody is tried"
    if state.health in (Health.PROBING, Health.COOLDOWN) and not isinstance(event, events.Recorded):
        served = {slot.id for slot in before.serving()}
        assert {slot.id for slot in serving} <= served, "served, and called broken"
    if state.health is Health.DEGRADED:
        assert serving
        assert state.until is not None
    if state.health is Health.STOPPED:
        assert not [slot for slot in state.slots if slot.is_live]
    if state.held:
        assert state.health in (Health.UNPROVEN, Health.PROBING)
    assert len(state.held) <= HELD_LIMIT
    assert len(normal) <= max(config.max_workers, 1) + (1 if before.health is Health.UNPROVEN else 0)
    assert len(state.live(solo=True)) <= 1
    for slot in state.slots:
        assert slot.is_live or slot.why is not None
        assert slot.phase is not Phase.BOOTING or slot.spawned_at is None or slot.boot_by is not None
    if isinstance(event, events.Tick):
        due = next_due(state)
        assert due is None or due > now.mono, "a timer that has gone off is still armed"
    _check_tickets(before, event, state, effects)
    _check_spawns(before, state, effects)


def _check_tickets(before: GroupState, event: events.Event, state: GroupState, effects: list[events.Effect]) -> None:
    """Each enqueue is held or answered, once."""
    asked = {held.ticket for held in before.held} | ({event.ticket} if isinstance(event, events.Enqueue) else set())
    asked -= {event.ticket} if isinstance(event, events.GaveUp) else set()
    answers = [effect.ticket for effect in effects if isinstance(effect, events.Accept | events.Reject)]
    assert len(answers) == len(set(answers))
    assert set(answers) | {held.ticket for held in state.held} == asked
    assert not set(answers) & {held.ticket for held in state.held}


def _check_spawns(before: GroupState, state: GroupState, effects: list[events.Effect]) -> None:
    spawned = {effect.worker_id for effect in effects if isinstance(effect, events.Spawn)}
    known = {slot.id for slot in before.slots}
    assert spawned == {slot.id for slot in state.slots if slot.spawned_at is None and slot.id not in known}
    withdrawn = {effect.worker_id for effect in effects if isinstance(effect, events.Withdraw)}
    assert not withdrawn & {slot.id for slot in state.slots}
    if state.health is Health.PROBING and before.health is not Health.PROBING:
        assert len(spawned) <= 1, "at most one worker is tried"


def heals(walker: Walker, world: World) -> None:
    """When nothing goes wrong any more, an enqueue is accepted and its run claimed within a few minutes."""
    if world.state.health is Health.STOPPED:
        world = walker.step(world, events.OperatorRetry())
    world = replace(world, waiting=1, suspects=0, busy=frozenset())
    for _ in range(60):
        world = walker.step(world, events.Work())
        world = _behave(walker, world)
        if world.busy and world.state.health is Health.HEALTHY:
            return
        world = walker.tick(world)
    raise AssertionError(f"never served again: {world.state}")


def _behave(walker: Walker, world: World) -> World:
    """Every process does what it should."""
    for slot in world.state.slots:
        if slot.spawned_at is None:
            world = walker.step(world, events.Spawned(slot.id))
    for slot in world.state.slots:
        if slot.phase in (Phase.DRAINING, Phase.KILLING):
            world = walker.step(world, events.Exited(slot.id, Exit(0, None, 100)))
        elif slot.phase is Phase.BOOTING:
            world = walker.step(world, events.Hello(slot.id))
        elif slot.reconnect_by is not None:
            world = walker.step(world, events.Reconnected(slot.id))
    for slot in world.state.serving():
        world = walker.step(world, events.Claim(slot.id))
    return world
