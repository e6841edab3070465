"""What happens to a worker group, and what is to be done about it: the words `health.step` takes and answers with."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from tako.supervisor.exits import Exit
from tako.supervisor.states import Why

# --- events ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened."""


@dataclass(frozen=True, slots=True)
class OfWorker(Event):
    """Something that happened to one worker. An id that no slot has (its exit was seen) is ignored."""

    worker_id: str


@dataclass(frozen=True, slots=True)
class Work(Event):
    """Something is, or may be, runnable: look at `now.waiting`."""


@dataclass(frozen=True, slots=True)
class Enqueue(Event):
    """Somebody wants to enqueue and can wait until `deadline`."""

    ticket: int
    deadline: float


@dataclass(frozen=True, slots=True)
class GaveUp(Event):
    """The caller of a held enqueue is gone."""

    ticket: int


@dataclass(frozen=True, slots=True)
class Spawned(OfWorker):
    """The process exists."""


@dataclass(frozen=True, slots=True)
class SpawnError(OfWorker):
    """The operating system could not start it; `error` has errno's text and the path."""

    error: str


@dataclass(frozen=True, slots=True)
class Hello(OfWorker):
    """It has imported its files and can claim. A v0 worker says so by its first `claim_run`."""

    v0: bool = False


@dataclass(frozen=True, slots=True)
class Claim(OfWorker):
    """It has claimed a run."""


@dataclass(frozen=True, slots=True)
class Exited(OfWorker):
    """The process is gone. `frame` is where its Python stood when a boot hung; the tails are of its stderr."""

    exit: Exit
    frame: str | None = None
    traceback_tail: str | None = None
    stderr_tail: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class IdleAsked(OfWorker):
    """It has nothing to do and asks whether it may exit; `idle_s` since its last run ended."""

    idle_s: float


@dataclass(frozen=True, slots=True)
class LeaseExpired(OfWorker):
    """A lease of its runs ran out, and the process is alive."""


@dataclass(frozen=True, slots=True)
class Deaf(OfWorker):
    """Runs wait and it has room, but it has asked for none for `quiet_s`, and the process is alive."""

    quiet_s: float


@dataclass(frozen=True, slots=True)
class Leaving(OfWorker):
    """It takes nothing new and ends itself: a thread of it would not end."""


@dataclass(frozen=True, slots=True)
class ConnectionLost(OfWorker):
    """Its connection is gone, and the process is alive."""


@dataclass(frozen=True, slots=True)
class Reconnected(OfWorker):
    """It is back."""


@dataclass(frozen=True, slots=True)
class Recorded(OfWorker):
    """A worker that an earlier engine had recorded; `same_boot` of the machine, and `alive` or not.

    `why` that engine had asked it to end, if it had.
    """

    alive: bool
    same_boot: bool
    ready: bool = False
    claimed: bool = False
    solo: bool = False
    v0: bool = False
    why: Why | None = None


@dataclass(frozen=True, slots=True)
class NewCode(Event):
    """A deploy, a saved file, or a changed environment. `proven`: a gate has booted it already."""

    proven: bool = False


@dataclass(frozen=True, slots=True)
class OperatorRetry(Event):
    """A person says that the cause is mended."""


@dataclass(frozen=True, slots=True)
class Shutdown(Event):
    """Shut down or remove the group; or, `paused`, stop it until somebody says that it is to go on."""

    timeout_s: float
    paused: bool = False


@dataclass(frozen=True, slots=True)
class Tick(Event):
    """The time that `states.next_due` named has come. Becomes the timers below, each of which has its row."""


@dataclass(frozen=True, slots=True)
class BootTimer(OfWorker):
    """It has not said HELLO in time."""


@dataclass(frozen=True, slots=True)
class KillTimer(OfWorker):
    """It was asked to end and has not."""


@dataclass(frozen=True, slots=True)
class ReconnectTimer(OfWorker):
    """It has not come back in time."""


@dataclass(frozen=True, slots=True)
class HealthTimer(Event):
    """COOLDOWN or DEGRADED has lasted long enough."""


@dataclass(frozen=True, slots=True)
class HeldTimer(Event):
    """A held enqueue can wait no longer."""

    ticket: int


@dataclass(frozen=True, slots=True)
class RespawnTimer(Event):
    """The second after a worker that died young is over."""


# --- effects --------------------------------------------------------------------------------------------------------


class Refusal(Enum):
    """Why an enqueue is refused."""

    UNHEALTHY = "unhealthy"  # the last worker failed, and the next start is not due
    STARTING = "starting"  # a worker is being tried, and the caller can wait no longer
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Effect:
    """Something to do."""


@dataclass(frozen=True, slots=True)
class Spawn(Effect):
    """Start a worker as soon as there is a permit; answer with `Spawned` or `SpawnError`."""

    worker_id: str
    solo: bool


@dataclass(frozen=True, slots=True)
class Withdraw(Effect):
    """Forget a `Spawn` that has not happened yet."""

    worker_id: str


@dataclass(frozen=True, slots=True)
class Kill(Effect):
    """Send a signal to a worker's group."""

    worker_id: str
    signal: str


@dataclass(frozen=True, slots=True)
class StopClaims(Effect):
    """Give the worker no more runs."""

    worker_id: str


@dataclass(frozen=True, slots=True)
class Accept(Effect):
    """The enqueue may be stored."""

    ticket: int


@dataclass(frozen=True, slots=True)
class Hold(Effect):
    """The enqueue waits; `Accept` or `Reject` will come."""

    ticket: int


@dataclass(frozen=True, slots=True)
class Reject(Effect):
    """The enqueue is refused; nothing is written."""

    ticket: int
    refusal: Refusal


@dataclass(frozen=True, slots=True)
class AnswerIdle(Effect):
    """Answer `IdleAsked`."""

    worker_id: str
    may_exit: bool


@dataclass(frozen=True, slots=True)
class Reclaim(Effect):
    """Take the worker's runs back. `counted`: the death may be a run's fault (L2, L3); `death` says how, in brief."""

    worker_id: str
    counted: bool
    death: str | None


@dataclass(frozen=True, slots=True)
class SaveWorker(Effect):
    """Record the worker, so that an engine which starts after ours was killed finds it."""

    worker_id: str


@dataclass(frozen=True, slots=True)
class ForgetWorker(Effect):
    """Its process is gone."""

    worker_id: str


@dataclass(frozen=True, slots=True)
class SaveHealth(Effect):
    """What must survive a restart has changed."""


@dataclass(frozen=True, slots=True)
class Log(Effect):
    """Tell people."""

    level: str
    message: str
    fields: dict[str, object] = field(default_factory=dict)
