"""Commands that are many requests in one line: each is checked, submitted and answered as if it had come alone.

What they submit lands in the same turn, and so goes by one rule for many (engine/together.py).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from tako.engine.answer import Answer
from tako.errors import InvalidRequest
from tako.host.fields import tables
from tako.rpc.answers import Each, Message

Handle = Callable[[Message], Answer[Any]]


def each(message: Message, name: str, handle: Handle) -> Answer[Each]:
    """Call `handle` for each of the list `name`; all their outcomes, as soon as the last one is there."""
    items = tables(message, name)
    if not items or len(items) != len(message.get("requests", ())):
        raise InvalidRequest(f"invalid request: `requests` has a number for each of `{name}`, which are one or more")
    gathering = _Gathering(len(items))
    for at, item in enumerate(items):
        try:
            handle(item).then(partial(gathering.take, at))
        except Exception as error:  # it is answered to the one whose request it was
            gathering.put(at, error)
    return gathering.answer


class _Gathering:
    """Outcomes that are still awaited."""

    __slots__ = ("_left", "_outcomes", "answer")

    def __init__(self, count: int) -> None:
        self._outcomes: list[object] = [None] * count
        self._left = count
        self.answer: Answer[Each] = Answer()

    def take(self, at: int, found: Answer[Any]) -> None:
        self.put(at, found.error())

    def put(self, at: int, outcome: object) -> None:
        self._outcomes[at] = outcome
        self._left -= 1
        if not self._left:
            self.answer.set_result(Each(self._outcomes))
