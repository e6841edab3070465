"""`scripts/gate peers`: the same faults, in Tako and in five others, and a table of what became of them."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from reliability.peers import services
from reliability.peers.faults import FAULTS, cause
from reliability.peers.judge import Grade, Verdict
from reliability.peers.stacks import STACKS, Stack

HOME = Path(".reliability/peers")
REQUIREMENTS = Path(__file__).with_name("requirements.txt")


def main() -> int:
    """1 when the rig failed somewhere, or Tako lost something."""
    names = [stack.__name__ for stack in STACKS]
    parser = argparse.ArgumentParser(prog="scripts/gate peers", description=__doc__)
    parser.add_argument("--gate", action="store_true", help="all of it, which is also what happens without")
    parser.add_argument("--stack", action="append", choices=names, help="only this one (may be said again)")
    parser.add_argument("--fault", action="append", choices=FAULTS, help="only this one (may be said again)")
    parser.add_argument(
        "--jobs", type=int, default=2, help="so many at once (2); schedules all at once, they only wait"
    )
    parser.add_argument("--python", type=Path, help="an environment that has the peers, instead of one made here")
    parser.add_argument("--keep", type=Path, help="a folder for logs and ledgers")
    options = parser.parse_args()
    if missing := services.missing():
        print(f"Debian packages are missing: apt-get install {' '.join(missing)}", file=sys.stderr)
        return 2
    python = (options.python or _environment()).absolute()
    stacks = [stack for stack in STACKS if not options.stack or stack.__name__ in options.stack]
    faults = options.fault or list(FAULTS)
    for stack in stacks:
        print(f"{stack.name}: {stack.versions(python)}; {stack.settings}", flush=True)
    found = _cause_all(stacks, faults, python=python, jobs=options.jobs, keep=options.keep)
    print("\n".join([*table(stacks, faults, found), *details(stacks, faults, found)]))
    bad = [key for key, verdict in found.items() if verdict is None]
    ours = [verdict for (stack, _), verdict in found.items() if stack == "Tako" and verdict is not None]
    return 1 if bad or any(verdict.grade is Grade.LOST for verdict in ours) else 0


def _cause_all(
    stacks: list[type[Stack]], faults: list[str], *, python: Path, jobs: int, keep: Path | None
) -> dict[tuple[str, str], Verdict | None]:
    found: dict[tuple[str, str], Verdict | None] = {}

    def one(what: tuple[type[Stack], str]) -> None:
        stack, fault = what
        began = time.monotonic()
        try:
            verdict: Verdict | None = cause(fault, stack, python=python, keep=keep)
        except Exception as error:  # one cell that could not be filled leaves the others
            verdict = None
            print(f"RIG {stack.name}, {fault}: {type(error).__name__}: {error}", flush=True)
        found[stack.name, fault] = verdict
        words = {"stack": stack.name, "fault": fault, "verdict": str(verdict), "s": round(time.monotonic() - began)}
        print(json.dumps(words, ensure_ascii=False), flush=True)

    waits = [what for what in ((stack, fault) for fault in faults for stack in stacks) if "schedule" in what[1]]
    others = [what for what in ((stack, fault) for fault in faults for stack in stacks) if what not in waits]
    with ThreadPoolExecutor(jobs) as pool, ThreadPoolExecutor(max(1, len(waits))) as beside:
        list(pool.map(one, others))
        list(beside.map(one, waits))
    return found


def table(stacks: list[type[Stack]], faults: list[str], found: dict[tuple[str, str], Verdict | None]) -> list[str]:
    """As Markdown: a row a fault, a mark for each stack."""
    rows = [["fault", *(stack.name for stack in stacks)], ["---"] * (len(stacks) + 1)]
    for fault in faults:
        verdicts = [found.get((stack.name, fault)) for stack in stacks]
        rows += [[fault, *("?" if verdict is None else verdict.grade.value for verdict in verdicts)]]
    return [f"| {' | '.join(row)} |" for row in rows]


def details(stacks: list[type[Stack]], faults: list[str], found: dict[tuple[str, str], Verdict | None]) -> list[str]:
    """As Markdown: for each fault what was done, and what became of it in each stack."""
    lines = []
    for fault in faults:
        said = " ".join((FAULTS[fault].__doc__ or "").split())
        lines += ["", f"**{fault.capitalize()}.** {said}", ""]
        for stack in stacks:
            verdict = found.get((stack.name, fault))
            lines.append(f"- {stack.name}: {'not measured' if verdict is None else verdict}")
    return lines


def _environment() -> Path:
    """The Python of an environment with the peers, made once."""
    python = HOME / "venv/bin/python"
    stamp = HOME / "installed.txt"
    wanted = REQUIREMENTS.read_text()
    if not stamp.exists() or stamp.read_text() != wanted:
        print("Installing the peers…", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", str(HOME / "venv")], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", "-r", str(REQUIREMENTS)], check=True)
        stamp.write_text(wanted)
    return python


if __name__ == "__main__":
    sys.exit(main())
