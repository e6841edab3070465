"""An attempt in hand: the run as it was claimed, which steps it has visited, and whether it may still go on.

Three threads look at an attempt: the one that runs the handler, the reader (the engine says that the run was
cancelled, or is held by another worker now) and the director (a timeout, a drain). Only two things are decided between
them, both by one atomic operation: `end` says why no further step may start, and `settle` who reports the outcome.
"""

from __future__ import annotations

import sys
import time
from _thread import allocate_lock, get_ident

from tako import errors
from tako.protocol import json_text
from tako.worker.connection import KEPT

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from typing import Any, Protocol

    from tako.protocol.messages import ClaimedRun
    from tako.sdk.spans import Opened
    from tako.sdk.workflow import Workflow
    from tako.worker.children import Child

    Message = dict[str, Any]

    class Channel(Protocol):
        """What an attempt asks the engine through: a `Connection`."""

        def ask(
            self, body: Message | str, on_reply: Callable[[Message], None], *, keep: int = ..., run_id: str = ...
        ) -> None:
            """Put a request into the outbox."""

        def flush(self) -> None:
            """Send what is in the outbox."""

        def call(self, body: Message | str, *, keep: int = ..., run_id: str = ...) -> Any:
            """Ask, and wait for the reply's data."""

    class Bench(Protocol):
        """What an attempt needs of the worker that it runs in."""

        worker_id: str
        release: str

        @property
        def connection(self) -> Channel:
            """To the engine."""

        def log(self, level: str, message: str, **fields: object) -> None:
            """One line on stderr."""

        def finish(self, attempt: Attempt, outcome: Message) -> None:
            """Tell the engine how the attempt ended; returns before the engine has answered."""

        def lost(self, attempt: Attempt, why: str) -> None:
            """The engine said that the run is not ours any more."""

        def parked(self, attempt: Attempt) -> None:
            """The run is parked: it is not held here any more."""

        def watch(self, deadline: float) -> None:
            """Look at the timeouts of all attempts at this instant (monotonic) at the latest."""


# Why no further step of an attempt may start.
PARKED = "parked"
CANCELLED = "cancelled"
LOST = "lost"
TIMED_OUT = "timed out"
DRAINED = "drained"
FINISHED = "finished"

# A step that runs longer is warned of, with its stack, long before its timeout.
SLOW_STEP_S = 300.0
# A shorter sleep keeps its thread: to park and be claimed again costs two transactions.
SHORT_SLEEP_MS = 3_000
NEVER = float("inf")


class Ended(BaseException):
    """Unwinds a handler whose run is parked, cancelled, lost, timed out or drained. Not for `except Exception`."""


class Running:
    """A step that is being executed. `slow_at` and `deadline` are monotonic seconds; None when there is none."""

    __slots__ = ("deadline", "is_done", "is_expired", "name", "slow_at", "started", "task", "thread_id", "timeout_ms")

    def __init__(self, name: str, timeout_ms: int | None) -> None:
        self.name = name
        self.started = time.monotonic()
        self.timeout_ms = timeout_ms
        self.deadline = None if timeout_ms is None else self.started + timeout_ms / 1000
        self.slow_at: float | None = self.started + SLOW_STEP_S
        self.thread_id = 0  # of the thread that its function runs in; 0 for one on the event loop
        self.task: asyncio.Task[Any] | None = None
        self.is_expired = False
        self.is_done = False

    def enter_thread(self) -> None:
        """This thread calls its function."""
        self.thread_id = get_ident()

    def timeout_error(self) -> TimeoutError:
        """What the handler meets when the step is cut short."""
        return TimeoutError(f"step {self.name!r} did not end within {seconds(self.timeout_ms or 0)}")

    def next_look(self) -> float:
        """When somebody must look at it."""
        slow_at = NEVER if self.slow_at is None else self.slow_at
        return slow_at if self.deadline is None or slow_at < self.deadline else self.deadline


