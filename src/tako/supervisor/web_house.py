"""What a pool of web instances is told, and what it needs of the rest of the house."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from tako.supervisor.instance import Failure
from tako.supervisor.spawn import SpawnRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class WebConfig:
    """How the web app is served. `idle_timeout_s` None: never scaled to zero; `health` None: `ready` is enough."""

    instances: int = 1
    idle_timeout_s: float | None = None
    start_timeout_s: float = 30.0
    drain_timeout_s: float = 30.0
    health: str | None = None
    development: bool = False


@dataclass(frozen=True, slots=True)
class Ready:
    """New instances have begun to serve: `reason` is why they were started, `boot_ms` how long the slowest took."""

    reason: str
    boot_ms: int
    pids: tuple[int, ...]
    recovered_from: Failure | None = None


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
