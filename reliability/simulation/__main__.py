"""`python -m reliability.simulation`: many seeds, one seed again, or the seeded defects. `--help` tells."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

from reliability.simulation import counters, kept, mutants
from reliability.simulation.plan import EDITIONS, LATEST, plan
from reliability.simulation.runner import (
    Outcome,
    Total,
    first_failure,
    in_processes,
    live,
    pinned,
    run_in_processes,
    with_events,
)
from reliability.simulation.shrink import shrink

GATE_SEEDS = 200_000
STATE = Path(".reliability/simulation.json")


def main() -> int:
    """Returns the exit code: 1 when a promise was broken."""
    options = _options()
    if not pinned():
        os.execve(sys.executable, [sys.executable, "-m", "reliability.simulation", *sys.argv[1:]],
                  {**os.environ, "PYTHONHASHSEED": "0"})  # fmt: skip
    if options.seed is not None:
        return _replay(options)
    if options.mutants is not None:
        return _mutants(options.mutants, seeds=options.seeds, jobs=options.jobs)
    return _many(options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m reliability.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, help="how many (2000); for --mutants: at most, for each")
    parser.add_argument("--first", type=int, default=0, help="the first of them (0); so a part of the gate's is run")
    parser.add_argument("--jobs", type=int, default=1, help="processes (1)")
    parser.add_argument("--seed", type=int, help="live through this one seed again, and tell its events")
    parser.add_argument("--events", help="of this seed only these events: 3,17,20")
    parser.add_argument("--edition", type=int, choices=EDITIONS, default=LATEST, help="of the plan of this seed")
    parser.add_argument("--mutant", help="with this defect in the engine")
    parser.add_argument("--mutants", nargs="*", metavar="NAME", help="find each of these defects (all)")
    parser.add_argument("--gate", action="store_true", help=f"{GATE_SEEDS:,} seeds; goes on where it was stopped")
    parser.add_argument("--json", action="store_true", help="one line of JSON at the end")
    options = parser.parse_args()
    if options.seeds is None:
        options.seeds = GATE_SEEDS if options.gate else 2_000
    return options


# --- many seeds -----------------------------------------------------------------------------------------------------


def _many(options: argparse.Namespace) -> int:
    seeds = range(options.first, options.first + options.seeds)
    before, wanted = Total(), seeds
    if options.gate:
        before = _load(seeds)
        seeds = range(seeds.start + before.seeds, seeds.stop)
        if before.seeds:
            print(f"Going on at seed {seeds.start:,} of {seeds.stop:,}.", file=sys.stderr)
    began = time.monotonic()

    def progress(total: Total) -> None:
        done, all_ = before.seeds + total.seeds, before.seeds + len(seeds)
        left_s = (time.monotonic() - began) / max(total.seeds, 1) * (all_ - done)
        if sys.stderr.isatty() or done % 5_000 == 0:
            print(f"{done:,} of {all_:,} seeds, {len(total.failures)} failed, {left_s / 60:.0f} min left",
                  file=sys.stderr)  # fmt: skip
        if options.gate and not total.failures:
            _save(before, total, wanted)

    total = run_in_processes(seeds, jobs=options.jobs, progress=progress)
    total.add(before)
    for outcome in total.failures:
        print(f"Seed {outcome.seed} failed: {outcome.words[:300]}")
    for outcome in total.failures[:1]:
        _explain(outcome)
    missing = counters.missing(total.counts, seeds=total.seeds)
    _tell(total, missing, as_json=options.json)
    return 1 if total.failures or missing else 0


def _tell(total: Total, missing: list[str], *, as_json: bool) -> None:
    per_s = total.operations / total.seconds if total.seconds else 0.0
    print(f"{total.seeds:,} seeds, {total.operations:,} operations in {total.seconds:.0f} s of CPU ({per_s:,.0f}/s): "
          f"{len(total.failures)} failed")  # fmt: skip
    for what in missing:
        print(f"too seldom: {what}, {total.counts[what]} times, wanted {counters.AT_LEAST}")
    if as_json:
        found = {
            "seeds": total.seeds,
            "operations": total.operations,
            "seconds": total.seconds,
            "failures": [outcome.seed for outcome in total.failures],
            "missing": missing,
            "counts": dict(sorted(total.counts.items())),
        }
        print(json.dumps(found))


def _explain(outcome: Outcome, *, mutant: str | None = None) -> None:
    """Seed, commit, the fewest events that do it, and the command that shows it again."""
    assert outcome.rule is not None
    what = plan(outcome.seed)
    print(f"Seed {outcome.seed} at {_commit()} broke {outcome.words}", flush=True)
    needed = shrink(what, outcome.rule)
    for number in needed:
        print(f"  {number:3}  {what.events[number]}")
    events = ",".join(map(str, needed))
    with_mutant = f" --mutant {mutant}" if mutant else ""
    print(
        f"See it again: .venv/bin/python -m reliability.simulation --seed {outcome.seed} --events {events}{with_mutant}"
    )
    if not mutant:
        print(f"Then add {outcome.seed} to {kept.PATH}, so that it is tried for ever.")


def _commit() -> str:
    found = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return found.stdout.strip() or "an unknown commit"


# --- one seed -------------------------------------------------------------------------------------------------------


def _replay(options: argparse.Namespace) -> int:
    what = plan(options.seed, edition=options.edition)
    if options.events is not None:
        what = with_events(what, [int(number) for number in options.events.split(",") if number])
    print(f"Seed {what.seed}, {what.duration_s:.0f} s, {what.settings}")
    for number, event in enumerate(what.events):
        print(f"  {number:3}  {event}")
    with mutants.broken(options.mutant), counters.watched_rows():
        outcome = live(what)
    if outcome.rule is None:
        print(f"All promises were kept: {outcome.operations} operations, history {outcome.digest:08x}.")
        return 0
    print(f"Broken: {outcome.words}")
    return 1


# --- seeded defects -------------------------------------------------------------------------------------------------


def _mutants(names: list[str], *, seeds: int, jobs: int) -> int:
    missed = []
    wanted = [mutants.MUTANTS[name] for name in names] if names else list(mutants.MUTANTS.values())
    for mutant, outcome, took_s in in_processes(partial(_find, seeds=seeds), [one.name for one in wanted], jobs=jobs):
        if outcome is None:
            missed.append(mutant.name)
            print(f"{mutant.name:32} {mutant.promise:4} not found in {seeds} seeds, {took_s:.1f} s", flush=True)
        else:
            print(f"{mutant.name:32} {mutant.promise:4} found in seed {outcome.seed}, {took_s:.1f} s: "
                  f"{outcome.words[:110]}", flush=True)  # fmt: skip
    return 1 if missed else 0


def _find(name: str, *, seeds: int) -> tuple[mutants.Mutant, Outcome | None, float]:
    began = time.process_time()
    outcome = first_failure(range(seeds), mutants.broken(name))
    # Without its patches, which are functions and do not travel between processes.
    return mutants.MUTANTS[name]._replace(patches=list), outcome, time.process_time() - began


# --- the gate's state -----------------------------------------------------------------------------------------------


def _load(seeds: range) -> Total:
    """What was done of these seeds at this commit before."""
    total = Total()
    if STATE.exists():
        found: dict[str, Any] = json.loads(STATE.read_text())
        if found["commit"] == _commit() and found["of"] == [seeds.start, seeds.stop]:
            total.seeds, total.operations, total.seconds = found["seeds"], found["operations"], found["seconds"]
            total.counts.update(found["counts"])
    return total


def _save(before: Total, total: Total, seeds: range) -> None:
    counts = before.counts + total.counts
    found = {
        "commit": _commit(),
        "of": [seeds.start, seeds.stop],
        "seeds": before.seeds + total.seeds,
        "operations": before.operations + total.operations,
        "seconds": before.seconds + total.seconds,
        "counts": dict(counts),
    }
    STATE.parent.mkdir(exist_ok=True)
    part = STATE.with_suffix(".new")
    part.write_text(json.dumps(found))
    part.replace(STATE)


if __name__ == "__main__":
    sys.exit(main())
