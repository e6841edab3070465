"""Charts as shapes: what the ring holds, made into paths for SVG, with texts for those who hear instead of see. Pure.

A chart's picture is `WIDTH` by `HEIGHT` units and is stretched to whatever room the page has; texts stand beside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tako.dashboard import shown
from tako.metrics.instruments import SECONDS, quantile
from tako.metrics.ring import Ring, Sample

WIDTH, HEIGHT = 600.0, 120.0


@dataclass(frozen=True, slots=True)
class Range:
    """How far a chart looks back: `count` steps of `step_ms`."""

    name: str
    words: str
    step_ms: int
    count: int
    begin: str


RANGES = {
    "5m": Range("5m", "5 minutes", 5_000, 60, "−5 min"),
    "1h": Range("1h", "1 hour", 60_000, 60, "−1 h"),
    "24h": Range("24h", "24 hours", 1_200_000, 72, "−24 h"),
}


@dataclass(slots=True)
class Chart:
    """A picture and what stands around it. `shapes`: class and path. `columns`: x, width and text of each step."""

    title: str
    now: str
    top: str
    middle: str
    summary: str
    shapes: list[tuple[str, str]] = field(default_factory=list)
    columns: list[tuple[float, float, str]] = field(default_factory=list)
    legend: list[tuple[str, str]] = field(default_factory=list)
    is_empty: bool = False


def charts(ring: Ring, wanted: Range, *, now_ms: int, depth: int) -> list[Chart]:
    """Throughput, latency, length of the queue and age of its oldest run. `depth` is the queue's length now."""
    samples = ring.last(now_ms=now_ms, step_ms=wanted.step_ms, count=wanted.count)
    return [
        _throughput(samples, wanted),
        _latency(samples, wanted),
        _depth(samples, wanted, depth=depth),
        _age(samples, wanted, now_ms=now_ms),
    ]


def _throughput(samples: Sequence[Sample], wanted: Range) -> Chart:
    step_s = wanted.step_ms / 1000
    ended = [sample.succeeded + sample.cancelled + sample.dead for sample in samples]
    per, unit = (1.0, "/s") if max(ended) / step_s >= 1 else (60.0, "/min")
    top = nice(max(ended) / step_s * per)
    scale = per / step_s

    def rate(n: float) -> str:
        return f"{_short(n * scale)}{unit}"

    chart = Chart(
        "Throughput", rate(ended[-2] if len(ended) > 1 else ended[-1]), f"{_short(top)}{unit}", _short(top / 2),
        f"{sum(ended)} runs ended in the last {wanted.words}, {sum(sample.dead for sample in samples)} of them dead."
        if any(ended) else "No run ended.",
        legend=[("succeeded", "succeeded"), ("dead", "dead"), ("cancelled", "cancelled")],
        is_empty=not any(ended),
    )  # fmt: skip
    layers = (("cancelled", [sample.cancelled for sample in samples]), ("dead", [sample.dead for sample in samples]))
    base = [0.0] * len(samples)
    for kind, values in (*layers, ("succeeded", [sample.succeeded for sample in samples])):
        heights = [value * scale / top * HEIGHT for value in values]
        chart.shapes.append((f"bar {kind}", _bars(base, heights)))
        base = [below + height for below, height in zip(base, heights, strict=True)]
    chart.columns = _columns(samples, lambda s: f"{rate(s.succeeded + s.cancelled + s.dead)}, {s.dead} dead")
    return chart


def _latency(samples: Sequence[Sample], wanted: Range) -> Chart:
    of = {q: [quantile(SECONDS, sample.waits, q) for sample in samples] for q in (0.5, 0.95)}
    known = [value for values in of.values() for value in values if value is not None]
    top = nice(max(known, default=0.0) * 1000) or 1.0
    every = [sum(column) for column in zip(*(sample.waits for sample in samples), strict=True)]
    median, high = quantile(SECONDS, every, 0.5), quantile(SECONDS, every, 0.95)
    chart = Chart(
        "Latency", "–" if median is None else _ms(median), shown.span(top), shown.span(top / 2),
        "No run was claimed." if median is None or high is None else
        f"From due to claimed in the last {wanted.words}: half within {_ms(median)}, 95 % within {_ms(high)}.",
        legend=[("p50", "half"), ("p95", "95 %")],
        is_empty=not known,
    )  # fmt: skip
    for kind, values in (("p95", of[0.95]), ("p50", of[0.5])):
        heights = [None if value is None else value * 1000 / top * HEIGHT for value in values]
        chart.shapes.append((f"line {kind}", _line(heights)))
    chart.columns = _columns(samples, _latency_words)
    return chart


