"""What a pool of workers needs of the rest of the house: counts of runs, what to start, where to tell things."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from tako.supervisor.spawn import SpawnRequest


class House(Protocol):
    """What a pool needs of its host. Only `reclaim` waits; the others return at once and do not raise."""

    def runnable(self, group: str) -> int:
        """How many due runs of the group nobody has claimed."""
        ...

    def suspects(self, group: str) -> int:
        """How many runs of the group must be re-run alone."""
        ...

    def in_flight(self, group: str) -> Mapping[str, int]:
        """How many runs each worker holds."""
        ...

    def spawn_request(self, group: str, worker_id: str, solo: bool) -> SpawnRequest:
        """What to start. A TakoError or OSError is a failed start, with its text as the reason."""
        ...

    def stop_claims(self, worker_id: str) -> None:
        """The worker gets no more runs (`may_claim` is False): end the claim that it waits in."""
        ...

    async def reclaim(self, worker_id: str, counted: bool, death: str | None) -> None:
        """Take back what the worker held. Called again after an error."""
        ...

    def save_health(self, group: str, record: dict[str, Any]) -> None:
        """Store what `restore` wants to find."""
        ...

    def save_worker(self, record: dict[str, Any]) -> None:
        """Store what `adopt` wants to find, by its `worker_id`."""
        ...

    def forget_worker(self, worker_id: str) -> None:
        """Its process is gone."""
        ...

    def count(self, group: str, what: str) -> None:
        """A worker was `started`, or its process is gone: because it was `asked`, `cold` or `warm`."""
        ...

    def changed(self, group: str) -> None:
        """Health, slots or held enqueues are other than before."""
        ...

    def redact(self, text: str) -> str:
        """The text without secrets: what a worker prints is kept and shown in errors."""
        ...

    def output(self, group: str, worker_id: str, pid: int, line: str) -> None:
        """A worker has printed a line (redacted, without control characters)."""
        ...

    def log(self, level: str, message: str, **fields: Any) -> None:
        """The pool has something to say."""
        ...
