"""Database connections around handlers and steps, as Django does around requests.

Before: one that the database has closed meanwhile is not used again. After: one is not held through a handler's hours
(CONN_MAX_AGE says how long it may stay). A connection inside of `atomic()` is left alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connections, reset_queries

_closing: set[asyncio.Task[None]] = set()


@contextmanager
def closed_around() -> Iterator[None]:
    """Give connections back before and after."""
    _close()
    try:
        yield
    finally:
        _close()


def _close() -> None:
    loop = asyncio._get_running_loop()
    if loop is None:
        reset_queries()  # with DEBUG, Django remembers every query
        _close_here()
        return
    # An async handler has none on the loop's thread: what it queries goes through the one thread of `sync_to_async`,
    # in order, so a task that closes there comes before what the handler asks next.
    task = loop.create_task(_close_in_thread())
    _closing.add(task)
    task.add_done_callback(_closing.discard)


def _close_here() -> None:
    for connection in connections.all(initialized_only=True):
        # Django's own close_old_connections would close this one too, and break the transaction.
        if not connection.in_atomic_block:
            connection.close_if_unusable_or_obsolete()


async def _close_in_thread() -> None:
    from asgiref.sync import sync_to_async

    await sync_to_async(_close_here)()
