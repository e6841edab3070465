"""Rounds: each subject in turn measures each workload, A B A B, so that a drift of the machine meets all of them."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from benchmarks.subjects import FLOOR, OTHERS, Other, Sizes, Tako
from tako.bench import machine
from tako.errors import TakoError

# Figure to what must be beaten, and by how much: speed.md's ratios. `durable` says whether only those that sync count.
GOALS: dict[str, tuple[str, float]] = {
    "enqueue, 32 callers": ("durable", 4.0),
    "drain, no step": ("durable", 1.5),
    "drain, 1 step": ("durable", 7.0),
    "drain, 3 steps": ("durable", 3.5),
}

Samples = dict[str, list[float]]


def compare(names: Sequence[str], *, workloads: Sequence[str], rounds: int, sizes: Sizes) -> dict[str, Any]:
    """Measure, and return the document that is written into `results/`."""
    document: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine.described(),
        "disk": machine.fsync_ms(),
        "subjects": {name: {"figures": {}} for name in names},
    }
    for number in range(rounds):
        for name in names:
            _say(f"round {number + 1} of {rounds}: {name}…")
            try:
                _measure(document["subjects"][name], name, workloads, sizes)
            except (RuntimeError, OSError, subprocess.SubprocessError, TakoError) as error:
                # What is wrong with one of them costs its figures only.
                document["subjects"][name].setdefault("failures", []).append(str(error))
                _say(f"{name} failed: {error}")
    document["machine"]["calibration_after_ms"] = round(machine.calibration_ms(), 1)
    return document


def joined(kept: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """The rounds of both, for a comparison made in pieces. The machine is that of the first, with every load."""
    machine, now = kept["machine"], more["machine"]
    machine["loads"] = [*machine.get("loads", [machine["load"]]), now["load"]]
    machine["calibration_after_ms"] = now["calibration_after_ms"]
    for name, subject in more["subjects"].items():
        mine = kept["subjects"].setdefault(name, {"figures": {}})
        mine.update({key: value for key, value in subject.items() if key != "figures"})
        for figure, found in subject["figures"].items():
            mine["figures"].setdefault(figure, []).extend(found)
    return kept


def _measure(found: dict[str, Any], name: str, workloads: Sequence[str], sizes: Sizes) -> None:
    with _ready(name, sizes) as subject:
        if "version" not in found:
            found.update(subject.info(), durable=subject.is_durable)
        for workload, measure in subject.workloads().items():
            if workload not in workloads:
                continue
            for figure, value in measure().items():
                found["figures"].setdefault(figure, []).append(value)


def _ready(name: str, sizes: Sizes) -> AbstractContextManager[Tako] | AbstractContextManager[Other]:
    return Tako.ready(sizes) if name == "tako" else Other.ready(OTHERS[name], sizes)


def median(document: dict[str, Any], name: str, figure: str) -> float | None:
    """None: it does not do that."""
    found: list[float] = document["subjects"][name]["figures"].get(figure, [])
    return statistics.median(found) if found else None


def best_other(
    document: dict[str, Any], figure: str, *, more_is_better: bool, durable: bool
) -> tuple[str, float] | None:
    """The best of the others, or of those of them that sync before they acknowledge."""
    found = [
        (name, value)
        for name, subject in document["subjects"].items()
        if name not in ("tako", FLOOR) and (subject.get("durable") or not durable)
        if (value := median(document, name, figure)) is not None
    ]
    if not found:
        return None
    return (max if more_is_better else min)(found, key=lambda each: each[1])


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
