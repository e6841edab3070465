"""What handlers print and log, as lines that carry their run and step.

`print` and `logging` know no run. So stdout and stderr are streams of ours, which ask a context variable who speaks: a
line of a run goes out as a structured one, all else as it came. The variable follows where Python's own do: into tasks,
into the threads of steps, and not into a thread that user code starts by itself (`copy_context().run` takes it along).

`logging` is bridged only if user code has loaded it. Where nobody has configured it, records become lines with their
level, logger and extra fields; where somebody has, lines are what their formatter makes, and we add the level.
"""

from __future__ import annotations

import io
import os
import sys
from _contextvars import ContextVar
from _thread import get_ident

from tako.protocol import json_text
from tako.worker import logline, redaction

TYPE_CHECKING = False
if TYPE_CHECKING:
    import logging
    from typing import Any

    from tako.worker.attempt import Attempt

# The attempt, and the step in which we are ("": between steps).
who: ContextVar[tuple[Attempt, str] | None] = ContextVar("tako_who", default=None)

MAX_LINE_CHARS = 65_536
LEVELS = {"debug": "debug", "info": "info", "warning": "warning", "error": "error", "critical": "error"}
OURS = frozenset(("msg", "message", "level", "run_id", "workflow", "step", "logger", "traceback", "ts_ms"))

_TOLD = "_is_told_by_tako"  # of a record that a handler of user code's has written: ours at the root need not
_level_of_thread: dict[int, str] = {}  # of the record that this thread is about to write
_before: list[Any] = []  # the streams that Python made: they close the files when they are collected
_is_bridged = False


class Stream(io.TextIOWrapper):
    """stdout or stderr. What a run writes is kept until its line is whole."""

    def __init__(self, stream: Any) -> None:
        super().__init__(
            stream.buffer,
            encoding=stream.encoding,
            errors=stream.errors,
            line_buffering=stream.line_buffering,
            write_through=stream.write_through,
        )
        self._parts: dict[tuple[str, str], str] = {}

    def write(self, text: str, /) -> int:
        """As any stream's."""
        speaker = who.get()
        if speaker is None or not isinstance(text, str):
            return super().write(text)
        level = _level_of_thread.pop(get_ident(), "info")
        attempt, step = speaker
        place = (attempt.run_id, step)
        *lines, rest = (self._parts.pop(place, "") + text).split("\n")
        for line in lines:
            _say(attempt, step, level, line)
        if len(rest) > MAX_LINE_CHARS:
            _say(attempt, step, level, rest)
        elif rest:
            self._parts[place] = rest
        return len(text)

    def finish(self, attempt: Attempt) -> None:
        """Say what the attempt has written without an end of line."""
        for run_id, step in [place for place in self._parts if place[0] == attempt.run_id]:
            if rest := self._parts.pop((run_id, step), ""):
                _say(attempt, step, "info", rest)


def listen() -> None:
    """Take stdout and stderr over, before user code is imported: handlers of `logging` keep what they get."""
    _before[:] = [sys.stdout, sys.stderr]
    sys.stdout, sys.stderr = Stream(sys.stdout), Stream(sys.stderr)


def begins(attempt: Attempt) -> Any:
    """From now on, and in this context, the attempt speaks; what is returned is for `ends`."""
    if not _is_bridged and "logging" in sys.modules and _before:
        bridge()
    return who.set((attempt, ""))


def ends(attempt: Attempt, token: Any) -> None:
    """It has said all."""
    who.reset(token)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, Stream) and stream._parts:
            stream.finish(attempt)


def _say(attempt: Attempt, step: str, level: str, line: str) -> None:
    if line.startswith('{"msg":') and line.endswith("}"):
        # It is structured already: ours are added, and win, since the last of two keys counts.
        ours = {"run_id": attempt.run_id, "workflow": attempt.workflow.name, **({"step": step} if step else {})}
        _write(f"{line[:-1]},{json_text.encode(ours)[1:]}")
    elif line:
        logline.write(level, line, run_id=attempt.run_id, workflow=attempt.workflow.name, step=step or None)


def _write(line: str) -> None:
    try:  # noqa: SIM105 - contextlib is not loaded in a cold process
        os.write(2, redaction.clean(line).encode("utf-8", "surrogateescape") + b"\n")
    except OSError:
        pass  # as logline.write


# --- logging --------------------------------------------------------------------------------------------------------


def bridge() -> None:
    """Let records of `logging` be lines, if it is loaded; twice is harmless."""
    global _is_bridged
    loaded: Any = sys.modules.get("logging")
    if loaded is None or _is_bridged:
        return
    _is_bridged = True
    root = loaded.root
    if not root.handlers:
        root.addHandler(_handler(loaded))
        if root.level == loaded.WARNING:  # nobody has chosen it
            root.setLevel(loaded.INFO)
    loggers = [root, *(one for one in root.manager.loggerDict.values() if isinstance(one, loaded.Logger))]
    for handler in [handler for logger in loggers for handler in logger.handlers]:
        if isinstance(handler, loaded.StreamHandler) and isinstance(handler.stream, Stream):
            handler.addFilter(_note_level)


def _note_level(record: logging.LogRecord) -> bool:
    """The last that happens before a record is written, in the thread that writes it."""
    record.__dict__[_TOLD] = True
    if who.get() is not None:
        _level_of_thread[get_ident()] = LEVELS.get(record.levelname.lower(), "info")
    return True


def _handler(loaded: Any) -> Any:
    """A handler that makes lines of records. A class of its own time: `logging` is not imported by us."""
    plain = loaded.Formatter()
    usual = frozenset(loaded.LogRecord("", 0, "", 0, "", None, None).__dict__) | {"asctime", "taskName"}

    class Lines(loaded.Handler):  # type: ignore[misc]
        def emit(self, record: Any) -> None:
            if _TOLD in record.__dict__:
                return
            try:
                fields = {
                    name: value for name, value in record.__dict__.items() if name not in usual and name not in OURS
                }
                if record.exc_info and record.exc_info[0] is not None:
                    fields["traceback"] = plain.formatException(record.exc_info)
                speaker = who.get()
                if speaker is not None:
                    attempt, step = speaker
                    fields |= {"run_id": attempt.run_id, "workflow": attempt.workflow.name, "step": step or None}
                level = LEVELS.get(record.levelname.lower(), "info")
                logger = None if record.name == "root" else record.name
                logline.write(level, record.getMessage(), logger=logger, **fields)
            except Exception:  # a record must not end what it tells of: that is logging's own rule
                self.handleError(record)

    return Lines()
