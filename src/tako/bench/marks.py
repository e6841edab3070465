"""What the handlers of `app.py` have marked: a line each, the run's number and the time in nanoseconds."""

from __future__ import annotations

import time
from pathlib import Path

# Looking is a stat: often enough not to matter, seldom enough not to be in the way of what is measured.
_LOOK_S = 0.005


class Marks:
    """The file of marks."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def clear(self) -> None:
        """Forget what was marked. Only while no run runs."""
        with self._path.open("wb"):
            pass

    def read(self) -> list[tuple[int, int]]:
        """Number and time of each mark, in the order in which they were made."""
        lines = self._path.read_bytes().splitlines()
        return [(int(number), int(ns)) for number, ns in (line.split() for line in lines)]

    def wait(self, count: int, *, timeout_s: float) -> list[tuple[int, int]]:
        """The marks, as soon as there are `count`. Raises TimeoutError with how many there are."""
        end = time.monotonic() + timeout_s
        while (found := self._count()) < count:
            if time.monotonic() > end:
                raise TimeoutError(f"{found} of {count} runs had run after {timeout_s:g} s")
            time.sleep(_LOOK_S)
        return self.read()

    def _count(self) -> int:
        try:
            return self._path.read_bytes().count(b"\n")
        except FileNotFoundError:
            return 0
