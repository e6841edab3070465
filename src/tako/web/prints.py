"""stdout and stderr of a web app, which lead to a file: a disk that is full loses lines, and fails no request."""

import errno
import io
import sys
from typing import Any

FULL = (errno.ENOSPC, errno.EDQUOT)

_before: list[Any] = []  # the streams that Python made: they close the files when they are collected


class Stream(io.TextIOWrapper):
    """Python's own stream over the same file, but for what cannot be written: it is counted, and told afterwards."""

    def __init__(self, stream: Any) -> None:
        super().__init__(
            stream.buffer, encoding=stream.encoding, errors=stream.errors, line_buffering=stream.line_buffering,
            write_through=stream.write_through,
        )  # fmt: skip
        self._lost = 0

    def write(self, text: str, /) -> int:
        """As any stream's."""
        try:
            if self._lost:
                super().write(f"{self._lost} lines could not be written: the disk was full\n")
                self._lost = 0
            return super().write(text)
        except OSError as error:
            if error.errno not in FULL:
                raise
            self._lost += text.count("\n")
            return len(text)


def listen() -> None:
    """Take stdout and stderr over, before the app's own code runs."""
    _before[:] = [sys.stdout, sys.stderr]
    sys.stdout, sys.stderr = Stream(sys.stdout), Stream(sys.stderr)
