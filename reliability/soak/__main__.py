"""`python -m reliability.soak`: a minute and a quarter of cycles. `--gate`: two hours."""

from __future__ import annotations

import argparse
import sys
import time

from reliability.soak import cycles
from reliability.soak.cycles import Sample, Soak

GATE_S, USUAL_S = 7_200.0, 75.0
MAX_LOG_BYTES = 64 * 1024 * 1024
MAX_KIB_AN_HOUR = 1_024.0
# In a minute a slope cannot be told: SQLite's cache is still filling up. A kilobyte that each run left behind can.
MAX_GROWTH_KIB = 6_144


def main() -> int:
    """1 when something grew."""
    parser = argparse.ArgumentParser(prog="python -m reliability.soak")
    parser.add_argument("--gate", action="store_true")
    parser.add_argument("--seconds", type=float)
    options = parser.parse_args()
    seconds = options.seconds or (GATE_S if options.gate else USUAL_S)
    told_at = [time.monotonic()]

    def tell(sample: Sample) -> None:
        if time.monotonic() - told_at[0] > 60:
            told_at[0] = time.monotonic()
            print(f"{sample.at_s:.0f} s, {sample.runs} runs, {sample.rss_kib} KiB, {sample.files} files", flush=True)

    soak = cycles.run(seconds=seconds, on_sample=tell)
    print("\n".join(summary(soak)))
    found = problems(soak, strictly=seconds >= 3_600)
    print(*(f"PROBLEM {words}" for words in found), sep="\n")
    return 1 if found else 0


def summary(soak: Soak) -> list[str]:
    """What was seen, in lines."""
    last, third = soak.samples[-1], len(soak.samples) // 3
    return [
        f"{last.at_s:.0f} s, {len(soak.samples)} cycles to zero, {last.runs} runs",
        f"memory: {soak.samples[0].rss_kib} KiB at first, {soak.middle(1, _rss):.0f} in the second third, "
        f"{soak.middle(2, _rss):.0f} in the last; slope {soak.slope_an_hour(_rss):.0f} KiB an hour",
        f"open files: {soak.middle(1, _files):.0f}, then {soak.middle(2, _files):.0f}; "
        f"threads: {soak.middle(1, _threads):.0f}, then {soak.middle(2, _threads):.0f}",
        f"write-ahead log: at most {max(sample.log_bytes for sample in soak.samples) / 1e6:.1f} MB; "
        f"zombies: at most {max(sample.zombies for sample in soak.samples)}",
        f"CPU of the daemon a run: {soak.middle(1, _cpu):.0f} µs, then {soak.middle(2, _cpu):.0f} µs",
        f"p99 of an enqueue: {soak.p99_ms(soak.samples[third : 2 * third]):.2f} ms, "
        f"then {soak.p99_ms(soak.samples[2 * third :]):.2f} ms",
    ]


def problems(soak: Soak, *, strictly: bool) -> list[str]:
    """What grew. `strictly`: by the contract's figures, which take hours to tell."""
    found = []
    if soak.rise(_files) > 0:
        found.append(f"open files grew by {soak.rise(_files):.0f}")
    if soak.rise(_threads) > 0:
        found.append(f"threads grew by {soak.rise(_threads):.0f}")
    if any(sample.zombies for sample in soak.samples):
        found.append("dead children were not waited for")
    if (most := max(sample.log_bytes for sample in soak.samples)) > MAX_LOG_BYTES:
        found.append(f"the write-ahead log grew to {most} bytes")
    if strictly and soak.slope_an_hour(_rss) > MAX_KIB_AN_HOUR:
        found.append(f"memory grows by {soak.slope_an_hour(_rss):.0f} KiB an hour")
    if not strictly and soak.growth(_rss) > MAX_GROWTH_KIB:
        found.append(f"memory grew by {soak.growth(_rss):.0f} KiB")
    third = len(soak.samples) // 3
    before, after = soak.p99_ms(soak.samples[third : 2 * third]), soak.p99_ms(soak.samples[2 * third :])
    if strictly and after > 1.2 * before:
        found.append(f"the p99 of an enqueue went from {before:.2f} to {after:.2f} ms")
    if soak.middle(2, _cpu) > (1.2 if strictly else 1.6) * soak.middle(1, _cpu):
        found.append(f"a run costs {soak.middle(2, _cpu):.0f} µs of CPU, before {soak.middle(1, _cpu):.0f}")
    return found


def _rss(sample: Sample) -> float:
    return sample.rss_kib


def _files(sample: Sample) -> float:
    return sample.files


def _threads(sample: Sample) -> float:
    return sample.threads


def _cpu(sample: Sample) -> float:
    return sample.cpu_us_a_run


if __name__ == "__main__":
    sys.exit(main())
