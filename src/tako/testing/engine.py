"""Engine: an engine and its worker inside of a test. Real store, real rules, real encoding; only time is not real.

`with Engine() as engine:` works in any test framework; under pytest the fixture `engine` does it.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from tako.cron import expression
from tako.engine import runs as rules
from tako.engine.intake import Scheduled
from tako.errors import WorkerUnhealthy
from tako.protocol import env
from tako.sdk import options, runtime
from tako.sdk.enqueueing import NOTHING
from tako.sdk.handles import Run
from tako.sdk.workflow import Workflow, new_run
from tako.testing import loops
from tako.testing.client import Client
from tako.testing.core import Core
from tako.testing.faults import Crash, Fail, Fault, Faults, Outage
from tako.testing.project import Project
from tako.testing.worker import Worker
from tako.worker import redaction

if TYPE_CHECKING:
    from tako.sdk.options import Duration

ENVIRONMENT = "test"


class Engine:
    """An engine in process. Workflows of the project at `root` are imported; None: only what the test imports itself.

    `secrets` is what `tako.secrets` gives, and may be changed during the test; `data_dir` is empty at first; `logs`
    has a dict for each line, `ctx.log` among them.
    """

    def __init__(self, root: Path | str | None = None, *, secrets: Mapping[str, str] | None = None) -> None:
        self.secrets: dict[str, str] = dict(secrets or {})
        self._project = None if root is None else Project(Path(root))
        self._undo = ExitStack()
        self._core = Core()
        self._faults = Faults()
        self.data_dir = Path()

    # --- life ---

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self.check_faults()
        finally:
            self.close()

    def start(self) -> None:
        """Take the place of the engine that this process would talk to, and import the project's workflows.

        Raises:
            Exception: whatever a workflow file raises; a worker would not start either.
        """
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def _start(self) -> None:
        self._undo.callback(self._core.store.close)
        self.data_dir = Path(self._undo.enter_context(tempfile.TemporaryDirectory(prefix="tako-data-")))
        name = "test" if self._project is None else self._project.config.name
        self._undo.enter_context(
            _variables({env.ENVIRONMENT: ENVIRONMENT, env.BUILD: "test", env.DATA_DIR: str(self.data_dir)})
        )
        self._worker = Worker(self._core, self._faults)
        self._undo.callback(self._worker.close)
        client = Client(self._core, self._worker.commands, drain=self._drain, adrain=self._adrain)
        environment = env.ProcessEnvironment(
            app=name, socket="", environment=ENVIRONMENT, release="test", data_dir=str(self.data_dir)
        )
        before = runtime.install(client, environment=environment, secrets=self.secrets, clock=self._core.clock.now_ms)
        self._undo.callback(runtime.restore, before)
        self._undo.callback(redaction.use, {})
        if self._project is not None:
            self._project.import_workflows()
        self._core.look()

    def close(self) -> None:
        """Put everything back as it was. Twice is harmless."""
        self._undo.close()

    def check_faults(self) -> None:
        """Raise NeverReached when a planned crash or failure never came. The fixture asks at the end of each test."""
        self._faults.check()

    # --- work and time ---

    def drain(self) -> None:
        """Run all that is due, on this thread, one run after the other. Time does not pass.

        A planned crash ends it early, as the worker is dead then: the next drain is the new worker.
        """
        self._drain()

    async def adrain(self) -> None:
        """As `drain`, in the event loop that runs."""
        await self._adrain()

    def advance(self, duration: Duration) -> None:
        """Let time pass. What has become due runs at the next drain."""
        self._core.clock.advance(options.duration_ms(duration, what="advance"))

    @property
    def now(self) -> datetime:
        """The engine's time, with a time zone: UTC."""
        return datetime.fromtimestamp(self._core.clock.now_ms() / 1000, tz=UTC)

    @property
    def logs(self) -> list[dict[str, Any]]:
        """What was logged: `level`, `message`, and fields such as `run_id` and `step`."""
        return self._worker.lines

    def fire(self, workflow: Workflow[Any, Any] | str, *, at: datetime | None = None) -> Run[Any]:
        """Fire a schedule: enqueue the run that it makes. Schedules fire in no other way.

        `at` is the time in the schedule that the run is for; None is the newest one.

        Raises:
            ValueError: the workflow has no schedule.
            UnknownWorkflow: there is none of this name.
        """
        core = self._core
        core.look()
        found = workflow if isinstance(workflow, Workflow) else core.workflow(workflow)
        schedules = found.info()["schedules"]
        if not schedules:
            raise ValueError(f"{found.name} has no schedule to fire; enqueue it")
        if at is None:
            now_ms = core.clock.now_ms()
            boundary_ms, tz = max(
                (expression.parse(one).at_or_before(now_ms), one.get("tz", "UTC")) for one in schedules
            )
        else:
            boundary_ms, tz = options.instant_ms(at, what="at"), found.zone
        scheduled = Scheduled(boundary_ms, tz)
        _, run = new_run(found, NOTHING, (), {})
        run.setdefault("retries", found.retry.retries)
        (stored,) = core.do(rules.enqueue, [run], now_ms=core.clock.now_ms(), scheduled=scheduled)
        return Run(stored["id"], found, is_new=stored["is_new"])

    # --- faults ---

    def crash(self, *, after: str, workflow: Workflow[Any, Any] | str | None = None) -> Fault:
        """Let the worker die behind a step, once: its side effect is done, its result not saved.

        `finally` and `with` of the handler do run, as they must in Python; a real crash leaves them out. Use it as a
        `with`, or alone for the rest of the test. If it is never reached, the test fails.
        """
        fault = Crash(self._faults, f"engine.crash(after={after!r})", step=after, workflow=workflow)
        self._faults.plan(fault)
        return fault

    def fail(
        self,
        *,
        step: str,
        times: int | None = 1,
        error: BaseException | type[BaseException] | None = None,
        workflow: Workflow[Any, Any] | str | None = None,
    ) -> Fault:
        """Let a step raise `error` (a RuntimeError, if none is given) in place of its function. As `crash`.

        `times` None is always.
        """
        if times is not None and times < 1:
            raise ValueError(f"times: expected at least 1, or None for always, found {times}")
        said = f"engine.fail(step={step!r})"
        fault = Fail(self._faults, said, step=step, workflow=workflow, times=times, error=error)
        self._faults.plan(fault)
        return fault

    def unhealthy(self, group: str = "default") -> Outage:
        """Let the group's workers be unable to start: enqueue raises WorkerUnhealthy, its runs show as `blocked`.

        Use it as a `with`, or alone for the rest of the test; `end()` of what it returns mends it.
        """
        reason = "worker exited with status 1 after 84ms without claiming any runs"
        refusal = WorkerUnhealthy(
            f"worker unhealthy: {reason}\n"
            f'  engine.unhealthy({group!r}) of tako.testing\n  group "{group}", 1 failed start; nothing was enqueued',
            detail={
                "reason": reason, "exit_code": 1, "signal": None, "ran_ms": 84, "traceback_tail": None,
                "stderr_tail": [], "group": group, "release": "test", "failures": 1,
                "since": self._core.clock.now_ms(), "retry_after": 1.0,
            },
        )  # fmt: skip
        self._core.refuse(group, refusal)
        return Outage(lambda: self._core.refuse(group, None))

    # --- inside ---

    def _drain(self) -> bool:
        if loops.is_running():
            raise RuntimeError(
                "an event loop is running: use `await engine.adrain()`, and `await run.aresult()` for a result"
            )
        self._before_drain()
        return self._worker.drain()

    async def _adrain(self) -> bool:
        await loops.call(self._before_drain)
        return await self._worker.adrain()

    def _before_drain(self) -> None:
        redaction.use(self.secrets)
        settle = getattr(runtime.engine(), "settle", None)  # of what `tako.contrib` has put around the engine
        if settle is not None:
            settle()


@contextmanager
def _variables(wanted: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
