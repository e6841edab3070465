"""Run: a handle on an enqueued run, and what can be asked of the engine about it.

Every call that talks to the engine has a twin with `a` in front. Both build the same request and read the same
answer; only the way in between differs.
"""

from tako.errors import RunCancelled, RunFailed
from tako.sdk import codecs, options, payload, runtime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from typing import Any, Generic, TypeVar

    from tako.protocol.messages import RunInfo, ShownStatus, StepInfo
    from tako.sdk.options import Duration
    from tako.sdk.workflow import Workflow

    R = TypeVar("R", covariant=True)
    Request = tuple[str, dict[str, Any]]
else:
    from tako.sdk.generic import Generic, R

DEADLINE_S = 5.0
# `wait_run` is asked again this often, so that a new daemon is noticed although it knows of no wait.
_WAIT_PIECE_MS = 20_000
_ENDED = ("succeeded", "cancelled", "dead")


class Run(Generic[R]):
    """A run: `id`, and what can be asked of the engine about it. Two handles of one run are equal.

    `is_new` is False when a key had an unfinished run already, which this is then.

    Every question takes a round trip, and raises RunNotFound when the run is there no more (its retention is over), and
    StoreUnavailable when the engine does not answer within 5 s.
    """

    __slots__ = ("_info", "_values", "_workflow", "id", "is_new")

    def __init__(
        self,
        id: str,
        workflow: "Workflow[Any, R] | str",
        *,
        is_new: bool = False,
        values: "dict[str, Any] | None" = None,
        info: "RunInfo | None" = None,
    ) -> None:
        self.id = id
        self.is_new = is_new
        self._workflow = workflow
        self._values = values
        self._info = info

    @property
    def workflow(self) -> str:
        """The workflow's name."""
        return self._workflow if isinstance(self._workflow, str) else self._workflow.name

    @property
    def args(self) -> "dict[str, Any]":
        """The arguments by name, as the handler gets them; defaults that were not given are not in it."""
        if not self._knows_args():
            self._info = self._ask(self._get("payload"))
        return self._read_args()

    async def aargs(self) -> "dict[str, Any]":
        """As `args`, awaited."""
        if not self._knows_args():
            self._info = await self._aask(self._get("payload"))
        return self._read_args()

    @property
    def error(self) -> str | None:
        """Why the last attempt failed, or why the run ended; None while all is well. Asks the engine."""
        return _error_of(self._ask(self._get()))

    async def aerror(self) -> str | None:
        """As `error`, awaited."""
        return _error_of(await self._aask(self._get()))

    def status(self) -> "ShownStatus":
        """pending, running, sleeping, waiting, limited, blocked, succeeded, cancelled or dead; asks the engine.

        `limited` waits for a permit of `concurrency` or `rate`; `blocked` is due, and no worker can take it now.
        """
        return _status_of(self._ask(self._get()))

    async def astatus(self) -> "ShownStatus":
        """As `status`, awaited."""
        return _status_of(await self._aask(self._get()))

    def steps(self) -> "list[Step]":
        """The steps that were saved, in the order of saving; sleeps, waits and children among them."""
        return _steps_of(self._ask(self._get("steps")))

    async def asteps(self) -> "list[Step]":
        """As `steps`, awaited."""
        return _steps_of(await self._aask(self._get("steps")))

    def result(self, timeout: "Duration | None" = "30s") -> R:
        """What the handler returned, as soon as it has, in its type. `timeout` is a duration; None waits for ever.

        Raises:
            RunFailed: the run is dead; the message carries the remote traceback.
            RunCancelled: the run was cancelled, or stopped itself.
            TimeoutError: it has not ended yet. It goes on; ask again.
        """
        deadline = _Deadline(timeout)
        while True:
            wait_ms = deadline.piece_ms()
            request = ("wait_run", {"id": self.id, "timeout_ms": wait_ms})
            info = self._ask(request, deadline_s=wait_ms / 1000 + DEADLINE_S)
            if info["status"] in _ENDED:
                return self.read_result(info)
            deadline.check(info)

    async def aresult(self, timeout: "Duration | None" = "30s") -> R:  # noqa: ASYNC109  (the twin of `result`)
        """As `result`, awaited."""
        deadline = _Deadline(timeout)
        while True:
            wait_ms = deadline.piece_ms()
            request = ("wait_run", {"id": self.id, "timeout_ms": wait_ms})
            info = await self._aask(request, deadline_s=wait_ms / 1000 + DEADLINE_S)
            if info["status"] in _ENDED:
                return self.read_result(info)
            deadline.check(info)

    def cancel(self, reason: str = "") -> None:
        """Cancel the run and its children. On return that is durable: no further step starts and no result is saved.

        A step that is being executed may still end, unseen. Twice is harmless.

        Raises:
            RunFinished: it has succeeded, or is dead.
        """
        self._info = self._ask(self._cancel(reason))

    async def acancel(self, reason: str = "") -> None:
        """As `cancel`, awaited."""
        self._info = await self._aask(self._cancel(reason))

    def retry(self, *, from_step: str | None = None) -> None:
        """Run an ended run again, with all its retries: behind its last saved step, or from `from_step` on, which is
        then done again. Durable on return. Children that did not succeed are retried too.

        Raises:
            IllegalMove: it has not ended. Wait, or cancel it first.
            DuplicateRun: another unfinished run has its key by now.
            StepError: it has saved no step of that name; says which it has.
        """
        self._info = self._ask(self._retry(from_step))

    async def aretry(self, *, from_step: str | None = None) -> None:
        """As `retry`, awaited."""
        self._info = await self._aask(self._retry(from_step))

    def __eq__(self, other: object) -> bool:
        return self.id == other.id if isinstance(other, Run) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"<run {self.id} of {self.workflow}>"

    # --- requests and answers ---

    def _get(self, *parts: str) -> "Request":
        return "get_run", {"id": self.id, "with": list(parts)} if parts else {"id": self.id}

    def _cancel(self, reason: str) -> "Request":
        return "cancel", {"id": self.id, "reason": reason} if reason else {"id": self.id}

    def _retry(self, from_step: str | None) -> "Request":
        return "retry", {"id": self.id} if from_step is None else {"id": self.id, "from_step": from_step}

    def _ask(self, request: "Request", *, deadline_s: float = DEADLINE_S) -> "RunInfo":
        return ask(request, deadline_s)  # type: ignore[no-any-return]

    async def _aask(self, request: "Request", *, deadline_s: float = DEADLINE_S) -> "RunInfo":
        return await aask(request, deadline_s)  # type: ignore[no-any-return]

    def _knows_args(self) -> bool:
        return (self.is_new and self._values is not None) or (self._info is not None and "payload_json" in self._info)

    def _read_args(self) -> "dict[str, Any]":
        values = self._values if self.is_new else None
        if values is None:
            assert self._info is not None
            values = payload.decode(codecs.ANY, self._info["payload_json"], what="payload")
        if isinstance(self._workflow, str):
            return dict(values)
        return self._workflow.signature.load_values(values)

    def read_result(self, info: "Mapping[str, Any]") -> R:
        """The result of an ended run of which the engine has told this; raises as `result` does."""
        if info["status"] == "succeeded":
            codec = codecs.ANY if isinstance(self._workflow, str) else self._workflow.signature.result
            found: R = payload.decode(codec, info.get("result_json") or "null", what="result")
            return found
        detail: dict[str, object] = {"id": self.id, "workflow": self.workflow, "status": info["status"]}
        if info["status"] == "cancelled":
            reason = info["reason"] or "no reason was given"
            raise RunCancelled(f"run {self.id} of {self.workflow} was cancelled: {reason}", detail=detail)
        cause = info.get("traceback") or info["error"] or info["reason"] or "no reason was kept"
        message = f"run {self.id} of {self.workflow} is dead: {info['reason'] or info['error']}\n{cause.rstrip()}"
        raise RunFailed(message, cure=f"Mend the cause, then `tako runs retry {self.id}`.", detail=detail)


