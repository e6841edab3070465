"""One trial: start, let the nemesis do harm, mend everything, wait until all is done, check the books."""

from __future__ import annotations

import os
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from reliability.chaos import checker, disk, shop
from reliability.chaos.checker import Findings
from reliability.chaos.nemesis import Nemesis
from reliability.daemon import Daemon, until
from tako.errors import TakoError

DRAIN_PATIENCE_S = 240.0
UNFINISHED = ("pending", "running", "sleeping", "waiting", "limited", "blocked")


@dataclass(frozen=True, slots=True)
class Result:
    """What was done, and what was found."""

    seconds: float
    kills: int
    counts: Counter[str]
    drained_s: float
    findings: Findings
    refusals: Counter[str]


def run(*, seconds: float, kills: int, seed: int, pause_s: float, keep: Path | None = None) -> Result:
    """Run a trial of `seconds`, and longer if that is what `kills` take. `keep`: a folder for the ledger, the store and
    the daemon's log, should anything be wrong."""
    with tempfile.TemporaryDirectory(prefix="tako-chaos-") as name:
        base = keep or Path(name)
        ledger = base / "ledger.txt"
        fd = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

        def note(*words: object) -> None:
            os.write(fd, (" ".join(map(str, words)) + f" {os.getpid()} {time.monotonic():.3f}\n").encode())

        with disk.small_disk(Path(name) / "disk") as folder, Daemon(folder, shop.files(ledger)) as daemon:
            daemon.log = base / "daemon.log"
            daemon.start()
            nemesis = Nemesis(daemon, seed=seed, note=note, pause_s=pause_s)
            began = time.monotonic()
            nemesis.run(seconds, kills=kills)
            harmed_s = time.monotonic() - began
            drained_s = drain(daemon)
            daemon.stop()
            if keep is not None:
                (keep / "runs.db").write_bytes((folder / ".tako/runs.db").read_bytes())
            findings = checker.check(ledger, folder / ".tako/runs.db")
        os.close(fd)
        return Result(harmed_s, nemesis.kills, nemesis.counts, drained_s, findings, checker.read(ledger).codes)


def drain(daemon: Daemon) -> float:
    """Wait until every run has ended, as L1 promises once faults stop; how many seconds that took."""
    began = time.monotonic()

    def is_done() -> bool:
        with suppress(TakoError, OSError, ValueError):
            counts = [daemon.ask("list_runs", status=status, limit=1)["runs"] for status in UNFINISHED]
            return not any(counts)
        return False

    with suppress(AssertionError):  # what is left then is stuck, and the checker names it
        until(is_done, what="all runs end", timeout_s=DRAIN_PATIENCE_S, every_s=0.1)
    return time.monotonic() - began