class Attempt:
    """What both kinds of handlers have in common."""

    is_async = False
    short_sleep_ms = SHORT_SLEEP_MS
    __slots__ = (
        "attempt", "began", "bench", "claimed", "deadline", "ended", "epoch", "failed_steps", "is_done", "is_leaving",
        "is_settled", "key", "left", "left_s", "run_id", "running", "saved", "scheduled_for_ms", "signals",
        "tells_steps", "thread_id", "visited", "waited_s", "warnings", "workflow",
    )  # fmt: skip

    def __init__(self, claimed: ClaimedRun, workflow: Workflow[Any, Any], bench: Bench) -> None:
        self.claimed = claimed
        self.workflow = workflow
        self.bench = bench
        self.run_id = claimed["id"]
        self.epoch = claimed["epoch"]
        self.attempt = claimed["attempt"]
        self.key = claimed["key"]
        self.scheduled_for_ms = claimed["scheduled_for_ms"]
        self.saved: dict[str, str] = claimed["steps"]
        self.left: set[str] | None = set(self.saved) if self.saved else None  # saved, not visited yet
        self.visited: set[str] = set()
        self.signals: dict[str, int] = {}  # how often each was waited for in this attempt
        self.running: dict[str, Running] = {}
        self.tells_steps = claimed.get("tell_steps", False)
        self.warnings: list[str] = []
        self.failed_steps: dict[str, str] = {}
        self.ended = ""
        self.is_settled = allocate_lock()  # taken once and never given back
        self.is_leaving = False  # it asked to be parked: until the answer, nobody else's word counts
        self.is_done = False  # the handler has returned, whatever became of the run
        self.thread_id = 0
        self.began = 0.0  # when it was given its place, monotonic
        self.waited_s = 0.0  # for the engine, since then
        self.deadline: float | None = None  # of the whole attempt, monotonic; None too while its clock stands still
        self.left_s: float | None = None  # until then, when its clock was stopped last

    # --- ends ---

    def end(self, why: str) -> bool:
        """From now on no step starts. False when it had ended already; the first reason stays."""
        if self.ended:
            return False
        self.ended = why
        return True

    def settle(self) -> bool:
        """Whether the caller is the one who reports how the attempt ended."""
        return self.is_settled.acquire(False)

    # Of a handler on the event loop; a thread's has no use for them.

    def on_loop(self, call: Callable[[], None]) -> None:
        """Call it in the event loop's thread."""
        raise NotImplementedError

    def stack(self) -> tuple[str, str]:
        """Where the handler waits: see `tracebacks.stack`. In the loop."""
        raise NotImplementedError

    def expire(self, running: Running) -> None:
        """A step has reached its timeout: its caller meets TimeoutError. In the loop."""
        raise NotImplementedError

    def now_ms(self) -> int:
        """Unix time in milliseconds; in `tako.testing` its fake clock's."""
        return time.time_ns() // 1_000_000

    # --- the clock of its timeout ---

    def start_clock(self) -> None:
        """Its handler begins. What was spent before the run was parked or handed back counts."""
        timeout_ms = self.workflow.timeout_ms
        if timeout_ms is not None:
            self.go_on_clock((timeout_ms - self.claimed.get("spent_ms", 0)) / 1000)

    def stop_clock(self) -> float | None:
        """Sleeping does not count. What `go_on_clock` wants to know; None when there is no clock that runs."""
        deadline, self.deadline = self.deadline, None
        if deadline is None:
            return None
        self.left_s = left_s = deadline - time.monotonic()
        return left_s

    def go_on_clock(self, left_s: float | None) -> None:
        """So much is left of the timeout."""
        if left_s is not None:
            self.deadline = time.monotonic() + left_s
            self.bench.watch(self.deadline)

    def spent_ms(self) -> int | None:
        """For how long the attempt has been executed, in this worker and before; None without a timeout."""
        timeout_ms = self.workflow.timeout_ms
        if timeout_ms is None:
            return None
        deadline = self.deadline
        left_s = self.left_s if deadline is None else deadline - time.monotonic()
        return self.claimed.get("spent_ms", 0) if left_s is None else max(0, timeout_ms - round(left_s * 1000))

    def check(self) -> None:
        """Raise Ended when the handler must not go on."""
        if self.ended:
            raise Ended(self.ended)

    # --- steps ---

    def visit(self, name: str) -> str | None:
        """The handler has come to this step: its saved result, or None when it must be executed.

        Raises:
            StepError: the name stands twice in one attempt.
            Ended: the run is not to go on here.
        """
        if self.ended:
            raise Ended(self.ended)
        if name in self.visited:
            raise errors.StepError(
                f"The step {name!r} was called twice in one attempt, and a name has one result.",
                cure=f'Name each call, for example f"{name}-{{item_id}}".',
            )
        self.visited.add(name)
        if self.left is None:
            return None
        self.left.discard(name)
        return self.saved.get(name)

    def skipped(self) -> list[str]:
        """Saved steps that the handler has not come to, in the order in which they were saved."""
        return [name for name in self.saved if name in self.left] if self.left else []

    def judge_order(self, name: str) -> None:
        """A step that was never saved starts though saved ones were not reached: the code has changed (O3).

        Raises:
            ChangedCode: the workflow is strict.
        """
        skipped = self.skipped()
        if not skipped:
            return
        if self.workflow.strict:
            raise ChangedCode(skipped[0], self.run_id)
        self.warn(
            f"step {name!r} ran before {_names(skipped)}, saved by earlier code, "
            f"had been reached (release {self.bench.release})"
        )

    def judge_rest(self) -> None:
        """The handler has returned: saved steps that it did not come to are a sign of changed code (O3).

        Raises:
            ChangedCode: the workflow is strict.
        """
        skipped = self.skipped()
        if skipped and self.workflow.strict:
            raise ChangedCode(skipped[0], self.run_id)
        if skipped:
            self.warn(f"{_names(skipped)}, saved by earlier code, was not reached (release {self.bench.release})")
        for name, error in self.failed_steps.items():
            self.warn(f"step {name!r} failed ({error}) and the handler went on; a failed step is not stored")

    def warn(self, text: str) -> None:
        """Put a warning on the run; said once."""
        if text not in self.warnings:
            self.warnings.append(text)
            self.say("warning", text)

    def name_of_wait(self, event: str) -> str:
        """The name under which a wait for this signal is stored: waiting for it twice is two steps.

        Raises:
            StepError: the workflow declares no such signal, so nobody could send it.
        """
        if event not in [signal.name for signal in self.workflow.signals]:
            known = ", ".join(repr(signal.name) for signal in self.workflow.signals) or "none"
            raise errors.StepError(
                f"wait_for({event!r}): workflow {self.workflow.name!r} declares no such signal; it declares: {known}",
                cure="Name it in @workflow(signals=[...]): nobody could send it otherwise.",
            )
        count = self.signals[event] = self.signals.get(event, 0) + 1
        return f"signal:{event}" if count == 1 else f"signal:{event}#{count}"

    def remembered(self, name: str, due_ms: int | None) -> int | None:
        """When a wait is due: as an earlier pass has saved it, else `due_ms`."""
        if self.left is None:
            return due_ms
        marker = f"{name} until"
        self.left.discard(marker)
        saved = self.saved.get(marker)
        return due_ms if saved is None else int(saved)

    def parked(self, answer: Message) -> str | None:
        """What the engine said to `park`: the value, if there was nothing to wait for; else Ended is raised."""
        if not answer["parked"]:
            self.is_leaving = False
            value: str | None = answer.get("value_json")
            return value
        self.end(PARKED)
        if self.settle():
            self.bench.parked(self)
        raise Ended(PARKED)

    def load_all_steps(self) -> None:
        """Fetch the pages of saved steps that did not come with the claim. Blocks; not for the loop's thread."""
        after = self.claimed["steps_next"]
        if after is None:
            return
        while after is not None and not self.ended:
            try:
                page = self.bench.connection.call(
                    {**self.message("load_steps"), "after": after}, keep=KEPT, run_id=self.run_id
                )
            except errors.TakoError as error:
                # Whatever the engine said, without its steps a run must not begin.
                self.bench.lost(self, error.message)
                return
            self.saved.update(page["steps"])
            after = page["next"]
        self.left = set(self.saved)

    def started(self, name: str, timeout_ms: int | None) -> Running:
        """A step's function is about to be called."""
        running = self.running[name] = Running(name, timeout_ms)
        self.bench.watch(running.next_look())
        return running

    # --- messages to the engine ---

    def message(self, command: str) -> Message:
        """The fields that every message about this run has."""
        return {"command": command, "worker_id": self.bench.worker_id, "id": self.run_id, "epoch": self.epoch}

    def save_message(self, name: str, text: str, started_ms: int) -> str:
        """Save a step's result. Written by hand, as `succeeded_message`: they are most of what a worker says."""
        return (
            f'"command":"save_step",{self._who()},"step_name":{json_text.encode(name)},"result_json":{json_text.encode(text)},'
            f'"started_ms":{started_ms},"attempt":{self.attempt}'
        )

    def in_steps_message(self) -> Message:
        """Say which steps are being executed. Only if `tells_steps`: a worker has died with this run before."""
        return {**self.message("in_steps"), "steps": list(self.running)}

    def left_step(self) -> None:
        """A step's function has ended, however: it is not where the worker dies next."""
        self.bench.connection.ask(self.in_steps_message(), lambda reply: None)
        self.bench.connection.flush()

    def start_message(self, child: Child) -> Message:
        """Enqueue a child under a name; said again, it is the same child."""
        if "opentelemetry.trace" in sys.modules:
            from tako.sdk import spans

            spans.carry([child.new])
        return {**self.message("start_child"), "step_name": child.name, "run": child.new}

    def outcomes_message(self, ids: list[str]) -> Message:
        """Ask how runs ended."""
        return {**self.message("load_outcomes"), "runs": ids}

    def succeeded_message(self, text: str) -> str:
        """End the run with this result."""
        return f'"command":"finish",{self._who()},"outcome":"succeeded","result_json":{json_text.encode(text)}'

    def _who(self) -> str:
        quote = json_text.encode
        return f'"worker_id":{quote(self.bench.worker_id)},"id":{quote(self.run_id)},"epoch":{self.epoch}'

    def refused(self, error: errors.TakoError) -> BaseException:
        """What the handler meets when the engine refuses a write about this run."""
        if error.code in _GONE:
            self.bench.lost(self, error.message)
            return Ended(self.ended)
        return error

    @property
    def log(self) -> RunLog:
        """What `ctx.log` is."""
        return RunLog(self)

    def span(self, step: str = "") -> Opened | None:
        """A span for the attempt, or for a call of one of its steps, if the app has loaded OpenTelemetry."""
        if "opentelemetry.trace" not in sys.modules:
            return None
        from tako.worker import tracing

        return tracing.of_step(self, step) if step else tracing.of_run(self)

    def end_span(self, opened: Opened, failure: BaseException | None) -> None:
        """The attempt's span is over."""
        from tako.worker import tracing

        tracing.end_run(opened, self, failure)

    def say(self, level: str, message: str, **fields: object) -> None:
        """Log a line that carries the run."""
        self.bench.log(level, message, run_id=self.run_id, workflow=self.workflow.name, **fields)


