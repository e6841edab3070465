"""The faults of table R, one function each: cause it, and measure until work goes on."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from reliability.daemon import until
from reliability.recovery import memory
from reliability.recovery.scene import Delay, Line, Scene
from tako.errors import TakoError, WorkerUnhealthy

# A group may lose five workers a minute before it is a crash loop (row 10), and they must have been ready for a second
# (row 9): both are other stories than a single death.
DEATHS_A_GROUP = 4
READY_S = 1.1
LEASE_S = 30.0
HANG_S = 3.0
OUT_OF_MEMORY = "worker out of memory (the kernel's SIGKILL)"
MEMORY_BYTES = 96 << 20  # a worker of this app takes some 30 MB
SIGNALS = (signal.SIGKILL, signal.SIGSEGV)


class Sample(NamedTuple):
    """From a fault to the moment when work went on. `boot_s` is B, of the worker that went on with it; `waited_s` is
    how long the daemon was ready to run and got no CPU, which is the machine's doing."""

    took_s: float
    boot_s: float = 0.0
    waited_s: float = 0.0

    @property
    def ours_s(self) -> float:
        """What is compared with the bound."""
        return self.took_s - self.boot_s - self.waited_s


@dataclass(slots=True)
class Measured:
    """Samples of one fault, and its bound, to which B is added where a worker boots."""

    fault: str
    bound_s: float
    adds_boot: bool
    samples: list[Sample] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    late_s: float = 0.0

    def p50(self, what: Callable[[Sample], float]) -> float:
        """The median of something."""
        ordered = sorted(map(what, self.samples))
        return ordered[len(ordered) // 2]

    def p99(self, what: Callable[[Sample], float]) -> float:
        """The p99 of something; of fewer than a hundred samples that is the worst."""
        ordered = sorted(map(what, self.samples))
        return ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]

    def is_kept(self) -> bool:
        """Whether the bound was kept, and nothing else was wrong."""
        return not self.problems and self.p99(lambda sample: sample.ours_s) <= self.bound_s


@contextmanager
def measuring(fault: str, bound_s: float, *, adds_boot: bool) -> Iterator[Measured]:
    """What is measured inside, with the machine's delay beside it."""
    found = Measured(fault, bound_s, adds_boot)
    with Delay() as delay:
        yield found
    found.late_s = delay.p99_s()


