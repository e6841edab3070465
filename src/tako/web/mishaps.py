"""What the app let fall: an exception that no endpoint caught, as one line of the log with its traceback.

uvicorn would print some sixty lines, most of them the way through the framework to the app's first frame. Those are
left out; from the app's first frame on everything stands there, but for our own.
"""

from __future__ import annotations

import json
import logging
import os
import traceback
from contextlib import suppress
from pathlib import Path

OURS = str(Path(__file__).parents[1]) + os.sep
_MAX_TRACEBACK = 16_384  # the daemon cuts a line at 64 KiB, and JSON can need three times the room

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class Mishaps(logging.Handler):
    """Tells what uvicorn logs, unless the app has set up logging itself: then it is the app's to tell."""

    def emit(self, record: logging.LogRecord) -> None:
        """One line on stdout."""
        if logging.root.handlers:
            return
        line = {"msg": record.getMessage().strip(), "level": record.levelname.lower()}
        if record.exc_info is not None and (error := record.exc_info[1]) is not None:
            line["msg"] = f"unhandled {type(error).__name__}"
            line["traceback"] = text(error)
        with suppress(OSError):  # the spool's disk is full: serving goes on
            os.write(1, _encode(line).encode("utf-8", "backslashreplace") + b"\n")


def text(error: BaseException) -> str:
    """The traceback, from the app's first frame on; whole, when none of its frames is the app's."""
    found = traceback.TracebackException.from_exception(error, compact=True)
    _leave_out(found, root=str(Path.cwd()) + os.sep, seen=set())
    shown = "".join(found.format())
    return shown if len(shown) <= _MAX_TRACEBACK else "…" + shown[-_MAX_TRACEBACK:]


def _leave_out(found: traceback.TracebackException, *, root: str, seen: set[int]) -> None:
    if id(found) in seen:
        return
    seen.add(id(found))
    names = [frame.filename for frame in found.stack]
    first = next((at for at, name in enumerate(names) if _is_the_apps(name, root)), None)
    if first is not None:
        kept = [frame for frame in found.stack[first:] if not frame.filename.startswith(OURS)]
        found.stack = traceback.StackSummary.from_list(kept)
    for other in (found.__cause__, found.__context__, *(found.exceptions or ())):
        if other is not None:
            _leave_out(other, root=root, seen=seen)


def _is_the_apps(filename: str, root: str) -> bool:
    return filename.startswith(root) and "site-packages" not in filename and not filename.startswith(OURS)
