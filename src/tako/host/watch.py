"""Who waits for a run: to end (`wait_run`), or to be claimed (`confirm`)."""

from __future__ import annotations

import asyncio
from collections import defaultdict


class RunWatch:
    """Futures that are resolved by what happens to a run. Waiting costs nothing while nothing happens."""

    def __init__(self) -> None:
        self._waiting: defaultdict[str, list[asyncio.Future[None]]] = defaultdict(list)

    async def wait(self, run_id: str, *, timeout_s: float) -> bool:
        """Wait until something is told of the run; False at the timeout.

        Look at the run after calling this and before awaiting it if it may have happened already: `expect` first.
        """
        future = self.expect(run_id)
        try:
            await asyncio.wait_for(future, timeout_s)
        except TimeoutError:
            return False
        finally:
            self.forget(run_id, future)
        return True

    def expect(self, run_id: str) -> asyncio.Future[None]:
        """A future that the next `tell` of this run resolves. Give it to `forget` when it is not wanted any more."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[run_id].append(future)
        return future

    def forget(self, run_id: str, future: asyncio.Future[None]) -> None:
        """Drop a future of `expect`."""
        waiting = self._waiting.get(run_id)
        if waiting is not None:
            if future in waiting:
                waiting.remove(future)
            if not waiting:
                del self._waiting[run_id]

    def tell(self, run_id: str) -> None:
        """What was waited for has happened to the run."""
        for future in self._waiting.pop(run_id, ()):
            if not future.done():
                future.set_result(None)
