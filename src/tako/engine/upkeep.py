"""What a store needs once an hour: ended runs past their retention deleted, signals that nobody took forgotten."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

from tako.clock import Clock
from tako.engine import retention, waiters
from tako.engine.writer import Writer
from tako.errors import TakoError

log = logging.getLogger("tako.engine")

_INTERVAL_S = 3_600.0
# Not at once: a daemon that has just started has better things to do.
_FIRST_S = 60.0


class Upkeep:
    """Hourly, in batches of their own. `of_workflow` tells the retention of workflows that differ, when it is asked."""

    def __init__(
        self,
        writer: Writer,
        *,
        clock: Clock,
        retention_ms: int,
        of_workflow: Callable[[], Mapping[str, int]] = dict,
    ) -> None:
        self._writer = writer
        self._clock = clock
        self.retention_ms = retention_ms  # of all others; the next pass goes by it
        self._of_workflow = of_workflow
        self._timer: asyncio.TimerHandle | None = None
        self._round: asyncio.Task[None] | None = None
        self._running = False

    def start(self) -> None:
        """Begin in a minute."""
        if not self._running:
            self._running = True
            self._arm(_FIRST_S)

    async def stop(self) -> None:
        """Stop; the batch that is under way is finished, the next is not begun."""
        self._running = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._round is not None:
            await asyncio.gather(self._round, return_exceptions=True)

    async def run_once(self, now_ms: int, *, while_: Callable[[], bool] = lambda: True) -> int:
        """One pass; how many runs it deleted."""
        deleted, after = 0, 0
        while while_():
            swept = await self._writer.do(
                retention.sweep,
                now_ms=now_ms,
                retention_ms=self.retention_ms,
                of_workflow=self._of_workflow(),
                after=after,
            )
            deleted += swept.deleted
            if swept.after is None:
                break
            after = swept.after
        for name, run_id in await self._writer.do(waiters.forget_signals, now_ms=now_ms):
            log.warning("signal %r was taken by nobody in seven days and is forgotten (run %s)", name, run_id)
        if deleted:
            log.info("%d ended runs were deleted after their retention", deleted)
        return deleted

    def _arm(self, delay_s: float) -> None:
        if self._running:
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._begin)

    def _begin(self) -> None:
        self._round = asyncio.get_running_loop().create_task(self._pass())

    async def _pass(self) -> None:
        try:
            await self.run_once(self._clock.now_ms(), while_=lambda: self._running)
        except TakoError as error:
            # Disk full or locked: in an hour again. Deleting is not urgent.
            log.warning("ended runs could not be deleted: %s", error.message)
        except Exception as error:  # a mistake of ours in one pass: the store must not grow for good
            log.error("ended runs could not be deleted, by a mistake of Tako's: %r", error)
            words = {"message": "a pass of the upkeep failed", "exception": error}
            asyncio.get_running_loop().call_exception_handler(words)
        self._round = None
        self._arm(_INTERVAL_S)
