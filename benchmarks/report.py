"""A comparison as a table in Markdown: a row a figure, a column a subject, and how Tako stands to the best other."""

from __future__ import annotations

import statistics
from typing import Any

from benchmarks.compare import GOALS, best_other, median
from benchmarks.subjects import FLOOR
from tako.bench.table import is_rate, shown, unit


def table(document: dict[str, Any]) -> str:
    """Medians with what the rounds lay between; the last column is Tako to the best of those that sync."""
    names = list(document["subjects"])
    figures = [*dict.fromkeys(figure for name in names for figure in document["subjects"][name]["figures"])]
    head = ["", *names, "to the best durable other"]
    lines = [_row(head), _row(["---", *["--:"] * (len(head) - 1)])]
    for figure in figures:
        cells = [_cell(document["subjects"][name]["figures"].get(figure, [])) for name in names]
        lines.append(_row([f"{figure}, {unit(figure)}", *cells, _ratio(document, figure)]))
    lines += ["", *_about(document)]
    return "\n".join(lines)


def _cell(found: list[float]) -> str:
    if not found:
        return ""
    middle = f"**{shown(statistics.median(found))}**"
    return middle if len(found) == 1 else f"{middle} ({shown(min(found))} to {shown(max(found))})"


def _ratio(document: dict[str, Any], figure: str) -> str:
    ours = median(document, "tako", figure) if "tako" in document["subjects"] else None
    least = median(document, FLOOR, figure) if FLOOR in document["subjects"] else None
    to_floor = f"; {ours / least:.2f} × {FLOOR}" if ours is not None and least is not None else ""
    best = best_other(document, figure, more_is_better=is_rate(figure), durable=True)
    if ours is None or best is None:
        return to_floor.removeprefix("; ")
    name, theirs = best
    ratio = ours / theirs if is_rate(figure) else theirs / ours
    goal = GOALS.get(figure)
    asked = f", {goal[1]:g} wanted" if goal else ""
    return f"{ratio:.2f} × {name}{asked}{to_floor}"


def _about(document: dict[str, Any]) -> list[str]:
    machine, disk = document["machine"], document["disk"]
    loads = machine.get("loads", [machine["load"]])
    load = f"{min(loads)} to {max(loads)}" if len(loads) > 1 else f"{machine['load']}"
    lines = [
        f"{document['date']}, {machine['cores']} cores, {machine['system']}, Python {machine['python']}, load "
        f"{load} at the start; 200 SHA-256 of a megabyte took {machine['calibration_ms']} ms before and "
        f"{machine['calibration_after_ms']} ms after; a synced append of 4 KiB takes {shown(disk['fsync, p50'])} ms.",
        "",
    ]
    for name, subject in document["subjects"].items():
        failures = subject.get("failures", ())
        lines += [f"- {name} FAILED in a round: {failure.splitlines()[0]}" for failure in failures]
        if "version" not in subject:
            continue
        settings = f"; {subject['settings']}" if subject.get("settings") else ""
        synced = "durable" if subject["durable"] else "not durable against a power cut"
        lines.append(f"- {name} {subject['version']}, {subject['store']}: {subject['durability']} ({synced}){settings}")
    return lines


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
