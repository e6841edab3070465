"""`python -m reliability.chaos`: kill and freeze for three minutes, then check the books. `--gate`: for an hour."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from reliability.chaos import disk, trial


def main() -> int:
    """1 when a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m reliability.chaos")
    parser.add_argument("--gate", action="store_true", help="an hour")
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--kills", type=int, default=0, help="go on until so many were killed")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--pause", type=float, default=0.035, help="seconds between two enqueues of one of four callers"
    )
    parser.add_argument("--keep", type=Path, help="a folder for ledger, store and log")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    disk.enter_namespace()
    seconds = options.seconds or (3600.0 if options.gate else 180.0)
    if options.keep is not None:
        options.keep.mkdir(parents=True, exist_ok=True)
    result = trial.run(
        seconds=seconds, kills=options.kills, seed=options.seed, pause_s=options.pause, keep=options.keep
    )
    found = result.findings
    summary = {
        "seconds": round(result.seconds),
        "kills": result.kills,
        "faults": dict(sorted(result.counts.items())),
        "runs": found.runs,
        "acknowledged": found.acknowledged,
        "refused": found.refused,
        "refusals": dict(result.refusals),
        "unknown": found.unknown,
        "step bodies": found.bodies,
        "repeated before acknowledgement": found.repeated,
        "poisoned": found.poisoned,
        "dead by three kills of ours": found.killed_by_nemesis,
        "drained_s": round(result.drained_s, 1),
        "problems": {name: examples[:10] for name, examples in found.problems().items()},
        "problem_counts": {name: len(examples) for name, examples in found.problems().items()},
    }
    print(json.dumps(summary) if options.json else "\n".join(f"{name}: {value}" for name, value in summary.items()))
    return 1 if found.problems() else 0


if __name__ == "__main__":
    sys.exit(main())
