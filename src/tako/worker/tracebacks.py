"""Tracebacks for people: only frames of the user's code, secrets taken out. `traceback` is imported late."""

from __future__ import annotations

import os
import sys

from tako.worker import redaction

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import Task
    from collections.abc import Iterable
    from traceback import FrameSummary, TracebackException
    from types import FrameType, TracebackType
    from typing import Any

    from tako.protocol.messages import RemoteError

OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep  # noqa: PTH100, PTH120 - no pathlib here
_MAX_TRACEBACK = 65_536
_MAX_MESSAGE = 8_192


def remote_error(error: BaseException) -> RemoteError:
    """An exception as the engine stores it."""
    return {"type": type_name(error), "message": message_of(error), "traceback": text(error)}


def type_name(error: BaseException) -> str:
    """`ValueError`, `requests.exceptions.Timeout`."""
    kind = type(error)
    return (
        kind.__qualname__ if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}.{kind.__qualname__}"
    )


def message_of(error: BaseException) -> str:
    """`str(error)`, shortened, without secrets; never raises."""
    try:
        found = str(error)
    except Exception as broken:  # a __str__ of the user's that fails must not hide the error itself
        found = f"<its __str__ raised {type(broken).__name__}>"
    return shorten(redaction.clean(found), _MAX_MESSAGE)


def shorten(text: str, most: int) -> str:
    """The text, or its beginning and an ellipsis."""
    return text if len(text) <= most else text[: most - 1] + "…"


def words(error: BaseException) -> str:
    """`ValueError: no such user`, one line."""
    found = message_of(error)
    first = found.splitlines()[0] if found else ""
    return f"{type_name(error)}: {first}" if first else type_name(error)


def text(error: BaseException) -> str:
    """The traceback as Python prints it, our own frames left out; its last 64 KiB."""
    import traceback

    found = traceback.TracebackException.from_exception(error, compact=True)
    _leave_out_ours(found, seen=set())
    shown = redaction.clean("".join(found.format()))
    return shown if len(shown) <= _MAX_TRACEBACK else "…" + shown[-_MAX_TRACEBACK:]


def whole(error: BaseException) -> str:
    """The traceback with our own frames: of an error that is ours."""
    import traceback

    return redaction.clean("".join(traceback.format_exception(error)))


def without_our_frames(found: TracebackType | None) -> TracebackType | None:
    """A traceback that begins with the first frame of the user's."""
    while found is not None and _is_below(found.tb_frame.f_code.co_filename):
        found = found.tb_next
    return found


def stack(thread_id: int) -> tuple[str, str]:
    """Where a thread is: its stack of user frames as text, and the app's innermost one in a few words."""
    import traceback

    frame = sys._current_frames().get(thread_id)
    return _described([] if frame is None else _users(traceback.extract_stack(frame)))


def stack_of_task(task: Task[Any]) -> tuple[str, str]:
    """Where an asyncio task waits, as `stack` tells it. In the loop's thread."""
    import traceback

    frames: list[FrameType] = []
    waits_in: Any = task.get_coro()
    while waits_in is not None and (frame := getattr(waits_in, "cr_frame", None)) is not None:
        frames.append(frame)
        waits_in = waits_in.cr_await
    return _described(_users(traceback.StackSummary.extract((frame, frame.f_lineno) for frame in frames)))


def _described(frames: list[FrameSummary]) -> tuple[str, str]:
    import traceback

    if not frames:
        return "", ""
    root = os.getcwd() + os.sep  # noqa: PTH109 - no pathlib here
    # A line of the app says more than the line of a library that it waits in.
    last = next((frame for frame in reversed(frames) if _is_the_apps(frame.filename, root)), frames[-1])
    innermost = f"{short(last.filename)}:{last.lineno}, in {last.name}" + (f": {last.line}" if last.line else "")
    return redaction.clean("".join(traceback.format_list(frames))), redaction.clean(innermost)


def caller() -> tuple[str, int]:
    """File and line of the user's code that is calling us."""
    frame: FrameType | None = sys._getframe(3)  # below are our methods and the context's, and perhaps more of ours
    while frame is not None and _is_ours(frame.f_code.co_filename):
        frame = frame.f_back
    return ("", 0) if frame is None else (frame.f_code.co_filename, frame.f_lineno)


def _leave_out_ours(found: TracebackException, *, seen: set[int]) -> None:
    if id(found) in seen:
        return
    seen.add(id(found))
    found.stack[:] = _users(found.stack)
    for other in (found.__cause__, found.__context__, *(getattr(found, "exceptions", None) or ())):
        if other is not None:
            _leave_out_ours(other, seen=seen)


def _users(frames: Iterable[FrameSummary]) -> list[FrameSummary]:
    # Of the standard library only what the user's code leads to: not the threads and loops below it.
    kept = [frame for frame in frames if not _is_ours(frame.filename)]
    while kept and _is_below(kept[0].filename):
        del kept[0]
    return kept


_BELOW = ("/threading.py", "/asyncio/base_events.py", "/asyncio/events.py", "/asyncio/runners.py", "<string>")


def _is_the_apps(filename: str, root: str) -> bool:
    return filename.startswith(root) and "/site-packages/" not in filename


def _is_below(filename: str) -> bool:
    return _is_ours(filename) or filename.startswith("<frozen ") or filename.endswith(_BELOW)


def _is_ours(filename: str) -> bool:
    return filename.startswith(OURS)


def short(filename: str) -> str:
    """The file as people name it: relative to the app's root, which is the working directory."""
    root = os.getcwd() + os.sep  # noqa: PTH109 - no pathlib here
    return filename.removeprefix(root)
