"""Cuts the power at many places of one recording, starts the engine on what is left, and compares it with the facts.

After each cut: the file is sound (SQLite's integrity check), I1 to I9 hold once the engine has recovered, and every
fact is there. A cut in the middle of a migration is opened by the next version, as its service manager would do.
"""

from __future__ import annotations

import os
import random
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

from reliability.powercut import disk, facts, launch
from reliability.powercut.disk import MODELS
from reliability.powercut.facts import Fact
from tako.engine import invariants, leases, schema
from tako.engine.store import Store
from tako.errors import TakoError
from tako.host import recovery
from tako.host.places import places_in

EXAMPLES = 10
TERMINAL = ("succeeded", "cancelled", "dead")


@dataclass(slots=True)
class Verdict:
    """What became of the cuts. `lost` are cuts after which acknowledged facts were missing."""

    cuts: int = 0
    images: int = 0
    facts: int = 0
    lost: int = 0
    worst: int = 0
    broken: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, other: Verdict) -> None:
        """Both together."""
        self.cuts += other.cuts
        self.images += other.images
        self.facts = max(self.facts, other.facts)
        self.lost += other.lost
        self.worst = max(self.worst, other.worst)
        self.broken += other.broken
        self.examples = [*self.examples, *other.examples][:EXAMPLES]

    def note(self, where: str, problems: Sequence[str]) -> None:
        """Keep the first few, with the place to look at."""
        if problems and len(self.examples) < EXAMPLES:
            self.examples.append(f"{where}: " + "; ".join(problems[:3]))


@dataclass(frozen=True, slots=True)
class _Piece:
    log: Path
    root: Path
    cuts: list[int]
    migrates_at: int | None
    durability: str
    seed: int


