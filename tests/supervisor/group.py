"""A group on a table: `health.step` with a clock and a queue that a test moves by hand."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TypeVar

from tako.supervisor import events, health
from tako.supervisor.exits import Exit
from tako.supervisor.states import GroupConfig, GroupState, Health, Now, Phase, Slot, next_due
from tako.supervisor.turn import Turn

E = TypeVar("E", bound=events.Effect)
START_MS = 1_700_000_000_000
CRASH = Exit(code=1, signal=None, ran_ms=84)


class Group:
    """The state, what was done to it, and what it asked for."""

    def __init__(self, *, state: GroupState | None = None, seed: int = 1, **config: object) -> None:
        self.state = state or GroupState()
        self.config = GroupConfig(**config)  # type: ignore[arg-type]
        self.rng = random.Random(seed)
        self.now = Now(mono=1000.0, unix_ms=START_MS)
        self.effects: list[events.Effect] = []
        self.log: list[events.Log] = []
        self.rows: list[str] = []
        self.spawned: list[events.Spawn] = []
        self._ticket = 0

    # --- time and work ----------------------------------------------------------------------------------------------

    def queue(self, waiting: int, *, suspects: int = 0) -> None:
        self.now = replace(self.now, waiting=waiting, suspects=suspects)

    def hold_runs(self, slot: Slot, runs: int) -> None:
        self.now = replace(self.now, in_flight={**self.now.in_flight, slot.id: runs})

    def advance(self, seconds: float) -> None:
        """Let time pass, with each timer going off when it is due, as the shell does."""
        end = self.now.mono + seconds
        while (due := next_due(self.state)) is not None and due <= end:
            self._move_to(max(due, self.now.mono))
            self.do(events.Tick())
        self._move_to(end)

    def _move_to(self, mono: float) -> None:
        self.now = replace(self.now, mono=mono, unix_ms=START_MS + round((mono - 1000.0) * 1000))

    # --- events -----------------------------------------------------------------------------------------------------

    def do(self, event: events.Event) -> list[events.Effect]:
        self._note_row(event)
        self.state, self.effects = health.step(self.state, event, now=self.now, rng=self.rng, config=self.config)
        self.log += [effect for effect in self.effects if isinstance(effect, events.Log)]
        self.spawned += [effect for effect in self.effects if isinstance(effect, events.Spawn)]
        return self.effects

    def _note_row(self, event: events.Event) -> None:
        turn = Turn(self.state, now=self.now, rng=random.Random(0), config=self.config)
        due = health._due(self.state, self.now) if isinstance(event, events.Tick) else [event]
        self.rows += [health.row_for(turn, each).name for each in due]

    def work(self, waiting: int = 1) -> None:
        self.queue(waiting)
        self.do(events.Work())

    def enqueue(self, *, wait_s: float = 5.0) -> int:
        self._ticket += 1
        self.do(events.Enqueue(self._ticket, deadline=self.now.mono + wait_s))
        return self._ticket

    def boot(self) -> Slot:
        """The process of the last `Spawn` exists."""
        slot = [slot for slot in self.state.booting() if slot.spawned_at is None][-1]
        self.do(events.Spawned(slot.id))
        return self.get(slot)

    def hello(self, slot: Slot | None = None, *, v0: bool = False) -> Slot:
        slot = slot or self.boot()
        self.do(events.Hello(slot.id, v0=v0))
        return self.get(slot)

    def claim(self, slot: Slot, *, runs: int = 1) -> Slot:
        self.hold_runs(slot, runs)
        self.do(events.Claim(slot.id))
        return self.get(slot)

    def exit(self, slot: Slot, how: Exit = CRASH, *, frame: str | None = None) -> None:
        self.do(events.Exited(slot.id, how, frame=frame, traceback_tail="KeyError: 'x'", stderr_tail=("one", "two")))

    def active(self, *, runs: int = 1) -> Slot:
        """A worker that has claimed, by the ordinary path, with nothing else waiting."""
        self.work()
        slot = self.hello()
        self.queue(0)
        return self.claim(slot, runs=runs)

    def cold_failure(self, how: Exit = CRASH) -> None:
        """A boot that ends in an exit, from wherever the group is; COOLDOWN if nobody serves."""
        if not self.state.booting():
            self.work()
        self.exit(self.boot(), how)

    # --- what came of it --------------------------------------------------------------------------------------------

    def get(self, slot: Slot) -> Slot:
        found = self.state.slot(slot.id)
        assert found is not None, f"{slot.id} is gone"
        return found

    def of(self, kind: type[E]) -> list[E]:
        return [effect for effect in self.effects if isinstance(effect, kind)]

    @property
    def health(self) -> Health:
        return self.state.health

    @property
    def phases(self) -> list[str]:
        return [slot.phase.value for slot in self.state.slots]


def exits(signal: str | None = None, code: int | None = None, *, ran_ms: int = 84, oom: bool = False) -> Exit:
    return Exit(code=code, signal=signal, ran_ms=ran_ms, peak_rss_bytes=2_040_109_466, oom=oom)


__all__ = ["CRASH", "Group", "Health", "Phase", "exits"]
