"""One run, from claim to one of its outcomes: succeeded, failed, fatal, stopped; or none, when it parked or was lost.

What is fatal, so that no retries are burnt: Fatal, a payload that does not fit the handler, a programming error
(NameError, ImportError, SyntaxError, arguments that the handler does not take), a step that cannot be made durable,
and whatever the workflow's `Retry` excludes.
"""

from __future__ import annotations

from tako import errors
from tako.sdk.context import Stop
from tako.sdk.startup import around_handlers
from tako.worker import attempt as attempts
from tako.worker import speech, tracebacks, values
from tako.worker.attempt import Ended
from tako.worker.connection import FINAL, TooLarge

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from tako.protocol.messages import Outcome
    from tako.worker.attempt import Attempt
    from tako.worker.steps import SyncAttempt

    Message = dict[str, Any]

PROGRAMMING_ERRORS = (NameError, ImportError, SyntaxError)
NEVER_RETRIED = (
    *PROGRAMMING_ERRORS,
    errors.Fatal,
    errors.StepError,
    errors.StepResultError,
    errors.DefinitionError,
    attempts.ChangedCode,
)

_MAX_WARNINGS = 100


def run(attempt: SyncAttempt) -> None:
    """Run a `def` handler in this thread and report how it ended."""
    arguments = begin(attempt)
    if arguments is None:
        return
    result: object = None
    failure: BaseException | None = None
    handler = attempt.workflow.fn
    speaking = speech.begins(attempt)
    span = attempt.span()
    try:
        if around_handlers:
            result = values.inside(around_handlers, lambda: handler(attempt.context(), **arguments))
        else:
            result = handler(attempt.context(), **arguments)
    except BaseException as error:  # the thread goes on with other runs; `report` judges what this is
        failure = error
    finally:
        attempt.is_done = True
        if span is not None:
            attempt.end_span(span, failure)
        speech.ends(attempt, speaking)
    report(attempt, result, failure)


def rescue(attempt: Attempt, error: BaseException) -> None:
    """Something of ours failed: the run must not stay running for ever with its lease renewed."""
    attempt.is_done = True
    attempt.say("error", f"a bug of Tako's: {tracebacks.words(error)}", traceback=tracebacks.whole(error))
    if attempt.settle():
        attempt.bench.finish(attempt, failed(attempt, error))


def begin(attempt: Attempt) -> dict[str, Any] | None:
    """Decode the payload and start the clock. None when the run has ended before it began."""
    attempt.load_all_steps()
    if attempt.ended:
        return None
    try:
        arguments = values.arguments(attempt.workflow, attempt.claimed["payload_json"])
    except Exception as error:  # PayloadError, or whatever a class of the user's raises when it is made
        attempt.is_done = True
        if attempt.settle():
            words = error.message if isinstance(error, errors.PayloadError) else tracebacks.words(error)
            attempt.bench.finish(attempt, fatal(error, reason=f"the stored payload does not fit: {words}"))
        return None
    attempt.start_clock()
    return arguments


def report(attempt: Attempt, result: object, failure: BaseException | None) -> None:
    """Say how the handler ended, unless somebody has said already how the attempt did."""
    if attempt.ended:
        if failure is None and attempt.ended == attempts.PARKED:
            attempt.say("warning", "the handler caught the exception that parks it and returned; its result is dropped")
        return
    outcome = outcome_of(attempt, result, failure)
    attempt.end(attempts.FINISHED)
    if attempt.settle():
        attempt.bench.finish(attempt, outcome)


def outcome_of(attempt: Attempt, result: object, failure: BaseException | None) -> Message:
    """The fields of `finish`."""
    if failure is None:
        try:
            attempt.judge_rest()
            return {"outcome": "succeeded", "result_json": values.result(attempt.workflow, result)}
        except (errors.StepResultError, attempts.ChangedCode) as error:
            return fatal(error)
        except Exception as error:  # a class of the user's that fails while it is encoded
            return failed(attempt, error)
    if isinstance(failure, Ended):
        # It was raised without the attempt having ended: somebody kept one and raised it again.
        return failed(attempt, failure)
    if isinstance(failure, Stop):
        return {"outcome": "stopped", "reason": tracebacks.shorten(failure.reason, 1_000)}
    if isinstance(failure, NEVER_RETRIED) or _is_the_handlers_own_call(failure):
        return fatal(failure)
    return failed(attempt, failure)


def failed(attempt: Attempt, error: BaseException) -> Message:
    """An attempt that may be tried again, as the workflow's `Retry` says."""
    retry = attempt.workflow.retry
    if not retry.covers(error):
        return fatal(error)
    return {"outcome": "failed", "error": tracebacks.remote_error(error), "retry": retry.policy()}


def fatal(error: BaseException, *, reason: str | None = None) -> Message:
    """The end of a run, whatever retries are left."""
    kind: Outcome = "fatal"
    found: Message = {"outcome": kind, "error": tracebacks.remote_error(error)}
    if isinstance(error, attempts.ChangedCode):
        reason = str(error)  # our own words, not the type of an exception that nobody raised
    if reason is not None:
        found["reason"] = reason
    return found


def tell(attempt: Attempt, outcome: Message, on_reply: Callable[[Message], None]) -> None:
    """Log how an attempt ended and ask the engine to write it down; the message is kept until it is acknowledged."""
    message: Message | str
    if outcome["outcome"] == "succeeded" and not attempt.warnings:
        message = attempt.succeeded_message(outcome["result_json"])
    else:
        message = {**attempt.message("finish"), **outcome, "warnings": attempt.warnings[:_MAX_WARNINGS]}
    error = outcome.get("error")
    if error is not None:
        first_line = error["message"].splitlines()[0] if error["message"] else ""
        attempt.say("error", f"{error['type']}: {first_line}", traceback=error["traceback"] or None)
    try:
        attempt.bench.connection.ask(message, on_reply, keep=FINAL, run_id=attempt.run_id)
    except TooLarge as large:
        tell(attempt, _without_what_is_large(outcome, large), on_reply)


def tell_next(attempt: Attempt, run_at_ms: int) -> None:
    """Log that a failed attempt is followed by another one, and when."""
    delay_ms = max(0, run_at_ms - attempt.now_ms())
    grain_ms = 100 if delay_ms < 60_000 else 1_000
    begins = attempts.seconds(-(-delay_ms // grain_ms) * grain_ms)
    attempt.say("info", f"attempt {attempt.attempt} failed; the next one begins in {begins}")


def _without_what_is_large(outcome: Message, large: TooLarge) -> Message:
    """An outcome that fits into a frame, and says why it is not the one that was."""
    if outcome["outcome"] == "succeeded":
        return fatal(values.too_large("result", large.size))
    error = {**outcome["error"], "traceback": "", "message": tracebacks.shorten(outcome["error"]["message"], 1_000)}
    return {**outcome, "error": error}


def _is_the_handlers_own_call(error: BaseException) -> bool:
    """Whether this is the TypeError of calling the handler itself: it never got to a line of the handler."""
    if not isinstance(error, TypeError):
        return False
    trace = error.__traceback__
    return trace is not None and trace.tb_next is None