class Step:
    """A saved step of a run: `name`, `status`, `attempt`, `started`, `ended` (aware datetimes), `child`."""

    __slots__ = ("_info",)

    def __init__(self, info: "StepInfo") -> None:
        self._info = info

    name = property(lambda self: self._info["name"], doc="Its name.")
    status = property(lambda self: self._info["status"], doc='"saved", or what the engine says of it.')
    attempt = property(lambda self: self._info["attempt"], doc="The attempt of the run that saved it.")
    started = property(lambda self: moment(self._info["started_ms"]), doc="When it began; None if not known.")
    ended = property(lambda self: moment(self._info["ended_ms"]), doc="When it was saved.")

    @property
    def child(self) -> "Run[Any] | None":
        """The child run that this step started, if it did."""
        child_id = self._info.get("child_id")
        return Run(child_id, "") if child_id else None

    def __repr__(self) -> str:
        return f"<step {self.name} {self.status}>"


class _Deadline:
    """How long `result` may still wait, in pieces."""

    __slots__ = ("_end", "_text")

    def __init__(self, timeout: "Duration | None") -> None:
        from time import monotonic

        self._text = timeout
        self._end = None if timeout is None else monotonic() + options.duration_ms(timeout, what="timeout") / 1000

    def piece_ms(self) -> int:
        if self._end is None:
            return _WAIT_PIECE_MS
        from time import monotonic

        return min(_WAIT_PIECE_MS, max(0, round((self._end - monotonic()) * 1000)))

    def check(self, info: "RunInfo") -> None:
        if self._end is not None and self.piece_ms() == 0:
            raise TimeoutError(f"run {info['id']} is {info['status']} after {self._text}; it goes on")


# --- small things ----------------------------------------------------------------------------------------------------


def ask(request: "Request", deadline_s: float = DEADLINE_S) -> "Any":
    """Ask the engine; what its reply carries."""
    return runtime.engine().call(request[0], request[1], deadline_s=deadline_s)


async def aask(request: "Request", deadline_s: float = DEADLINE_S) -> "Any":
    """As `ask`, awaited."""
    return await runtime.engine().acall(request[0], request[1], deadline_s=deadline_s)


def _status_of(info: "RunInfo") -> "ShownStatus":
    return info["status"]


def _error_of(info: "RunInfo") -> str | None:
    return info["error"] or info["reason"]


def _steps_of(info: "RunInfo") -> "list[Step]":
    return [Step(step) for step in info.get("steps", ())]


def moment(ms: int | None) -> "datetime | None":
    """Unix milliseconds as an aware datetime."""
    if ms is None:
        return None
    from datetime import UTC, datetime

    return datetime.fromtimestamp(ms / 1000, tz=UTC)
