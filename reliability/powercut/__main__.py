"""`python -m reliability.powercut`: record a daemon, cut the power, make its disk fail. `--gate` for the full size."""

from __future__ import annotations

import argparse
import errno
import sys
import tempfile
import time
from pathlib import Path

from reliability.powercut import failing, failing_daemon, judge, record
from reliability.powercut.failing_daemon import Fault
from reliability.powercut.judge import Verdict

# The start makes some 130 writes and 9 syncs; these are met later, by the daemon at work.
FAULTS = tuple(
    Fault(operation, n, error)
    for error in (errno.EIO, errno.ENOSPC)
    for operation, numbers in (("W", (150, 301, 452, 703)), ("S", (12, 33, 84)), ("T", (2,)))
    for n in numbers
)


def main() -> int:
    """1 when a promise was broken, or when the rig found nothing where it must find something."""
    parser = argparse.ArgumentParser(prog="python -m reliability.powercut")
    parser.add_argument("--gate", action="store_true", help="50,000 cuts, and the disk failing at each of 5,000 calls")
    parser.add_argument("--cuts", type=int, help="how many cuts, each in three models")
    parser.add_argument("--first", type=int, default=1, metavar="N", help="let the disk fail from its N-th call on (1)")
    parser.add_argument("--last", type=int, metavar="N", help="and up to this one")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, help="processes (one for each core)")
    parser.add_argument("--only", choices=("cuts", "disks", "daemons"), help="one part of it")
    options = parser.parse_args()
    cuts = options.cuts or (50_000 if options.gate else 2_000)
    numbers = range(options.first, (options.last or (5_000 if options.gate else 300)) + 1)
    ok = True
    with tempfile.TemporaryDirectory(prefix="tako-powercut-") as name:
        folder = Path(name)
        if options.only in (None, "cuts"):
            ok = power_cuts(folder, cuts=cuts, seconds=8 if options.gate else 4, seed=options.seed, jobs=options.jobs)
        if options.only in (None, "disks"):
            ok = failing_disks(folder, numbers, jobs=options.jobs) and ok
        if options.only in (None, "daemons"):
            ok = failing_daemons(folder, FAULTS) and ok
    return 0 if ok else 1


def power_cuts(folder: Path, *, cuts: int, seconds: float, seed: int, jobs: int | None) -> bool:
    """Print what became of the cuts; whether it is as promised."""

    def tell(verdict: Verdict) -> None:
        print(f"{verdict.cuts:,} cuts, {verdict.lost} lost some, {verdict.broken} broken", file=sys.stderr, flush=True)

    ok = True
    for durability, share in (("full", cuts), ("process", max(50, cuts // 20))):
        began = time.monotonic()
        made = record.record(folder / durability, seconds=seconds, durability=durability)
        verdict = judge.judge(
            made.log, made.root, cuts=share, seed=seed, migrates_at=made.migrates_at, durability=durability,
            processes=jobs, progress=tell,
        )  # fmt: skip
        print(
            f"{durability:8} {verdict.cuts} cuts, {verdict.images} disks, {verdict.facts} facts: "
            f"{verdict.lost} disks lost some (worst {verdict.worst}), {verdict.broken} broken, "
            f"{time.monotonic() - began:.0f} s",
            flush=True,
        )
        for example in verdict.examples:
            print(f"  {example}")
        ok = ok and not verdict.broken and bool(verdict.lost) is (durability == "process")
    return ok


def failing_disks(folder: Path, numbers: range, *, jobs: int | None) -> bool:
    """Print how stores end whose disk fails; whether each ended as it must."""
    began = time.monotonic()
    report = failing.fail_everywhere(folder, numbers, processes=jobs)
    print(
        f"a failing disk, N = {numbers.start} to {numbers.stop - 1}: {sum(report.ends.values())} stores, "
        f"{time.monotonic() - began:.0f} s",
        flush=True,
    )
    for end, count in sorted(report.ends.items()):
        print(f"  {end}: {count}")
    for problem in report.problems[:20]:
        print(f"  PROBLEM {problem}")
    return not report.problems


def failing_daemons(folder: Path, faults: tuple[Fault, ...]) -> bool:
    """The same for the whole daemon."""
    library = record.build(folder / "iolog.so")
    ok = True
    for number, fault in enumerate(faults):
        outcome = failing_daemon.fail(folder / f"failing-{number}", fault, library=library)
        ok = ok and not outcome.problems
        print(f"daemon: {fault}: exit {outcome.code}, {outcome.facts} facts kept", *outcome.problems, sep="\n  ")
    return ok


if __name__ == "__main__":
    sys.exit(main())
