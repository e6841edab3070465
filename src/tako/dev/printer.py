"""The thread that writes to the terminal, so that the engine never waits for one.

A terminal can be paused (Ctrl-S), slow, or a pipe that nobody reads; the loop that answers enqueues must not notice.
Lines are queued and taken all together: the slower the terminal, the larger the frames. A queue that is full loses
its oldest lines and says how many.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence

from tako.dev.screen import Canvas

MAX_QUEUED_LINES = 10_000
# With something pinned each frame draws it again: thirty times a second is smooth and costs next to nothing.
PACE_S = 0.033
PATIENCE_S = 2.0

Size = Callable[[], tuple[int, int]]


class Printer:
    """Write frames: lines of the stream, and below them what `pinned(columns, rows)` gives at that moment."""

    def __init__(
        self,
        write: Callable[[str], None],
        *,
        size: Size,
        pinned: Callable[[int, int], Sequence[str]],
        dropped: Callable[[int], str],
        max_lines: int = MAX_QUEUED_LINES,
    ) -> None:
        self._write = write
        self._size = size
        self._pinned = pinned
        self._dropped = dropped
        self._lines: deque[str] = deque(maxlen=max_lines)
        self._lost = 0
        self._changed = threading.Condition()
        self._is_stale = False
        self._is_busy = False
        self._is_closing = threading.Event()
        self._canvas = Canvas()
        self._thread = threading.Thread(target=self._work, name="tako-terminal", daemon=True)
        self._thread.start()

    def print(self, lines: Sequence[str]) -> None:
        """Queue lines for the stream. Never waits."""
        with self._changed:
            self._lost += max(len(self._lines) + len(lines) - (self._lines.maxlen or 0), 0)
            self._lines.extend(lines)
            self._is_stale = True
            self._changed.notify_all()

    def redraw(self) -> None:
        """What is pinned, or the terminal's size, has changed."""
        self.print(())

    def flush(self, *, timeout_s: float = PATIENCE_S) -> bool:
        """Wait until all that was queued is written; False when the terminal did not take it in time."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._is_stale and not self._is_busy, timeout_s)

    def close(self, *, timeout_s: float = PATIENCE_S) -> None:
        """Write what is queued and end. A terminal that takes nothing is given up. Twice is harmless."""
        with self._changed:
            self._is_closing.set()
            self._changed.notify_all()
        self._thread.join(timeout_s)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._is_busy = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._is_stale or self._is_closing.is_set())
                if not self._is_stale:
                    return
                lines, lost = list(self._lines), self._lost
                self._lines.clear()
                self._lost, self._is_stale, self._is_busy = 0, False, True
            if lost:
                lines.insert(0, self._dropped(lost))
            if not self._draw(lines):
                return
            if self._canvas.is_pinning:
                self._is_closing.wait(PACE_S)

    def _draw(self, lines: list[str]) -> bool:
        """Write one frame; False when there is no terminal any more (hung up, or the pipe's reader left)."""
        columns, rows = self._size()
        try:
            self._write(self._canvas.frame(lines, self._pinned(columns, rows), columns=columns))
        except (OSError, ValueError):
            with self._changed:
                self._is_busy = self._is_stale = False
                self._changed.notify_all()
            return False
        return True
