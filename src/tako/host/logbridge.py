"""What our rooms say through the standard `logging` module, as lines of the app's log."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

LOGGER = "tako"


class LogBridge(logging.Handler):
    """Hands records of the logger `tako` to `say(level, message)`. Installed by `open`, removed by `close`."""

    def __init__(self, say: Callable[[str, str], None], *, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(level=logging.INFO)
        self._say = say
        self._loop = loop
        self.setFormatter(logging.Formatter())  # adds the traceback, if there is one

    def open(self) -> None:
        """Take the records from now on."""
        logger = logging.getLogger(LOGGER)
        logger.addHandler(self)
        logger.setLevel(logging.INFO)
        logger.propagate = False

    def emit(self, record: logging.LogRecord) -> None:
        """Hand one over. Never raises: a log line must not end what it tells of."""
        try:
            self._loop.call_soon_threadsafe(self._say, record.levelname.lower(), self.format(record))
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        """Take no more. Twice is harmless."""
        logger = logging.getLogger(LOGGER)
        logger.removeHandler(self)
        logger.propagate = True
        super().close()
