"""What a web app logs, as lines that carry their level; an exception as one line with its traceback.

Where nobody has configured `logging`, records become structured lines, as in workers. A handler of the app's own that
writes to the terminal keeps its format, and each of its records becomes one line with its level.
"""

from __future__ import annotations

import copy
import json
import logging
import sys
from functools import partial
from typing import Any

from tako.web import mishaps

OURS = frozenset(("msg", "message", "level", "run_id", "workflow", "step", "logger", "traceback", "ts_ms"))
_USUAL = frozenset(logging.LogRecord("", 0, "", 0, "", None, None).__dict__) | {"asctime", "taskName"}
_TOLD = "_is_told_by_tako"

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=str).encode


def bridge() -> None:
    """Let records be lines from now on. Call it when the app has set up its logging."""
    root = logging.root
    loggers = [root, *(one for one in root.manager.loggerDict.values() if isinstance(one, logging.Logger))]
    for handler in [handler for logger in loggers for handler in logger.handlers]:
        if isinstance(handler, logging.StreamHandler) and _writes_to_the_terminal(handler):
            handler.emit = partial(_emit, handler)  # type: ignore[method-assign]
    if not root.handlers:
        root.addHandler(Records())
        if root.level == logging.WARNING:  # nobody has chosen it
            root.setLevel(logging.INFO)


def _writes_to_the_terminal(handler: logging.StreamHandler[Any]) -> bool:
    # Flask's handler has a stand-in for the stream, which is equal to it.
    return type(handler).emit is logging.StreamHandler.emit and handler.stream in (sys.stdout, sys.stderr)


class Records(logging.Handler):
    """The handler of an app that has none of its own: each record is a line with level, logger and extra fields."""

    def emit(self, record: logging.LogRecord) -> None:
        """One line on stderr."""
        if getattr(record, _TOLD, False):
            return
        try:
            given = record.__dict__
            line = {name: given[name] for name in given if name not in _USUAL and name not in OURS}
            line |= {"msg": record.getMessage().strip(), "level": _level(record)}
            if record.name not in ("root", "uvicorn.error", "tako.contrib"):
                line["logger"] = record.name
            if (error := _error_of(record)) is not None:
                line["traceback"] = mishaps.text(error)
                if record.name == "uvicorn.error":  # of which it says no more than that there was one
                    line["msg"] = f"unhandled {type(error).__name__}"
            _write(sys.stderr, line)
        except Exception:  # a record must not end what it tells of: that is logging's own rule
            self.handleError(record)


def _emit(handler: logging.StreamHandler[Any], record: logging.LogRecord) -> None:
    """What StreamHandler.emit does, with the level, and with the app's part of the traceback if nobody chose a form."""
    try:
        line = {"level": _level(record)}
        error = _error_of(record)
        if error is not None and handler.formatter is None:
            line["traceback"] = mishaps.text(error)
            bare = copy.copy(record)
            bare.exc_info = bare.exc_text = None
            _write(handler.stream, {"msg": handler.format(bare), **line})
        else:
            _write(handler.stream, {"msg": handler.format(record), **line})
        setattr(record, _TOLD, True)
    except RecursionError:
        raise
    except Exception:  # as StreamHandler.emit
        handler.handleError(record)


def _write(stream: Any, line: dict[str, Any]) -> None:
    text = _encode({"msg": line.pop("msg"), **line})  # `msg` first: so a line is known as structured
    # Half a surrogate pair becomes what JSON writes for it. One write, so that lines of threads do not mix.
    stream.write(text.encode("utf-8", "backslashreplace").decode() + "\n")
    stream.flush()


def _level(record: logging.LogRecord) -> str:
    if record.levelno >= logging.ERROR:
        return "error"
    if record.levelno >= logging.WARNING:
        return "warning"
    return "info" if record.levelno >= logging.INFO else "debug"


def _error_of(record: logging.LogRecord) -> BaseException | None:
    return None if record.exc_info is None else record.exc_info[1]
