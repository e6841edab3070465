"""What is compared: Tako, and each other system with what it needs. A subject measures one workload at a time."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import processes
from benchmarks.servers import Floor, Postgres, Redis, Restate, Server
from tako.bench import engine as tako_engine
from tako.bench import machine
from tako.bench.marks import Marks

HERE = Path(__file__).parent
SYSTEMS = HERE / "systems"
CACHE = HERE.parent / "build" / "benchmarks"  # virtual environments; kept between runs
DRAIN_S = 120.0

Figures = dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much is measured. `quick` is for a look, the default for publishing."""

    seconds: float = 3.0
    runs: int = 5_000
    samples: int = 200
    cold_starts: int = 5

    @classmethod
    def quick(cls) -> Sizes:
        """Seconds a workload: the figures are rough."""
        return cls(seconds=0.5, runs=500, samples=30, cold_starts=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """Another system: its file, its packages, its server, and what it can do."""

    name: str
    module: str
    packages: tuple[str, ...]
    is_durable: bool
    steps: tuple[int, ...]  # the numbers of steps that it can drain; a queue has none
    server: Callable[[Path], Server] | None = None
    worker: tuple[str, ...] = ()  # a command of its virtual environment; else its file's `worker`
    npm: str = ""
    needs: tuple[str, ...] = field(default=())  # commands that must be installed
    most_runs: int = 5_000  # of a drain, where so many take minutes


def _restate(folder: Path) -> Server:
    package = CACHE / "restate" / "node_modules" / "@restatedev"
    return Restate(folder, binary=next(iter(package.glob("restate-server-*/bin/restate-server"))))


def _floor(folder: Path) -> Server:
    return Floor(folder, python=CACHE / "floor" / "bin/python", file=SYSTEMS / "floor_sqlite.py")


CELERY = ("celery", "-A", "celery_redis", "worker", "-P", "threads", "-c", "10", "--without-gossip",
          "--without-mingle", "--without-heartbeat", "-l", "ERROR")  # fmt: skip
HUEY = ("huey_consumer", "huey_sqlite.huey", "-w", "10", "-k", "thread", "-q", "-n",
        "-d", "0.01", "-m", "0.01", "-b", "1")  # fmt: skip
FLOOR = "floor"  # no peer, but what is possible: it is not among those that Tako is measured by
OTHERS = {
    system.name: system
    for system in (
        System(name="huey", module="huey_sqlite", packages=("huey",), is_durable=True, steps=(0,), worker=HUEY),
        System(name="pgqueuer", module="pgqueuer_postgres", packages=("pgqueuer[asyncpg]", "uvloop", "typer"),
               is_durable=True, steps=(0,), server=Postgres, needs=("psql",)),
        System(name="procrastinate", module="procrastinate_postgres",
               packages=("procrastinate", "psycopg[binary,pool]", "uvloop"), is_durable=True, steps=(0,),
               server=Postgres, needs=("psql",)),
        System(name="absurd", module="absurd_postgres",
               packages=("absurd-sdk", "absurdctl", "psycopg[binary,pool]", "uvloop"), is_durable=True, steps=(1, 3),
               server=Postgres, needs=("psql",)),
        System(name="restate", module="restate_server", packages=("restate-sdk[serde]", "hypercorn", "uvloop"),
               is_durable=True, steps=(0, 1, 3), server=_restate, npm="@restatedev/restate-server", needs=("npm",)),
        System(name="dbos", module="dbos_sqlite", packages=("dbos",), is_durable=False, steps=(1, 3),
               most_runs=1_000),
        System(name="celery", module="celery_redis", packages=("celery[redis]", "hiredis"), is_durable=False,
               steps=(0,), server=Redis, worker=CELERY, needs=("redis-server",)),
        System(name="rq", module="rq_redis", packages=("rq", "hiredis"), is_durable=False, steps=(0,), server=Redis,
               needs=("redis-server",)),
        System(name="dramatiq", module="dramatiq_redis", packages=("dramatiq[redis]", "hiredis"), is_durable=False,
               steps=(0,), server=Redis, worker=("dramatiq", "dramatiq_redis", "-p", "1", "-t", "10"),
               needs=("redis-server",)),
        System(name=FLOOR, module="floor_sqlite", packages=("uvloop", "msgspec"), is_durable=True, steps=(),
               server=_floor),
    )
}  # fmt: skip

# Runs at once in a worker, and workers that are kept on.
SHAPES = {"concurrency 1": (1, 0), "concurrency 100": (100, 0), "two workers": (10, 2)}


class Tako:
    """This checkout."""

    name = "tako"
    is_durable = True

    def __init__(self, running: tako_engine.BenchEngine, sizes: Sizes) -> None:
        self._running = running
        self._sizes = sizes

    @classmethod
    @contextmanager
    def ready(cls, sizes: Sizes) -> Iterator[Tako]:
        """An engine on an empty store."""
        with tako_engine.engine() as running:
            yield cls(running, sizes)

    def info(self) -> dict[str, Any]:
        """Versions and durability."""
        found = machine.described()
        durability = "journal_mode=wal synchronous=full"
        return {"version": found["tako"], "store": f"SQLite {found['sqlite']}", "durability": durability}

    def workloads(self) -> dict[str, Callable[[], Figures]]:
        """Name to what measures it."""
        sizes, measure = self._sizes, self._running.measure
        return {
            "enqueue": lambda: {
                **measure("enqueue_1", seconds=sizes.seconds),
                **_named(measure("enqueue_tasks", seconds=sizes.seconds), {"enqueue, 32 tasks": "enqueue, 32 callers"}),
                **measure("enqueue_threads", seconds=sizes.seconds),
                **measure("enqueue_many", seconds=sizes.seconds),
            },
            "drain": lambda: {**measure("drain", runs=sizes.runs), **measure("drain_async", runs=sizes.runs)},
            "warm": lambda: measure("warm", samples=sizes.samples),
            "load": lambda: measure("warm_loaded", runs=sizes.runs, samples=sizes.samples),
            "cold": lambda: measure("cold", rounds=sizes.cold_starts),
            "recovery": lambda: _recovery(sizes.cold_starts),
            "shapes": lambda: _shapes(sizes.runs // 2),
            "rest": _rest,
        }


def _recovery(rounds: int) -> Figures:
    """An engine of its own: what died before counts."""
    with tako_engine.engine() as running:
        return running.measure("recovery", rounds=rounds)


def _shapes(runs: int) -> Figures:
    """Drains by workers of other shapes, an engine for each."""
    found: Figures = {}
    for words, (concurrency, workers) in SHAPES.items():
        with tako_engine.engine(concurrency=concurrency, workers=workers) as running:
            found.update({f"{figure}, {words}": value for figure, value in running.measure("drain", runs=runs).items()})
    return found


def _rest() -> Figures:
    """An engine of its own, whose workers have gone."""
    with tako_engine.engine(idle_timeout="1s") as running:
        return running.at_rest()


class Other:
    """Another system, with its server up and its store empty."""

    def __init__(self, system: System, folder: Path, server: Server | None, sizes: Sizes) -> None:
        self.name = system.name
        self.is_durable = system.is_durable
        self._system = system
        self._folder = folder
        self._sizes = sizes
        self._marks = Marks(folder / "marks")
        self._bin = CACHE / system.name / "bin"
        self._environment = {
            **os.environ,
            **(server.environment if server else {}),
            "BENCH_STORE": str(folder),
            "PYTHONPATH": str(SYSTEMS),
            "PATH": f"{self._bin}:{os.environ['PATH']}",
        }

    @classmethod
    @contextmanager
    def ready(cls, system: System, sizes: Sizes) -> Iterator[Other]:
        """Install it if that is to do, start its server, empty its store."""
        _install(system)
        with tempfile.TemporaryDirectory(prefix=f"bench-{system.name}-") as name:
            folder = Path(name)
            server = system.server(folder / "server") if system.server else None
            try:
                yield cls(system, folder, server, sizes)
            finally:
                if server:
                    server.stop()

    def info(self) -> dict[str, Any]:
        """Versions and durability, as the system's store reports them."""
        return dict(self._ask("info"))

    def workloads(self) -> dict[str, Callable[[], Figures]]:
        """Name to what measures it."""
        if self.name == FLOOR:
            return {"enqueue": self._enqueue}
        return {"enqueue": self._enqueue, "drain": self._drains, "warm": self._warm, "cold": self._cold}

    def _enqueue(self) -> Figures:
        found = {}
        for callers, words in ((1, "enqueue, 1 caller"), (32, "enqueue, 32 callers")):
            self._reset()
            found[words] = float(self._ask("rate", callers, self._sizes.seconds))
        return found

    def _drains(self) -> Figures:
        words = {0: "drain, no step", 1: "drain, 1 step", 3: "drain, 3 steps"}
        return {words[steps]: self._drain(steps) for steps in self._system.steps}

    def _drain(self, steps: int) -> float:
        runs = min(self._sizes.runs, self._system.most_runs)
        self._reset()
        self._ask("fill", runs, f"steps_{steps}")
        with self._working():
            times = sorted(ns for _, ns in self._marks.wait(runs, timeout_s=DRAIN_S))
        return (len(times) - 1) / ((times[-1] - times[0]) / 1e9)

    def _warm(self) -> Figures:
        self._reset()
        with self._working():
            self._ask("latency", 10)
            self._marks.wait(10, timeout_s=30)
            sent = dict(self._ask("latency", self._sizes.samples))
            marked = self._marks.wait(10 + self._sizes.samples, timeout_s=60)[10:]
        found = sorted((ns - sent[number]) / 1e6 for number, ns in marked)
        return {"warm, p50": found[len(found) // 2], "warm, p99": found[int(len(found) * 0.99)]}

    def _cold(self) -> Figures:
        """From the spawn of the worker to the handler's first line; the run waits already."""
        found = []
        for _ in range(self._sizes.cold_starts):
            self._reset()
            self._ask("fill", 1, f"steps_{self._system.steps[0]}")
            spawned = time.time_ns()
            with self._working():
                found.append((self._marks.wait(1, timeout_s=60)[0][1] - spawned) / 1e6)
        return {"cold start": sorted(found)[len(found) // 2]}

    @contextmanager
    def _working(self) -> Iterator[None]:
        command: Sequence[str | Path] = self._system.worker or (self._bin / "python", self._file(), "worker")
        log = self._folder / "worker.log"
        process = processes.start(command, log=log, cwd=SYSTEMS, environment=self._environment)
        try:
            yield
        except TimeoutError as error:
            raise RuntimeError(f"{self.name}: {error}\n{processes.last_lines(log)}") from error
        finally:
            processes.end(process)

    def _reset(self) -> None:
        if self._system.name == "restate":  # its handlers are asked for when they are made known
            with self._working():
                self._ask("reset")
        else:
            self._ask("reset")
        self._marks.clear()

    def _ask(self, *words: object) -> Any:
        done = subprocess.run(
            [str(self._bin / "python"), str(self._file()), *map(str, words)], cwd=SYSTEMS, env=self._environment,
            capture_output=True, text=True, timeout=600,
        )  # fmt: skip
        if done.returncode != 0 or not done.stdout.strip():
            raise RuntimeError(f"{self.name} {words[0]} failed:\n{done.stderr[-2000:]}")
        return json.loads(done.stdout.splitlines()[-1])

    def _file(self) -> Path:
        return SYSTEMS / f"{self._system.module}.py"


def _install(system: System) -> None:
    """Into a virtual environment of its own, once."""
    missing = [command for command in system.needs if shutil.which(command) is None]
    if missing:
        raise RuntimeError(f"{system.name} needs {', '.join(missing)}: install it, or leave {system.name} out.")
    folder = CACHE / system.name
    stamp, wanted = folder / "installed", json.dumps([system.packages, system.npm])
    if stamp.exists() and stamp.read_text() == wanted:
        return
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    pip = [str(folder / "bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, *system.packages], check=True)
    if system.npm:
        subprocess.run(["npm", "install", "--silent", "--prefix", folder, system.npm], check=True)
    stamp.write_text(wanted)


def _named(figures: Figures, names: dict[str, str]) -> Figures:
    return {names.get(name, name): value for name, value in figures.items()}
