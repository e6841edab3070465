"""The cycles, and a sample of the daemon after each."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from reliability.daemon import Daemon, until
from tako.protocol import ids
from tako.rpc.client import Client

BURST = 300
TOGETHER = 50  # runs of one request; so many more are enqueued one by one, for the latency
IDLE_MS = 500
PATIENCE_S = 120.0
FLOWS = """\
from tako import Context, workflow


@workflow(retries=0)
def one(ctx: Context, number: int) -> int:
    return ctx.step("double", double, number)


def double(number: int) -> int:
    return number * 2
"""


@dataclass(frozen=True, slots=True)
class Sample:
    """The daemon at rest after a cycle."""

    at_s: float
    runs: int
    rss_kib: int
    files: int
    threads: int
    zombies: int
    log_bytes: int
    cpu_us_a_run: float
    latencies_ms: tuple[float, ...]


@dataclass(slots=True)
class Soak:
    """All samples of one daemon."""

    samples: list[Sample] = field(default_factory=list)

    def middle(self, part: int, what: Callable[[Sample], float]) -> float:
        """The median in a third of the cycles: 0, 1 or 2."""
        third = len(self.samples) // 3
        return median(what(sample) for sample in self.samples[part * third : (part + 1) * third])

    def growth(self, what: Callable[[Sample], float]) -> float:
        """From the second third to the last."""
        return self.middle(2, what) - self.middle(1, what)

    def rise(self, what: Callable[[Sample], float]) -> float:
        """From the least of the second third to the least of the last: what comes and goes is not in it."""
        third = len(self.samples) // 3
        before, after = self.samples[third : 2 * third], self.samples[2 * third :]
        return min(map(what, after)) - min(map(what, before))

    def slope_an_hour(self, what: Callable[[Sample], float]) -> float:
        """The median slope between all pairs after the warm-up (Theil and Sen): one odd sample does not move it."""
        rest = self.samples[len(self.samples) // 3 :]
        slopes = [
            (what(b) - what(a)) / (b.at_s - a.at_s) * 3600
            for number, a in enumerate(rest)
            for b in rest[number + 1 :: max(1, len(rest) // 200)]
        ]
        return median(slopes)

    def p99_ms(self, samples: Sequence[Sample]) -> float:
        """Of single enqueues."""
        ordered = sorted(latency for sample in samples for latency in sample.latencies_ms)
        return ordered[int(len(ordered) * 0.99)]


def run(*, seconds: float, on_sample: Callable[[Sample], None] = lambda sample: None) -> Soak:
    """Soak for so long."""
    found = Soak()
    with tempfile.TemporaryDirectory(prefix="tako-soak-") as name:
        toml = f'name = "shop"\n[workflows]\nidle_timeout = "{IDLE_MS}ms"\nconcurrency = 10\n'
        files = {"tako.toml": toml, "workflows/__init__.py": "", "workflows/one.py": FLOWS}
        with Daemon(Path(name), files) as daemon:
            daemon.start()
            place = daemon.place()
            client = Client(place["socket"], place["app"])
            began = time.monotonic()
            total = 0
            while time.monotonic() < began + seconds:
                cpu_s = _cpu_s(daemon)
                latencies = _burst(client)
                total += BURST
                _rest(daemon)
                sample = _look(daemon, began, total, (_cpu_s(daemon) - cpu_s) / BURST * 1e6, latencies)
                found.samples.append(sample)
                on_sample(sample)
            client.close()
    return found


def _burst(client: Client) -> tuple[float, ...]:
    latencies = []
    for _ in range((BURST - TOGETHER) // TOGETHER):
        client.call("enqueue_runs", {"runs": [_new() for _ in range(TOGETHER)]}, deadline_s=15)
    last: dict[str, Any] = {}
    for _ in range(TOGETHER):
        last = _new()
        began = time.monotonic()
        client.call("enqueue_runs", {"runs": [last]}, deadline_s=15)
        latencies.append((time.monotonic() - began) * 1000)
    client.call("wait_run", {"id": last["id"], "timeout_ms": 60_000}, deadline_s=65)
    return tuple(latencies)


def _new() -> dict[str, Any]:
    return {"id": ids.uuid7(), "workflow": "one", "payload_json": '{"number": 21}'}


def _rest(daemon: Daemon) -> None:
    """No run is left and no worker, nor one that has ended and was not waited for yet: the daemon alone."""
    assert daemon.process is not None
    pid = daemon.process.pid
    until(
        lambda: not daemon.workers() and not _zombies_of(pid), what="scaled to zero", timeout_s=PATIENCE_S, every_s=0.02
    )
    left = daemon.ask("list_runs", status="pending", limit=1)["runs"]
    assert not left, f"scaled to zero with work left: {left}"


def _look(daemon: Daemon, began: float, runs: int, cpu_us: float, latencies: tuple[float, ...]) -> Sample:
    assert daemon.process is not None
    process = Path(f"/proc/{daemon.process.pid}")
    status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
    log = daemon.folder / ".tako/runs.db-wal"
    return Sample(
        at_s=time.monotonic() - began,
        runs=runs,
        rss_kib=int(status["VmRSS"].split()[0]),
        files=len(os.listdir(process / "fd")),  # noqa: PTH208
        threads=int(status["Threads"]),
        zombies=_zombies_of(daemon.process.pid),
        log_bytes=log.stat().st_size if log.exists() else 0,
        cpu_us_a_run=cpu_us,
        latencies_ms=latencies,
    )


def _cpu_s(daemon: Daemon) -> float:
    assert daemon.process is not None
    fields = Path(f"/proc/{daemon.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _zombies_of(pid: int) -> int:
    found = 0
    for name in os.listdir("/proc"):  # noqa: PTH208
        if name.isdigit():
            with suppress(OSError):
                state, parent, *_ = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
                found += state == "Z" and int(parent) == pid
    return found
