"""What is known of a worker group: its health, its slots, who waits for an answer. Frozen data, no decisions.

Terms. A *slot* is one worker process, from the decision to start it until its exit was seen. A *cold failure* is an
exit before the first claim. *Serving* slots have said HELLO, run the current code and take any run; a *solo* slot is an
extra one beside them that re-runs suspects, one at a time. All times are monotonic seconds unless named `_ms`, which
are Unix milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum

from tako.supervisor.exits import ExitKind

FAILING_FROM = 10  # consecutive cold failures from which a group is shown as failing


class Health(Enum):
    """A group's health. `contract.md` 3.2 is the table; `health.py` moves along it.

    COOLDOWN whose timer has gone off, with nobody to start a worker for, is called elapsed: `until` is None then.
    """

    UNPROVEN = "unproven"  # new code; no worker of it has said HELLO. Left by HELLO or a cold failure
    HEALTHY = "healthy"  # the last news was good. Left by a cold failure or a crash loop
    DEGRADED = "degraded"  # a worker failed while another serves. Left by the timer, HELLO, or the last slot's end
    COOLDOWN = "cooldown"  # a worker failed and nobody serves: enqueues are refused. Left by the timer, then by work
    PROBING = "probing"  # exactly one worker is tried. Left by its HELLO or its exit
    STOPPED = "stopped"  # shut down or paused. Left by an operator's retry


class Phase(Enum):
    """Where a slot is in its life. DRAINING and KILLING carry a `Why`."""

    BOOTING = "booting"  # decided, perhaps not spawned yet; no HELLO
    READY = "ready"  # HELLO, no claim
    ACTIVE = "active"  # has claimed at least once
    DRAINING = "draining"  # takes no new work; is to end by itself
    KILLING = "killing"  # a signal is on its way that it cannot refuse for long


class Why(Enum):
    """Why a slot is drained or killed."""

    IDLE = "idle"  # asked, and got permission
    DEPLOY = "deploy"  # its code is no longer the current one
    SHUTDOWN = "shutdown"
    BOOT_HANG = "boot hang"
    UNRESPONSIVE = "unresponsive"  # its lease or its time to reconnect ran out
    DEAF = "deaf"  # it asked for no run although there were some
    RECYCLED = "recycled"  # it ends itself: a thread of it would not end


LIVE = frozenset({Phase.BOOTING, Phase.READY, Phase.ACTIVE})
SERVING = frozenset({Phase.READY, Phase.ACTIVE})


@dataclass(frozen=True, slots=True)
class GroupConfig:
    """What a group may use, from `tako.toml`; `release` names the code that it runs."""

    group: str = "default"
    release: str = "dev"
    min_workers: int = 0
    max_workers: int = 1
    concurrency: int = 10
    idle_timeout_s: float = 300.0
    boot_timeout_s: float = 30.0
    drain_timeout_s: float = 30.0
    lease_s: float = 30.0

    def __post_init__(self) -> None:
        """Max is never less than min, and never zero, so that work can always be started for."""
        object.__setattr__(self, "max_workers", max(self.max_workers, self.min_workers, 1))


@dataclass(frozen=True, slots=True)
class Now:
    """The moment of an event: both clocks, and what the engine knows of the group's runs.

    `waiting` counts due runs that nobody has claimed, `suspects` those among them that must run alone (and are not in
    `waiting`), `in_flight` the runs that each worker holds.
    """

    mono: float
    unix_ms: int
    waiting: int = 0
    suspects: int = 0
    in_flight: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Slot:
    """One worker process as the supervisor sees it."""

    id: str
    phase: Phase
    asked_at: float
    solo: bool = False
    probe: bool = False  # row 18: only shows whether the code starts, so it may idle out at once
    v0: bool = False
    why: Why | None = None
    spawned_at: float | None = None
    ready_at: float | None = None
    claimed: bool = False
    boot_by: float | None = None
    kill_by: float | None = None
    reconnect_by: float | None = None

    @property
    def is_live(self) -> bool:
        """Whether it works, or is about to."""
        return self.phase in LIVE

    @property
    def is_serving(self) -> bool:
        """Whether it takes any run of the group."""
        return self.phase in SERVING and not self.solo

    def deadlines(self) -> Iterator[float]:
        """When something must happen to it, if nothing else does."""
        for at in (self.boot_by, self.kill_by, self.reconnect_by):
            if at is not None:
                yield at


@dataclass(frozen=True, slots=True)
class Failure:
    """How the last failed worker ended; what a refused enqueue is told."""

    words: str
    kind: ExitKind
    at_ms: int
    release: str
    exit_code: int | None = None
    signal: str | None = None
    ran_ms: int | None = None
    peak_rss_bytes: int | None = None
    traceback_tail: str | None = None
    stderr_tail: tuple[str, ...] = ()

    def is_like(self, other: Failure | None) -> bool:
        """Whether a person would call it the same failure, so that its output need not be printed again."""
        return other is not None and (
            (self.kind, self.exit_code, self.signal, self.traceback_tail)
            == (other.kind, other.exit_code, other.signal, other.traceback_tail)
        )


@dataclass(frozen=True, slots=True)
class Held:
    """An enqueue that waits to learn whether a booting worker says HELLO, until `until` at most."""

    ticket: int
    until: float


@dataclass(frozen=True, slots=True)
class GroupState:
    """All that the table looks at. `failures` counts cold failures in a row; `until` ends COOLDOWN or DEGRADED."""

    health: Health = Health.UNPROVEN
    failures: int = 0
    until: float | None = None
    failure: Failure | None = None
    since_ms: int | None = None  # of the first of `failures`
    slots: tuple[Slot, ...] = ()
    held: tuple[Held, ...] = ()
    warm_exits: tuple[float, ...] = ()  # of the last minute
    quick_exits: tuple[float, ...] = ()  # those among them of workers that had been ready for less than a second
    respawn_at: float | None = None
    told_queued: bool = False  # "queued while unhealthy" was logged for this failure
    paused: bool = False  # why it is STOPPED: people paused it, and it is to be started again

    @property
    def is_proven(self) -> bool:
        """Whether a worker of the current code has said HELLO, and none failed since but beside one that serves."""
        return self.health in (Health.HEALTHY, Health.DEGRADED)

    @property
    def is_failing(self) -> bool:
        """Row 26: broken for so long that `tako status` exits 1."""
        return self.failures >= FAILING_FROM and self.health in (Health.COOLDOWN, Health.PROBING, Health.DEGRADED)

    @property
    def is_elapsed(self) -> bool:
        """COOLDOWN is over, but there was nobody to start a worker for."""
        return self.health is Health.COOLDOWN and self.until is None

    def slot(self, worker_id: str) -> Slot | None:
        """The slot of this worker, if its exit has not been seen."""
        for slot in self.slots:
            if slot.id == worker_id:
                return slot
        return None

    def live(self, *, solo: bool = False) -> list[Slot]:
        """The slots that work or are about to: the normal ones, or the solo one."""
        return [slot for slot in self.slots if slot.is_live and slot.solo is solo]

    def serving(self) -> list[Slot]:
        """The slots that take any run of the group."""
        return [slot for slot in self.slots if slot.is_serving]

    def booting(self) -> list[Slot]:
        """The slots that have not said HELLO and are still expected to."""
        return [slot for slot in self.slots if slot.phase is Phase.BOOTING]


def target(state: GroupState, *, now: Now, config: GroupConfig) -> int:
    """How many normal workers the group should have now."""
    if not state.is_proven:  # what the code is worth is one worker's business to find out
        return 1 if now.waiting or now.suspects or config.min_workers else 0
    solo = {slot.id for slot in state.slots if slot.solo}
    live = {slot.id for slot in state.slots if slot.is_live} - solo
    # Runs in flight count, or a busy worker's queue would never start a second one.
    runs = now.waiting + sum(count for worker_id, count in now.in_flight.items() if worker_id in live)
    return max(config.min_workers, min(config.max_workers, -(-runs // config.concurrency)))


def next_due(state: GroupState) -> float | None:
    """When the group wants a `Tick` at the latest; None while nothing is due."""
    dues = [deadline for slot in state.slots for deadline in slot.deadlines()]
    dues += [held.until for held in state.held]
    dues += [at for at in (state.until, state.respawn_at) if at is not None]
    return min(dues, default=None)
