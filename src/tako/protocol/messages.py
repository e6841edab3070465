"""Every command and reply as a TypedDict. SPEC.md section 3 is this file in prose.

Cold processes import this only for the type checker; the daemon checks each message against it at the door.
"""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

RunStatus = Literal["pending", "running", "succeeded", "cancelled", "dead"]
# What people and programs are shown; more precise than what is stored.
ShownStatus = Literal[
    "pending", "running", "sleeping", "waiting", "limited", "blocked", "succeeded", "cancelled", "dead"
]
Outcome = Literal["succeeded", "failed", "fatal", "stopped"]


class Request(TypedDict):
    """What every request may carry. The first one of a connection carries `app`."""

    command: str
    app: NotRequired[str]
    token: NotRequired[str]
    protocol: NotRequired[int]
    sdk: NotRequired[str]
    request: NotRequired[int]  # echoed in the reply; allows many in flight


class OkReply(TypedDict):
    """The command was done, and what it changed is durable."""

    status: Literal["ok"]
    data: Any
    request: NotRequired[int]


class ErrorReply(TypedDict):
    """The command was refused; it changed nothing."""

    status: Literal["error"]
    message: str
    code: str
    detail: dict[str, Any]
    request: NotRequired[int]


# --- apps and tools -------------------------------------------------------------------------------------------------


class NewRun(TypedDict):
    """A run as its caller asks for it. `id` is a UUIDv7 chosen by the caller, so that asking again is harmless."""

    id: str
    workflow: str
    payload_json: str
    signature: NotRequired[str]  # of the handler the caller has checked the arguments against
    run_at_ms: NotRequired[int]
    delay_ms: NotRequired[int]
    key: NotRequired[str]
    concurrency_key: NotRequired[str]  # the workflow's templates, rendered from the arguments
    rate_key: NotRequired[str]
    on_duplicate: NotRequired[Literal["return", "raise"]]
    priority: NotRequired[int]
    retries: NotRequired[int]
    expires_at_ms: NotRequired[int]
    if_unhealthy: NotRequired[Literal["raise", "hold"]]
    confirm: NotRequired[bool]
    parent_id: NotRequired[str]  # the run that starts it as its child
    trace: NotRequired[str]  # the traceparent (W3C) of the span that asks for it


class EnqueueRuns(Request):
    """`enqueue_runs`: all of them in one transaction, or none."""

    runs: list[NewRun]
    deadline_mono_ms: NotRequired[int]  # nothing is committed after this instant of the machine's monotonic clock


class Enqueued(TypedDict):
    """One accepted run. `is_new` is False when its key or id was there already; `id` is then that run's."""

    id: str
    is_new: bool


class StepInfo(TypedDict):
    """A saved step."""

    name: str
    status: str
    attempt: int
    started_ms: int | None
    ended_ms: int
    result_json: NotRequired[str]
    child_id: NotRequired[str]


class AttemptInfo(TypedDict):
    """One attempt of a run; `outcome` says how it ended in one word, `error` and `traceback` why."""

    attempt: int
    epoch: int
    worker_id: str | None
    release: str | None
    started_ms: int
    ended_ms: int
    outcome: str
    error: str | None
    traceback: str | None


class RunInfo(TypedDict):
    """A run as it is shown. Times are Unix milliseconds; None where the thing has not happened."""

    id: str
    workflow: str
    status: ShownStatus
    attempt: int
    retries: int
    created_ms: int
    run_at_ms: int | None
    started_ms: int | None
    ended_ms: int | None
    key: str | None
    priority: int
    group: str | None
    scheduled_for_ms: int | None
    parent_id: str | None
    error: str | None
    reason: str | None
    traceback: NotRequired[str | None]
    warnings: list[str]
    blocked: str | None  # why it cannot start now, when status is "blocked"
    acknowledged: bool
    payload_json: NotRequired[str]
    result_json: NotRequired[str | None]
    steps: NotRequired[list[StepInfo]]
    attempts: NotRequired[list[AttemptInfo]]  # that have ended; the one in hand began at `attempt_ms`
    attempt_ms: NotRequired[int | None]
    claimed_ms: NotRequired[int | None]  # when the worker that runs it took it
    interventions: NotRequired[list[dict[str, Any]]]  # what people did: at_ms, what, detail
    # step, signal (None: a sleep or a gather), since_ms, until_ms (None: without end), runs (that a gather waits for)
    waiting: NotRequired[dict[str, Any]]
    signals: NotRequired[list[dict[str, Any]]]  # kept for a wait to come: name, sent_ms


