"""The process of one slot: started or adopted, its output followed, its exit told once with its last lines."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

from tako.supervisor import child, output, spawn
from tako.supervisor.exits import Exit


@dataclass(frozen=True, slots=True)
class Listener:
    """Who hears of a process: each line it prints, its end with the lines before it, and how to take secrets out."""

    on_line: Callable[[int, str], None]
    on_exit: Callable[[Exit, list[str]], None]
    redact: Callable[[str], str]


class Processes(Protocol):
    """Where processes come from: the machine, which is `Process` itself, or a simulated one."""

    def start(self, request: spawn.SpawnRequest, listener: Listener) -> Process:
        """Start one. Raises SpawnFailed, OSError."""
        ...

    def adopt(self, record: Mapping[str, Any], listener: Listener, *, ran_ms: int) -> Process | None:
        """Take over the process of a `record`; None when it is gone."""
        ...

    def boot_id(self) -> str:
        """Another one after each start of the machine."""
        ...


class Process:
    """A running process. `root` is its folder; `record` tells the next engine how to adopt it."""

    def __init__(self, running: child.Child, follower: output.Follower | None, *, root: Path, spool: Path) -> None:
        self.child = running
        self.root = root
        self.spool = spool
        self._follower = follower
        self._watcher: asyncio.Task[None] | None = None

    @classmethod
    def start(cls, request: spawn.SpawnRequest, listener: Listener) -> Self:
        """Start it.

        Raises:
            SpawnFailed, OSError: nothing was started, and no spool is left.
        """
        # Followed before it is started, so that no process runs whose output nobody can read.
        pid: list[int] = []
        follower = _follow(request.spool, listener, pid)
        try:
            running = spawn.spawn(request)
        except spawn.SpawnFailed:
            follower.discard()
            raise
        pid.append(running.pid)
        return cls(running, follower, root=request.cwd, spool=request.spool)._watched(listener)

    @classmethod
    def adopt(cls, record: Mapping[str, Any], listener: Listener, *, ran_ms: int) -> Self | None:
        """Take over the process of a `record`; None when it is gone, or was started on another boot."""
        if record["start_time"] is None or record["boot_id"] != child.boot_id():
            return None
        running = child.adopt(record["pid"], started=record["start_time"], ran_ms=ran_ms)
        if running is None:
            return None
        spool = Path(record["spool"])
        follower = None
        with suppress(OSError):  # without its output rather than without its work
            follower = _follow(spool, listener, [running.pid])
        return cls(running, follower, root=Path(record["root"]), spool=spool)._watched(listener)

    @staticmethod
    def boot_id() -> str:
        """Names this boot of the machine: a pid of another one means nothing."""
        return child.boot_id()

    @property
    def pid(self) -> int:
        """Its pid, which is also that of its group."""
        return self.child.pid

    def record(self) -> dict[str, Any]:
        """What `adopt` wants to find, as JSON."""
        return {
            "pid": self.child.pid,
            "start_time": self.child.start_time,
            "boot_id": child.boot_id(),
            "spool": str(self.spool),
            "root": str(self.root),
        }

    def detach(self) -> None:
        """Let go of it; it lives on, for the next engine to adopt."""
        if self._watcher is not None:
            self._watcher.cancel()
        if self._follower is not None:
            self._follower.detach()
        self.child.release()

    def _watched(self, listener: Listener) -> Self:
        self._watcher = asyncio.get_running_loop().create_task(self._watch(listener))
        return self

    async def _watch(self, listener: Listener) -> None:
        exit_ = await self.child.wait()
        lines: list[str] = []
        if self._follower is not None:
            try:
                await self._follower.finish()
            except Exception as error:  # whatever became of its output, its end must be told
                lines.append(f"(the rest of the output is lost: {error!r})")
            lines = [*self._follower.tail, *lines]
        listener.on_exit(exit_, lines)


def _follow(spool: Path, listener: Listener, pid: list[int]) -> output.Follower:
    return output.follow(spool, lambda line: listener.on_line(pid[0] if pid else 0, line), redact=listener.redact)
