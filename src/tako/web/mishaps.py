"""The traceback of what the app let fall. Of some sixty lines most are the way through the framework to the app's first
frame. Those are left out; from the app's first frame on everything stands there, but for our own.
"""

from __future__ import annotations

import os
import traceback
from pathlib import Path

OURS = str(Path(__file__).parents[1]) + os.sep
_MAX_TRACEBACK = 16_384  # the daemon cuts a line at 64 KiB, and JSON can need three times the room


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
