"""Times, sizes and texts as a page shows them. What users' code said is made harmless here: no control characters,
no marks that turn the direction of text round."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from tako.logs import render

ENDED = frozenset({"succeeded", "cancelled", "dead"})
# A longer value is cut; the whole of it can be fetched as text.
SHOWN_CHARS = 20_000


def clean(text: object) -> str:
    """On one line, with every character that acts on the reader's screen made visible."""
    return render.clean(str(text))


def lines(text: object) -> str:
    """The text's own lines, each of them clean."""
    return "\n".join(render.clean_lines(str(text)))


def first_line(text: object) -> str:
    """Its first line."""
    return render.clean_lines(str(text) or " ")[0]


def span(ms: float | None) -> str:
    """A length of time in one or two units: "840 ms", "12.4 s", "3 min 20 s", "2 d 4 h"."""
    if ms is None:
        return ""
    if ms < 1:
        return f"{ms * 1000:.0f} µs" if ms > 0 else "0 ms"
    if ms < 1_000:
        return f"{ms:.0f} ms" if ms >= 10 or ms == int(ms) else f"{ms:.1f} ms"
    if ms < 60_000:
        return f"{ms / 1000:.1f} s" if ms < 10_000 else f"{ms / 1000:.0f} s"
    for size, unit, part, small in ((86_400_000, "d", 3_600_000, "h"), (3_600_000, "h", 60_000, "min")):
        if ms >= size:
            rest = int(ms % size // part)
            return f"{int(ms // size)} {unit}" + (f" {rest} {small}" if rest else "")
    rest = int(ms % 60_000 // 1000)
    return f"{int(ms // 60_000)} min" + (f" {rest} s" if rest else "")


def rough(ms: float) -> str:
    """A length of time in its largest unit."""
    for size, unit in ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s")):
        if ms >= size:
            return f"{int(ms // size)} {unit}"
    return f"{int(ms)} ms"


def ago(at_ms: int, now_ms: int) -> str:
    """How long ago, or in how long: the script of the page says it in the same words as time goes on."""
    distance = abs(now_ms - at_ms)
    if distance < 1_000:
        return "now"
    return f"{rough(distance)} ago" if at_ms <= now_ms else f"in {rough(distance)}"


def iso(at_ms: int) -> str:
    """For programs, and for the script, which knows the reader's zone."""
    return datetime.fromtimestamp(at_ms / 1000, tz=UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def when(at_ms: int) -> str:
    """A time in this machine's zone."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at_ms / 1000))


def clock(at_ms: int) -> str:
    """The time of day in this machine's zone."""
    return time.strftime("%H:%M:%S", time.localtime(at_ms / 1000))


def number(n: float) -> str:
    """With thousands kept apart by a narrow space."""
    return f"{n:,.0f}".replace(",", "\u202f")


def size(n: int) -> str:
    """Bytes in the unit that fits."""
    for unit, factor in (("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1_000)):
        if n >= factor:
            return f"{n / factor:.1f} {unit}"
    return f"{n} bytes"


def pretty(text: str) -> str:
    """A JSON text, indented; a damaged one as it is, so that it can be seen."""
    try:
        return lines(json.dumps(json.loads(text), indent=2, ensure_ascii=False))
    except (ValueError, RecursionError):
        return lines(text)


def took_ms(run: Mapping[str, Any], now_ms: int) -> int | None:
    """How long a run has taken since its first claim, or takes already."""
    if run["started_ms"] is None:
        return None
    started: int = run["started_ms"]
    ended: int = run["ended_ms"] if run["ended_ms"] is not None else now_ms
    return max(0, ended - started)


FILTERS = {
    "clean": clean, "lines": lines, "first_line": first_line, "span": span, "ago": ago, "iso": iso, "when": when,
    "clock": clock, "number": number, "size": size, "pretty": pretty, "short_id": render.short_id,
}  # fmt: skip
