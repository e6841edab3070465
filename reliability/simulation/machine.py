"""The simulated machine: its processes, its pids (which are used again), its boot, its disk."""

from __future__ import annotations

import random
import signal
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self, cast

from reliability.simulation.counters import count
from reliability.simulation.timeline import Timeline
from tako.engine.store import Store
from tako.supervisor import child
from tako.supervisor.exits import Exit
from tako.supervisor.process import Listener, Process
from tako.supervisor.spawn import SpawnFailed, SpawnRequest

# Few, so that they are used again soon.
PIDS = 40
SEEN_S = 0.002  # from a process's end to the event that tells of it


class Life:
    """A process as the machine sees it. What it does is its subclass's business."""

    def __init__(self, machine: Machine, request: SpawnRequest) -> None:
        self.machine = machine
        self.request = request
        self.pid = 0
        self.start_time = 0
        self.began = machine.timeline.now
        self.is_alive = True
        self.exit: Exit | None = None
        self.signals: list[int] = []  # what the daemon sent
        self._watchers: list[Callable[[], None]] = []

    def signalled(self, number: int) -> None:
        """The daemon has sent a signal."""
        self.signals.append(number)
        if number == signal.SIGKILL:
            self.end(signal_name="SIGKILL")
        else:
            self.terminated()

    def terminated(self) -> None:
        """SIGTERM."""

    def end(self, *, code: int | None = None, signal_name: str | None = None, oom: bool = False) -> None:
        """The process is gone."""
        if not self.is_alive:
            return
        self.is_alive = False
        ran_ms = round((self.machine.timeline.now - self.began) * 1000)
        self.exit = Exit(code, signal_name, ran_ms, (1 << 30) if oom else None, oom)
        self.machine.ended(self)
        watchers, self._watchers = self._watchers, []
        for watcher in watchers:
            self.machine.timeline.later(SEEN_S, watcher)

    def watch(self, watcher: Callable[[], None]) -> None:
        """Have it called once the process is gone."""
        if self.is_alive:
            self._watchers.append(watcher)
        else:
            self.machine.timeline.later(SEEN_S, watcher)


class SimulatedProcess(Process):
    """What a pool holds of a process: the same words as for a real one."""

    def __init__(self, life: Life, *, adopted: bool) -> None:
        self.life = life
        self.is_adopted = adopted
        self.is_detached = False
        self.root = Path("/")
        self.spool = life.request.spool
        self.child = cast(child.Child, self)

    def send(self, number: int) -> None:
        """As `Child.send`."""
        self.life.machine.told(self.life, number)
        if self.life.is_alive:
            self.life.signalled(number)

    @property
    def pid(self) -> int:
        """Its pid."""
        return self.life.pid

    def record(self) -> dict[str, Any]:
        """What `adopt` wants to find."""
        life = self.life
        return {
            "pid": life.pid, "start_time": life.start_time, "boot_id": life.machine.boot_id, "spool": str(self.spool),
            "root": "/",
        }  # fmt: skip

    def detach(self) -> None:
        """Let go of it."""
        self.is_detached = True


class Machine:
    """Processes by pid. `make` makes the life of a worker that is started; `enter` brings news into the daemon."""

    def __init__(self, timeline: Timeline, rng: random.Random, make: Callable[[SpawnRequest], Life]) -> None:
        self.timeline = timeline
        self._rng = rng
        self._make = make
        self._boots = 1
        self._starts = 0
        self.by_pid: dict[int, Life] = {}
        self.spawn_error: str | None = None
        self.on_end: Callable[[Life], None] = lambda life: None
        self.on_signal: Callable[[Life, int], None] = lambda life, number: None

    @property
    def boot_id(self) -> str:
        """This boot's."""
        return f"boot-{self._boots}"

    def lives(self) -> list[Life]:
        """All processes, the oldest first."""
        return sorted(self.by_pid.values(), key=lambda life: life.start_time)

    def start(self, request: SpawnRequest) -> Life:
        """Start a process. Raises SpawnFailed."""
        if self.spawn_error is not None:
            count("fault: spawn error")
            raise SpawnFailed(self.spawn_error, errno=11)
        life = self._make(request)
        self._starts += 1
        life.start_time = self._starts
        life.pid = next(pid for pid in iter(lambda: self._rng.randint(100, 100 + PIDS), None) if pid not in self.by_pid)
        self.by_pid[life.pid] = life
        return life

    def ended(self, life: Life) -> None:
        """Its pid is free."""
        del self.by_pid[life.pid]
        self.on_end(life)

    def told(self, life: Life, number: int) -> None:
        """The daemon sends a signal."""
        self.on_signal(life, number)

    def power_cut(self) -> None:
        """Everybody is gone, and nobody saw how."""
        self._boots += 1
        for life in self.lives():
            life.end(signal_name="SIGKILL")


