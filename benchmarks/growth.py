"""What the engine's rules cost on an empty store and on a full one: `python -m benchmarks.growth FOLDER`, two minutes.

The full one has a million pending and a million finished runs (`--runs`), 10,000 schedules and the counts of a hundred
apps. It stays in FOLDER and is filled once. CPU is what compares; wall time has the disk's syncs in it.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tako.engine import claims, runs
from tako.engine.store import Store
from tako.protocol.ids import uuid7
from tako.protocol.messages import NewRun

PAYLOAD = '{"note":"' + "x" * 186 + '"}'
MEASURED = 4_000
TOGETHER = 32
AT_ONCE = 10
NOW_MS = 10_000_000


def main() -> None:
    """Fill, measure both, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--runs", type=int, default=1_000_000)
    args = parser.parse_args()
    args.folder.mkdir(exist_ok=True)
    full = args.folder / f"full-{args.runs}.db"
    if not full.exists():
        fill(full, args.runs)
    empty = args.folder / "empty.db"
    empty.unlink(missing_ok=True)
    before, after = measure(empty), measure(full)
    print(f"{'µs of CPU (wall)':<28}{'empty':>16}{'full':>16}{'CPU':>8}")
    for name, (cpu, wall) in before.items():
        cpu_full, wall_full = after[name]
        shown = f"{cpu:>8.1f} ({wall:>5.0f}){cpu_full:>8.1f} ({wall_full:>5.0f}){cpu_full / cpu:>7.2f}x"
        print(f"{name:<28}{shown}")


def new(**options: Any) -> NewRun:
    """A run as the SDK asks for it."""
    return {"id": uuid7(), "workflow": "w", "payload_json": PAYLOAD, "signature": "x", "retries": 2, **options}  # type: ignore[typeddict-item]


def measure(path: Path) -> dict[str, tuple[float, float]]:
    """CPU and wall time of each operation, in µs."""
    store = Store.open(path)
    found: dict[str, tuple[float, float]] = {}

    def timed(name: str, count: int, work: Callable[[], object], *, times: int = 1) -> None:
        cpu, wall = time.process_time(), time.perf_counter()
        for _ in range(times):
            work()
        found[name] = ((time.process_time() - cpu) / count * 1e6, (time.perf_counter() - wall) / count * 1e6)

    timed("enqueue, 32 together", MEASURED, lambda: enqueue(store))
    timed("enqueue for later", MEASURED, lambda: enqueue(store, delay_ms=36_000_000))
    timed("claim and end, 10 together", MEASURED, lambda: drain(store, steps=0))
    enqueue(store)
    timed("the same with a step", MEASURED, lambda: drain(store, steps=1))
    timed("when something is due next", 200, lambda: claims.next_due_ms(store), times=200)
    timed("nothing is due", 200, lambda: promote(store), times=200)
    store.close()
    return found


def enqueue(store: Store, **options: Any) -> None:
    """MEASURED runs, in transactions of TOGETHER callers."""
    for _ in range(0, MEASURED, TOGETHER):
        with store.transaction():
            runs.enqueue_all(store, [[new(**options)] for _ in range(TOGETHER)], now_ms=NOW_MS)
        store.take_events()


def drain(store: Store, *, steps: int) -> None:
    """MEASURED runs, claimed AT_ONCE, each save and each end in a transaction with the others."""
    rng = random.Random(1)
    done = 0
    while done < MEASURED:
        with store.transaction():
            claimed = runs.claim(
                store, worker_id="w1", names=["w"], max_runs=AT_ONCE, now_ms=NOW_MS, release="dev", group="default"
            )
        held = [{"run_id": run["id"], "worker_id": "w1", "epoch": run["epoch"]} for run in claimed]
        for number in range(steps):
            saved = {"name": f"s{number}", "result_json": "1", "started_ms": 1, "attempt": 1}
            with store.transaction():
                runs.save_all(store, [{**run, **saved} for run in held], now_ms=NOW_MS)
        finish(store, held, rng)
        done += len(claimed)


def finish(store: Store, held: list[dict[str, Any]], rng: random.Random) -> None:
    """All of these have succeeded."""
    ended = {"outcome": "succeeded", "result_json": "null", "warnings": ()}
    with store.transaction():
        runs.finish_all(store, [{**run, **ended} for run in held], now_ms=NOW_MS, rng=rng)
    store.take_events()


def promote(store: Store) -> None:
    """Look for what is due, and find nothing."""
    with store.transaction():
        claims.promote_due(store, now_ms=NOW_MS)


def fill(path: Path, count: int) -> None:
    """`count` finished and as many pending runs, schedules that are not due, and what a hundred apps have counted."""
    store = Store.open(path, durability="process")
    rng = random.Random(1)
    for _ in range(0, count, 2_000):
        with store.transaction():
            runs.enqueue(store, [new() for _ in range(2_000)], now_ms=1_000)
            claimed = runs.claim(store, worker_id="w0", names=["w"], max_runs=2_000, now_ms=1_000, release="dev")
        finish(store, [{"run_id": run["id"], "worker_id": "w0", "epoch": run["epoch"]} for run in claimed], rng)
    for n in range(0, count, 2_000):
        with store.transaction():
            later = {"delay_ms": 10**9} if n % 4_000 else {}
            runs.enqueue(store, [new(**later) for _ in range(2_000)], now_ms=1_000)
        store.take_events()
    schedules = [(f"w{n}", "* * * * *", "{}", 1, 10**13 + n) for n in range(10_000)]
    with store.transaction():
        statement = "INSERT INTO schedules (workflow, spec, options, mark_ms, next_ms) VALUES (?, ?, ?, ?, ?)"
        store.connection.executemany(statement, schedules)
        for n in range(1_000):
            store.move(f"app{n // 10}-{n % 10}", None, "succeeded", 5)
    store.close()


if __name__ == "__main__":
    main()
