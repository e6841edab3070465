"""What this engine counts of itself: for `/metrics`, and for the charts of the dashboard.

Counting happens on the loop, beside the news of a commit. A timer runs while something happens, once a second, to note
how long the queue is and since when its oldest run waits; it stops with the first second in which nothing happened, so
that an engine at rest rests.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tako.engine import inspect
from tako.engine.events import Came, Changed, Ended, Event
from tako.errors import TakoError
from tako.host import pausing
from tako.metrics.instruments import Counter, Histogram
from tako.metrics.ring import Ring

if TYPE_CHECKING:
    from tako.host.app import AppHost

WAITING = ("ready", "solo", "limited")
EVERY_S = 1.0


class Meter:
    """Counters of one engine, from its start on."""

    def __init__(self, host: AppHost) -> None:
        self._host = host
        self.enqueued = Counter()  # workflow
        self.ended = Counter()  # workflow, status
        self.waits = Histogram()  # workflow
        self.durations = Histogram()  # workflow, status
        self.refused = Counter()  # code
        self.workers = Counter()  # group, what
        self.commits = Histogram()
        self.ring = Ring()
        self.changes = 0  # a number that is another one when something may look otherwise
        self._has_news = False
        self._timer: asyncio.TimerHandle | None = None

    # --- what is told to it -----------------------------------------------------------------------------------------

    def committed(self, events: list[Event]) -> None:
        """Count what a transaction did."""
        sample = self.ring.now(self._host.clock.now_ms())
        for event in events:
            if type(event) is Came:
                self.enqueued.add(event.workflow, n=len(event.run_ids))
                sample.enqueued += len(event.run_ids)
            elif type(event) is Changed:
                if event.waited_ms is not None:
                    self.waits.observe(event.waited_ms / 1000, event.workflow)
                    sample.waited(event.waited_ms / 1000)
            elif type(event) is Ended:
                self.ended.add(event.workflow, event.status)
                sample.ended(event.status)
                if event.took_ms is not None:
                    self.durations.observe(event.took_ms / 1000, event.workflow, event.status)
        self._has_news = True
        if self._timer is None:
            self._arm()

    def committed_in(self, seconds: float) -> None:
        """A COMMIT took so long."""
        self.changes += 1
        self.commits.observe(seconds)

    def worker(self, group: str, what: str) -> None:
        """A worker was `started`, or its process is gone: because it was `asked`, `cold` or `warm`."""
        self.workers.add(group, what)

    @contextmanager
    def refusals(self) -> Iterator[None]:
        """Count what an enqueue inside of this is refused for."""
        try:
            yield
        except TakoError as error:
            self.refused_for(error)
            raise

    def refused_for(self, error: BaseException) -> None:
        """An enqueue was refused; what is not ours is a bug, and has no code."""
        self.refused.add(error.code if isinstance(error, TakoError) else "internal")

    # --- the queue, once a second -----------------------------------------------------------------------------------

    def stop(self) -> None:
        """Look no more. Twice is harmless."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(EVERY_S, self._tick)

    def _tick(self) -> None:
        self._timer = None
        if self._has_news:
            self._has_news = False
            self._arm()
            self._host.in_background(self._look())

    async def _look(self) -> None:
        host = self._host
        waiting = [name for (name, lane), n in list(host.store.counts.items()) if n and lane in WAITING]
        sample = self.ring.now(host.clock.now_ms())
        sample.depth = self.depth()
        if not waiting:
            sample.oldest_due_ms = None
            return
        now_ms = host.clock.now_ms()
        facts = await host.writer.read(inspect.overview, now_ms=now_ms, paused=pausing.paused_workflows(host))
        oldest_ms = max(facts.oldest_ready_ms.values(), default=None)
        sample.oldest_due_ms = None if oldest_ms is None else now_ms - oldest_ms

    def depth(self) -> int:
        """How many runs are due and not claimed."""
        return sum(n for (_, lane), n in list(self._host.store.counts.items()) if lane in WAITING)