def worker_killed(times: int) -> Measured:
    """A worker dies in the middle of a run: its run is in a new worker after 200 ms and B."""
    groups = -(-times // DEATHS_A_GROUP)
    with (
        measuring("worker killed (SIGKILL, SIGSEGV)", 0.2, adds_boot=True) as found,
        Scene(groups=groups) as scene,
    ):
        for turn in range(DEATHS_A_GROUP):
            begun = _begin_in_all(scene)
            for number, (run_id, line) in enumerate(begun):
                if len(found.samples) < times:
                    _note_death(scene, found, run_id, line.pid, SIGNALS[(turn + number) % 2])
            scene.let_go(*(run_id for run_id, _ in begun))
    return found


def _note_death(scene: Scene, found: Measured, run_id: str, pid: int, number: signal.Signals) -> None:
    waited_s = scene.daemon_waited_s()
    killed_at = time.monotonic()
    os.kill(pid, number)
    again = scene.wait("started", run_id, after=killed_at)
    found.samples.append(Sample(again.at - killed_at, again.boot_s, scene.daemon_waited_s() - waited_s))


def worker_out_of_memory(times: int) -> Measured | None:
    """The kernel ends a worker that wants more memory than its control group may have: as any other death, and told by
    its name. None where no such group can be made."""
    groups = -(-times // DEATHS_A_GROUP)
    with memory.limited(most_bytes=MEMORY_BYTES) as limited:
        if limited is None:
            return None
        with (
            measuring(OUT_OF_MEMORY, 0.2, adds_boot=True) as found,
            Scene(groups=groups) as scene,
        ):
            for _ in range(DEATHS_A_GROUP):
                begun = _begin_in_all(scene, "eats")
                for run_id, line in begun:
                    if len(found.samples) < times:
                        _note_hunger(scene, found, run_id, line.pid, limited)
                scene.let_go(*(run_id for run_id, _ in begun))

            def told() -> int:
                return scene.daemon.log.read_text(errors="replace").count("was killed by SIGKILL (out of memory")

            try:
                until(lambda: told() >= len(found.samples), what="each death is told as out of memory", timeout_s=30)
            except AssertionError as late:
                found.problems.append(f"{late}, but {told()} of {len(found.samples)}")
    return found


def _note_hunger(scene: Scene, found: Measured, run_id: str, pid: int, limited: Path) -> None:
    pidfd = os.pidfd_open(pid)
    try:
        (limited / "cgroup.procs").write_text(str(pid))
        waited_s = scene.daemon_waited_s()
        scene.let_eat(run_id)
        killed_at = memory.ended_at(pidfd, timeout_s=60)
    finally:
        os.close(pidfd)
    again = scene.wait("started", run_id, after=killed_at)
    found.samples.append(Sample(again.at - killed_at, again.boot_s, scene.daemon_waited_s() - waited_s))


def worker_frozen(times: int) -> Measured:
    """A worker stands still: its run is elsewhere when the lease has run out, and a second and B later at most."""
    with measuring("worker frozen (SIGSTOP)", LEASE_S + 1.0, adds_boot=True) as found, Scene(groups=times) as scene:
        frozen: list[tuple[str, float, float]] = []
        for group in scene.groups:
            run_id, line = scene.begin(f"{group}_hold")
            os.kill(line.pid, signal.SIGSTOP)
            frozen.append((run_id, time.monotonic(), scene.daemon_waited_s()))
        for run_id, frozen_at, waited_s in frozen:
            again = scene.wait("started", run_id, after=frozen_at)
            found.samples.append(Sample(again.at - frozen_at, again.boot_s, scene.daemon_waited_s() - waited_s))
    return found


def worker_hangs_at_boot(times: int) -> Measured:
    """A worker's import does not end: it is told everywhere at boot_timeout and a second, with the Python stack."""
    with (
        measuring("worker hangs at boot", HANG_S + 1.0, adds_boot=False) as found,
        Scene(groups=times, boot_timeout=f"{HANG_S:g}s", hangs=True) as scene,
    ):
        threads = [threading.Thread(target=_note_hang, args=(scene, found, group)) for group in scene.groups]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return found


def _note_hang(scene: Scene, found: Measured, group: str) -> None:
    line = scene.wait("importing", group)
    waited_s = scene.daemon_waited_s()
    deadline = time.monotonic() + 60
    while not (health := scene.health(group))["failures"] and time.monotonic() < deadline:
        time.sleep(0.02)
    took_s = time.monotonic() - line.process_at
    found.samples.append(Sample(took_s, waited_s=scene.daemon_waited_s() - waited_s))
    told = " ".join([health["reason"] or "", health["traceback_tail"] or "", *health["stderr_tail"]])
    if f"{group}.py" not in told:
        found.problems.append(f"{group}: no stack in {told[:200]!r}")
    try:
        scene.daemon.ask("enqueue_runs", runs=[{"id": f"x-{group}", "workflow": f"{group}_hold", "payload_json": "{}"}])
        found.problems.append(f"{group}: an enqueue was accepted")
    except WorkerUnhealthy:
        pass
    except TakoError as error:
        found.problems.append(f"{group}: an enqueue was refused as {error.code}: {error.message}")


def daemon_killed(times: int) -> tuple[Measured, Measured]:
    """The daemon dies: it accepts again a second after its start, and its workers go on and are back by then."""
    with (
        measuring("daemon killed: accepts again", 1.0, adds_boot=False) as accepts,
        measuring("daemon killed: its workers go on", 1.0, adds_boot=False) as back,
        Scene(groups=1) as scene,
    ):
        run_id = scene.enqueue("g0_ticks")
        first = scene.wait("A", run_id)
        for _ in range(times):
            scene.wait("A", run_id, after=time.monotonic())
            scene.daemon.kill()
            time.sleep(0.2)
            started_at = time.monotonic()
            scene.daemon.start(wait=False)
            _enqueue_at_last(scene)
            accepts.samples.append(Sample(time.monotonic() - started_at, waited_s=scene.daemon_waited_s()))
            took_s = scene.wait("A", run_id, after=started_at).at - started_at
            back.samples.append(Sample(took_s, waited_s=scene.daemon_waited_s()))
        if {line.pid for line in scene.lines("X", run_id)} != {first.pid}:
            back.problems.append("the run changed its worker")
        back.problems += _repeated(scene, run_id)
        scene.let_go(run_id)
    return accepts, back


def _enqueue_at_last(scene: Scene) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with suppress(TakoError, OSError, ValueError):
            scene.let_go(scene.enqueue("g0_hold", timeout_s=5))
            return
        time.sleep(0.002)
    raise AssertionError("the daemon did not accept an enqueue within 30 s of its start")


def _repeated(scene: Scene, run_id: str) -> list[str]:
    saved: dict[str, float] = {line.words[1]: line.at for line in scene.lines("A", run_id)}
    return [
        f"step {line.words[1]} began again after its result had been acknowledged"
        for line in scene.lines("X", run_id)
        if line.at > saved.get(line.words[1], float("inf"))
    ]


def daemon_and_worker_killed(times: int) -> Measured:
    """Both die: the run is in a new worker a second and B after the daemon's start."""
    return _all_killed("daemon and worker killed", times, between=lambda scene: None)


def machine_rebooted(times: int) -> Measured:
    """As after a reboot: everything is gone, and the machine's boot id is another than the one that is recorded."""

    def reboot(scene: Scene) -> None:
        connection = sqlite3.connect(scene.root / ".tako/runs.db", isolation_level=None)
        connection.execute("UPDATE meta SET value = 'before' WHERE name = 'boot_id'")
        for worker_id, text in connection.execute("SELECT worker_id, record FROM workers").fetchall():
            record = json.dumps({**json.loads(text), "boot_id": "before"})
            connection.execute("UPDATE workers SET record = ? WHERE worker_id = ?", (record, worker_id))
        connection.close()

    return _all_killed("reboot (another boot id)", times, between=reboot)


def _all_killed(fault: str, times: int, *, between: Callable[[Scene], None]) -> Measured:
    """Daemon and all workers at once, as many groups as it takes."""
    groups = -(-times // DEATHS_A_GROUP)
    with measuring(fault, 1.0, adds_boot=True) as found, Scene(groups=groups) as scene:
        for _ in range(DEATHS_A_GROUP):
            begun = _begin_in_all(scene)
            killed_at = time.monotonic()
            scene.daemon.kill()
            for pid in scene.daemon.workers():
                os.kill(pid, signal.SIGKILL)
            between(scene)
            started_at = time.monotonic()
            scene.daemon.start(wait=False)
            for run_id, _ in begun:
                again = scene.wait("started", run_id, after=killed_at)
                sample = Sample(again.at - started_at, again.boot_s, scene.daemon_waited_s())
                if len(found.samples) < times:
                    found.samples.append(sample)
            scene.let_go(*(run_id for run_id, _ in begun))
    return found


def _begin_in_all(scene: Scene, what: str = "hold") -> list[tuple[str, Line]]:
    """A run in each group, in a worker that has been ready for long enough to be an ordinary one."""
    begun = [scene.begin(f"{group}_{what}") for group in scene.groups]
    time.sleep(max(0.0, max(line.process_at for _, line in begun) + READY_S - time.monotonic()))
    return begun
