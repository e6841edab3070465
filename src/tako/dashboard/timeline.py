"""A run's life as a picture: its attempts, steps and children as bars over time. Pure.

A run that sleeps for six days between steps of milliseconds would be six days of nothing. So time in which nothing of
it was executed is drawn no longer than a fraction of the rest, and is marked as shortened; where children were
executed, it is given more room, so that they can be told apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from tako.dashboard import shown

# An idle time is drawn as at most this fraction of all busy time, and at least this much of it is left to be seen.
IDLE_SHARE = 0.25
CHILDREN_SHARE = 9.0  # the same, where children are under way
MIN_WIDTH = 0.4

Span = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Bar:
    """One row: `kind` is its class, `left` and `width` are percent of the picture. `child`: the run that it shows."""

    label: str
    kind: str
    left: float
    width: float
    took: str
    title: str
    is_attempt: bool = False
    child: str | None = None


@dataclass(frozen=True, slots=True)
class Timeline:
    """The rows, the marks of the axis (percent, text), and the shortened times (left, width, text)."""

    bars: list[Bar]
    marks: list[tuple[float, str]]
    breaks: list[tuple[float, float, str]]


def timeline(run: Mapping[str, Any], *, now_ms: int, children: Sequence[Mapping[str, Any]] = ()) -> Timeline:
    """The picture of a run with its steps and attempts, as `get_run` tells of them. A child that is not among
    `children` is drawn as the step that started it."""
    end_ms = run["ended_ms"] or now_ms
    known = {child["id"]: child for child in children}
    rows = sorted(
        _rows(run, known, end_ms=end_ms, now_ms=now_ms),
        key=lambda row: (row.start, _RANK.get(row.kind.split(" ")[0], 2)),
    )
    if not rows:
        return Timeline([], [], [])
    begin = min(run["created_ms"], *(row.start for row in rows))
    end = max(end_ms, *(row.end for row in rows), begin + 1)
    scale = _Scale(begin, end, busy=_busy(rows), with_children=[(row.start, row.end) for row in rows if row.child])
    bars = [_bar(row, scale, begin) for row in rows]
    return Timeline(bars, scale.marks(), scale.breaks())


_RANK = {"queued": 0, "attempt": 1}  # of rows that begin together


class _Row(NamedTuple):
    label: str
    kind: str
    start: float
    end: float
    words: str
    child: str | None = None


def _rows(
    run: Mapping[str, Any], children: Mapping[str, Mapping[str, Any]], *, end_ms: float, now_ms: float
) -> list[_Row]:
    first_ms = run["started_ms"] if run["started_ms"] is not None else end_ms
    due_ms = min(max(run["created_ms"], run["scheduled_for_ms"] or 0), first_ms)
    rows = [_Row("queued", "queued", due_ms, first_ms, "from its enqueue to its first claim")]
    for attempt in run.get("attempts", ()):
        name = f"attempt {attempt['attempt']}"
        outcome = attempt["outcome"]
        rows.append(_Row(name, f"attempt {outcome}", attempt["started_ms"], attempt["ended_ms"], outcome))
    if run.get("attempt_ms") is not None and run["ended_ms"] is None:
        kind = "running" if run["status"] == "running" else "open"
        rows.append(_Row(f"attempt {run['attempt']}", f"attempt {kind}", run["attempt_ms"], end_ms, run["status"]))
    for step in run.get("steps", ()):
        started = step["started_ms"] if step["started_ms"] is not None else step["ended_ms"]
        name, child_id = shown.clean(step["name"]), step.get("child_id")
        if child := children.get(child_id):
            ended = child["ended_ms"] if child["ended_ms"] is not None else now_ms
            words = f"the child {shown.clean(child['workflow'])}, {child['status']}"
            rows.append(_Row(name, f"step child {child['status']}", started, max(started, ended), words, child_id))
        else:
            kind = "child" if child_id else step["status"]
            rows.append(_Row(name, f"step {kind}", started, step["ended_ms"], step["status"], child_id))
    if (waiting := run.get("waiting")) and (since := _parked_since(run)) is not None:
        words = "waits for children" if "runs" in waiting else "waits for a signal" if waiting["signal"] else "sleeps"
        rows.append(_Row(shown.clean(waiting["step"]), "step parked", since, end_ms, words))
    return rows


def _parked_since(run: Mapping[str, Any]) -> float | None:
    known: float | None = (run.get("waiting") or {}).get("since_ms")
    return known


def _busy(rows: Sequence[_Row]) -> list[Span]:
    """When something of it was executed: its steps, and attempts without what they slept or waited for. While children
    are under way, their parent is taken to wait for them."""
    spans = [(row.start, row.end) for row in rows if row.kind in ("step succeeded", "step child")]
    idle = [(row.start, row.end) for row in rows if row.kind in _IDLE or row.child]
    for row in rows:
        if row.kind.startswith("attempt "):
            spans += _without((row.start, row.end), idle)
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

    def __init__(self, begin: float, end: float, *, busy: Sequence[Span], with_children: Sequence[Span]) -> None:
        self._pieces: list[tuple[float, float, float, bool]] = []  # from, to, drawn length, shortened
        own = sum(stop - start for start, stop in busy)
        at = begin
        for start, stop in [*busy, (end, end)]:
            if start > at:
                is_lively = any(one < start and other > at for one, other in with_children)
                longest = (CHILDREN_SHARE if is_lively else IDLE_SHARE) * own or end - begin
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
    left = scale.place(row.start)
    width = max(MIN_WIDTH, scale.place(row.end) - left)
    took = shown.span(row.end - row.start)
    return Bar(
        row.label,
        row.kind,
        round(min(left, 100 - MIN_WIDTH), 3),
        round(width, 3),
        took,
        title=f"{row.label}: {row.words}, {took}, from +{shown.span(row.start - begin)}",
        is_attempt=row.kind.startswith("attempt"),
        child=row.child,
    )
