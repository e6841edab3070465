"""Calls of an async context that nobody has awaited yet: a step without `await` must not be skipped without a word."""

from __future__ import annotations

from tako import errors
from tako.worker import tracebacks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any


class Unawaited:
    """The calls of one attempt, from the call to its first turn."""

    __slots__ = ("_calls", "_count")

    def __init__(self) -> None:
        self._calls: dict[int, tuple[str, Coroutine[Any, Any, Any], tuple[str, int]]] = {}
        self._count = 0

    def token(self) -> int:
        """A number for one more call, which its coroutine knows it by."""
        self._count += 1
        return self._count

    def note(self, token: int, call: str, coroutine: Coroutine[Any, Any, Any]) -> Coroutine[Any, Any, Any]:
        """The handler has made the call, for example `ctx.step('charge')`, and holds its coroutine."""
        self._calls[token] = (call, coroutine, tracebacks.caller())
        return coroutine

    def awaited(self, token: int) -> None:
        """Its coroutine has begun."""
        self._calls.pop(token, None)

    def close(self) -> errors.StepError | None:
        """Close what nobody awaited, and name the first of them. The handler has returned."""
        forgotten = list(self._calls.values())
        self._calls.clear()
        for _, coroutine, _ in forgotten:
            coroutine.close()
        if not forgotten:
            return None
        call, _, (file, line) = forgotten[0]
        return errors.StepError(
            f"{call} at {tracebacks.short(file)}:{line} was called without await, so it did not run.",
            cure=f"Write `await {call[:-1]}{', ' if call[-2] != '(' else ''}...)`.",
        )
