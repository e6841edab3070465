"""What others have a pool do between two decisions of its own, so that no two changes cross."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Orders:
    """Who gives one has its outcome in a future; the pool obeys when it is between two decisions."""

    def __init__(self) -> None:
        self._given: deque[tuple[Callable[[], Awaitable[Any]], asyncio.Future[Any]]] = deque()

    def __bool__(self) -> bool:
        return bool(self._given)

    def give(self, act: Callable[[], Coroutine[Any, Any, T]]) -> asyncio.Future[T]:
        """Have it done in turn. The future has what it returns, or raises."""
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._given.append((act, answer))
        return answer

    async def obey(self) -> None:
        """Do all that were given, and those that are given meanwhile."""
        while self._given:
            act, answer = self._given.popleft()
            try:
                found = await act()
            except Exception as error:
                if not answer.done():
                    answer.set_exception(error)
            else:
                if not answer.done():
                    answer.set_result(found)

    def cancel(self) -> None:
        """None of them will be done."""
        for _, answer in self._given:
            answer.cancel()
