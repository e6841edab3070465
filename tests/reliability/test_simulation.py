"""The simulation itself: seeds that hold, defects that are found, and that neither is by accident."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from reliability.simulation import counters, kept
from reliability.simulation.mutants import MUTANTS, broken
from reliability.simulation.plan import EDITIONS, plan
from reliability.simulation.runner import first_failure, live, with_events
from reliability.simulation.shrink import shrink

ROOT = Path(__file__).parents[2]
JOBS = min(2, os.cpu_count() or 1)
SEEDS = 10_000
SEEDS_OF_A_DEFECT = 2_000


def simulate(*options: str, **environ: str) -> subprocess.CompletedProcess[str]:
    # Its time is simulated, so it can be the last in the queue for the processor: others that run meanwhile lose none.
    command = ["nice", "-n", "10", sys.executable, "-m", "reliability.simulation", *options]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, **environ}, capture_output=True, text=True, check=False)


def test_every_seed_that_has_ever_failed_holds() -> None:
    assert len(kept.seeds()) >= 3

    for seed in kept.seeds():
        for edition in EDITIONS:
            outcome = live(plan(seed, edition=edition))
            assert outcome.rule is None, f"seed {seed}, edition {edition}: {outcome.words}"


@pytest.mark.timeout(3600)
def test_ten_thousand_histories_break_no_promise_and_what_must_happen_in_them_happens() -> None:
    found = simulate("--seeds", str(SEEDS), "--jobs", str(JOBS), "--json")

    assert found.returncode == 0, found.stdout[-6_000:] + found.stderr[-2_000:]
    total: dict[str, Any] = json.loads(found.stdout.splitlines()[-1])
    assert total["seeds"] == SEEDS
    assert total["operations"] > 200 * SEEDS
    assert not total["missing"]


@pytest.mark.timeout(3600)
def test_every_seeded_defect_is_found() -> None:
    assert len(MUTANTS) >= 47

    found = simulate("--mutants", "--seeds", str(SEEDS_OF_A_DEFECT), "--jobs", str(JOBS))

    assert found.returncode == 0, found.stdout + found.stderr[-2_000:]
    assert len(re.findall(" found in seed ", found.stdout)) == len(MUTANTS)


def test_a_seed_is_the_same_history_in_every_process() -> None:
    first, second = (simulate("--seed", "7", PYTHONHASHSEED=chance) for chance in ("1", "random"))

    assert first.returncode == 0, first.stdout
    assert "history" in first.stdout
    assert first.stdout == second.stdout


def test_a_failing_history_is_made_small_and_told_with_the_command_that_shows_it_again() -> None:
    name = "signals are given twice"
    outcome = first_failure(range(SEEDS_OF_A_DEFECT), broken(name))
    assert outcome is not None and outcome.rule is not None
    what = plan(outcome.seed)

    with broken(name):
        needed = shrink(what, outcome.rule)
        without_one = [live(with_events(what, [other for other in needed if other != one])).rule for one in needed]

    assert len(needed) < len(what.events)
    assert outcome.rule not in without_one, "an event that is not needed"
    again = simulate("--seed", str(outcome.seed), "--events", ",".join(map(str, needed)), "--mutant", name)
    assert again.returncode == 1
    assert f"Broken: {outcome.rule}" in again.stdout


def test_what_happens_too_seldom_fails_the_run() -> None:
    often = Counter(dict.fromkeys(counters.wanted(), counters.AT_LEAST))
    assert counters.missing(often, seeds=counters.CI_SEEDS) == []

    often["mailbox used"] -= 1

    assert counters.missing(often, seeds=counters.CI_SEEDS) == ["mailbox used"]


def test_every_row_of_the_supervisors_table_is_counted_upon() -> None:
    wanted = counters.wanted()

    assert {"row 7", "row 21", "row 24", "suspect cleared", "error stale"} <= set(wanted)
