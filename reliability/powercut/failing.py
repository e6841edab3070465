"""The disk fails at its N-th write, sync or truncate: on the real store and writer, for every N, and on the daemon.

What must be true each time (contract.md, D8 and D9):

- no space: the caller is told DISK_FULL and nothing of his is stored; when there is room again, writes succeed without
  a restart;
- anything else: the house is told once, with the file's name, and from then on nobody is told yes;
- afterwards, on a disk that works, the engine starts on the same file, which is sound, and all that was acknowledged
  is there.

Run with the shim preloaded; `fail_everywhere` sees to that.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reliability.powercut import record
from tako.engine import invariants, leases, runs, steps, writer
from tako.engine.store import Store
from tako.engine.writer import Writer
from tako.errors import StoreDamaged, StoreUnavailable, TakoError

OPERATIONS = {"W": "write", "S": "sync", "T": "truncate", "F": "sync of the folder"}
ERRORS = (errno.EIO, errno.ENOSPC)
ALWAYS = 10**9
TURNS = 400  # more than the largest N needs; an episode ends when its fault has been met
AFTER = 4
CHECKPOINT_PAGES = 40


class Shim:
    """The preloaded library, as this process speaks to it."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(None)
        self._library.iolog_seen.restype = ctypes.c_long

    def watch(self, folder: Path) -> None:
        """Faults concern the files of this folder from now on."""
        self._library.iolog_root(os.fsencode(folder))

    def fail(self, operation: str, at: int, error: int, count: int) -> None:
        """Let the `at`-th operation from now on fail, and the `count` - 1 after it."""
        self._library.iolog_fail(ord(operation), ctypes.c_long(at), error, ctypes.c_long(count))

    def seen(self, operation: str) -> int:
        """How many of them there were since."""
        return int(self._library.iolog_seen(ord(operation)))

    def mend(self) -> None:
        """The disk works again."""
        self.fail("-", 0, 0, 0)


@dataclass(slots=True)
class Outcome:
    """What was seen in one episode. `end` is how it ended, in one word."""

    end: str = "unmet"  # the N-th operation never came
    fatal: list[TakoError] = field(default_factory=list)
    acknowledged: set[str] = field(default_factory=set)
    saved: set[tuple[str, str]] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)


async def episode(folder: Path, shim: Shim, operation: str, n: int, error: int, count: int) -> Outcome:
    """One store from its making to its end, on a disk that fails at the N-th operation."""
    found = Outcome()
    path = folder / "runs.db"
    shim.watch(folder)
    shim.fail(operation, n, error, count)
    store = _open(path, found)
    if store is not None:
        await _work(store, shim, operation, n, found)
        try:
            store.close()
        except Exception as failure:
            found.problems.append(f"close failed: {failure!r}")
    shim.mend()
    _check(path, found)
    return found


def _open(path: Path, found: Outcome) -> Store | None:
    try:
        return Store.open(path)
    except (StoreDamaged, StoreUnavailable) as refusal:
        found.end = "not started"
        if "runs.db" not in refusal.message:
            found.problems.append(f"the refusal to start names no file: {refusal.message}")
    except Exception as failure:
        found.end = "not started"
        found.problems.append(f"the start failed with {failure!r}")
    return None


async def _work(store: Store, shim: Shim, operation: str, n: int, found: Outcome) -> None:
    house = Writer(store, on_commit=lambda events: None, on_fatal=found.fatal.append, loop=asyncio.get_running_loop())
    met_at = None
    for turn in range(TURNS):
        if met_at is None and shim.seen(operation) >= n:
            met_at = turn
            found.end = "carried on"
        if met_at is not None and turn == met_at + AFTER:
            shim.mend()  # there is room again
        if met_at is not None and turn > met_at + 2 * AFTER:
            break
        answer = await _turn(house, turn, found)
        if isinstance(answer, StoreDamaged):
            break
        if met_at is not None and turn > met_at + AFTER and answer is not None:
            found.problems.append(f"turn {turn} was refused on a disk that works again: {answer}")
    await house.stop()
    if shim.seen(operation) >= n and found.end == "unmet":
        found.end = "carried on"
    _judge_end(found)


async def _turn(house: Writer, turn: int, found: Outcome) -> TakoError | None:
    """One run, enqueued, claimed, with a step and an end; the refusal that stopped it, if any."""
    run_id = f"run-{turn}"
    new: Any = {"id": run_id, "workflow": "w", "payload_json": '"' + "x" * (turn % 7 * 300) + '"'}
    holder: dict[str, Any] = {}
    try:
        await house.do(runs.enqueue, [new], now_ms=turn)
        found.acknowledged.add(run_id)
        for run in await house.do(runs.claim, worker_id="a", names=["w"], max_runs=1, now_ms=turn, release="r"):
            holder = {"run_id": run["id"], "worker_id": "a", "epoch": run["epoch"]}
            await house.do(steps.save, **holder, name="one", result_json="1", started_ms=turn, now_ms=turn)
            found.saved.add((run["id"], "one"))
    except StoreUnavailable as refusal:
        if run_id not in found.acknowledged:
            found.refused.add(run_id)
        if refusal.detail.get("reason") != "DISK_FULL":
            found.problems.append(f"turn {turn} was refused for another reason: {refusal.message}")
        return refusal
    except StoreDamaged as refusal:
        return refusal
    except Exception as failure:
        found.problems.append(f"turn {turn} failed with {failure!r}")
    return None


