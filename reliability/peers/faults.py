"""Each fault, caused for real in one stack, and what was seen."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp

from reliability.chaos import disk
from reliability.daemon import until
from reliability.peers import judge
from reliability.peers.judge import NOTHING_TO_HIT, Line, Verdict
from reliability.peers.managed import PATIENCE_S, Told
from reliability.peers.stacks import Huey, Stack

WAIT_S = 60.0  # for what should go on by itself
MINUTE_S = 60.0


def worker_process_killed(stack: Stack) -> Verdict:
    """`kill -9` of the process that executes a task, in its second step of three, as the kernel does it."""
    _warm(stack)
    stack.caller.enqueue("steps", "long")
    (line,) = _wait(stack, lambda lines: judge.of(lines, "long", "begin", 1))[:1]
    at = time.monotonic()
    os.kill(line.pid, signal.SIGKILL)
    return _how_it_went_on(stack, at=at)


def worker_killed(stack: Stack) -> Verdict:
    """`kill -9` of the whole worker, all of its processes at once; it is started again a second later."""
    _warm(stack)
    stack.caller.enqueue("steps", "long")
    _wait(stack, lambda lines: judge.of(lines, "long", "begin", 1))
    at = time.monotonic()
    stack.kill_workers()
    return _how_it_went_on(stack, at=at)


def _how_it_went_on(stack: Stack, *, at: float) -> Verdict:
    with suppress(AssertionError):
        _wait(stack, lambda lines: judge.of(lines, "long", "end", judge.LAST_STEP))
    return judge.killed(_read(stack), "long", at=at, state=stack.caller.state("long"), waited_s=WAIT_S)


def poison(stack: Stack) -> Verdict:
    """A task that kills the process that executes it, whenever it is executed."""
    _warm(stack)
    stack.caller.enqueue("poison", "poison")
    began = time.monotonic()
    stack.caller.enqueue("quick", "neighbour")
    time.sleep(WAIT_S)
    lines = _read(stack)
    ran = judge.of(lines, "neighbour", "end")
    return judge.poisoned(
        lines, state=stack.caller.state("poison"), waited_s=WAIT_S, neighbour_s=ran[0].at - began if ran else None
    )


def cannot_start(stack: Stack) -> Verdict:
    """A release whose import fails in workers; an enqueue each second; the next release is mended."""
    _warm(stack)
    stack.break_code()
    time.sleep(3)
    told = []
    for number in range(10):
        told.append(stack.caller.enqueue("quick", f"k{number}"))
        time.sleep(1)
    stack.mend_code()
    accepted = [f"k{number}" for number, one in enumerate(told) if one.is_yes]
    with suppress(AssertionError):
        _wait(stack, lambda lines: all(judge.of(lines, key, "end") for key in accepted))
    lines = _read(stack)
    missing = [key for key in accepted if not judge.of(lines, key, "end")]
    state = stack.caller.state(missing[0]) if missing else ""
    return judge.cannot_start(told, ran_when_mended=len(accepted) - len(missing), state=state)


def broker_killed(stack: Stack) -> Verdict:
    """`kill -9` of the broker, or what holds the store, under enqueues; it is started again a second later."""
    if not stack.has_broker():
        return NOTHING_TO_HIT
    _warm(stack)

    def back() -> None:
        time.sleep(1)
        stack.start_broker()

    told: dict[str, Told] = {}
    thread = threading.Thread(target=back)
    for number in range(120):
        if number == 40:
            stack.kill_broker()
            thread.start()
        told[f"k{number}"] = stack.caller.enqueue("quick", f"k{number}")
        time.sleep(0.05)
    thread.join()
    _settle(stack, told)
    return judge.broker_killed(_read(stack), told, waited_s=WAIT_S, state=_state_of_missing(stack, told))


def does_not_answer(stack: Stack) -> Verdict:
    """The broker hangs (SIGSTOP), or the database file is locked by somebody else, for longer than anybody waits."""
    _warm(stack)
    with _locked(stack):
        told = stack.caller.enqueue("quick", "late")
        time.sleep(max(0.0, 5.0 - (told.took_s or PATIENCE_S)))
    with suppress(AssertionError):
        _wait(stack, lambda lines: judge.of(lines, "late", "end"), timeout_s=20)
    return judge.does_not_answer(told, ran=bool(judge.of(_read(stack), "late", "end")))


@contextmanager
def _locked(stack: Stack) -> Iterator[None]:
    if isinstance(stack, Huey):
        other = sqlite3.connect(stack.data / "huey.db", isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        try:
            yield
        finally:
            other.execute("ROLLBACK")
            other.close()
        return
    stack.freeze_broker()
    try:
        yield
    finally:
        stack.thaw_broker()


def disk_full(stack: Stack) -> Verdict:
    """The disk of the store has no room for a while; afterwards what has ended is started again by its manager."""
    _warm(stack)
    ballast = disk.fill(stack.data)
    told = {f"k{number}": stack.caller.enqueue("quick", f"k{number}") for number in range(3)}
    # What is small fits into what is left of a page; many do not.
    for number in range(3, 60):
        if any(not one.is_yes for one in told.values()):
            break
        told[f"k{number}"] = stack.caller.enqueue("quick", f"k{number}")
    time.sleep(5)
    ballast.unlink()
    after = Told(None)
    for number in range(15):
        stack.revive()
        after = stack.caller.enqueue("quick", f"after{number}")
        if after.is_yes:
            break
        time.sleep(1)
    _settle(stack, told)
    state = _state_of_missing(stack, told)
    return judge.disk_full(_read(stack), told, after=after, waited_s=WAIT_S, state=state)


def unstorable(stack: Stack) -> Verdict:
    """A task returns what no serializer takes."""
    _warm(stack)
    stack.caller.enqueue("unstorable", "unstorable")
    _wait(stack, lambda lines: judge.of(lines, "unstorable", "end"))
    time.sleep(20)  # retries
    return judge.unstorable(_read(stack), state=stack.caller.state("unstorable"))


def unknown_name(stack: Stack) -> Verdict:
    """A task's name that this worker's release does not have."""
    _warm(stack)
    told = stack.caller.enqueue("nosuch", "nosuch")
    time.sleep(10)
    return judge.unknown_name(told, state=stack.caller.state("nosuch") if told.is_yes else "")


def schedule_missed(stack: Stack) -> Verdict:
    """A schedule of once a minute; workers and scheduler are down for two of its times."""
    if not stack.schedules:
        return Verdict(judge.Grade.NONE, "has no schedules")
    _wait(stack, lambda lines: judge.of(lines, "tick", "begin"), timeout_s=100)
    for each in (*stack.schedulers, *stack.workers):
        each.stop()
    ticked = len(judge.of(_read(stack), "tick", "begin"))
    time.sleep(2 * MINUTE_S - time.time() % MINUTE_S + 5)
    since = time.monotonic()
    for each in (*stack.workers, *stack.schedulers):
        each.start()
    time.sleep(35)  # the next time is later
    return judge.schedule_missed(_read(stack), since=since, missed=2, ticks_before=ticked)


FAULTS: dict[str, Callable[[Stack], Verdict]] = {
    "the process of a task is killed": worker_process_killed,
    "all of a worker is killed": worker_killed,
    "a task kills its worker, always": poison,
    "workers cannot import the code": cannot_start,
    "the broker is killed": broker_killed,
    "the broker hangs; the file is locked": does_not_answer,
    "the disk is full": disk_full,
    "a result cannot be stored": unstorable,
    "no worker knows the name": unknown_name,
    "down when a schedule was due": schedule_missed,
}


def cause(fault: str, kind: type[Stack], *, python: Path, keep: Path | None = None) -> Verdict:
    """One fault in one stack, set up anew. What goes wrong with the rig is an AssertionError."""
    # Databases run as users of their own, who cannot enter every machine's /tmp.
    folder = Path(mkdtemp(prefix="peers-", dir="/var/tmp"))
    folder.chmod(0o755)
    try:
        with _data(folder, is_small=fault == "the disk is full") as data:
            stack = kind(folder, python=python, data=data)
            try:
                stack.up(scheduled=fault == "down when a schedule was due")
                return FAULTS[fault](stack)
            finally:
                stack.down()
                if keep is not None:
                    _keep(folder, keep / f"{kind.name} - {fault}".replace(";", "").replace(",", ""))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _data(folder: Path, *, is_small: bool) -> Iterator[Path]:
    data = folder / "data"
    if not is_small:
        data.mkdir()
        data.chmod(0o755)
        yield data
        return
    with disk.small_disk(data):
        data.chmod(0o755)
        yield data


def _keep(folder: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for path in (*folder.glob("*.log"), *folder.glob("data/*.log"), folder / "ledger"):
        if path.exists():
            (target / path.name).write_bytes(path.read_bytes()[-200_000:])


# --- looking --------------------------------------------------------------------------------------------------------


def _read(stack: Stack) -> list[Line]:
    return judge.read(stack.ledger)


def _wait(stack: Stack, look: Callable[[list[Line]], object], *, timeout_s: float = WAIT_S) -> list[Line]:
    found: object = until(lambda: look(_read(stack)), what="the ledger says so", timeout_s=timeout_s, every_s=0.05)
    return found if isinstance(found, list) else []


def _warm(stack: Stack) -> None:
    """One task has been done: everything is up."""
    until(lambda: stack.caller.enqueue("quick", "warm", patience_s=60).is_yes,
          what=f"{stack.name} takes its first task", timeout_s=60, every_s=1)  # fmt: skip
    _wait(stack, lambda lines: judge.of(lines, "warm", "end"), timeout_s=90)


def _settle(stack: Stack, told: dict[str, Told]) -> None:
    """All that was acknowledged is done, or time is up."""
    acknowledged = [key for key, one in told.items() if one.is_yes]
    with suppress(AssertionError):
        _wait(stack, lambda lines: all(judge.of(lines, key, "end") for key in acknowledged))
    time.sleep(3)  # for what is done twice, or was not asked for


def _state_of_missing(stack: Stack, told: dict[str, Told]) -> str:
    lines = _read(stack)
    missing = [key for key, one in told.items() if one.is_yes and not judge.of(lines, key, "end")]
    return stack.caller.state(missing[0]) if missing else ""
