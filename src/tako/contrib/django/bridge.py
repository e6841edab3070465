"""How tests run async handlers in Django: their queries, and sync steps, on the thread of the test.

Django's database connections belong to threads, and TestCase holds its transaction open on the one of the test. asgiref
leads what `sync_to_async` wraps (all of Django's async interface) back to it, if it runs the loop itself.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import async_to_sync, sync_to_async


def run(work: Awaitable[Any]) -> Any:
    """Run a coroutine to its end. Its loop is in a thread of asgiref's, and ends with it."""

    async def wait() -> Any:
        return await work

    return async_to_sync(wait)()


async def call(fn: Callable[[], Any]) -> Any:
    """Call sync code from a loop, on the thread that waits for the loop's end."""
    return await sync_to_async(fn, thread_sensitive=True)()
