"""Instances of the web app that were let go: they finish what is in flight, and end, beside everything else."""

from __future__ import annotations

import asyncio

from tako.supervisor.instance import Instance
from tako.supervisor.web_house import InstanceRecords

_LAST_PATIENCE_S = 1.0  # beyond their time, for those that are about to be killed


class Leaving:
    """A task for each of them."""

    def __init__(self, records: InstanceRecords) -> None:
        self._records = records
        self._tasks: set[asyncio.Task[None]] = set()
        self._live_on = False

    def let_go(self, old: Instance, *, timeout_s: float) -> None:
        """Have it finish and end; killed after `timeout_s`."""
        old.is_draining = True
        task = asyncio.get_running_loop().create_task(self._drain(old, timeout_s))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _drain(self, old: Instance, timeout_s: float) -> None:
        self._records.leaving(old)
        try:
            await old.drain(timeout_s)
        except asyncio.CancelledError:
            if not self._live_on:
                await old.kill_and_wait()
            raise
        self._records.ended(old)

    async def gone(self) -> None:
        """Return when all have ended."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def gone_within(self, timeout_s: float) -> None:
        """Return when all have ended; those that take longer are killed."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout_s + _LAST_PATIENCE_S)
        self.kill()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def kill(self) -> None:
        """Wait for none of them any longer."""
        for task in self._tasks:
            task.cancel()

    async def detach(self) -> None:
        """Let them go on without us, for the next daemon to adopt."""
        self._live_on = True
        self.kill()
        await asyncio.gather(*self._tasks, return_exceptions=True)