def _judge_end(found: Outcome) -> None:
    if found.fatal:
        found.end = "stopped"
        if len(found.fatal) > 1:
            found.problems.append("the house was told twice")
        if "runs.db" not in found.fatal[0].message:
            found.problems.append(f"the house was not told which file: {found.fatal[0].message}")
        if found.fatal[0].code != StoreDamaged.code:
            found.problems.append(f"the house was told {found.fatal[0].code}")


def _check(path: Path, found: Outcome) -> None:
    """Start again, on a disk that works."""
    try:
        store = Store.open(path)
    except TakoError as refusal:
        found.problems.append(f"the engine does not start again: {refusal.message}")
        return
    if words := [str(row[0]) for row in store.connection.execute("PRAGMA integrity_check(3)") if row[0] != "ok"]:
        found.problems.append(f"integrity: {words}")
    with store.transaction():
        leases.recover(store, recorded=[], now_ms=1)
    found.problems += invariants.check(store, seen=invariants.Seen(acknowledged=found.acknowledged))
    there = {row[0] for row in store.connection.execute("SELECT id FROM runs")}
    if found.refused & there:
        found.problems.append(f"refused and stored: {sorted(found.refused & there)[:3]}")
    saved = {(row["id"], row["name"]) for row in store.all("all_steps")}
    if found.saved - saved:
        found.problems.append(f"acknowledged steps are gone: {sorted(found.saved - saved)[:3]}")
    store.close()


# --- all of them ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Report:
    """How many episodes ended in which way, by operation and errno, and what was wrong."""

    ends: Counter[str]
    problems: list[str]


def fail_everywhere(folder: Path, numbers: range, *, processes: int | None = None) -> Report:
    """Every operation and errno, for each N of `numbers`; in processes of their own, with the shim preloaded."""
    library = record.build(folder / "iolog.so")
    processes = processes or os.cpu_count() or 1
    children = [
        subprocess.Popen(
            [sys.executable, "-m", "reliability.powercut.failing", f"--first={numbers.start}",
             f"--last={numbers.stop - 1}", f"--share={share}", f"--of={processes}"],
            cwd=Path(__file__).parents[2], env={**os.environ, "LD_PRELOAD": str(library)}, stdout=subprocess.PIPE,
        )
        for share in range(processes)
    ]  # fmt: skip
    ends: Counter[str] = Counter()
    problems: list[str] = []
    for child in children:
        output = child.communicate()[0]
        if child.returncode:
            problems.append(f"a process of episodes ended with {child.returncode}")
            continue
        told = json.loads(output)
        ends.update(told["ends"])
        problems += told["problems"]
    return Report(ends, problems)


def _plan(numbers: range) -> Iterator[tuple[str, int, int, int]]:
    for operation in OPERATIONS:
        for error in ERRORS:
            for n in numbers:
                yield operation, n, error, 1 if n % 2 else ALWAYS


def main() -> None:
    """One process's share of the episodes; what it saw, as JSON."""
    parser = argparse.ArgumentParser()
    for name in ("first", "last", "share", "of"):
        parser.add_argument(f"--{name}", type=int, required=True)
    options = parser.parse_args()
    writer._CHECKPOINT_PAGES = CHECKPOINT_PAGES
    shim = Shim()
    ends: Counter[str] = Counter()
    problems: list[str] = []
    unmet: Counter[tuple[str, int]] = Counter()
    base = Path(tempfile.mkdtemp(prefix="tako-fail-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    try:
        for number, (operation, n, error, count) in enumerate(_plan(range(options.first, options.last + 1))):
            if number % options.of != options.share or unmet[operation, error] >= 3:
                continue  # so many of them there are not
            folder = base / str(number)
            folder.mkdir()
            found = asyncio.run(episode(folder, shim, operation, n, error, count))
            where = f"{OPERATIONS[operation]} {errno.errorcode[error]}"
            unmet[operation, error] += found.end == "unmet"
            ends[f"{where}: {found.end}"] += 1
            problems += [f"{where}, N = {n}, {count} times: {problem}" for problem in found.problems]
            shutil.rmtree(folder)
    finally:
        shutil.rmtree(base, ignore_errors=True)
    print(json.dumps({"ends": ends, "problems": problems}))


if __name__ == "__main__":
    main()
