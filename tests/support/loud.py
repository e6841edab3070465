"""An app that things go wrong in, watched through every channel: what is raised, shown, logged, and told by an alert.

The engine is real and runs in a thread of the test; its workers are real processes; `tako` in the test process talks to
it over its socket, as an app's own process does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import tako
from tako.clock import SystemClock
from tako.protocol.env import ProcessEnvironment
from tako.protocol.messages import LogLine
from tako.sdk import runtime
from tako.sdk.engine import RemoteEngine
from tests.host.running import RunningHost
from tests.support.dev import write
from tests.support.receivers import Hook

GREET = """\
from tako import Context, workflow


@workflow
def greet(ctx: Context, name: str) -> str:
    return ctx.step("render", render, name)


def render(name: str) -> str:
    return f"Hello {name}"
"""


class LeapingClock(SystemClock):
    """The machine's clocks; a test may set the wall clock ahead or back, as people and NTP do."""

    wall_ahead_ms = 0

    def now_ms(self) -> int:
        return super().now_ms() + self.wall_ahead_ms


class Shop(RunningHost):
    """An app with its engine. `files` are those of `workflows/` and others; `settings` are lines of `tako.toml`."""

    def __init__(self, folder: Path, files: Mapping[str, str] | str = GREET, *, settings: str = "") -> None:
        self.hook = Hook()
        found = {"workflows/flows.py": files} if isinstance(files, str) else dict(files)
        toml = f'name = "shop"\n{settings}\n[alerts]\nwebhook = "{self.hook.url}"\n'
        write(folder, {"workflows/__init__.py": "", "tako.toml": toml, **found})
        self.clock = LeapingClock()
        super().__init__(folder, clock=self.clock)
        self._remote: RemoteEngine | None = None
        self._before: tuple[Any, ...] = ()

    def __enter__(self) -> Self:
        self.hook.__enter__()
        try:
            super().__enter__()
        except BaseException as error:
            self.hook.__exit__(type(error), error, error.__traceback__)
            raise
        host = self.host
        socket = str(host.places.internal_socket)
        self._remote = RemoteEngine(socket, host.config.name, None)
        environment = ProcessEnvironment(
            app=host.config.name, socket=socket, environment="development", release="dev", data_dir="/data"
        )
        self._before = runtime.install(self._remote, environment=environment)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        runtime.restore(self._before)
        if self._remote is not None:
            self._remote.close()
        try:
            super().__exit__(kind, error, trace)
        finally:
            self.hook.__exit__(kind, error, trace)

    # --- causing ----------------------------------------------------------------------------------------------------

    def save(self, files: Mapping[str, str] | str) -> None:
        """Save files; the engine looks at once."""
        write(self.folder, {"workflows/flows.py": files} if isinstance(files, str) else files)
        self.ok("reload")

    def ready(self, group: str = "default") -> Self:
        """Wait until the group's code has proved that it starts."""
        self.until(lambda: self.health(group)["state"] == "healthy", what=f"{group} is healthy")
        return self

    def enqueue(self, workflow: str, **args: Any) -> str:
        """Enqueue by name, as an app does; the run's id."""
        return str(tako.enqueue(workflow, args).id)

    def change_store(self, statement: str, *parameters: Any) -> None:
        """Make stored rows other than they are: older, or damaged. In the writer's own transaction."""
        self.run(self.host.writer.do(lambda store: store.connection.execute(statement, parameters).fetchall()))

    def rounds(self) -> None:
        """Look at queues, schedules, clock and disk now, not in some seconds."""
        self.run(self.host.rounds.run_once())

    def workers(self, group: str = "default") -> list[dict[str, Any]]:
        """The group's workers."""
        found: list[dict[str, Any]] = self.health(group)["workers"]
        return found

    def schedules(self) -> dict[str, dict[str, Any]]:
        """What `tako schedules` shows, by workflow."""
        return {found["workflow"]: found for found in self.ok("list_schedules")["schedules"]}

    def runs(self, workflow: str) -> list[dict[str, Any]]:
        """The runs of a workflow, newest first."""
        return list(self.ok("list_runs", workflow=workflow)["runs"])

    # --- channels ---------------------------------------------------------------------------------------------------

    def health(self, group: str = "default") -> dict[str, Any]:
        """A group, as `tako status` shows it."""
        (found,) = self.ok("health", group=group)["groups"]
        return dict(found)

    def state(self, run_id: str, *wanted: str) -> dict[str, Any]:
        """A run, as `tako runs show` has it."""
        return dict(self.ok("get_run", id=run_id, **{"with": list(wanted)}))

    def dead(self, run_id: str) -> dict[str, Any]:
        """The run, when it is dead."""
        self.ended(run_id, status="dead")
        return self.state(run_id, "steps", "attempts")

    def status(self) -> dict[str, Any]:
        """What `tako status --json` prints."""
        return dict(self.ok("status"))

    def problem(self, kind: str) -> dict[str, Any]:
        """The problem of this kind in `tako status`, as soon as there is one."""
        return self.until(lambda: self._problem(kind), what=f"a problem {kind} in tako status")

    def no_problem(self, kind: str) -> None:
        """Wait until there is none of this kind."""
        self.until(lambda: self._problem(kind) is None, what=f"no problem {kind} in tako status")

    def _problem(self, kind: str) -> dict[str, Any] | None:
        return next((problem for problem in self.status()["problems"] if problem["kind"] == kind), None)

    def logged(self, level: str, pattern: str) -> LogLine:
        """The first line of this level that the pattern is found in, as soon as there is one."""
        return self.until(lambda: next(iter(self.lines(level, pattern)), None), what=f"a line {level} {pattern!r}")

    def lines(self, level: str, pattern: str) -> list[LogLine]:
        """All lines of this level so far that the pattern is found in."""
        wanted = re.compile(pattern)
        found = [line for line in self.host.hub.recent() if line["level"] == level]
        return [line for line in found if wanted.search(line["message"])]

    def alerted(self, kind: str) -> dict[str, Any]:
        """The first alert of this kind that the webhook has got."""
        return self.hook.wait_of(kind)[0]


Shopkeeper = Callable[..., Shop]
