"""Log lines on disk: `tako-20261123.jsonl`, one JSON object a line, rotated by day and size, removed by age and sum.

A full disk must not stop the engine: a line that cannot be written is counted, the next one tries again, and the
first that succeeds says how many are missing.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from tako.logs import hub
from tako.logs.filters import EVERYTHING, Filter
from tako.protocol.messages import LogLine

MAX_FILE_BYTES = 10_000_000
MAX_TOTAL_BYTES = 200_000_000
MAX_AGE_DAYS = 14

_NAME = re.compile(r"tako-(\d{8})(?:\.(\d+))?\.jsonl", re.ASCII)
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=str).encode


class LogFiles:
    """Append lines to the file of their day. Made for one process, which holds the folder's lock."""

    def __init__(
        self,
        folder: Path,
        *,
        max_file_bytes: int = MAX_FILE_BYTES,
        max_total_bytes: int = MAX_TOTAL_BYTES,
        max_age_days: int = MAX_AGE_DAYS,
    ) -> None:
        self.folder = folder
        self.lost = 0  # lines that could not be written since the last one that was
        self._max_file_bytes = max_file_bytes
        self._max_total_bytes = max_total_bytes
        self._max_age_days = max_age_days
        self._fd = -1
        self._day = ""
        self._bytes = 0
        self._torn = False  # the file may end in the middle of a line

    def write(self, line: LogLine) -> None:
        """Append the line. Never raises: what cannot be written is counted in `lost`."""
        try:
            if self.lost:
                self._append(_lost_notice(self.lost, ts_ms=line["ts_ms"]))
                self.lost = 0
            self._append(line)
        except (OSError, ValueError):
            # ValueError: text that is no text (lone surrogates are handled below, a circular field is not).
            self.lost += 1

    def close(self) -> None:
        """Close the file. Twice is harmless; a later write opens it again."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._day = -1, ""

    def _append(self, line: LogLine) -> None:
        data = _encode(line).encode("utf-8", "backslashreplace") + b"\n"
        day = time.strftime("%Y%m%d", time.gmtime(line["ts_ms"] / 1000))
        if day != self._day or self._bytes + len(data) > self._max_file_bytes:
            self._open(day, need=len(data))
        if self._torn:
            data = b"\n" + data  # the half line stays alone and is skipped by readers
        self._torn = True
        written = os.write(self._fd, data)
        self._bytes += written
        if written < len(data):
            raise OSError("the line was written in part")
        self._torn = False

    def _open(self, day: str, *, need: int) -> None:
        self.close()
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        number = max((number for _, (found, number) in _files(self.folder) if found == day), default=0)
        path = _path(self.folder, day, number)
        if path.exists() and path.stat().st_size + need > self._max_file_bytes:
            path = _path(self.folder, day, number + 1)
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._day, self._bytes = day, os.fstat(self._fd).st_size
        self._torn = self._bytes > 0 and not _ends_a_line(path)
        self._prune(day, keep=path)

    def _prune(self, today: str, *, keep: Path) -> None:
        """Remove files that are too old, then the oldest until the sum fits. The one being written always stays."""
        oldest = _days_before(today, self._max_age_days)
        total = 0
        for path, (day, _number) in reversed(_files(self.folder)):
            total += path.stat().st_size
            if path != keep and (day < oldest or total > self._max_total_bytes):
                path.unlink(missing_ok=True)


def read(
    folder: Path,
    wanted: Filter = EVERYTHING,
    *,
    limit: int,
    since_ms: int = 0,
    max_files: int | None = None,
) -> list[LogLine]:
    """The newest lines in the folder's files that pass the filter, oldest first. Damaged lines are skipped.

    Not more than `max_files` are read, and none that is older than one that begins before `since_ms`.
    """
    found: deque[LogLine] = deque()
    for path, _ in list(reversed(_files(folder)))[:max_files]:
        newest: deque[LogLine] = deque(maxlen=limit)
        begins_earlier = False
        for line in _lines(path):
            if line["ts_ms"] < since_ms:
                begins_earlier = True
            elif wanted.wants(line):
                newest.append(line)
        while newest and len(found) < limit:
            found.appendleft(newest.pop())
        if begins_earlier or len(found) >= limit:
            break
    return list(found)


def positions(folder: Path, spools: set[str]) -> dict[str, int]:
    """How far these spools have been kept here, by name: the newest line of each tells.

    Reads from the newest file back, and no further than all are found.
    """
    found: dict[str, int] = {}
    for path, _ in reversed(_files(folder)):
        for line in _lines(path):
            if (spool := line.get("spool")) is not None and spool in spools:
                found[spool] = max(found.get(spool, 0), line.get("at", 0))
        if spools <= found.keys():
            break
    return found


def last_crash(folder: Path, *, group: str | None = None, limit: int = 200) -> list[LogLine]:
    """The last lines of the worker that crashed last, as `Hub.last_crash`; looks through all files."""
    for path, _ in reversed(_files(folder)):
        if found := hub.crash_lines(list(_lines(path)), group=group, limit=limit):
            return found
    return []


def _lost_notice(count: int, *, ts_ms: int) -> LogLine:
    return {
        "ts_ms": ts_ms,
        "level": "error",
        "scope": "tako",
        "message": f"{count} log lines could not be written to this file (disk full?) and are not in it",
        "fields": {"dropped": count},
    }


def _lines(path: Path) -> Iterator[LogLine]:
    with path.open("rb") as file:
        for raw in file:
            try:
                line = json.loads(raw)
            except (ValueError, RecursionError):
                continue
            if isinstance(line, dict) and {"ts_ms", "level", "scope", "message"} <= line.keys():
                yield line  # type: ignore[misc]


def _files(folder: Path) -> list[tuple[Path, tuple[str, int]]]:
    """The log files, oldest first, with day and number."""
    if not folder.is_dir():
        return []
    named = ((path, _NAME.fullmatch(path.name)) for path in folder.iterdir())
    found = [(path, (match[1], int(match[2] or 0))) for path, match in named if match]
    return sorted(found, key=lambda entry: entry[1])


def _path(folder: Path, day: str, number: int) -> Path:
    return folder / (f"tako-{day}.{number}.jsonl" if number else f"tako-{day}.jsonl")


def _ends_a_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def _days_before(day: str, days: int) -> str:
    then = time.mktime(time.strptime(day, "%Y%m%d")) - (days - 0.5) * 86_400  # half a day: summer time moves midnight
    return time.strftime("%Y%m%d", time.localtime(then))
