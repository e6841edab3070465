"""I1 to I9 of the contract, asked of a store. Tests ask after every operation; `tako doctor` asks a running engine.

What a CHECK of the schema says already is asked again: a check can be switched off, and a file can be damaged.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tako.engine import limits, pausing
from tako.engine.leases import Leases
from tako.engine.store import Reader, Store


@dataclass(slots=True)
class Seen:
    """What an observer remembers from one look to the next: what must never vanish, change or go back."""

    acknowledged: set[str] = field(default_factory=set)
    steps: dict[tuple[str, int, str], str] = field(default_factory=dict)
    epochs: dict[str, int] = field(default_factory=dict)


def check(store: Reader, leases: Leases | None = None, *, seen: Seen | None = None) -> list[str]:
    """Every violation in words; empty when all holds.

    With `leases`, runs in flight and leases must be the same (I3, I6); with `seen`, nothing acknowledged may be lost
    (I1), no step may change (I8) and no epoch may go back (E3).
    """
    found = [f"{row['rule']}: run {row['id']}: {row['what']}" for row in store.all("broken_invariants")]
    found += [f"counts: {row['workflow']} has {row['real']} {row['state']}, {row['kept']} were counted"
              for row in store.all("wrong_counts")]  # fmt: skip
    if isinstance(store, Store):
        found += limits.problems(store)
        found += pausing.problems(store)
    if leases is not None:
        found += _check_leases(store, leases)
    if seen is not None:
        found += _check_memory(store, seen)
    return found


def _check_leases(store: Reader, leases: Leases) -> list[str]:
    running = {row["id"]: (row["epoch"], row["worker_id"]) for row in store.all("running_runs")}
    found = []
    for run_id, (epoch, worker_id) in running.items():
        lease = leases.get(run_id)
        if lease is None or (lease.epoch, lease.worker_id) != (epoch, worker_id):
            found.append(f"I3: run {run_id} is running at epoch {epoch} with {worker_id}, its lease is {lease}")
    held = sum(leases.get(run_id) is not None for run_id in running)
    if held != len(leases):
        found.append(f"I6: {len(leases) - held} leases belong to runs that are not running")
    return found


def _check_memory(store: Reader, seen: Seen) -> list[str]:
    found = []
    epochs = {row["id"]: row["epoch"] for row in store.all("all_epochs")}
    found += [f"I1: acknowledged run {run_id} is gone" for run_id in sorted(seen.acknowledged - epochs.keys())]
    found += [
        f"E3: run {run_id} went back to epoch {epoch}"
        for run_id, epoch in epochs.items()
        if epoch < seen.epochs.get(run_id, 0)
    ]
    steps = {(row["id"], row["generation"], row["name"]): row["result"] for row in store.all("all_steps")}
    for key, result in seen.steps.items():
        if key[0] in epochs and steps.get(key) != result:
            found.append(f"I8: step {key[2]!r} of run {key[0]}, generation {key[1]}, changed")
    seen.epochs = epochs
    seen.steps.update(steps)
    return found
