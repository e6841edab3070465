"""The comparison as a picture: bars on a logarithmic scale, a panel a figure, as SVG without a dependency."""

from __future__ import annotations

import math
from html import escape
from typing import Any

from benchmarks.compare import median
from tako.bench.table import is_rate, shown, unit

PANELS = (
    "enqueue, 1 caller", "enqueue, 32 callers", "drain, no step", "drain, 1 step", "drain, 3 steps", "warm, p50",
    "cold start",
)  # fmt: skip
WIDTH, NAME, VALUE, BAR, GAP, TITLE, TOP = 760, 120, 90, 18, 6, 34, 14
STYLE = """
svg { font: 13px system-ui, sans-serif; background: #fff }
text { fill: #1f2328 } .title { font-weight: 600 } .note { fill: #656d76; font-weight: 400 }
.tako { fill: #d6336c } .durable { fill: #4c6ef5 } .other { fill: #adb5bd }
@media (prefers-color-scheme: dark) {
  svg { background: #0d1117 } text { fill: #e6edf3 } .note { fill: #8d96a0 }
  .durable { fill: #748ffc } .other { fill: #495057 }
}
"""
NOTE = "Logarithmic. Red: Tako, durable. Blue: durable. Grey: loses acknowledged work in a power cut."


def chart(document: dict[str, Any]) -> str:
    """An SVG that follows the reader's light or dark."""
    y, parts = TOP, []
    for figure in PANELS:
        panel, height = _panel(document, figure, y)
        parts += panel
        y += height
    y += TOP
    parts.append(f'<text class="note" x="{GAP}" y="{y}">{NOTE}</text>')
    head = f'<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 {WIDTH} {y + TOP}" width="{WIDTH}">'
    title = "<title>Tako and other systems on one machine</title>"
    return f"{head}{title}<style>{STYLE}</style>{''.join(parts)}</svg>\n"


def _panel(document: dict[str, Any], figure: str, y: int) -> tuple[list[str], int]:
    found = [(name, value) for name in document["subjects"] if (value := median(document, name, figure)) is not None]
    if not found:
        return [], 0
    found.sort(key=lambda each: each[1], reverse=is_rate(figure))
    low, high = min(value for _, value in found) / 2, max(value for _, value in found)
    better = "more is better" if is_rate(figure) else "less is better"
    words = f'{escape(figure)} <tspan class="note">{unit(figure)}, {better}</tspan>'
    parts = [f'<text class="title" x="{GAP}" y="{y + 16}">{words}</text>']
    room = WIDTH - NAME - VALUE
    for at, (name, value) in enumerate(found):
        top = y + TITLE - 8 + at * (BAR + GAP)
        length = max(2.0, room * math.log(value / low) / math.log(high / low))
        durable = document["subjects"][name]["durable"]
        colour = "tako" if name == "tako" else "durable" if durable else "other"
        parts.append(f'<text x="{GAP}" y="{top + 14}">{escape(name)}</text>')
        parts.append(f'<rect class="{colour}" x="{NAME}" y="{top}" width="{length:.1f}" height="{BAR}" rx="3"/>')
        parts.append(f'<text x="{NAME + length + GAP:.1f}" y="{top + 14}">{shown(value)}</text>')
    return parts, TITLE + len(found) * (BAR + GAP) + GAP
