"""What a transaction tells the rest of the house, handed out after its COMMIT and never before."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Ready(NamedTuple):
    """A run of `workflow` may be claimed now. One per workflow and lane in a transaction, however many runs it made."""

    workflow: str
    lane: str  # "ready" or "solo"


class Later(NamedTuple):
    """A run becomes due at this time: the dispatcher's alarm may have to ring earlier than it stands."""

    run_at_ms: int


class Came(NamedTuple):
    """Runs of a workflow have come in: one event for all of one call or more."""

    workflow: str
    run_ids: tuple[str, ...]


class Changed(NamedTuple):
    """A run's stored status is new, and it has not ended."""

    run_id: str
    workflow: str
    status: str
    waited_ms: int | None = None  # of a run that was claimed: for how long it had been due


class Ended(NamedTuple):
    """A run became succeeded, cancelled or dead."""

    run_id: str
    workflow: str
    status: str
    took_ms: int | None = None  # since its first claim; None when it never had one


class Held(NamedTuple):
    """A run was taken from its worker, which must be told. An event only when no caller can tell it: its parent has
    stopped itself."""

    id: str
    epoch: int
    worker_id: str


Event = Ready | Later | Came | Changed | Ended | Held


def runs_of(events: Iterable[Event]) -> list[str]:
    """The ids of all runs that are otherwise than before, each once, in order."""
    found: dict[str, None] = {}
    for event in events:
        if type(event) is Came:
            found.update(dict.fromkeys(event.run_ids))
        elif type(event) is Changed or type(event) is Ended:
            found[event.run_id] = None
    return list(found)
