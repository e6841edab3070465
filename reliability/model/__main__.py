"""`python -m reliability.model`: any order of events against engine, supervisor and framing. `--gate`: far more."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
MACHINES = {
    "engine": "tests/engine/test_model.py",
    "supervisor": "tests/supervisor/test_machine.py",
    "framing": "tests/protocol/test_framing.py::TestStream",
}
WALK = "tests/supervisor/test_walk.py"


def main() -> int:
    """1 when something that must always be true was not."""
    parser = argparse.ArgumentParser(prog="python -m reliability.model")
    parser.add_argument("--gate", action="store_true", help="2,000 histories of 200 steps, and 7 events of the table")
    parser.add_argument("--examples", type=int, metavar="N", help="histories of each machine (500)")
    parser.add_argument("--steps", type=int, metavar="N", help="of each history (100)")
    parser.add_argument("--only", choices=(*MACHINES, "walk"), help="one part of it")
    options = parser.parse_args()
    examples = options.examples or (2_000 if options.gate else 500)
    steps = options.steps or (200 if options.gate else 100)
    ok = True
    for name, place in MACHINES.items():
        if options.only in (None, name):
            size = {"TAKO_MODEL_EXAMPLES": str(examples), "TAKO_MODEL_STEPS": str(steps)}
            ok = run(f"{name}: {examples:,} histories of {steps} steps", place, size) and ok
    if options.only in (None, "walk"):
        events, histories = ("7", "20000") if options.gate else ("4", "1000")
        size = {"TAKO_WALK_EVENTS": events, "TAKO_WALK_HISTORIES": histories}
        ok = run(f"walk: all states within {events} events, {histories} histories", WALK, size) and ok
    return 0 if ok else 1


def run(what: str, place: str, size: dict[str, str]) -> bool:
    """Run it, and print what came of it; whether all held."""
    began = time.monotonic()
    command = [sys.executable, "-m", "pytest", "-q", "-rP", "--timeout=0", "-p", "no:cacheprovider", place]
    found = subprocess.run(command, cwd=ROOT, env={**os.environ, **size}, capture_output=True, text=True, check=False)
    ok = found.returncode == 0
    print(f"{what}: {'all held' if ok else 'BROKEN'}, {time.monotonic() - began:.0f} s", flush=True)
    seen = [line for line in found.stdout.splitlines() if " states within " in line]
    for line in (f"  {line}" for line in seen) if ok else (found.stdout[-8_000:], found.stderr[-2_000:]):
        print(line, flush=True)
    return ok


if __name__ == "__main__":
    sys.exit(main())
