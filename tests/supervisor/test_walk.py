"""The table walked through: every state that few events can reach, and long random histories.

In each state the invariants hold, and from each the group can be served again: there is no state without an exit.
`TAKO_WALK_DEPTH`, `TAKO_WALK_EVENTS` and `TAKO_WALK_HISTORIES` make it larger; `scripts/gate model` does.
"""

from __future__ import annotations

import os
import random
from dataclasses import replace

import pytest
from tests.supervisor.walker import Walker, World, happenings, heals, shifted

from tako.supervisor import events, health
from tako.supervisor.exits import ExitKind
from tako.supervisor.states import Failure, GroupConfig, GroupState, Health, Held, Phase, Slot

DEPTH = int(os.environ.get("TAKO_WALK_DEPTH", "3"))
EVENTS = int(os.environ.get("TAKO_WALK_EVENTS", "4"))
HISTORIES = int(os.environ.get("TAKO_WALK_HISTORIES", "1000"))

FAILED = Failure(words="worker exited", kind=ExitKind.STATUS, at_ms=0, release="dev", exit_code=1)


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
