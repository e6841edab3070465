"""A printed line as a line of the log: JSON with `msg` is taken as structured, all else is text."""

from __future__ import annotations

import json
from typing import Any, cast

from tako.protocol import framing
from tako.protocol.messages import LogLine

LEVELS = {"debug", "info", "warning", "error"}
LATEST_MS = 253_402_300_800_000  # the year 10000, which no calendar of Python's has
KNOWN = ("run_id", "workflow", "step")


def parse(
    line: str, *, now_ms: int, scope: str, pid: int, group: str | None = None, release: str | None = None
) -> LogLine:
    """The line that a process of ours has printed. Never raises: what is not ours is text."""
    found: dict[str, Any] = {"ts_ms": now_ms, "level": "info", "scope": scope, "message": line, "pid": pid}
    if group is not None:
        found["group"] = group
    if release is not None:
        found["release"] = release
    if line.startswith("{") and line.endswith("}"):
        try:
            told = json.loads(line)
        except (ValueError, RecursionError):
            told = {}
        if framing.is_deeper(told, framing.MAX_DEPTH):
            told = {}  # nobody could write it down again
        if isinstance(told, dict) and isinstance(told.get("msg"), str):
            _take(found, told)
    return cast(LogLine, found)


def _take(found: dict[str, Any], told: dict[str, Any]) -> None:
    found["message"] = told.pop("msg")
    level = str(told.pop("level", "info")).lower()
    found["level"] = level if level in LEVELS else "info"
    if type(ts_ms := told.pop("ts_ms", None)) is int and 0 <= ts_ms < LATEST_MS:
        found["ts_ms"] = ts_ms
    for name in KNOWN:
        if isinstance(value := told.pop(name, None), str):
            found[name] = value
    if isinstance(trace := told.pop("traceback", None), str):
        found["message"] += "\n" + trace.rstrip("\n")
    if told:
        found["fields"] = told
