"""The places of a group's workers: for each slot of the table the wish for a process, then the process."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from tako.clock import Clock
from tako.supervisor.permits import BootPermits, Permit
from tako.supervisor.process import Listener, Process, Processes
from tako.supervisor.states import Phase, Slot


@dataclass(slots=True)
class Place:
    """What there is of a slot beside its state."""

    since_ms: int  # of its phase
    solo: bool = False
    permit: Permit | None = None
    process: Process | None = None
    started_ms: int = 0
    idle_since: float = 0.0
    is_active: bool = False  # has claimed, so further claims are no news


class Places:
    """By worker. What is not there any more has ended, or was never started."""

    def __init__(self, *, clock: Clock, permits: BootPermits, processes: Processes) -> None:
        self._clock = clock
        self._permits = permits
        self._processes = processes
        self._places: dict[str, Place] = {}
        self._gone = asyncio.Event()

    def get(self, worker_id: str) -> Place | None:
        """The worker's; None when there is none."""
        return self._places.get(worker_id)

    def process(self, worker_id: str) -> Process | None:
        """The worker's process; None when it is not started yet, or has ended."""
        place = self._places.get(worker_id)
        return place.process if place is not None else None

    def pids(self) -> dict[str, int]:
        """Of those that have a process."""
        return {worker_id: place.process.pid for worker_id, place in self._places.items() if place.process is not None}

    def since_ms(self) -> dict[str, int]:
        """Since when each is in its phase."""
        return {worker_id: place.since_ms for worker_id, place in self._places.items()}

    def worker_of_pid(self, pid: int) -> str | None:
        """The worker in whose process group `pid` is."""
        with suppress(ProcessLookupError, PermissionError):
            leader = os.getpgid(pid)
            for worker_id, pid_ in self.pids().items():
                if pid_ == leader:
                    return worker_id
        return None

    # --- coming and going -------------------------------------------------------------------------------------------

    def open(self, worker_id: str, *, solo: bool, start: Callable[[str, Place], None]) -> None:
        """One for a process that is wished for; `start` is called when there is a permit for its boot."""
        place = self._places[worker_id] = Place(since_ms=self._clock.now_ms(), solo=solo)
        place.permit = self._permits.ask(lambda: start(worker_id, place))

    def adopt(self, record: Mapping[str, Any], listener: Listener) -> bool:
        """One for the process that an earlier engine has recorded, if it lives; whether it does."""
        ran_ms = max(0, self._clock.now_ms() - record["started_ms"])
        process = self._processes.adopt(record, listener, ran_ms=ran_ms)
        if process is None:
            return False
        self._places[record["worker_id"]] = Place(
            since_ms=self._clock.now_ms(), solo=record["solo"], process=process, started_ms=record["started_ms"],
            idle_since=self._clock.monotonic(),
        )  # fmt: skip
        return True

    def close(self, worker_id: str) -> None:
        """Its process has ended, or is not wanted any more."""
        place = self._places.pop(worker_id, None)
        if place is not None and place.permit is not None:
            place.permit.give_back()
        self._gone.set()

    async def all_closed(self) -> None:
        """Return when there is none left."""
        while self._places:
            self._gone.clear()
            await self._gone.wait()

    def detach(self) -> None:
        """Let go of all; processes live on."""
        for place in self._places.values():
            if place.permit is not None:
                place.permit.give_back()
            if place.process is not None:
                place.process.detach()
        self._places.clear()

    # --- time -------------------------------------------------------------------------------------------------------

    def touch(self, worker_id: str) -> None:
        """Something has happened between the worker and its runs: its idle time begins anew."""
        place = self._places.get(worker_id)
        if place is not None:
            place.idle_since = self._clock.monotonic()

    def idle_s(self, worker_id: str) -> float:
        """How long ago that was."""
        place = self._places.get(worker_id)
        return self._clock.monotonic() - place.idle_since if place is not None else 0.0

    def note_phases(self, before: Iterable[Slot], after: Iterable[Slot]) -> None:
        """The table has moved slots along."""
        phases = {slot.id: slot.phase for slot in before}
        for slot in after:
            place = self._places.get(slot.id)
            if place is None or phases.get(slot.id) is slot.phase:
                continue
            place.since_ms = self._clock.now_ms()
            place.is_active = slot.phase is Phase.ACTIVE
            if slot.phase is Phase.READY:
                place.idle_since = self._clock.monotonic()
            if slot.phase is not Phase.BOOTING and place.permit is not None:
                place.permit.give_back()
