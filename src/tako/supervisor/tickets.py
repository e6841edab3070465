"""Enqueues that wait to learn whether they may be stored: the table knows each by its ticket."""

from __future__ import annotations

import asyncio


class Tickets:
    """Those that were issued, and have no answer yet."""

    def __init__(self) -> None:
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._last = 0

    def issue(self) -> tuple[int, asyncio.Future[None]]:
        """Another one, and where its answer will be."""
        self._last += 1
        answer = self._waiting[self._last] = asyncio.get_running_loop().create_future()
        return self._last, answer

    def accept(self, ticket: int) -> None:
        """It may be stored."""
        answer = self._waiting.pop(ticket, None)
        if answer is not None and not answer.done():
            answer.set_result(None)

    def reject(self, ticket: int, error: Exception) -> None:
        """It is refused."""
        answer = self._waiting.pop(ticket, None)
        if answer is not None and not answer.done():
            answer.set_exception(error)

    def withdraw(self, ticket: int) -> bool:
        """Its caller waits no longer; whether there was no answer yet."""
        return self._waiting.pop(ticket, None) is not None
