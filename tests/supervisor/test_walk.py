"""The table walked through: every state that few events can reach, and long random histories.

In each state the invariants hold, and from each the group can be served again: there is no state without an exit.
`TAKO_WALK_DEPTH`, `TAKO_WALK_EVENTS` and `TAKO_WALK_HISTORIES` make it larger before a release.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from tako.supervisor import events, health
from tako.supervisor.exits import Exit, ExitKind
from tako.supervisor.states import (
    Failure,
    GroupConfig,
    GroupState,
    Health,
    Held,
    Now,
    Phase,
    Slot,
    Why,
    next_due,
)
from tako.supervisor.turn import HELD_LIMIT, Turn

DEPTH = int(os.environ.get("TAKO_WALK_DEPTH", "3"))
EVENTS = int(os.environ.get("TAKO_WALK_EVENTS", "4"))
HISTORIES = int(os.environ.get("TAKO_WALK_HISTORIES", "1000"))

ENDS = (
    Exit(1, None, 84),
    Exit(0, None, 51),
    Exit(78, None, 60),
    Exit(None, "SIGKILL", 2310, 1 << 30, True),
    Exit(None, None, 9),
)
FAILED = Failure(words="worker exited", kind=ExitKind.STATUS, at_ms=0, release="dev", exit_code=1)


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


def canonical(world: World) -> World:
    """The world with its names in order and its counters bounded, so that what is alike is one state."""
    names = {slot.id: f"w{at}" for at, slot in enumerate(world.state.slots)}
    state = replace(
        world.state,
        slots=tuple(replace(slot, id=names[slot.id], asked_at=0.0) for slot in world.state.slots),
        held=tuple(Held(at, held.until) for at, held in enumerate(world.state.held)),
        until=None if world.state.until is None else float(round(world.state.until)),
        failures=min(world.state.failures, 2),
        failure=FAILED if world.state.failure else None,
        since_ms=0 if world.state.failure else None,
    )
    return replace(world, state=state, busy=frozenset(names[each] for each in world.busy if each in names))


def beginnings() -> dict[str, World]:
    """States that take many events to reach, besides the first."""
    serving = Slot("a", Phase.ACTIVE, asked_at=0.0, spawned_at=990.0, ready_at=999.5, claimed=True)
    booting = Slot("b", Phase.BOOTING, asked_at=0.0, spawned_at=999.0, boot_by=1029.0)
    crashing = GroupState(Health.HEALTHY, slots=(serving,), warm_exits=(960.0, 970.0, 980.0, 985.0, 990.0))
    failed = GroupState(Health.COOLDOWN, failures=9, failure=FAILED, since_ms=1)
    return {
        "new": World(GroupState()),
        "failed before": World(failed),
        "crashing": World(crashing, waiting=1, busy=frozenset({"a"})),
        "dying young": World(replace(crashing, warm_exits=(990.0,), quick_exits=(990.0,)), waiting=1),
        "serving, a second boots": World(
            GroupState(Health.HEALTHY, slots=(serving, booting)), waiting=3, busy=frozenset({"a"})
        ),
        "degraded": World(
            GroupState(Health.DEGRADED, failures=1, failure=FAILED, since_ms=1, until=1001.0, slots=(serving,)),
            waiting=1,
        ),
        "probing": World(replace(failed, health=Health.PROBING, slots=(booting,)), waiting=1),
    }


def test_every_state_within_reach_holds_the_invariants_and_has_an_exit_and_every_row_is_used() -> None:
    rows: set[str] = set()
    for min_workers in (0, 2):
        walker = Walker(GroupConfig(min_workers=min_workers, max_workers=2, concurrency=1))
        frontier = {canonical(world) for world in beginnings().values()}
        seen = set(frontier)
        for _ in range(DEPTH):
            reached = {canonical(after) for world in frontier for after in walker.moves(world)}
            frontier = {world for world in reached if len(world.state.slots) <= 4} - seen
            seen |= frontier
        for world in seen:
            heals(walker, world)
        rows |= walker.rows

    declared = {row.name for answers in health.TABLE.values() for row in answers}
    assert declared - rows == {"gave up"}, "rows that no state reaches"


@pytest.mark.parametrize("min_workers", [0, 2])
def test_every_state_that_two_workers_can_reach_from_the_beginning_holds_the_invariants_and_has_an_exit(
    min_workers: int,
) -> None:
    walker = Walker(GroupConfig(min_workers=min_workers, max_workers=2, concurrency=1))
    frontier = {canonical(World(GroupState()))}
    seen = set(frontier)
    for _ in range(EVENTS):
        reached = {canonical(after) for world in frontier for after in walker.moves(world)}
        frontier = {world for world in reached if len(world.state.slots) <= 2} - seen
        seen |= frontier
    print(f"{len(seen)} states within {EVENTS} events, {len(walker.rows)} rows")
    for world in seen:
        heals(walker, world)
    assert len(seen) > 3 * 4**EVENTS


@pytest.mark.parametrize("chunk", range(5))
def test_long_histories_hold_the_invariants_and_end_served(chunk: int) -> None:
    for seed in range(chunk, HISTORIES, 5):
        rng = random.Random(seed)
        config = GroupConfig(
            min_workers=rng.choice([0, 0, 1, 2]), max_workers=rng.choice([1, 2, 4]), concurrency=rng.choice([1, 10])
        )
        walker = Walker(config, seed=seed)
        world = World(GroupState())
        for _ in range(100):
            world = _random_move(walker, world, rng)
        heals(walker, world)


def _random_move(walker: Walker, world: World, rng: random.Random) -> World:
    world = replace(world, waiting=rng.choice([0, 0, 1, 5]), suspects=rng.choice([0, 0, 0, 2]))
    chance = rng.random()
    if chance < 0.25:
        return walker.tick(world)
    if chance < 0.35:
        return walker.step(world, events.Enqueue(walker.ticket(), deadline=1000 + rng.uniform(0, 9)))
    if chance < 0.45:
        return walker.step(shifted(world, rng.uniform(0, 3)), events.Tick())
    if chance < 0.5:
        changes = [events.NewCode(), events.NewCode(proven=True), events.OperatorRetry(), events.Shutdown(30)]
        return walker.step(world, rng.choice(changes))
    if chance < 0.6 or not world.state.slots:
        return walker.step(world, events.Work())
    slot = rng.choice(world.state.slots)
    if slot.id in world.busy and rng.random() < 0.3:
        return replace(world, busy=world.busy - {slot.id})
    return walker.step(world, rng.choice(list(happenings(slot))))
