"""Every error that Tako raises on purpose: a code for programs, a cause and a cure for people.

A cold room: loads in every app and every worker, so it imports nothing.
"""


class TakoError(Exception):
    """Base of all errors that Tako raises on purpose.

    `message` is the cause, `cure` what to do about it ("" when nothing can be said), `detail` what a program
    may want to know. `str(error)` is the message, then the cure on a line of its own.
    """

    code = "error"

    def __init__(self, message: str, *, cure: str = "", detail: dict[str, object] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.cure = cure
        self.detail: dict[str, object] = detail or {}

    def __str__(self) -> str:
        return f"{self.message}\n  {self.cure}" if self.cure else self.message

    def __reduce__(self) -> tuple[object, ...]:
        # Keyword arguments do not survive the default pickling of exceptions; loggers and test runners pickle.
        return _rebuild, (type(self), self.message, self.cure, self.detail)


def _rebuild(kind: type[TakoError], message: str, cure: str, detail: dict[str, object]) -> TakoError:
    return kind(message, cure=cure, detail=detail)


# What an enqueue can raise. If it raises (EnqueueUnknown aside), nothing was stored.


class EnqueueError(TakoError):
    """The run was not accepted. Base of all that `enqueue` raises."""

    code = "enqueue_failed"


class WorkerUnhealthy(EnqueueError):
    """The workers of the run's group cannot start, so the run was not accepted; nothing was stored.

    `str(error)` begins with `worker unhealthy: ` and says how the last worker ended. Mend the cause; the next
    enqueue succeeds without a restart. `retry_after` says in seconds when a new worker will be tried.
    """

    code = "worker_unhealthy"

    reason = property(lambda self: self.detail.get("reason"), doc="How the last worker ended, in one sentence.")
    exit_code = property(lambda self: self.detail.get("exit_code"), doc="Its exit code; None when a signal ended it.")
    signal = property(lambda self: self.detail.get("signal"), doc='The signal\'s name ("SIGKILL"), else None.')
    ran_ms = property(lambda self: self.detail.get("ran_ms"), doc="How long it ran, in milliseconds.")
    traceback_tail = property(lambda self: self.detail.get("traceback_tail"), doc="Error, file and line; may be None.")
    stderr_tail = property(lambda self: self.detail.get("stderr_tail"), doc="Its last lines on stderr, a list.")
    group = property(lambda self: self.detail.get("group"), doc="The worker group.")
    release = property(lambda self: self.detail.get("release"), doc='The release it ran ("dev" in development).')
    failures = property(lambda self: self.detail.get("failures"), doc="Consecutive failed starts.")
    since = property(lambda self: self.detail.get("since"), doc="Unix milliseconds of the first of them.")
    retry_after = property(lambda self: self.detail.get("retry_after"), doc="Seconds until the next start is tried.")


class UnknownWorkflow(EnqueueError):
    """No code declares a workflow of this name; the nearest names are in the message."""

    code = "unknown_workflow"


class PayloadError(EnqueueError):
    """Arguments, a result or a signal do not fit their types, or are too large; names the place."""

    code = "payload"


class QueueFull(EnqueueError):
    """The workflow has as many unfinished runs as its `max_pending` allows; nothing was stored. Try again later."""

    code = "queue_full"


class DuplicateRun(EnqueueError):
    """An unfinished run has this key, and `on_duplicate="raise"` was asked for. `detail["id"]` is that run."""

    code = "duplicate_run"


class StoreUnavailable(EnqueueError):
    """The store cannot take writes now: disk full, locked by another process, engine stopping or not answering.

    Nothing was stored. It goes on by itself when the cause is gone; `detail["reason"]` names it for programs.
    """

    code = "store_unavailable"


class EnqueueUnknown(EnqueueError):
    """The connection died between send and reply and did not come back: the run may or may not be stored.

    `run_id` is the id it has if it is; `tako.get_run(run_id)` answers once the engine is back. Enqueueing again is safe
    with a key; without one, look first.
    """

    code = "enqueue_unknown"

    run_id = property(lambda self: self.detail.get("run_id"), doc="The id that the run has, if it was stored.")


class NoEngine(EnqueueError):
    """This process does not run under Tako: use `tako dev`, `tako run -- COMMAND`, or `tako.testing`."""

    code = "no_engine"


# What concerns a run.


class RunFailed(TakoError):
    """The run ended `dead`. The message carries the remote traceback; mend the cause, then `run.retry()`."""

    code = "run_failed"


class RunCancelled(TakoError):
    """The run was cancelled, or stopped itself with `ctx.stop(reason)`."""

    code = "run_cancelled"


class RunNotFound(TakoError):
    """No run has this id or key: it never existed, or was removed after its retention."""

    code = "run_not_found"


class RunFinished(TakoError):
    """The run has ended, so it cannot be cancelled or signalled."""

    code = "run_finished"


class UnknownSignal(TakoError):
    """The workflow declares no signal of this name."""

    code = "unknown_signal"


class SignalTimeout(TakoError):
    """`wait_for` reached its timeout and had no `default`. Catch it in the handler, or the attempt fails."""

    code = "signal_timeout"


# What handlers and steps meet.


class Fatal(Exception):
    """Raise it in a handler or step to end the run as `dead` at once, whatever retries are left."""


class LeaseLost(TakoError):
    """Another worker holds the run now, or it was cancelled. Nothing was saved; stop working on it."""

    code = "stale"


class StepError(TakoError):
    """A step was used in a way that cannot be made durable: a name twice, a call without `await`, a bad option."""

    code = "step"


class StepResultError(TakoError):
    """A step's value cannot be stored, or no longer reads back as its type; names the path. Not retried."""

    code = "step_result"


class DefinitionError(TakoError):
    """A workflow is declared wrongly; found when its file is imported. Names file and line."""

    code = "definition"


# What concerns the engine and its tools.


class ConfigError(TakoError):
    """`tako.toml` says something that cannot be done; names file, line and key, and the nearest right one."""

    code = "config"


class EngineRunning(TakoError):
    """Another process holds this folder's store. Names its pid and command."""

    code = "engine_running"


class StoreDamaged(TakoError):
    """The store's file is damaged, gone, or not the one that was here. The engine does not start on a replacement."""

    code = "store_damaged"


class VersionMismatch(TakoError):
    """SDK and engine speak different protocols. The message says which side to upgrade, and how."""

    code = "version_mismatch"


class InvalidRequest(TakoError):
    """A frame on the socket is too long, not JSON, or not a known command."""

    code = "invalid_request"


class Unauthorized(TakoError):
    """The token belongs to another app, or this kind of caller may not use this command."""

    code = "unauthorized"


class UnknownApp(TakoError):
    """This server has no app of this name in this environment; the nearest names are in the message."""

    code = "unknown_app"


class UnknownRelease(TakoError):
    """The app has no such release here, or none to go back to."""

    code = "unknown_release"


class DeployRunning(TakoError):
    """Another deploy of this app and environment is under way. `detail["job"]` is its JobInfo."""

    code = "deploy_running"


class DeployRefused(TakoError):
    """The release was looked at and not accepted: nothing moved, and what served before still does."""

    code = "deploy_refused"


class DeployFailed(TakoError):
    """The release could not be made to serve; what served before still does, or does again."""

    code = "deploy_failed"


class IllegalMove(TakoError):
    """A run was asked to go where its state does not lead. `detail` has status, event and the legal events."""

    code = "illegal_move"


BY_CODE: dict[str, type[TakoError]] = {
    kind.code: kind
    for kind in (
        TakoError, EnqueueError, WorkerUnhealthy, UnknownWorkflow, PayloadError, QueueFull, DuplicateRun,
        StoreUnavailable, EnqueueUnknown, NoEngine, RunFailed, RunCancelled, RunNotFound, RunFinished,
        UnknownSignal, SignalTimeout, LeaseLost, StepError, StepResultError, DefinitionError, ConfigError,
        EngineRunning, StoreDamaged, VersionMismatch, InvalidRequest, Unauthorized, UnknownApp, UnknownRelease,
        DeployRunning, DeployRefused, DeployFailed, IllegalMove,
    )
}  # fmt: skip


def from_reply(reply: dict[str, object]) -> TakoError:
    """The error that an error reply of the socket stands for. An unknown code becomes a plain TakoError."""
    kind = BY_CODE.get(str(reply.get("code", "")), TakoError)
    detail = reply.get("detail")
    message = str(reply.get("message", "the engine gave no reason"))
    return kind(message, detail=dict(detail) if isinstance(detail, dict) else None)
