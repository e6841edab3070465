"""Event loops on the test's thread: one for async handlers, hidden from sync code that runs in between.

In a worker sync steps run in threads, where no loop runs: they may call `asyncio.run`, and Django lets them query. On
the test's thread the same must hold, so the running loop is put aside while sync code of the user's runs.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from tako.sdk import startup

T = TypeVar("T")


def is_running() -> bool:
    """Whether an event loop runs in this thread."""
    return asyncio._get_running_loop() is not None


@contextmanager
def hidden() -> Iterator[None]:
    """No event loop seems to run in this thread."""
    loop = asyncio._get_running_loop()
    if loop is None:
        yield
        return
    task = asyncio.current_task(loop)
    if task is not None:
        asyncio.tasks._leave_task(loop, task)
    asyncio._set_running_loop(None)
    try:
        yield
    finally:
        asyncio._set_running_loop(loop)
        if task is not None:
            asyncio.tasks._enter_task(loop, task)


class Runner:
    """Runs coroutines to their end on this thread. The loop stays between them, for clients that belong to it."""

    def __init__(self) -> None:
        self._runner: asyncio.Runner | None = None
        self._is_busy = False

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """What the coroutine returns. A call from inside another one (a sync step that waits for a run) works too."""
        if startup.bridge is not None:
            found: T = startup.bridge.run(work)
            return found
        if self._is_busy:
            with asyncio.Runner() as inner:
                return inner.run(work, context=contextvars.Context())
        if self._runner is None:
            self._runner = asyncio.Runner()
        self._is_busy = True
        try:
            return self._runner.run(work, context=contextvars.Context())
        finally:
            self._is_busy = False

    def close(self) -> None:
        """Cancel what handlers have left behind, and close the loop."""
        runner, self._runner = self._runner, None
        if runner is not None:
            runner.close()


class Host:
    """What an async attempt needs of the loop that it runs in."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.threads = Inline()

    def reply(self, future: asyncio.Future[dict[str, Any]], message: dict[str, Any]) -> None:
        """Give a reply to what waits for it."""
        if not future.done():
            future.set_result(message)

    def flush_soon(self) -> None:
        """Nothing to do: what is asked is answered at once."""


class Inline:
    """Where sync steps of async handlers run: here."""

    async def run(self, fn: Callable[[], Any]) -> Any:
        """Call `fn` on the test's thread."""
        return await call(fn)


async def call(fn: Callable[[], Any]) -> Any:
    """Call sync code of the user's from within a loop, on the test's thread."""
    if startup.bridge is not None:
        return await startup.bridge.call(fn)
    with hidden():
        return fn()
