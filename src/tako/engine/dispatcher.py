"""Makes due runs due: one timer for the next due time, and a call for every workflow that has become ready.

Ready events are passed on within the commit that made them, so that a claim that waits is a push. The timer runs on the
monotonic clock while due times are of the wall clock, so it looks again at least every minute in which something waits
for its time: after a step of the clock forward nothing is later than that (C3).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from tako.clock import Clock
from tako.engine import claims
from tako.engine.events import Event, Later, Ready
from tako.engine.writer import Writer
from tako.errors import TakoError

log = logging.getLogger("tako.engine")

_LOOK_AGAIN_S = 60.0
_RETRY_S = 1.0
_BATCH = 500


class Dispatcher:
    """Calls `on_ready(workflow, lane)` for what a commit has made ready. `start` and `stop`, twice is harmless."""

    def __init__(self, writer: Writer, *, clock: Clock, on_ready: Callable[[str, str], None]) -> None:
        self._writer = writer
        self._clock = clock
        self._on_ready = on_ready
        self._due_ms: int | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._round: asyncio.Task[None] | None = None
        self._again = False
        self._running = False

    def start(self) -> None:
        """Look for what is due, from now on."""
        if not self._running:
            self._running = True
            self._look()

    async def stop(self) -> None:
        """Stop looking; a round that is under way ends first."""
        self._running = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._round is not None:
            await asyncio.gather(self._round, return_exceptions=True)

    def tell(self, events: list[Event]) -> None:
        """What a commit emitted. Called by the writer, before the callers of that commit are answered."""
        for event in events:
            if type(event) is Ready:
                self._on_ready(event.workflow, event.lane)
            elif type(event) is Later:
                self._expect(event.run_at_ms)

    def look(self) -> None:
        """Look now: the wall clock was set. Does nothing before `start`."""
        if self._timer is not None:
            self._timer.cancel()
        self._due_ms = None
        self._look()

    async def run_once(self, now_ms: int) -> int:
        """Make ready what is due at `now_ms`; how many runs that were."""
        found = 0
        while True:
            done = await self._writer.do(claims.promote_due, now_ms=now_ms, limit=_BATCH)
            found += done
            if done < _BATCH:
                return found

    def _look(self) -> None:
        """The alarm has rung. During a round it must not be lost: what is due now may not have been when it looked."""
        self._timer = None
        self._due_ms = None
        if self._round is not None:
            self._again = True
        elif self._running:
            self._round = asyncio.get_running_loop().create_task(self._rounds())

    async def _rounds(self) -> None:
        self._again = False
        try:
            await self.run_once(self._clock.now_ms())
            next_ms = await self._writer.do(claims.next_due_ms)
        except TakoError as error:
            # Disk full or locked: what is due stays due. The loop must go on, for it is what notices the recovery.
            log.warning("due runs could not be made ready: %s", error.message)
            next_ms = self._after_a_failure()
        except Exception as error:  # a mistake of ours in one round: runs must not wait for good
            log.error("due runs could not be made ready, by a mistake of Tako's: %r", error)
            words = {"message": "a round of the dispatcher failed", "exception": error}
            asyncio.get_running_loop().call_exception_handler(words)
            next_ms = self._after_a_failure()
        self._round = None
        if self._again:
            self._expect(self._clock.now_ms())
        elif next_ms is not None:
            self._expect(next_ms)

    def _after_a_failure(self) -> int:
        self._again = False  # not at once, whoever rings
        return self._clock.now_ms() + round(_RETRY_S * 1000)

    def _expect(self, due_ms: int) -> None:
        """Something is due then: the alarm must not ring later."""
        if not self._running or (self._due_ms is not None and self._due_ms <= due_ms):
            return
        self._due_ms = due_ms
        if self._timer is not None:
            self._timer.cancel()
        delay_s = min(max(0.0, (due_ms - self._clock.now_ms()) / 1000), _LOOK_AGAIN_S)
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._look)