# --- workers --------------------------------------------------------------------------------------------------------


class Parameter(TypedDict):
    """A parameter of a handler, for checks without its code: `type` as written, `required` if it has no default."""

    name: str
    type: str
    required: bool


class WorkflowInfo(TypedDict):
    """What a worker tells of a workflow in HELLO."""

    name: str
    aliases: list[str]
    group: str
    file: str
    line: int
    parameters: list[Parameter]
    signature: str  # a hash; when it changes, importers of the workflow are rolled
    retries: int
    timeout_ms: int | None
    key: str | None
    max_pending: int | None
    on_dead: str | None
    if_unhealthy: Literal["raise", "hold"]
    schedules: list[dict[str, Any]]
    signals: list[dict[str, Any]]
    options: dict[str, Any]


class Registry(TypedDict):
    """All that a group declares, as told by a worker that has imported it."""

    group: str
    workflows: list[WorkflowInfo]
    files: list[str]


class RunEpoch(TypedDict):
    """A run as a worker holds it. `spent_ms`, when it is handed back: for how long its attempt was executed by now."""

    id: str
    epoch: int
    spent_ms: NotRequired[int]


class Hello(Request):
    """`hello` of a worker: its group's files are imported, it can claim."""

    role: Literal["worker"]
    worker_id: str
    pid: int
    group: str
    registry: Registry
    in_flight: list[RunEpoch]


class HelloData(TypedDict):
    """The answer to HELLO. `stale`: runs of `in_flight` that this worker holds no more."""

    lease_ms: int
    heartbeat_ms: int
    stale: list[str]


class ClaimedRun(TypedDict):
    """A run with all a worker needs to go on with it. `steps_next` is where `load_steps` goes on, None at the end."""

    id: str
    epoch: int
    workflow: str
    payload_json: str
    attempt: int
    retries: int
    key: str | None
    scheduled_for_ms: int | None
    scheduled_tz: str | None  # the time zone of the schedule that made it
    enqueued_ms: int
    generation: int
    steps: dict[str, str]
    steps_next: str | None
    solo: bool
    trace: NotRequired[str]  # what its enqueue carried
    spent_ms: NotRequired[int]  # for how long this attempt was executed before it was parked or handed back
    tell_steps: NotRequired[bool]  # a worker has died with it: say with `in_steps` where the next one would


class RemoteError(TypedDict):
    """An exception of user code. `traceback` is text, secrets redacted."""

    type: str
    message: str
    traceback: str


class RetryPolicy(TypedDict):
    """When a failed attempt is tried again: first_ms * factor^(n-1), at most max_ms, plus or minus jitter (0 to 1)."""

    first_ms: int
    factor: float
    max_ms: int
    jitter: float
    retries: int  # after the first attempt


class Finish(Request):
    """`finish`: how an attempt ended."""

    worker_id: str
    id: str
    epoch: int
    outcome: Outcome
    result_json: NotRequired[str]
    error: NotRequired[RemoteError]
    reason: NotRequired[str]
    retry: NotRequired[RetryPolicy]
    warnings: NotRequired[list[str]]


# --- health ---------------------------------------------------------------------------------------------------------


class GroupHealth(TypedDict):
    """A group as `tako status` shows it."""

    group: str
    state: str  # unproven healthy degraded cooldown probing stopped
    failing: bool  # at least ten failed starts in a row
    failures: int
    since_ms: int | None
    retry_at_ms: int | None
    reason: str | None  # how the last worker ended
    exit_code: int | None
    signal: str | None
    ran_ms: int | None
    peak_rss_bytes: int | None
    traceback_tail: str | None
    stderr_tail: list[str]
    release: str
    workers: list[dict[str, Any]]  # id, pid, state, since_ms, in_flight
    held: int
    min: int
    max: int


class PauseInfo(TypedDict):
    """What people hold back: `name` of the workflow or the group, `key` of the workflow ("" but for a key)."""

    kind: str  # workflow group key
    name: str
    key: str
    since_ms: int
    waiting: int  # due runs that it holds back


class LogLine(TypedDict):
    """One line of output or of our own log."""

    ts_ms: int
    level: str
    scope: str  # web, worker, tako
    message: str
    group: NotRequired[str]
    run_id: NotRequired[str]
    workflow: NotRequired[str]
    step: NotRequired[str]
    pid: NotRequired[int]
    instance: NotRequired[str]  # on a server: of the web app
    release: NotRequired[str]
    spool: NotRequired[str]  # on a server, in its files: where the line was read, so that none is kept twice
    at: NotRequired[int]
    fields: NotRequired[dict[str, Any]]
