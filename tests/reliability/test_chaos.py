"""Three minutes of kill -9, SIGSTOP, full disk, poison, broken code and deploys under load; then the books balance."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SECONDS = 180
ROOT = Path(__file__).parents[2]
# At an event every 0.35 s that is time enough for these; a machine that is busy with others is given longer.
KILLS, RUNS = 450, 2_000


@pytest.mark.alone
@pytest.mark.timeout(900)
def test_nothing_is_lost_repeated_stuck_or_wrongly_ended_under_chaos(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable, "-m", "reliability.chaos", f"--seconds={SECONDS}", f"--kills={KILLS}",
            f"--keep={tmp_path / 'books'}", "--json",
        ],
        cwd=ROOT, text=True, stdout=subprocess.PIPE, check=False,
    )  # fmt: skip

    assert done.stdout, "the trial itself failed; its traceback is above"
    told = json.loads(done.stdout)
    print(json.dumps(told, indent=1))
    assert told["problem_counts"] == {}
    assert told["kills"] >= KILLS
    assert told["runs"] >= RUNS
    for fault in ("worker", "daemon", "app", "worker frozen", "whole tree", "code changed", "code broken", "disk full"):
        assert told["faults"].get(fault, 0) >= 1, fault
    assert told["poisoned"] >= 5
    assert told["dead by three kills of ours"] <= told["runs"] / 500
