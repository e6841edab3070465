"""Figures as a table: name, median, spread, unit."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

# How each kind of figure is read. The first beginning that fits counts.
UNITS = {
    "enqueue": "/s",
    "drain": "/s",
    "warm": "ms",
    "cold": "ms",
    "recovery": "ms",
    "fsync": "ms",
    "at rest, CPU": "s",
    "at rest, memory": "MB",
}


def unit(name: str) -> str:
    """`/s`, `ms`, `s` or `MB`."""
    return next(unit for beginning, unit in UNITS.items() if name.startswith(beginning))


def is_rate(name: str) -> bool:
    """Whether more is better."""
    return unit(name) == "/s"


def shown(value: float) -> str:
    """With three digits that mean something."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def rows(figures: Mapping[str, Sequence[float]]) -> list[list[str]]:
    """For each figure its name, median with unit, and what the rounds lay between."""
    return [
        [name, f"{shown(statistics.median(found))} {unit(name)}", f"{shown(min(found))} to {shown(max(found))}"]
        for name, found in figures.items()
    ]
