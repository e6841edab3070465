"""One caller's rule, on its way to the store and back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from tako.engine.answer import Answer


class Call:
    """What to run, by when, and what became of it. `is_joint`: `fn` is a rule for many (together.py)."""

    __slots__ = ("answer", "args", "deadline_mono_ms", "error", "fn", "is_joint", "is_short", "kwargs", "result")

    def __init__(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        deadline_mono_ms: float | None,
        answer: asyncio.Future[Any] | Answer[Any],
        *,
        is_short: bool,
        is_joint: bool = False,
    ) -> None:
        self.fn = fn
        self.args = args
        self.kwargs = kwargs
        self.deadline_mono_ms = deadline_mono_ms
        self.answer = answer
        self.is_short = is_short
        self.is_joint = is_joint
        self.result: Any = None
        self.error: Exception | None = None

    def is_late(self, now: float) -> bool:
        """Whether its deadline has passed, and nothing else has gone wrong with it."""
        return self.error is None and self.deadline_mono_ms is not None and now * 1000 > self.deadline_mono_ms