def judge(
    log: Path, root: Path, *, cuts: int, seed: int, migrates_at: int | None = None, durability: str = "full",
    processes: int | None = None, progress: Callable[[Verdict], None] = lambda verdict: None,
) -> Verdict:  # fmt: skip
    """Cut `cuts` times, each in the three models. `migrates_at` is the size the log had when the next version began.

    `progress` hears of all that is known after each of some forty pieces.
    """
    records = disk.read(log)
    first = migrates_from(records, migrates_at)
    rng = random.Random(seed)
    # Half of them anywhere; half where it is not the log that is written: checkpoints, copies, names, the migration.
    places = [at for at, record in enumerate(records) if record.op != "R"]
    rare = [at for at in places if records[at].path and not records[at].path.endswith("-wal")]
    chosen = sorted([*rng.choices(places, k=cuts - cuts // 2), *rng.choices(rare, k=cuts // 2)])
    processes = processes or os.cpu_count() or 1
    size = -(-len(chosen) // max(processes * 4, min(40, len(chosen) // 500)))
    pieces = [
        _Piece(log, root, chosen[at : at + size], first, durability, seed + at) for at in range(0, len(chosen), size)
    ]
    verdict = Verdict()
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        for part in pool.map(_judge_piece, pieces):
            verdict.add(part)
            progress(verdict)
    verdict.facts = len(facts.find(records))
    return verdict


def migrates_from(records: Sequence[disk.Record], size: int | None) -> int | None:
    """The number of the record that begins at this size of the log."""
    if size is None:
        return None
    at = 0
    for number, record in enumerate(records):
        if at >= size:
            return number
        at += disk.size_of(record)
    return len(records)


def _judge_piece(piece: _Piece) -> Verdict:
    records = disk.read(piece.log)
    told = facts.find(records)
    rng = random.Random(piece.seed)
    state = disk.Disk(piece.root)
    verdict = Verdict()
    done = 0
    for cut in piece.cuts:
        for record in records[done : cut + 1]:
            state.apply(record)
        done = cut + 1
        if piece.migrates_at is not None and cut >= piece.migrates_at and schema.CURRENT == launch.KNOWN:
            launch.add_next_schema()
        known = [fact for fact in told if fact.at <= cut]
        verdict.cuts += 1
        for model in MODELS:
            _judge_image(state.cut(model, rng), known, verdict, f"cut {cut}, {model}", durability=piece.durability)
    return verdict


def _judge_image(
    files: dict[str, bytes], known: Sequence[Fact], verdict: Verdict, where: str, *, durability: str
) -> None:
    verdict.images += 1
    with tempfile.TemporaryDirectory(dir=_memory(), prefix="tako-cut-") as name:
        root = Path(name)
        for path, content in files.items():
            target = root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        broken, missing = look(root, known, durability=durability)
    verdict.broken += bool(broken)
    verdict.lost += bool(missing)
    verdict.worst = max(verdict.worst, len(missing))
    verdict.note(where, broken)
    if durability == "full":
        verdict.note(where, missing)


def look(root: Path, known: Iterable[Fact], *, durability: str = "full") -> tuple[list[str], list[str]]:
    """Start the engine on what is in `root`; what is broken, and which facts are missing.

    An engine that knows more migrations migrates, and must have left a copy from before.
    """
    state = root / ".tako"
    state.mkdir(exist_ok=True)
    places = places_in(root, state=state, sockets=root, secrets=state / "secrets.json")
    known = list(known)
    try:
        store = recovery.open_store(places, durability="process")  # the same file; only faster
    except (TakoError, sqlite3.Error) as error:
        return [f"the engine does not start: {error}"], []
    try:
        found = [f"integrity: {row[0]}" for row in store.connection.execute("PRAGMA integrity_check(3)")]
        broken = [] if found == ["integrity: ok"] else found
        with store.transaction():
            leases.recover(store, recorded=[], now_ms=1)
        broken += invariants.check(store)
        if schema.CURRENT > launch.KNOWN:
            broken += _copy_before(places.database)
        missing = [*_missing(store, known), *(_backups(root, known) if durability == "full" else ())]
    finally:
        store.close()
    return broken, missing


def _missing(store: Store, known: Iterable[Fact]) -> list[str]:
    rows = store.connection.execute("SELECT id, status, epoch FROM runs")
    runs = {row["id"]: (row["status"], row["epoch"]) for row in rows}
    steps = {(row["id"], row["name"]) for row in store.all("all_steps")}
    waits = {
        (row[0], row[1])
        for row in store.connection.execute("SELECT r.id, w.step FROM waiters w JOIN runs r ON r.seq = w.run")
    }
    taken = {run_id for run_id, _ in steps}
    mail = {row[0] for row in store.connection.execute("SELECT r.id FROM signals s JOIN runs r ON r.seq = s.run")}
    found = []
    for fact in known:
        if fact.kind == "backed up":
            continue
        status, epoch = runs.get(fact.run_id, (None, 0))
        there = status is not None
        if there and fact.kind == "claimed":
            there = epoch >= int(fact.detail)
        elif there and fact.kind == "saved":
            there = (fact.run_id, fact.detail) in steps
        elif there and fact.kind == "finished":
            there = fact.detail not in TERMINAL or status == fact.detail
        elif there and fact.kind == "parked":
            there = (fact.run_id, fact.detail) in waits or (fact.run_id, fact.detail) in steps
        elif there and fact.kind == "signalled":
            there = fact.run_id in mail or fact.run_id in taken
        if not there:
            found.append(f"{fact.kind} {fact.detail} of {fact.run_id}, told at {fact.at}")
    return found


def _copy_before(database: Path) -> list[str]:
    copy = database.with_name(f"{database.name}.schema-{launch.KNOWN}")
    return [] if copy.exists() and _is_whole(copy) else [f"there is no whole {copy.name} from before the migration"]


def _backups(root: Path, known: Iterable[Fact]) -> list[str]:
    """A backup that was announced is whole."""
    found = []
    for fact in known:
        if fact.kind == "backed up":
            copy = root / Path(fact.detail).name / "runs.db"
            if not copy.exists() or not _is_whole(copy):
                found.append(f"the backup {copy.parent.name}, told at {fact.at}, is not whole")
    return found


def _is_whole(copy: Path) -> bool:
    connection = sqlite3.connect(copy)
    try:
        words = [str(row[0]) for row in connection.execute("PRAGMA integrity_check(3)")]
        return words == ["ok"] and connection.execute("SELECT count(*) FROM runs").fetchone()[0] > 0
    except sqlite3.DatabaseError:
        return False
    finally:
        connection.close()


def _memory() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None
