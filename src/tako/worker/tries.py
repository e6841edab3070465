"""How a step is executed and tried again: what both kinds of handlers share."""

from __future__ import annotations

from tako.worker import execute, tracebacks, values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from tako.sdk.options import Retry
    from tako.worker.attempt import Attempt


class Failure:
    """An item of a `map` that failed."""

    __slots__ = ("error", "index")

    def __init__(self, index: int, error: Exception) -> None:
        self.index = index
        self.error = error


def next_try_ms(attempt: Attempt, name: str, error: Exception, retry: Retry | None, tries: int) -> int | None:
    """How long to wait before a step is tried again; None when it is not. Logs the failure either way."""
    words = tracebacks.words(error)
    can_retry = retry is not None and tries <= retry.retries and retry.covers(error)
    if retry is None or not can_retry or isinstance(error, execute.NEVER_RETRIED):
        attempt.failed_steps[name] = words
        return None
    delay_ms = values.backoff_ms(retry, tries)
    trace = tracebacks.text(error) if tries == 1 else None
    attempt.say(
        "error" if tries == 1 else "warning",
        f"step {name!r} failed ({words}); try {tries + 1} of {retry.retries + 1} in {delay_ms / 1000:g}s",
        step=name,
        traceback=trace,
    )
    return delay_ms


def gathered(attempt: Attempt, name: str, results: list[Any], *, return_exceptions: bool) -> list[Any]:
    """The results of a `map`: without failures, or with the errors in their places, or not at all."""
    failures = [result for result in results if type(result) is Failure]
    if failures and not return_exceptions:
        first = failures[0].error
        for other in failures[1:]:
            first.add_note(f"also failed: {name}[{other.index}]: {tracebacks.words(other.error)}")
        raise first
    for failure in failures:
        attempt.failed_steps.pop(f"{name}[{failure.index}]", None)  # the handler asked for it: no warning
        results[failure.index] = failure.error
    return results
