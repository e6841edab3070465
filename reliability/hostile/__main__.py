"""`scripts/gate hostile [TARGET…]`: every reader of bytes, and every command of a live engine, attacked for a while.

Readers are attacked by atheris if it is installed (`pip install atheris`), else by chance; two at a time.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

from reliability.hostile import siege, targets
from reliability.hostile.engine import Engine

COMMANDS = "commands"
# Those that an attacker reaches first have half an hour each at the gate, the others a minute.
LONG = ("framer", "message", COMMANDS, "tako_toml", "cron", "stored")
GATE_S, OTHERS_S, SHORT_S = 1_800, 60, 5
SLACK_S = 120


def main() -> int:
    """0 when nothing broke."""
    parser = argparse.ArgumentParser(prog="scripts/gate hostile")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join((*targets.TARGETS, COMMANDS)))
    parser.add_argument("--gate", action="store_true", help="half an hour for each of the most exposed")
    parser.add_argument("--seconds", type=int, help="for each target")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    chosen = options.targets or [*LONG, *(name for name in targets.TARGETS if name not in LONG)]
    if unknown := set(chosen) - {*targets.TARGETS, COMMANDS}:
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    is_guided = importlib.util.find_spec("atheris") is not None
    print(f"seed {options.seed}; readers are attacked {'by atheris' if is_guided else 'by chance'}", flush=True)

    def seconds(name: str) -> int:
        return int(options.seconds or ((GATE_S if name in LONG else OTHERS_S) if options.gate else SHORT_S))

    def attack(name: str) -> bool:
        if name == COMMANDS:
            fine, words = commands(seconds=seconds(name), seed=options.seed)
        else:
            fine, words = reader(name, seconds=seconds(name), seed=options.seed, is_guided=is_guided)
        print(f"{'✔' if fine else '✘'} {name}: {words}", flush=True)
        return fine

    with ThreadPoolExecutor(options.jobs) as pool:
        outcomes = list(pool.map(attack, chosen))
    print(f"{outcomes.count(True)} of {len(outcomes)} held")
    return 0 if all(outcomes) else 1


def reader(name: str, *, seconds: int, seed: int, is_guided: bool) -> tuple[bool, str]:
    """Attack a target in a process of its own."""
    command = [sys.executable, "-m", "reliability.hostile.fuzz", name, "--seconds", str(seconds), "--seed", str(seed)]
    if is_guided:
        command.append("--guided")
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + SLACK_S, check=False)
    except subprocess.TimeoutExpired:
        return False, f"hangs (seed {seed})"
    said = (done.stdout + done.stderr).strip()
    if done.returncode:
        return False, said[-4_000:]
    figures = [line for line in said.splitlines() if "inputs" in line or "number_of_executed_units" in line]
    return True, figures[-1].strip() if figures else "nothing broke"


def commands(*, seconds: int, seed: int) -> tuple[bool, str]:
    """Attack a live engine's commands, with an honest client beside it."""
    until = time.monotonic() + seconds
    codes: Counter[str] = Counter()
    sent, rng = 0, Random(seed)
    with tempfile.TemporaryDirectory(prefix="tako-hostile-") as folder, Engine(Path(folder)) as engine:
        with siege.Others(engine.socket) as others:
            while time.monotonic() < until:
                one = rng.randrange(2**32)
                try:
                    report = siege.fire(engine, seed=one, count=1_000)
                except AssertionError as error:  # a property that does not hold, or an honest call that was refused
                    return False, f"seed {one}: {error}"
                sent += report.sent
                codes += report.codes
        if found := siege.traces(engine):
            return False, f"tracebacks in the log: {found[:3]}"
        if others.failures:
            return False, f"the honest client failed: {others.failures[0]}"
        waits = f"the honest client waited {others.percentile_ms(0.5):.1f} ms (p50), {others.percentile_ms(0.99):.1f}"
        memory = engine.rss_bytes() >> 20
    return True, f"{sent:,} messages, {dict(codes.most_common())}; {waits} (p99); {memory} MiB resident"


if __name__ == "__main__":
    sys.exit(main())