_GONE = frozenset(
    (errors.LeaseLost.code, errors.RunNotFound.code, errors.RunCancelled.code, errors.RunFinished.code, "illegal_move")
)


class RunLog:
    """`ctx.log`: lines that carry the run, and the step if just one is being executed."""

    __slots__ = ("_attempt",)

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt

    def debug(self, message: str, **fields: object) -> None:
        """What only the author follows."""
        self._write("debug", message, fields)

    def info(self, message: str, **fields: object) -> None:
        """What an operator follows."""
        self._write("info", message, fields)

    def warning(self, message: str, **fields: object) -> None:
        """What a person may want to act on."""
        self._write("warning", message, fields)

    def error(self, message: str, **fields: object) -> None:
        """What a person must act on."""
        self._write("error", message, fields)

    def _write(self, level: str, message: str, fields: dict[str, object]) -> None:
        running = list(self._attempt.running)
        ours = {"run_id": self._attempt.run_id, "workflow": self._attempt.workflow.name}
        if len(running) == 1:
            ours["step"] = running[0]
        # Ours win: a field of the user's must not make a line look like another run's.
        kept = {name: value for name, value in fields.items() if name not in ("level", "message", "msg")}
        self._attempt.bench.log(level, str(message), **{**kept, **ours})


class ChangedCode(Exception):
    """A strict workflow's code changed under a run (O3)."""

    __module__ = "builtins"  # so that people read its name, and not where it stands in Tako

    def __init__(self, step: str, run_id: str) -> None:
        super().__init__(f'code changed under it (saved step "{step}" was not reached)')
        self.add_note(
            "Take the change back and retry the run, or have the new code run from that step on: "
            f"tako runs retry {run_id} --from-step {step!r}"
        )


def _names(steps: list[str]) -> str:
    shown = ", ".join(repr(name) for name in steps[:5])
    more = f" and {len(steps) - 5} more" if len(steps) > 5 else ""
    return f"step{'s' if len(steps) > 1 else ''} {shown}{more}"


def seconds(ms: int) -> str:
    """`90s`, `0.5s`: a duration for people."""
    return f"{ms / 1000:g}s"
