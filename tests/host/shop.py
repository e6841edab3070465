"""An engine with real workers whose handlers wait for files, so that a test decides when what goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tako.protocol import ids
from tako.protocol.env import ProcessEnvironment
from tako.sdk import runtime
from tako.sdk.engine import RemoteEngine
from tests.host.running import RunningHost
from tests.support.dev import kill, write
from tests.support.loud import LeapingClock

# Beside the workflows of every test, as a module of the app.
TOOLS = """\
import os
import time
from pathlib import Path


def note(line):
    fd = os.open("notes.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, (str(line) + "\\n").encode())
    os.close(fd)


def hold(name):
    note(f"at {name}")
    until = time.monotonic() + 60
    while not Path(name).exists() and time.monotonic() < until:
        time.sleep(0.01)
"""


class Shop(RunningHost):
    """`notes` is what handlers wrote with `note`; a handler that is in `hold(name)` goes on after `let(name)`."""

    def __init__(self, folder: Path) -> None:
        self.clock = LeapingClock()
        super().__init__(folder, clock=self.clock)

    def enqueue(self, workflow: str, payload: dict[str, Any] | None = None, **options: Any) -> str:
        """Enqueue by name, which must succeed; the run's id."""
        reply = self.ask(workflow, payload, **options)
        assert reply["status"] == "ok", reply
        run_id: str = reply["data"]["runs"][0]["id"]
        return run_id

    def ask(self, workflow: str, payload: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
        """Enqueue by name; the whole reply."""
        new = {"id": ids.uuid7(), "workflow": workflow, "payload_json": json.dumps(payload or {}), **options}
        return self.call("enqueue_runs", runs=[new])

    def show(self, run_id: str, *parts: str) -> dict[str, Any]:
        """A run as people see it."""
        run: dict[str, Any] = self.ok("get_run", id=run_id, **{"with": list(parts)})
        return run

    def is_now(self, run_id: str, status: str) -> dict[str, Any]:
        """The run, when its status is this one."""
        return self.until(
            lambda: run if (run := self.show(run_id))["status"] == status else None, what=f"the run is {status}"
        )

    def runs(self, **filters: Any) -> list[dict[str, Any]]:
        """Runs, newest first."""
        found: list[dict[str, Any]] = self.ok("list_runs", **filters)["runs"]
        return found

    def problems(self, kind: str) -> list[dict[str, Any]]:
        """What `tako status` says of this kind."""
        return [problem for problem in self.ok("status")["problems"] if problem["kind"] == kind]

    def workers(self, group: str = "default") -> list[dict[str, Any]]:
        """The worker processes of a group."""
        (health,) = self.ok("health", group=group)["groups"]
        found: list[dict[str, Any]] = health["workers"]
        return found

    def kill_worker(self, group: str = "default") -> None:
        """SIGKILL to the group's only worker."""
        (worker,) = self.workers(group)
        kill(worker["pid"])

    @contextmanager
    def as_app(self) -> Iterator[None]:
        """Inside, this process is one of the app's: `tako` and its workflows speak to this engine."""
        socket, name = str(self.host.places.internal_socket), self.host.config.name
        environment = ProcessEnvironment(
            app=name, socket=socket, environment="development", release="dev", data_dir=str(self.host.places.data)
        )
        remote = RemoteEngine(socket, name, None)
        before = runtime.install(remote, environment=environment)
        try:
            yield
        finally:
            runtime.restore(before)
            remote.close()

    def leap(self, hours: float) -> None:
        """Set the wall clock ahead; schedules and due runs are looked at."""
        self.clock.wall_ahead_ms += round(hours * 3_600_000)
        self.run(self.host.rounds.run_once())

    def schedules(self) -> list[dict[str, Any]]:
        """What `tako schedules` shows."""
        found: list[dict[str, Any]] = self.ok("list_schedules")["schedules"]
        return found

    def log(self) -> list[str]:
        """What the engine and the workers have said."""
        return [str(line["message"]) for line in self.host.hub.recent()]

    # --- the app's side ---------------------------------------------------------------------------------------------

    def notes(self) -> list[str]:
        """What handlers have written down."""
        path = self.folder / "notes.txt"
        return path.read_text().splitlines() if path.exists() else []

    def noted(self, line: str, times: int = 1) -> None:
        """Wait until a handler has written this so many times."""
        self.until(lambda: self.notes().count(line) >= times, what=f"{line!r} was noted {times} times")

    def let(self, name: str) -> None:
        """Let the handlers go on that are in `hold(name)`."""
        (self.folder / name).touch()

    def save(self, **files: str) -> None:
        """Save workflow files, as `name="text"`; the engine has seen them when this returns."""
        write(self.folder, {f"workflows/{name}.py": text for name, text in files.items()})
        self.ok("reload")

    def is_proven(self, group: str = "default") -> None:
        """Wait until a worker of the current code has said HELLO."""
        self.until(lambda: self.host.groups.pools[group].state.is_proven, what=f"group {group} is proven")


def make(folder: Path, workflows: str, *, toml: str = "", **files: str) -> Path:
    """An app's folder: `workflows/all.py`, and others as `name="text"`."""
    more = {f"workflows/{name}.py": text for name, text in files.items()}
    found = {"workflows/__init__.py": "", "workflows/all.py": workflows, "tools.py": TOOLS, **more}
    write(folder, {**found, "tako.toml": toml} if toml else found)
    return folder
