"""The engine as the SDK of the code under test finds it: requests go through a frame, as ever, and stay in process."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import count
from time import monotonic
from typing import Any

from tako.protocol import framing
from tako.protocol.messages import Enqueued, NewRun, RunInfo
from tako.rpc.request import Request, introduction
from tako.sdk.engine import mark_new
from tako.testing.commands import Commands
from tako.testing.core import Core

_RESERVE = len(introduction("", "0" * 64))


class Client:
    """What `runtime.engine()` gives in a test. `drain` and `adrain` are called by whoever waits for a run's end."""

    def __init__(
        self,
        core: Core,
        commands: Commands,
        *,
        drain: Callable[[], bool],
        adrain: Callable[[], Awaitable[bool]],
    ) -> None:
        self._core = core
        self._commands = commands
        self._drain = drain
        self._adrain = adrain
        self._numbers = count(1)

    def enqueue(self, runs: Sequence[NewRun], *, deadline_s: float, immediate: bool = False) -> list[Enqueued]:
        """Store runs in one transaction."""
        data = self._ask("enqueue_runs", {"runs": list(runs)}, deadline_s)
        return mark_new(data["runs"], runs)

    async def aenqueue(self, runs: Sequence[NewRun], *, deadline_s: float, immediate: bool = False) -> list[Enqueued]:
        """As `enqueue`, awaited."""
        return self.enqueue(runs, deadline_s=deadline_s)

    def call(self, command: str, fields: Mapping[str, Any], *, deadline_s: float) -> Any:
        """Any other command. Waiting for a run drains."""
        if command != "wait_run":
            return self._ask(command, fields, deadline_s)
        info = self._run(fields)
        while info["ended_ms"] is None:
            goes_on = self._drain()  # a planned crash ends a drain; the next one is the new worker
            info = self._run(fields)
            if not goes_on:
                break
        return self._ended(info)

    async def acall(self, command: str, fields: Mapping[str, Any], *, deadline_s: float) -> Any:
        """As `call`, awaited."""
        if command != "wait_run":
            return self._ask(command, fields, deadline_s)
        info = self._run(fields)
        while info["ended_ms"] is None:
            goes_on = await self._adrain()
            info = self._run(fields)
            if not goes_on:
                break
        return self._ended(info)

    def _ask(self, command: str, fields: Mapping[str, Any], deadline_s: float) -> Any:
        request = Request(
            next(self._numbers),
            command,
            fields,
            path="in process",
            now=monotonic(),
            deadline_s=deadline_s,
            reserve=_RESERVE,
        )
        return self._commands.answer(framing.decode(request.line[:-1]))

    def _run(self, fields: Mapping[str, Any]) -> RunInfo:
        return self._core.run(fields["id"], ["result"])

    def _ended(self, info: RunInfo) -> RunInfo:
        """The run, if it has ended. Nobody can wait for it to do so: time stands still while the test does.

        Raises:
            TimeoutError: says what it waits for.
        """
        if info["ended_ms"] is not None:
            return info
        raise TimeoutError(f"run {info['id']} of {info['workflow']} has not ended: it is {info['status']}{_why(info)}")


def _why(info: RunInfo) -> str:
    waiting = info.get("waiting") or {}
    if info["blocked"]:
        return f" ({info['blocked']})"
    if waiting.get("signal"):
        return f", for the signal {waiting['signal']!r}. Send it, or let its timeout pass with engine.advance(...)"
    if info["status"] in ("pending", "sleeping") and info["run_at_ms"] is not None:
        due = datetime.fromtimestamp(info["run_at_ms"] / 1000, tz=UTC).isoformat(timespec="milliseconds")
        error = f" after {info['error']}" if info["error"] else ""
        return f"{error}, due at {due}. Time stands still in a test: move it with engine.advance(...)"
    return ""