class Processes:
    """Where the pools of one daemon get their processes from; its watchers die with it."""

    def __init__(self, machine: Machine, enter: Callable[..., None]) -> None:
        self._machine = machine
        self._enter = enter

    def start(self, request: SpawnRequest, listener: Listener) -> Process:
        """As `Process.start`."""
        return self._watched(SimulatedProcess(self._machine.start(request), adopted=False), listener)

    def adopt(self, record: Mapping[str, Any], listener: Listener, *, ran_ms: int) -> Process | None:
        """As `Process.adopt`."""
        life = self._machine.by_pid.get(record["pid"])
        if record["boot_id"] != self._machine.boot_id or life is None or life.start_time != record["start_time"]:
            return None
        return self._watched(SimulatedProcess(life, adopted=True), listener)

    def boot_id(self) -> str:
        """The machine's."""
        return self._machine.boot_id

    def _watched(self, process: SimulatedProcess, listener: Listener) -> SimulatedProcess:
        def tell() -> None:
            exit_ = process.life.exit
            assert exit_ is not None
            if process.is_adopted:
                exit_ = Exit(None, None, exit_.ran_ms)
            if not process.is_detached:
                self._enter(listener.on_exit, exit_, [])

        process.life.watch(tell)
        return process


# --- the disk -------------------------------------------------------------------------------------------------------


class Disk:
    """One file in memory, and what can be wrong with where it lies.

    A kill or a power cut leaves the last commit that was synced. With every commit synced, that is the file as it is
    once an open transaction is rolled back; a disk that syncs later (`lazy`: a defect) is put back to its last image.
    """

    is_lazy = False

    def __init__(self) -> None:
        self._connection = Store.memory().connection
        rows = self._connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
        self._tables = [row[0] for row in rows]
        self.is_full = False
        self.fsync_fails: bool | None = None  # True: and the commit is lost
        self._synced: sqlite3.Connection | None = None
        self._commits = 0
        self.on_commit: Callable[[SimulatedStore], None] = lambda store: None

    def format(self) -> None:
        """A new, empty store. Tables are emptied and not made anew: so compiled statements stay good."""
        connection = self._connection
        self.is_full, self.fsync_fails = False, None
        self._synced, self._commits = None, 0
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        connection.execute("BEGIN")
        for table in self._tables:
            where = " WHERE name <> 'store_id'" if table == "meta" else ""
            connection.execute(f"DELETE FROM {table}{where}")
        connection.execute("COMMIT")

    def open(self) -> SimulatedStore:
        """What a daemon finds when it starts."""
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")
        return SimulatedStore.on(self)

    def cut(self) -> None:
        """The power fails."""
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")
        if self.is_lazy and self._synced is not None:
            self._synced.backup(self._connection)

    def before_commit(self) -> None:
        """Raises what SQLite would."""
        if self.is_full:
            count("fault: disk full")
            raise _error("database or disk is full", sqlite3.SQLITE_FULL)
        if self.fsync_fails:
            self._fail_fsync()

    def _fail_fsync(self) -> None:
        self.fsync_fails = None
        count("fault: fsync fails")
        raise _error("disk I/O error", sqlite3.SQLITE_IOERR_FSYNC)

    def committed(self, store: SimulatedStore) -> None:
        """A transaction is in the file."""
        self._commits += 1
        if self.fsync_fails is False:
            self.on_commit(store)
            self._fail_fsync()
        if self.is_lazy and self._commits % 20 == 1:
            self._synced = sqlite3.connect(":memory:")
            self._connection.backup(self._synced)
        self.on_commit(store)

    @property
    def connection(self) -> sqlite3.Connection:
        """The file."""
        return self._connection


class SimulatedStore(Store):
    """A store on the simulated disk."""

    disk: Disk

    @classmethod
    def on(cls, disk: Disk) -> Self:
        """Open it."""
        store = cls(disk.connection, path=None, durability="full")
        store.disk = disk
        store._load()
        return store

    def commit(self) -> None:
        """Commit, if the disk lets us."""
        self.disk.before_commit()
        super().commit()
        self.disk.committed(self)

    def close(self) -> None:
        """The connection is the disk's."""


def _error(text: str, code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError(text)
    error.sqlite_errorcode = code
    return error
