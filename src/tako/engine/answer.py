"""What the writer will say: an asyncio.Future with less around it.

Whoever waits is called at once, in the turn of the loop that brings the answer: no handle, no context and no further
turn for each of the thousands of answers of a second. It can be awaited like any other. All on the loop's thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from typing import Any, Generic, TypeVar

T = TypeVar("T")
U = TypeVar("U")


class Answer(Generic[T]):
    """A result or an error, now or later. It cannot be cancelled: what was submitted is done."""

    __slots__ = ("_error", "_is_done", "_result", "_waiting")

    def __init__(self) -> None:
        self._is_done = False
        self._result: T
        self._error: BaseException | None = None
        self._waiting: list[Callable[[Answer[T]], object]] = []

    @classmethod
    def of(cls, result: T) -> Answer[T]:
        """One that is known already."""
        answer: Answer[T] = cls()
        answer.set_result(result)
        return answer

    def done(self) -> bool:
        """Whether it is known."""
        return self._is_done

    def result(self) -> T:
        """The result; raises the error. Only when `done`."""
        assert self._is_done, "the answer is not there yet"
        if self._error is not None:
            raise self._error
        return self._result

    def error(self) -> BaseException | None:
        """The error, None if there is a result. Only when `done`."""
        assert self._is_done, "the answer is not there yet"
        return self._error

    def then(self, callback: Callable[[Answer[T]], object]) -> None:
        """Call this when the answer is known, at once if it is."""
        if self._is_done:
            callback(self)
        else:
            self._waiting.append(callback)

    def shaped(
        self, shape: Callable[[T], U], *, on_error: Callable[[BaseException], object] | None = None
    ) -> Answer[U]:
        """An answer with what `shape` makes of the result; it is called once, before anybody who waits. So is
        `on_error` if there is an error instead."""
        found: Answer[U] = Answer()

        def settle(answer: Answer[T]) -> None:
            if answer._error is not None:
                if on_error is not None:
                    on_error(answer._error)
                found.set_exception(answer._error)
                return
            try:
                result = shape(answer._result)
            except Exception as error:  # it belongs to whoever waits
                found.set_exception(error)
            else:
                found.set_result(result)

        self.then(settle)
        return found

    def set_result(self, result: T) -> None:
        """Tell everybody who waits. Once."""
        self._result = result
        self._tell()

    def set_exception(self, error: BaseException) -> None:
        """As `set_result`."""
        self._error = error
        self._tell()

    def _tell(self) -> None:
        assert not self._is_done, "an answer is given once"
        self._is_done = True
        waiting = self._waiting
        if waiting:
            self._waiting = []
            for callback in waiting:
                callback(self)

    def __await__(self) -> Generator[Any, None, T]:
        if not self._is_done:
            woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.then(lambda _: None if woken.done() else woken.set_result(None))
            yield from woken
        return self.result()
