"""A run's life as a picture: its attempts and steps as bars over time. Pure.

A run that sleeps for six days between steps of milliseconds would be six days of nothing. So time in which nothing of
it was executed is drawn no longer than a fraction of the rest, and is marked as shortened.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tako.dashboard import shown

# An idle time is drawn as at most this fraction of all busy time, and at least this much of it is left to be seen.
IDLE_SHARE = 0.25
MIN_WIDTH = 0.4

Span = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Bar:
    """One row: `kind` is its class, `left` and `width` are percent of the picture."""

    label: str
    kind: str
    left: float
    width: float
    took: str
    title: str
    is_attempt: bool = False


@dataclass(frozen=True, slots=True)
class Timeline:
    """The rows, the marks of the axis (percent, text), and the shortened times (left, width, text)."""

    bars: list[Bar]
    marks: list[tuple[float, str]]
    breaks: list[tuple[float, float, str]]


def timeline(run: Mapping[str, Any], *, now_ms: int) -> Timeline:
    """The picture of a run with its steps and attempts, as `get_run` tells of them."""
    end_ms = run["ended_ms"] or now_ms
    rows = sorted(_rows(run, end_ms=end_ms), key=lambda row: (row[2], _RANK.get(row[1].split(" ")[0], 2)))
    if not rows:
        return Timeline([], [], [])
    begin = min(run["created_ms"], *(row[2] for row in rows))
    end = max(end_ms, *(row[3] for row in rows), begin + 1)
    scale = _Scale(begin, end, busy=_busy(rows))
    bars = [_bar(row, scale, begin) for row in rows]
    return Timeline(bars, scale.marks(), scale.breaks())


_RANK = {"queued": 0, "attempt": 1}  # of rows that begin together

# A row: label, kind, from, to, words.
_Row = tuple[str, str, float, float, str]


def _rows(run: Mapping[str, Any], *, end_ms: float) -> list[_Row]:
    first_ms = run["started_ms"] if run["started_ms"] is not None else end_ms
    due_ms = min(max(run["created_ms"], run["scheduled_for_ms"] or 0), first_ms)
    rows: list[_Row] = [("queued", "queued", due_ms, first_ms, "from its enqueue to its first claim")]
    for attempt in run.get("attempts", ()):
        name = f"attempt {attempt['attempt']}"
        rows.append(
            (name, f"attempt {attempt['outcome']}", attempt["started_ms"], attempt["ended_ms"], attempt["outcome"])
        )
    if run.get("attempt_ms") is not None and run["ended_ms"] is None:
        kind = "running" if run["status"] == "running" else "open"
        rows.append((f"attempt {run['attempt']}", f"attempt {kind}", run["attempt_ms"], end_ms, run["status"]))
    for step in run.get("steps", ()):
        started = step["started_ms"] if step["started_ms"] is not None else step["ended_ms"]
        kind = "child" if step.get("child_id") else step["status"]
        rows.append((shown.clean(step["name"]), f"step {kind}", started, step["ended_ms"], step["status"]))
    if (waiting := run.get("waiting")) and (since := _parked_since(run)) is not None:
        words = "waits for children" if "runs" in waiting else "waits for a signal" if waiting["signal"] else "sleeps"
        rows.append((shown.clean(waiting["step"]), "step parked", since, end_ms, words))
    return rows


def _parked_since(run: Mapping[str, Any]) -> float | None:
    known: float | None = (run.get("waiting") or {}).get("since_ms")
    return known


def _busy(rows: Sequence[_Row]) -> list[Span]:
    """When something was executed: attempts without what they slept or waited for, and steps."""
    spans = [(start, end) for _, kind, start, end, _ in rows if kind in ("step succeeded", "step child")]
    idle = [(start, end) for _, kind, start, end, _ in rows if kind in _IDLE]
    for _, kind, start, end, _ in rows:
        if kind.startswith("attempt "):
            spans += _without((start, end), idle)
    return _merged(spans)


_IDLE = ("step slept", "step received", "step timed_out", "step parked")


def _without(span: Span, holes: Sequence[Span]) -> list[Span]:
    left = [span]
    for start, end in holes:
        left = [
            part
            for begin, stop in left
            for part in ((begin, min(stop, start)), (max(begin, end), stop))
            if part[1] > part[0]
        ]
    return left


def _merged(spans: Sequence[Span]) -> list[Span]:
    found: list[Span] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return found


class _Scale:
    """From a time to a place in percent: busy times at one pace, idle ones shortened where they are long."""

    def __init__(self, begin: float, end: float, *, busy: Sequence[Span]) -> None:
        self._pieces: list[tuple[float, float, float, bool]] = []  # from, to, drawn length, shortened
        longest = IDLE_SHARE * sum(stop - start for start, stop in busy) or end - begin
        at = begin
        for start, stop in [*busy, (end, end)]:
            if start > at:
                self._pieces.append((at, start, min(start - at, longest), start - at > longest * 1.5))
            if stop > start:
                self._pieces.append((start, stop, stop - start, False))
            at = max(at, stop)
        self._total = sum(piece[2] for piece in self._pieces) or 1.0
        self._begin = begin

    def place(self, at: float) -> float:
        drawn = 0.0
        for start, stop, length, _ in self._pieces:
            if at < stop:
                return 100 * (drawn + length * max(0.0, at - start) / (stop - start)) / self._total
            drawn += length
        return 100.0

    def breaks(self) -> list[tuple[float, float, str]]:
        return [
            (self.place(start), self.place(stop) - self.place(start), shown.span(stop - start))
            for start, stop, _, is_short in self._pieces
            if is_short
        ]

    def marks(self) -> list[tuple[float, str]]:
        """The time since the beginning, at quarters of the picture."""
        places = (25.0, 50.0, 75.0)
        times = [self._time(at) - self._begin for at in places]
        words = [shown.span(round(time_ms)) for time_ms in times]
        if len(set(words)) < len(words):  # after a shortened time: the same second thrice
            words = [f"{time_ms / 1000:.2f} s" for time_ms in times]
        return [(0.0, "0"), *((at, f"+{word}") for at, word in zip(places, words, strict=True))]

    def _time(self, place: float) -> float:
        left = place / 100 * self._total
        for start, stop, length, _ in self._pieces:
            if left <= length and length:
                return start + (stop - start) * left / length
            left -= length
        return self._begin


def _bar(row: _Row, scale: _Scale, begin: float) -> Bar:
    label, kind, start, end, words = row
    left = scale.place(start)
    width = max(MIN_WIDTH, scale.place(end) - left)
    took = shown.span(end - start)
    title = f"{label}: {words}, {took}, from +{shown.span(start - begin)}"
    return Bar(
        label, kind, round(min(left, 100 - MIN_WIDTH), 3), round(width, 3), took, title, kind.startswith("attempt")
    )
