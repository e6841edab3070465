"""Values of steps, arguments and results, between the handler's Python and the engine's JSON text.

What a step returned is encoded and decoded at once, so that the first pass sees what every later one will see; what
cannot be stored is an error now, with its path, not after a crash (loud.md 20).
"""

from __future__ import annotations

from tako import errors
from tako.protocol import json_text
from tako.sdk import payload
from tako.sdk.codecs import ANY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager
    from typing import Any

    from tako.sdk.codecs import Codec
    from tako.sdk.options import Retry
    from tako.sdk.workflow import Workflow

# What the engine keeps for a wait that timed out: no JSON text is empty (engine/waiters.py).
_TIMED_OUT = ""
_PLAIN = frozenset((str, int, bool))
_CO_COROUTINE = 0x80  # inspect.CO_COROUTINE, without importing inspect


def codec(name: str, fn: Callable[..., Any], returns: Any) -> Codec:
    """How a step's result is stored. Asked before the step runs: a type that cannot be stored costs no side effect.

    Raises:
        StepResultError: the type cannot be stored.
    """
    try:
        return payload.codec_for_step(fn, returns)
    except errors.PayloadError as error:
        raise errors.StepResultError(f"step {name!r}: {error.message}", cure=error.cure) from None


def stored(name: str, value: object, kind: Codec) -> tuple[str, Any]:
    """The text of a step's result, and the value that this text stands for.

    Raises:
        StepResultError: it cannot be stored; names the path.
    """
    try:
        text = payload.encode(kind, value, what="result")
        # What decodes to itself need not be decoded. Not an int where a float is declared: it comes back as one.
        if value is None or (type(value) in _PLAIN and (kind is ANY or kind.exact is type(value))):
            return text, value
        return text, payload.decode(kind, text, what="result")
    except errors.PayloadError as error:
        raise errors.StepResultError(f"step {name!r}: {error.message}", cure=error.cure, detail=error.detail) from None


def read_back(name: str, text: str, kind: Codec) -> Any:
    """The value of a saved step.

    Raises:
        StepResultError: the stored text is damaged, or does not fit the type that the code expects now.
    """
    try:
        return payload.decode(kind, text, what="result")
    except errors.PayloadError as error:
        if not _is_json(text):
            raise errors.StepResultError(f"step {name!r}: stored result unreadable ({error.message})") from None
        raise errors.StepResultError(
            f"step {name!r}: the saved result no longer reads back as its type: {error.message}",
            cure="Let the new type read the old values, or give the step a new name.",
            detail=error.detail,
        ) from None


def _is_json(text: str) -> bool:
    try:
        json_text.decode(text)
    except (ValueError, RecursionError):
        return False
    return True


def arguments(workflow: Workflow[Any, Any], text: str) -> dict[str, Any]:
    """The handler's arguments. Raises PayloadError when the stored payload does not fit it (any more)."""
    return workflow.signature.load(text)


def result(workflow: Workflow[Any, Any], value: object) -> str:
    """The text of what a handler returned.

    Raises:
        StepResultError: it cannot be stored; names the path.
    """
    try:
        return payload.encode(workflow.signature.result, value, what="result")
    except errors.PayloadError as error:
        raise errors.StepResultError(error.message, cure=error.cure, detail=error.detail) from None


def inside(managers: Sequence[Callable[[], AbstractContextManager[Any]]], fn: Callable[..., Any]) -> Any:
    """Call `fn` inside of what `tako.contrib` has set up around handlers or steps."""
    from contextlib import ExitStack

    with ExitStack() as entered:
        for manager in managers:
            entered.enter_context(manager())
        return fn()


def received(run_id: str, name: str, text: str | None, read: Callable[[str | None], Any]) -> Any:
    """What a wait gives back: `read` of the signal's text, or of None at its timeout.

    Raises:
        StepResultError: the signal that came does not fit its type, and never will: no retry helps.
    """
    try:
        return read(None if text == _TIMED_OUT else text)
    except errors.PayloadError as error:
        raise errors.StepResultError(
            f"the {error.message}",
            cure=f"Wait for it anew with `tako runs retry {run_id} --from-step {name}`, and send one that fits.",
        ) from None


def too_large(what: str, size: int) -> errors.StepResultError:
    """The error for what fits into no request."""
    error = payload.too_large(what, size)
    return errors.StepResultError(error.message, cure=error.cure, detail=error.detail)


def needs_async(name: str, value: Any) -> errors.StepError:
    """The error for an async function as a step of a `def` handler."""
    close = getattr(value, "close", None)
    if callable(close):
        close()  # a coroutine that nobody will await
    return errors.StepError(
        f"step {name!r}: its function is async, and this handler is not.", cure="Declare the handler with `async def`."
    )


def is_async(fn: Any) -> bool:
    """Whether calling `fn` gives a coroutine, told without calling it; partials, methods and callable objects too."""
    while True:
        code = getattr(fn, "__code__", None)
        if code is not None:
            return bool(code.co_flags & _CO_COROUTINE)
        inner = getattr(fn, "func", None) or getattr(fn, "__func__", None)
        if inner is None:
            call = getattr(type(fn), "__call__", None)  # noqa: B004 - for its flags
            return bool(getattr(getattr(call, "__code__", None), "co_flags", 0) & _CO_COROUTINE)
        fn = inner


def backoff_ms(retry: Retry, tries: int) -> int:
    """How long to wait after the tries-th failure of a step."""
    growth = retry.factor ** min(tries - 1, 100)  # beyond that every factor but 1 has reached its maximum
    delay = min(retry.first_ms * growth, float(retry.max_ms))
    if retry.jitter:
        from random import uniform  # only a step that failed pays for it

        delay *= 1 + uniform(-retry.jitter, retry.jitter)
    return int(delay)