def _latency_words(sample: Sample) -> str:
    median, high = quantile(SECONDS, sample.waits, 0.5), quantile(SECONDS, sample.waits, 0.95)
    if median is None or high is None:
        return "no run was claimed"
    return f"half within {_ms(median)}, 95 % within {_ms(high)} ({sample.claimed} claimed)"


def _depth(samples: Sequence[Sample], wanted: Range, *, depth: int) -> Chart:
    values = [float(sample.depth) for sample in samples]
    values[-1] = float(depth)
    top = nice(max(values))
    chart = Chart(
        "Queue", shown.number(depth), _short(top), _short(top / 2),
        f"{depth} runs are due and wait for a worker; at most {max(values):.0f} in the last {wanted.words}."
        if any(values) else "No run waited.",
        is_empty=not any(values),
    )  # fmt: skip
    chart.shapes.append(("area depth", _area([value / top * HEIGHT for value in values])))
    texts = [f"{shown.number(value)} waiting" for value in values]
    chart.columns = [(x, w, f"{at}: {text}") for (x, w, at), text in zip(_places(samples), texts, strict=True)]
    return chart


def _age(samples: Sequence[Sample], wanted: Range, *, now_ms: int) -> Chart:
    ends = [min(sample.at_ms + wanted.step_ms, now_ms) for sample in samples]
    values = [
        0.0 if sample.oldest_due_ms is None or not sample.depth else max(0.0, end - sample.oldest_due_ms)
        for sample, end in zip(samples, ends, strict=True)
    ]
    top = nice(max(values) / 1000) * 1000
    chart = Chart(
        "Oldest waiting", shown.span(values[-1]) if values[-1] else "–", shown.span(top), shown.span(top / 2),
        f"The run that has been due longest waits for {shown.span(values[-1])}." if values[-1] else "No run waits.",
        is_empty=not any(values),
    )  # fmt: skip
    chart.shapes.append(("area age", _area([value / top * HEIGHT for value in values])))
    chart.columns = [
        (x, w, f"{at}: {shown.span(value)}") for (x, w, at), value in zip(_places(samples), values, strict=True)
    ]
    return chart


# --- shapes ---------------------------------------------------------------------------------------------------------


def nice(top: float) -> float:
    """The next larger of 1, 2, 4, 6, 8 or 10 times a power of ten, so that the half of it is round, too."""
    if top <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(top))
    return next(step * power for step in (1, 2, 4, 6, 8, 10) if top <= step * power * (1 + 1e-9))


def _short(value: float) -> str:
    if value >= 10_000:
        return f"{value / 1000:.0f}k"
    return f"{value:.0f}" if value >= 10 or value == int(value) else f"{value:.1f}"


def _ms(seconds: float) -> str:
    return shown.span(seconds * 1000)


def _bars(base: Sequence[float], heights: Sequence[float]) -> str:
    wide = WIDTH / len(heights)
    gap = min(1.5, wide * 0.2)
    return "".join(
        f"M{i * wide + gap / 2:.1f} {HEIGHT - below:.2f}h{wide - gap:.1f}v{-height:.2f}h{gap - wide:.1f}z"
        for i, (below, height) in enumerate(zip(base, heights, strict=True))
        if height > 0
    )


def _line(heights: Sequence[float | None]) -> str:
    """Points joined where they follow each other; one that stands alone is a short dash."""
    wide = WIDTH / len(heights)
    parts = []
    for i, height in enumerate(heights):
        if height is None:
            continue
        x, y = i * wide + wide / 2, HEIGHT - height
        if i and heights[i - 1] is not None:
            parts.append(f"L{x:.1f} {y:.2f}")
        else:
            parts.append(f"M{x - wide / 4:.1f} {y:.2f}H{x + wide / 4:.1f}")
    return "".join(parts)


def _area(heights: Sequence[float]) -> str:
    if not any(heights):
        return ""
    wide = WIDTH / len(heights)
    steps = "".join(f"V{HEIGHT - height:.2f}H{(i + 1) * wide:.1f}" for i, height in enumerate(heights))
    return f"M0 {HEIGHT:g}{steps}V{HEIGHT:g}z"


def _places(samples: Sequence[Sample]) -> list[tuple[float, float, str]]:
    wide = WIDTH / len(samples)
    return [(round(i * wide, 1), round(wide, 1), shown.clock(sample.at_ms)) for i, sample in enumerate(samples)]


def _columns(samples: Sequence[Sample], words: Callable[[Sample], str]) -> list[tuple[float, float, str]]:
    return [(x, w, f"{at}: {words(s)}") for (x, w, at), s in zip(_places(samples), samples, strict=True)]
