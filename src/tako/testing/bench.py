"""An attempt on the test's thread: the worker's own steps, waits and endings, in surroundings of a test.

What differs from a worker is all here. Time stands still, so every sleep parks and no backoff of a step is waited for;
`map` uses one thread; what is asked is answered at once; planned faults come.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from itertools import count
from typing import Any, cast

from tako.engine import leases
from tako.errors import LeaseLost, TakoError
from tako.protocol import framing
from tako.sdk.runner import StepOptions
from tako.testing.core import Core
from tako.testing.faults import Faults
from tako.worker import attempt as attempts
from tako.worker import execute, values
from tako.worker.async_steps import AsyncAttempt
from tako.worker.attempt import Attempt
from tako.worker.connection import ONCE, data_of, frame_of
from tako.worker.steps import SyncAttempt

Message = dict[str, Any]
Answer = Callable[[Message], Any]

RELEASE = "test"


class Bench:
    """What one attempt needs of a worker. Its name is its own, so that a crash takes no other run with it."""

    release = RELEASE

    def __init__(
        self, core: Core, faults: Faults, *, worker_id: str, workflow: str, answer: Answer, log: Callable[..., None]
    ) -> None:
        self.worker_id = worker_id
        self.workflow = workflow
        self.core = core
        self.log = log
        self.crashed = False
        self._faults = faults
        self._answer = answer
        self._numbers = count(1)

    # --- what the worker's code calls ---

    @property
    def connection(self) -> Bench:
        """To the engine: this very object."""
        return self

    def ask(
        self, body: Message | str, on_reply: Callable[[Message], None], *, keep: int = ONCE, run_id: str = ""
    ) -> None:
        """Ask, and hand over the reply before this returns."""
        on_reply(self._reply(body))

    def call(self, body: Message | str, *, keep: int = ONCE, run_id: str = "") -> Any:
        """Ask; the reply's data."""
        return data_of(self._reply(body))

    def flush(self) -> None:
        """Nothing lies in an outbox."""

    def finish(self, attempt: Attempt, outcome: Message) -> None:
        """Write down how the attempt ended."""

        def finished(reply: Message) -> None:
            if reply["status"] != "ok":
                attempt.say("warning", f"the end of the run was not accepted: {reply['message']}")

        execute.tell(attempt, outcome, finished)

    def lost(self, attempt: Attempt, why: str) -> None:
        """The run is not held here any more."""
        if attempt.end(attempts.LOST):
            attempt.say("warning", f"the handler is stopped and changes nothing more: {why}")
        attempt.settle()

    def parked(self, attempt: Attempt) -> None:
        """The run has let go of this worker."""

    def watch(self, deadline: float) -> None:
        """No time passes while a handler runs, so no timeout is reached."""

    # --- faults ---

    def with_faults(self, step: str, fn: Callable[..., Any]) -> Callable[..., Any]:
        """The step's function, or what is planned in its place."""

        def call(*args: Any) -> Any:
            self._faults.before_step(self.workflow, step)
            return fn(*args)

        async def acall(*args: Any) -> Any:
            self._faults.before_step(self.workflow, step)
            return await cast(Awaitable[Any], fn(*args))

        return acall if values.is_async(fn) else call

    def _crash(self, step: str) -> None:
        """Die as a worker does that is killed before it could say what a step returned."""
        self.crashed = True
        death = f"killed behind step {step!r} by engine.crash"
        self.core.do(
            leases.release, worker_id=self.worker_id, counted=True, death=death, now_ms=self.core.clock.now_ms()
        )
        raise LeaseLost(death)

    # --- frames ---

    def _reply(self, body: Message | str) -> Message:
        # Through a frame and back, as on the socket: what would be refused there is refused here.
        frame = frame_of(next(self._numbers), body)
        try:
            message = framing.decode(frame[:-1])
            command, step = message["command"], message.get("step_name", "")
            if command == "start_child" and self._faults.crashes_after(self.workflow, step):
                self._answer(message)  # the child is there, and nobody was told
                self._crash(step)
            if command == "save_step" and self._faults.crashes_after(self.workflow, step):
                self._crash(step)
            return {"status": "ok", "data": self._answer(message)}
        except TakoError as error:
            return {"status": "error", "code": error.code, "message": error.message, "detail": error.detail}


class TestedSync(SyncAttempt):
    """An attempt of a `def` handler."""

    __test__ = False  # its name is not meant for pytest
    __slots__ = ()
    short_sleep_ms = 0

    def now_ms(self) -> int:
        """The test's time."""
        return _bench(self).core.clock.now_ms()

    def pause(self, seconds: float) -> None:
        """Go on at once."""
        self.check()

    def map(
        self,
        name: str,
        fn: Callable[[Any], Any],
        items: Iterable[Any],
        options: StepOptions,
        *,
        limit: int,
        return_exceptions: bool,
    ) -> list[Any]:
        """One item after the other, on this thread."""
        return super().map(name, fn, items, options, limit=1, return_exceptions=return_exceptions)

    def execute_step(self, name: str, fn: Callable[..., Any], args: tuple[Any, ...], options: StepOptions) -> Any:
        """Call the step's function, or raise what is planned."""
        return super().execute_step(name, _bench(self).with_faults(name, fn), args, options)


class TestedAsync(AsyncAttempt):
    """An attempt of an `async def` handler."""

    __test__ = False
    __slots__ = ()
    short_sleep_ms = 0

    def now_ms(self) -> int:
        """The test's time."""
        return _bench(self).core.clock.now_ms()

    async def pause(self, seconds: float) -> None:
        """Go on in the next turn of the loop."""
        await asyncio.sleep(0)
        self.check()

    async def execute_step(self, name: str, fn: Callable[..., Any], args: tuple[Any, ...], options: StepOptions) -> Any:
        """Call the step's function, or raise what is planned."""
        return await super().execute_step(name, _bench(self).with_faults(name, fn), args, options)


def _bench(attempt: Attempt) -> Bench:
    return cast(Bench, attempt.bench)
