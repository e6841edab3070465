"""The installed `tako dev --no-web` of a folder, as a service manager would run it: started, killed, started again."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from tako.errors import TakoError
from tako.protocol import env as environment
from tako.rpc.client import Client

LOOK_AGAIN_S = 0.01

T = TypeVar("T")


class Daemon:
    """One app's daemon. Leaving the `with` kills every process of its folder."""

    def __init__(
        self,
        folder: Path,
        files: Mapping[str, str],
        *,
        command: Sequence[str] = (sys.executable, "-m", "tako", "dev", "--no-web", "--plain"),
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.command = list(command)
        self.variables = dict(variables or {})
        self.log = folder / "daemon.log"
        self.process: subprocess.Popen[bytes] | None = None
        # Sockets have short paths, and not every folder has.
        self._runtime = Path(tempfile.mkdtemp(prefix="tako-rel-", dir="/tmp"))
        self.write(files)

    # --- life -------------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self._runtime, ignore_errors=True)

    def start(self, *, wait: bool = True, timeout_s: float = 60.0) -> Self:
        """Start it; with `wait`, until it answers."""
        own = {name: value for name, value in os.environ.items() if not name.startswith(("TAKO_", "XDG_"))}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                env={**own, "XDG_RUNTIME_DIR": str(self._runtime), **self.variables},
            )  # fmt: skip
        if wait:
            self.wait_until_it_answers(timeout_s=timeout_s)
        return self

    def wait_until_it_answers(self, *, timeout_s: float = 60.0) -> None:
        """Return when this process answers on its socket; fails when it ends, or the time is up."""
        process = self.process
        assert process is not None

        def answers() -> bool:
            if (code := process.poll()) is not None:
                raise AssertionError(f"the daemon ended with {code}:\n{self.tail()}")
            try:
                return self.place()["pid"] == process.pid and bool(self.ask("health"))
            except (OSError, ValueError, KeyError, TakoError):
                return False

        until(answers, what="the daemon answers", timeout_s=timeout_s)

    def kill(self) -> None:
        """SIGKILL to the daemon alone; its workers live on."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self, *, timeout_s: float = 60.0) -> int:
        """As Ctrl-C in its terminal; its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout_s)

    # --- looking ----------------------------------------------------------------------------------------------------

    def place(self) -> dict[str, Any]:
        """What the engine has told of itself. Raises OSError or ValueError when there is nothing yet."""
        found: dict[str, Any] = json.loads((self.folder / ".tako/engine.json").read_text())
        return found

    def app_environment(self) -> dict[str, str]:
        """What a process of the app needs to find the engine."""
        place = self.place()
        return {environment.APP_NAME: place["app"], environment.INTERNAL_SOCKET: place["socket"]}

    def ask(self, command: str, *, timeout_s: float = 15.0, **fields: Any) -> Any:
        """One request, on a connection of its own."""
        place = self.place()
        client = Client(place["socket"], place["app"])
        try:
            return client.call(command, fields, deadline_s=timeout_s)
        finally:
            client.close()

    def processes(self) -> list[int]:
        """Whatever runs in the folder, the daemon itself aside."""
        own = {os.getpid(), self.process.pid if self.process is not None else 0}
        return [pid for pid in processes_in(self.folder) if pid not in own]

    def workers(self) -> list[int]:
        """Its workers, booting ones too, by a look at the machine: it costs the daemon nothing."""
        return [pid for pid in self.processes() if "tako.worker" in command_line(pid)]

    def tail(self, lines: int = 40) -> str:
        """The last lines of what it has printed."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def write(self, files: Mapping[str, str]) -> None:
        """Write text files of the app, each in one step."""
        for name, text in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_name(f".{path.name}.part")
            part.write_text(text)
            part.replace(path)


def processes_in(folder: Path) -> list[int]:
    """The processes whose working folder it is."""
    found = []
    where = str(folder.resolve())
    for name in os.listdir("/proc"):  # noqa: PTH208  (looked at often)
        if name.isdigit():
            with suppress(OSError):
                if os.readlink(f"/proc/{name}/cwd") == where:  # noqa: PTH115
                    found.append(int(name))
    return found


def command_line(pid: int) -> str:
    """The words of a process, "" when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def until(look: Callable[[], T], *, what: str, timeout_s: float, every_s: float = LOOK_AGAIN_S) -> T:
    """Look again until there is something; AssertionError says what was waited for in vain."""
    deadline = time.monotonic() + timeout_s
    while not (found := look()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {timeout_s:g} s")
        time.sleep(every_s)
    return found
