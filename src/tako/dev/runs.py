"""What runs do, as lines of the stream: started, succeeded. A dead one is a line of the engine's own log.

A person reads some dozens of lines a second; beyond that the rest is counted and told in one line.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

from tako.engine.events import Changed, Ended, Event
from tako.supervisor import output

if TYPE_CHECKING:
    from tako.host.app import AppHost

LINES_A_SECOND = 40


class RunLines:
    """Tells of runs. `tell` is called with each commit's events."""

    def __init__(self, host: AppHost) -> None:
        self._host = host
        self._told = 0
        self._untold: Counter[str] = Counter()
        self._second: asyncio.TimerHandle | None = None

    def tell(self, events: list[Event]) -> None:
        """Say what these events mean to a person."""
        for event in events:
            if type(event) is Changed and event.status == "running":
                self._line(event.run_id, event.workflow, "started")
            elif type(event) is Ended and event.status != "dead":
                self._line(event.run_id, event.workflow, event.status)

    def close(self) -> None:
        """Tell no more. Twice is harmless."""
        if self._second is not None:
            self._second.cancel()
            self._second = None

    def _line(self, run_id: str, workflow: str, what: str) -> None:
        if self._second is None:
            self._second = asyncio.get_running_loop().call_later(1.0, self._next_second)
        self._told += 1
        if self._told > LINES_A_SECOND:
            self._untold[what] += 1
            return
        output.catch_up()  # what the run has printed stands before its end
        self._host.hub.publish(
            {
                "ts_ms": self._host.clock.now_ms(),
                "level": "info",
                "scope": "worker",
                "message": what,
                "run_id": run_id,
                "workflow": workflow,
            }
        )

    def _next_second(self) -> None:
        self._second = None
        self._told = 0
        if self._untold:
            words = ", ".join(f"{count} {what}" for what, count in sorted(self._untold.items()))
            self._untold.clear()
            self._host.say("info", f"and more runs: {words}")
