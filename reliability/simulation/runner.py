"""Seeds, one after the other or in several processes, and what they have come to."""

from __future__ import annotations

import gc
import itertools
import multiprocessing
import os
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from dataclasses import replace as replaced
from typing import TypeVar

from reliability.simulation.counters import counts, watched_rows
from reliability.simulation.oracle import Violation
from reliability.simulation.plan import Plan, plan
from reliability.simulation.world import World

T = TypeVar("T")
U = TypeVar("U")

CHUNK = 50


@dataclass(slots=True)
class Outcome:
    """What came of one seed. `digest` names its history: the same seed has the same, everywhere."""

    seed: int
    operations: int
    digest: int
    rule: str | None = None
    words: str = ""


@dataclass(slots=True)
class Total:
    """What came of many."""

    seeds: int = 0
    operations: int = 0
    seconds: float = 0.0  # of CPU
    failures: list[Outcome] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, other: Total) -> None:
        """Take in what another process has done."""
        self.seeds += other.seeds
        self.operations += other.operations
        self.seconds += other.seconds
        self.failures += other.failures
        self.counts.update(other.counts)


def live(what: Plan) -> Outcome:
    """Live through a plan."""
    world = World(what)
    outcome = Outcome(what.seed, 0, 0)
    try:
        world.live()
    except Violation as violation:
        outcome.rule, outcome.words = violation.rule, str(violation)
    outcome.operations = world.oracle.operations
    last = sorted(world.oracle.mirror.rows.values())
    outcome.digest = zlib.crc32(repr((outcome.operations, world.timeline.now, world.steps, last)).encode())
    return outcome


def with_events(what: Plan, numbers: Iterable[int]) -> Plan:
    """The plan with these of its events only."""
    return replaced(what, events=tuple(what.events[number] for number in numbers))


def run(seeds: Iterable[int], *, most_failures: int = 5) -> Total:
    """Live through seeds in this process."""
    total = Total()
    began = time.process_time()
    counts.clear()
    with watched_rows(), _rare_collections() as tidy:
        for seed in seeds:
            outcome = live(plan(seed))
            tidy()
            total.seeds += 1
            total.operations += outcome.operations
            if outcome.rule is not None:
                total.failures.append(outcome)
                if len(total.failures) >= most_failures:
                    break
    total.seconds = time.process_time() - began
    total.counts = Counter(counts)
    return total


def run_in_processes(seeds: range, *, jobs: int, progress: Callable[[Total], None] = lambda total: None) -> Total:
    """Live through seeds in `jobs` processes; `progress` hears of the total after each chunk, in order."""
    total = Total()
    chunks = [range(at, min(at + CHUNK, seeds.stop)) for at in range(seeds.start, seeds.stop, CHUNK)]
    for part in in_processes(run, chunks, jobs=jobs):
        total.add(part)
        progress(total)
        if len(total.failures) >= 5:
            break
    return total


def in_processes(work: Callable[[T], U], items: Sequence[T], *, jobs: int) -> Iterator[U]:
    """What the work makes of each, in order."""
    if jobs <= 1:
        yield from map(work, items)
        return
    with multiprocessing.get_context("fork").Pool(jobs) as pool:
        yield from pool.imap(work, items)


@contextmanager
def _rare_collections() -> Iterator[Callable[[], None]]:
    """A world is one large circle of references: it is collected after every few seeds, and not looked at meanwhile."""
    lived = itertools.count(1)

    def tidy() -> None:
        if next(lived) % 20 == 0:
            gc.collect()

    gc.disable()
    try:
        yield tidy
    finally:
        gc.enable()


def first_failure(seeds: Iterable[int], broken: AbstractContextManager[object] | None = None) -> Outcome | None:
    """The first seed that fails, with the engine as it is or `broken`; None when all hold."""
    with broken or nullcontext(), watched_rows(), _rare_collections() as tidy:
        for seed in seeds:
            outcome = live(plan(seed))
            tidy()
            if outcome.rule is not None:
                return outcome
    return None


def pinned() -> bool:
    """Whether sets are walked in the same order in each process: without that, a seed names no one history."""
    return os.environ.get("PYTHONHASHSEED") == "0"
