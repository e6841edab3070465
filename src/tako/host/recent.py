"""What happened within the last day that a person may want to know of, although nothing is wrong any more. Pure."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime
from typing import Any

KEPT_MS = 24 * 3_600_000
MAX_KEPT = 200


@dataclass(slots=True)
class _Happening:
    kind: str
    what: str
    cure: str
    count: int
    first_ms: int
    last_ms: int


class Recent:
    """Happenings by subject: one that repeats is shown once, with how often."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, str], _Happening] = OrderedDict()

    def note(self, kind: str, subject: str, what: str, *, cure: str, now_ms: int) -> None:
        """Remember it for a day."""
        before = self._kept.pop((kind, subject), None)
        is_new = before is None or now_ms - before.last_ms > KEPT_MS
        first_ms, count = (now_ms, 0) if before is None or is_new else (before.first_ms, before.count)
        self._kept[(kind, subject)] = _Happening(kind, what, cure, count + 1, first_ms, now_ms)
        if len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)

    def problems(self, *, now_ms: int) -> list[dict[str, Any]]:
        """As `tako status` lists problems: warnings, the newest first."""
        for key in [key for key, found in self._kept.items() if now_ms - found.last_ms > KEPT_MS]:
            del self._kept[key]
        return [
            {"severity": "warning", "kind": found.kind, "what": f"{found.what} {_when(found)}", "cure": found.cure}
            for found in reversed(self._kept.values())
        ]


def _when(found: _Happening) -> str:
    if found.count == 1:
        return f"(at {_time(found.last_ms)})"
    return f"({found.count} times since {_time(found.first_ms)}, last at {_time(found.last_ms)})"


def _time(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000).strftime("%H:%M:%S")
