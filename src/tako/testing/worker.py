"""The worker of a test: claims one run after the other and runs its handler on the test's thread."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count
from typing import Any

from tako.engine import runs
from tako.protocol.messages import ClaimedRun
from tako.sdk import startup
from tako.testing import loops
from tako.testing.bench import RELEASE, Bench, TestedAsync, TestedSync
from tako.testing.commands import Commands
from tako.testing.core import Core
from tako.testing.faults import Faults
from tako.worker import aio, execute, redaction
from tako.worker import attempt as attempts
from tako.worker.attempt import Attempt, Ended

# More runs than this in one drain are a workflow that enqueues itself without end.
MOST_RUNS = 10_000

log = logging.getLogger("tako.testing")


class Worker:
    """Claims and runs. `lines` are what was logged meanwhile."""

    def __init__(self, core: Core, faults: Faults) -> None:
        self.commands = Commands(core, stop=self._cancelled)
        self.lines: list[dict[str, Any]] = []
        self._core = core
        self._faults = faults
        self._names = count(1)
        self._in_hand: dict[str, Attempt] = {}
        self._raised: BaseException | None = None
        self._runner = loops.Runner()
        self._has_started = False
        startup.around_handlers.append(self._witness)

    def drain(self) -> bool:
        """Run all that is due on this thread; whether a planned crash has ended that early."""
        for hook in self._start():
            self._runner.run(_awaited(hook))
        for claimed, bench in self._claims():
            if self._is_async(claimed):
                self._runner.run(self._run_async(claimed, bench))
            else:
                self._run_sync(claimed, bench)
            if bench.crashed:
                return True
        return False

    async def adrain(self) -> bool:
        """As `drain`, in the loop that runs."""
        for hook in self._start():
            await hook
        for claimed, bench in self._claims():
            if self._is_async(claimed):
                await self._run_async(claimed, bench)
            else:
                await loops.call(partial(self._run_sync, claimed, bench))
            if bench.crashed:
                return True
        return False

    def close(self) -> None:
        """Close the loop of async handlers."""
        startup.around_handlers.remove(self._witness)
        self._runner.close()

    def log(self, level: str, message: str, **fields: object) -> None:
        """Keep a line, and tell it to `logging`, from where pytest shows it when the test fails."""
        said = {name: value for name, value in fields.items() if value is not None}
        self.lines.append({"level": level, "message": message, **said})
        trace = said.pop("traceback", None)
        more = "".join(f" {name}={value}" for name, value in said.items())
        text = redaction.clean(f"{message}{more}" + (f"\n{trace}" if trace else ""))
        log.log(logging.getLevelNamesMapping().get(level.upper(), logging.INFO), "%s", text)

    # --- one run after the other ---

    def _start(self) -> Iterator[Awaitable[Any]]:
        """What `@tako.on_start` decorated, once, as in a worker. Those that are async are for the caller to await."""
        if self._has_started:
            return
        self._has_started = True
        for hook in list(startup.hooks):
            with loops.hidden():
                started = hook()
            if hasattr(started, "__await__"):
                yield started

    def _claims(self) -> Iterator[tuple[ClaimedRun, Bench]]:
        last = ""
        for _ in range(MOST_RUNS):
            found = self._claim()
            if found is None:
                return
            last = found[0]["workflow"]
            yield found
        raise AssertionError(f"{MOST_RUNS:,} runs were due in one drain, with no end to it; the last was of {last}")

    def _claim(self) -> tuple[ClaimedRun, Bench] | None:
        core = self._core
        core.look()
        now_ms = core.clock.now_ms()
        while core.do(runs.promote_due, now_ms=now_ms):
            pass
        names = core.names_of_healthy_groups()
        worker_id = f"test-{next(self._names)}"
        for solo in (False, True):
            found = core.do(
                runs.claim, worker_id=worker_id, names=names, max_runs=1, now_ms=now_ms, release=RELEASE, solo=solo
            )
            if found:
                name = core.workflow(found[0]["workflow"]).name
                answer = self.commands.answer
                bench = Bench(core, self._faults, worker_id=worker_id, workflow=name, answer=answer, log=self.log)
                return found[0], bench
        return None

    def _is_async(self, claimed: ClaimedRun) -> bool:
        return self._core.workflow(claimed["workflow"]).is_async

    def _run_sync(self, claimed: ClaimedRun, bench: Bench) -> None:
        attempt = TestedSync(claimed, self._core.workflow(claimed["workflow"]), bench)
        with self._held(attempt):
            # An empty context, as in a worker's thread: what the test has set is not there in production either.
            contextvars.Context().run(execute.run, attempt)

    async def _run_async(self, claimed: ClaimedRun, bench: Bench) -> None:
        loop = asyncio.get_running_loop()
        attempt = TestedAsync(claimed, self._core.workflow(claimed["workflow"]), bench, loops.Host(loop))
        with self._held(attempt):
            attempt.task = loop.create_task(aio.run(attempt), context=contextvars.Context())
            await attempt.task
        here = asyncio.current_task()
        if here is not None and here.cancelling():
            # Somebody cancelled the drain (a timeout, Ctrl-C); the handler has swallowed that, as its worker's do.
            raise asyncio.CancelledError

    @contextmanager
    def _held(self, attempt: Attempt) -> Iterator[None]:
        self._in_hand[attempt.run_id] = attempt
        try:
            yield
        finally:
            attempt.is_done = True
            del self._in_hand[attempt.run_id]
        raised, self._raised = self._raised, None
        if raised is not None:
            raise raised

    @contextmanager
    def _witness(self) -> Iterator[None]:
        """See what is not for the handler's worker but for the test: Ctrl-C, `pytest.fail()` in a step."""
        try:
            yield
        except (Exception, Ended, asyncio.CancelledError, GeneratorExit, SystemExit):
            raise
        except BaseException as error:
            self._raised = error
            raise

    def _cancelled(self, run_id: str, epoch: int) -> None:
        """A run was cancelled while its handler is at it: no further step starts."""
        attempt = self._in_hand.get(run_id)
        if attempt is not None and attempt.epoch == epoch:
            attempt.end(attempts.CANCELLED)
            attempt.settle()


async def _awaited(hook: Awaitable[Any]) -> None:
    await hook
