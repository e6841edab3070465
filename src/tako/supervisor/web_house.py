"""What a pool of web instances is told, and what it needs of the rest of the house."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from tako.supervisor.instance import Failure
from tako.supervisor.spawn import SpawnRequest

if TYPE_CHECKING:
    from tako.supervisor.instance import Instance

# What to start for an instance with this id; the mapping belongs into its environment.
Make = Callable[[str, Mapping[str, str]], SpawnRequest]


@dataclass(frozen=True, slots=True, kw_only=True)
class WebConfig:
    """How the web app is served. `idle_timeout_s` None: never scaled to zero; `health` None: `ready` is enough."""

    instances: int = 1
    idle_timeout_s: float | None = None
    start_timeout_s: float = 30.0
    drain_timeout_s: float = 30.0
    health: str | None = None
    health_host: str = "localhost"
    development: bool = False


@dataclass(frozen=True, slots=True)
class Ready:
    """New instances have begun to serve: `reason` is why they were started, `boot_ms` how long the slowest took."""

    reason: str
    boot_ms: int
    pids: tuple[int, ...]
    recovered_from: Failure | None = None


class InstanceRecords(Protocol):
    """What must survive the daemon, written before the thing is done, so that the next one knows what there is."""

    def new_id(self) -> str:
        """The name of another instance; no earlier daemon has used it. "" leaves it to the pool."""
        ...

    def intend(self, new: Instance) -> None:
        """It is about to be started."""
        ...

    def started(self, new: Instance) -> None:
        """It is ready, and has a `record()`."""
        ...

    def leaving(self, old: Instance) -> None:
        """It finishes, and ends."""
        ...

    def ended(self, gone: Instance) -> None:
        """There is no such process any more. May be told twice."""
        ...


class NoRecords:
    """For development, where instances do not outlive their daemon."""

    def new_id(self) -> str:
        """The pool counts."""
        return ""

    def intend(self, new: Instance) -> None:
        """Nothing."""

    started = leaving = ended = intend


class WebHouse(Protocol):
    """What the pool needs of its host. Nothing waits, and nothing raises but `spawn_request`."""

    def spawn_request(self, instance_id: str, web: Mapping[str, str]) -> SpawnRequest:
        """What to start, by `protocol.control.argv`; `web` belongs into its environment. Its `fds` are the pool's.

        A TakoError or OSError is a failed start, with its text as the reason.
        """
        ...

    def ready(self, ready: Ready) -> None:
        """New code, or the same again, serves."""
        ...

    def failed(self, failure: Failure, *, is_repeat: bool) -> None:
        """It could not be started, or died. `is_repeat`: the same as last time, so it need not be shown again."""
        ...

    def changed(self) -> None:
        """`snapshot` is other than before."""
        ...

    def redact(self, text: str) -> str:
        """The text without secrets."""
        ...

    def output(self, instance_id: str, pid: int, line: str) -> None:
        """An instance has printed a line (redacted, without control characters)."""
        ...

    def log(self, level: str, message: str, **fields: Any) -> None:
        """The pool has something to say."""
        ...
