"""What requests are answered with besides data: errors, and the outcomes of many requests in one line."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from tako.errors import InvalidRequest, TakoError

Message = dict[str, Any]

log = logging.getLogger("tako.rpc")


class Each:
    """The answer to a line that is many requests: for each of them its data, which is not told, or its error."""

    __slots__ = ("outcomes",)

    def __init__(self, outcomes: Sequence[object]) -> None:
        self.outcomes = outcomes


def count(message: Message) -> int:
    """How many requests a message is. Raises InvalidRequest if their numbers are none."""
    if "request" in message:
        if type(message["request"]) is not int or "requests" in message:
            raise InvalidRequest("invalid request: `request` is an integer, in place of `requests`")
    elif "requests" in message:
        numbers = message["requests"]
        if type(numbers) is not list or not numbers or not all(type(number) is int for number in numbers):
            raise InvalidRequest("invalid request: `requests` is a list of integers")
        return len(numbers)
    return 1


def too_many(limit: int) -> TakoError:
    """The error for a request more than may be under way."""
    return TakoError(
        f"this connection has {limit:,} requests under way, the limit; nothing was done.",
        cure="Wait for some of them before you ask for more.",
    )


def error_reply(error: BaseException, *, command: str) -> Message:
    """The reply that tells of `error`. Raises nothing: what is not ours is logged and named an internal error."""
    if isinstance(error, TakoError):
        detail = {**error.detail, "cure": error.cure} if error.cure else error.detail
        return {"status": "error", "message": error.message, "code": error.code, "detail": detail}
    log.error("internal error while answering %s", command, exc_info=error)
    return {
        "status": "error",
        "message": f"internal error: {type(error).__name__} while answering {command}; see the engine's log",
        "code": "internal",
        "detail": {},
    }
