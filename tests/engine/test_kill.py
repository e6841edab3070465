"""kill -9 in the middle of writes: the file is sound, every invariant holds, and all that was acknowledged is there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from tako.engine import invariants, leases, schema
from tako.engine.store import Store

ROUNDS = 4
LINES = 400


def write_until_killed(path: Path, round_number: int) -> list[list[str]]:
    """What a writing process printed before it was killed, as words; a line that was cut short is not one."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.engine.killed_writer", str(path), str(round_number)], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(LINES)]
        os.kill(process.pid, signal.SIGKILL)
        lines += process.stdout.readlines()
    assert process.returncode == -signal.SIGKILL
    return [line.decode().split() for line in lines if line.endswith(b"\n")]


def of_status(store: Store, status: str) -> set[str]:
    return {row["id"] for row in store.connection.execute("SELECT id FROM runs WHERE status = ?", (status,))}


def is_even(run_id: str) -> bool:
    """Whether the number in `round1-17-doomed` is."""
    return int(run_id.split("-")[1]) % 2 == 0


def test_what_was_acknowledged_survives_kill_9_at_any_instant(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    told: list[list[str]] = []
    for number in range(ROUNDS):
        told += write_until_killed(path, number)

        store = Store.open(path)
        assert schema.check(store.connection) == []
        with store.transaction():
            leases.recover(store, recorded=[], now_ms=10**9)
        seen = invariants.Seen(acknowledged={run_id for what, run_id in told if what in ("run", "fire")})
        assert invariants.check(store, seen=seen) == []
        saved = {run_id for run_id, _, _ in seen.steps}
        assert {run_id for what, run_id in told if what == "step"} <= saved
        assert {run_id for what, run_id in told if what == "end"} <= of_status(store, "succeeded")
        # Every second one is retried, whether that was answered or not.
        assert {run_id for what, run_id in told if what == "cancel" and is_even(run_id)} <= of_status(
            store, "cancelled"
        )
        assert {run_id for what, run_id in told if what == "retry"} <= of_status(store, "pending")
        kept = {row["id"] for row in store.connection.execute("SELECT id FROM runs JOIN signals ON run = seq")}
        assert {run_id for what, run_id in told if what == "signal"} <= kept
        store.close()
    assert len(told) >= ROUNDS * LINES
    assert {what for what, _ in told} == {"run", "step", "end", "signal", "fire", "cancel", "retry"}
