"""Do the books balance? Reads the ledger and the store of a finished trial, and nothing else."""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

TERMINAL = ("succeeded", "cancelled", "dead")
CRASH_CAP = 3
EXAMPLES = 10


class Entry(NamedTuple):
    """A line of the ledger: what, its words, and who wrote it when."""

    what: str
    words: tuple[str, ...]
    pid: int
    at: float


@dataclass(slots=True)
class Books:
    """What the ledger says."""

    acknowledged: dict[str, tuple[str, str]] = field(default_factory=dict)  # number: run id and kind
    unknown: dict[str, str] = field(default_factory=dict)
    refused: dict[str, Entry] = field(default_factory=dict)
    codes: Counter[str] = field(default_factory=Counter)
    started: Counter[tuple[str, str]] = field(default_factory=Counter)  # bodies of steps, by run and step
    again: list[str] = field(default_factory=list)  # started after they had been acknowledged
    ran_in: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    killed: set[int] = field(default_factory=set)


@dataclass(slots=True)
class Findings:
    """Each promise with what broke it. All empty: the books balance."""

    lost: list[str] = field(default_factory=list)
    again: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    wrongly_ended: list[str] = field(default_factory=list)
    refused_and_stored: list[str] = field(default_factory=list)
    without_reason: list[str] = field(default_factory=list)
    unsound: list[str] = field(default_factory=list)
    runs: int = 0
    acknowledged: int = 0
    refused: int = 0
    unknown: int = 0
    bodies: int = 0
    repeated: int = 0  # bodies that ran again, rightly: their result had not been acknowledged
    poisoned: int = 0
    killed_by_nemesis: int = 0  # three deaths in a row, each of them our own kill: dead by L2, and rightly so

    def problems(self) -> dict[str, list[str]]:
        """What is not empty."""
        found = {
            "lost": self.lost,
            "re-executed after acknowledgement": self.again,
            "stuck": self.stuck,
            "wrongly ended": self.wrongly_ended,
            "refused and stored": self.refused_and_stored,
            "refused without a reason": self.without_reason,
            "unsound": self.unsound,
        }
        return {name: examples for name, examples in found.items() if examples}


def read(ledger: Path) -> Books:
    """The ledger, in the order in which it was written."""
    books = Books()
    saved: set[tuple[str, str]] = set()
    for line in ledger.read_text().splitlines():
        what, *words, pid, at = line.split()
        entry = Entry(what, tuple(words), int(pid), float(at))
        if what == "K":
            books.acknowledged[words[0]] = words[1], words[2]
        elif what == "U":
            books.unknown[words[0]] = words[1]
        elif what == "R":
            books.refused[words[0]] = entry
            books.codes[words[1]] += 1
        elif what in "XP":
            step = words[0], words[1]
            books.started[step] += 1
            books.ran_in[words[0]].add(entry.pid)
            if step in saved:
                books.again.append(f"step {words[1]} of {words[0]} in {pid}")
        elif what == "A":
            saved.add((words[0], words[1]))
        elif what == "killed":
            books.killed.add(int(words[0]))
    return books


def check(ledger: Path, database: Path) -> Findings:
    """Compare."""
    books = read(ledger)
    found = Findings(again=books.again)
    connection = sqlite3.connect(database)
    connection.row_factory = sqlite3.Row
    try:
        found.unsound = [row[0] for row in connection.execute("PRAGMA integrity_check(5)") if row[0] != "ok"]
        runs = {row["id"]: row for row in connection.execute("SELECT * FROM runs")}
        deaths: dict[int, list[str]] = defaultdict(list)
        for row in connection.execute("SELECT run, error FROM attempts WHERE outcome = 'crashed' ORDER BY epoch"):
            deaths[row["run"]].append(row["error"])
    finally:
        connection.close()
    _check_acknowledged(books, runs, found)
    _check_refused(books, runs, found)
    for run in runs.values():
        _check_run(run, deaths[run["seq"]], books, found)
    found.runs, found.acknowledged = len(runs), len(books.acknowledged)
    found.refused, found.unknown = len(books.refused), len(books.unknown)
    found.bodies = sum(books.started.values())
    found.repeated = found.bodies - len(books.started)
    return found


def _check_acknowledged(books: Books, runs: dict[str, sqlite3.Row], found: Findings) -> None:
    for number, (run_id, _) in books.acknowledged.items():
        if run_id not in runs:
            found.lost.append(f"{number}: run {run_id} was acknowledged and is not stored")
        elif runs[run_id]["key"] != f"n:{number}" and not runs[run_id]["workflow"].endswith("_poison"):
            found.lost.append(f"{number}: run {run_id} has the key {runs[run_id]['key']}")


def _check_refused(books: Books, runs: dict[str, sqlite3.Row], found: Findings) -> None:
    keys = {run["key"] for run in runs.values()}
    for number, entry in books.refused.items():
        if f"n:{number}" in keys:
            found.refused_and_stored.append(f"{number} was refused with {entry.words[1]} and is stored")
        if int(entry.words[2]) < 20:
            found.without_reason.append(f"{number}: {entry.words}")


def _check_run(run: sqlite3.Row, deaths: list[str], books: Books, found: Findings) -> None:
    words = f"{run['workflow']} {run['id']} is {run['status']} ({run['reason']})"
    is_poison = run["workflow"].endswith("_poison")
    if run["status"] not in TERMINAL:
        found.stuck.append(words)
    elif is_poison:
        alone = [death for death in deaths if " in flight" not in death]
        found.poisoned += 1
        if run["status"] != "dead" or len(alone) != CRASH_CAP:
            found.wrongly_ended.append(f"{words}, after {len(alone)} deaths alone and {len(deaths)} in all")
    elif run["status"] != "succeeded":
        # Each of three deaths must be one of ours; an innocent run is never killed by its neighbour.
        ours = books.ran_in[run["id"]] & books.killed
        if run["status"] == "dead" and "worker died" in run["reason"] and len(ours) >= CRASH_CAP:
            found.killed_by_nemesis += 1
        else:
            found.wrongly_ended.append(f"{words}; {len(ours)} of its workers were killed by us; its deaths: {deaths}")
