"""Durations as `tako.toml` writes them: "90s", "10m", "1h30m", "7d"."""

import re

UNIT_MS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
MAX_MS = 3650 * UNIT_MS["d"]

_PART = re.compile(r"(\d{1,15})(ms|[dhms])", re.ASCII)


def parse_ms(text: str) -> int | None:
    """The milliseconds that `text` says, or None when it is none: empty, zero, over ten years, a unit twice.

    Units stand from the largest to the smallest, so that "1m30s" has one reading.
    """
    units = list(UNIT_MS)
    total = position = 0
    for part in _PART.finditer(text):
        number, unit = part.groups()
        if part.start() != position or unit not in units:
            return None
        units = units[units.index(unit) + 1 :]
        total += int(number) * UNIT_MS[unit]
        position = part.end()
    return total if position == len(text) and 0 < total <= MAX_MS else None


def text(seconds: float) -> str:
    """The shortest text that `parse_ms` reads as this many seconds."""
    left = round(seconds * 1000)
    parts = []
    for unit, size in UNIT_MS.items():
        number, left = divmod(left, size)
        if number:
            parts.append(f"{number}{unit}")
    return "".join(parts)
