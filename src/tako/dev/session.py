"""What the terminal of `tako dev` shows: a header, a stream of lines, and below it what is broken until it is mended.

Three ways of showing, one interface. On a terminal a problem stays the last thing on the screen. Elsewhere it is
printed once, where it happened. With --json everything is a line of JSON with an `event`.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, Literal, TextIO

from tako.dev import screen
from tako.dev.keyboard import Key, Keyboard
from tako.dev.printer import Printer
from tako.dev.screen import Header, Problem
from tako.logs import render
from tako.logs.redact import Redact, keep, redacted
from tako.protocol.messages import LogLine

WIDE = 10_000  # without a terminal nothing is wrapped
Mode = Literal["terminal", "plain", "json"]


class Session:
    """The screen of one `tako dev`. Its methods are called on the loop's thread and never wait for the terminal."""

    def __init__(
        self,
        *,
        write: Callable[[str], None],
        mode: Mode,
        colour: bool = False,
        size: Callable[[], tuple[int, int]] = lambda: (80, 24),
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        redact: Redact = keep,
    ) -> None:
        self.mode = mode
        self._colour = colour
        self._size = size
        self._now_ms = now_ms
        self._redact = redact
        # A tuple that is replaced, never changed: the printer's thread reads it.
        self._problems: tuple[Problem, ...] = ()
        self._held: list[str] | None = None  # lines of before the header, which is to come first
        self._keyboard: Keyboard | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._printer = Printer(write, size=size, pinned=self._pinned, dropped=self._dropped)

    @classmethod
    def of_this_process(cls, *, as_json: bool = False, plain: bool = False, redact: Redact = keep) -> Session:
        """The session on this process's stdout. Without a terminal, or with TERM=dumb, it is plain."""
        stdout = sys.stdout
        is_terminal = stdout.isatty() and os.environ.get("TERM") != "dumb" and not plain
        mode: Mode = "json" if as_json else "terminal" if is_terminal else "plain"
        colour = mode == "terminal" and not os.environ.get("NO_COLOR")

        def size() -> tuple[int, int]:
            found = shutil.get_terminal_size()
            return found.columns, found.lines

        return cls(write=_writer(stdout), mode=mode, colour=colour, size=size, redact=redact)

    # --- what happened ---

    def hold(self) -> None:
        """Keep what is said from now on until the header has been."""
        self._held = []

    def header(self, info: Header) -> None:
        """Say what runs where."""
        held, self._held = self._held or [], None
        if self.mode == "json":
            self._event("header", **asdict(info))
        else:
            columns = self._size()[0] if self.mode == "terminal" else WIDE
            self._print(screen.header(info, columns=columns, colour=self._colour))
        self._print(held)

    def line(self, line: LogLine) -> None:
        """Show a line of output or of our own log."""
        if self.mode == "json":
            self._event("log", line=redacted(line, self._redact))
        else:
            self._print(render.render(line, colour=self._colour, redact=self._redact).split("\n"))

    def problem(self, key: str, title: str, body: str) -> None:
        """Show what is broken, once and in full; on a terminal it stays until `mended(key)`.

        The same problem again is not shown again; another one under the same key takes its place.
        """
        problem = Problem(key, self._redact(title), self._redact(body))
        before = next((other for other in self._problems if other.key == key), None)
        if before == problem:
            return
        self._problems = (*(other for other in self._problems if other.key != key), problem)
        if self.mode == "json":
            self._event("problem", key=key, title=problem.title, body=problem.body)
        elif self.mode == "plain":
            # A retry that fails in the same way (only the milliseconds in the title differ) is no news.
            self._print([] if before and before.body == problem.body else screen.plain_box(problem))
        else:
            self._print(self._whole(problem) if before is None or before.body != problem.body else [])

    def mended(self, key: str, *, then: str = "enqueues are accepted") -> bool:
        """Say that what was broken under this key works again; False, and nothing is said, when nothing was."""
        if not any(problem.key == key for problem in self._problems):
            return False
        self._problems = tuple(problem for problem in self._problems if problem.key != key)
        if self.mode == "json":
            self._event("mended", key=key)
        else:
            mark = render.paint("✔", screen.GREEN) if self._colour else "✔"
            self._say("info", f"{mark} {render.clean(key)} is mended; {then}.")
        return True

    def note(self, text: str) -> None:
        """Say something of our own."""
        self._own("note", text)

    def closing(self, text: str) -> None:
        """Say what the end is waiting for."""
        self._own("closing", text)

    # --- the terminal ---

    def attach(self, loop: asyncio.AbstractEventLoop, keys: dict[str, Key] | None = None) -> None:
        """Follow the terminal's size and, if it is ours to read, its keys, naming them. Undone by `close`."""
        if self.mode != "terminal":
            return
        self._loop = loop
        for number in (signal.SIGWINCH, signal.SIGCONT):
            loop.add_signal_handler(number, self._returned)
        if keys:
            self._keyboard = Keyboard.of_this_process(loop, keys)
        if keys and self._keyboard is not None:
            words = "  Keys: " + ", ".join(f"{name} {key.what}" for name, key in keys.items())
            self._print([render.paint(words, screen.DIM) if self._colour else words, ""])

    def flush(self, *, timeout_s: float = 2.0) -> bool:
        """Wait until all that was said is written; for tests, and before another program takes the terminal."""
        return self._printer.flush(timeout_s=timeout_s)

    def close(self) -> None:
        """Write what is left and give the terminal back as it was. Twice is harmless."""
        held, self._held = self._held or [], None
        self._print(held)
        if self._keyboard is not None:
            self._keyboard.close()
            self._keyboard = None
        if self._loop is not None:
            for number in (signal.SIGWINCH, signal.SIGCONT):
                self._loop.remove_signal_handler(number)
            self._loop = None
        self._printer.close()

    def _returned(self) -> None:
        """The window changed, or we are in the foreground again after Ctrl-Z."""
        if self._keyboard is not None:
            self._keyboard.take()
        self._printer.redraw()

    def _whole(self, problem: Problem) -> list[str]:
        """The problem for the stream, if it is too large to be pinned in full."""
        columns, rows = self._size()
        if screen.fits(problem, columns=columns, rows=rows):
            return []
        return screen.box(problem, columns=columns - 1, colour=self._colour)

    def _pinned(self, columns: int, rows: int) -> Sequence[str]:
        if self.mode != "terminal" or self._held is not None:
            return ()
        return screen.pinned(self._problems, columns=columns, rows=rows, colour=self._colour)

    def _print(self, lines: Sequence[str]) -> None:
        if self._held is None:
            self._printer.print(lines)
        else:
            self._held += lines

    def _own(self, event: str, text: str) -> None:
        if self.mode == "json":
            self._event(event, text=self._redact(text))
        else:
            self._say("info", render.clean(self._redact(text)))

    def _say(self, level: str, text: str) -> None:
        """A line in the form of the log. `text` is clean but for colours of ours."""
        self._print([f"{render.beginning(self._now_ms(), level, 'tako', colour=self._colour)} {text}"])

    def _event(self, event: str, **fields: Any) -> None:
        text = json.dumps({"event": event, **fields}, ensure_ascii=True, separators=(",", ":"), default=str)
        self._print([text])

    def _dropped(self, count: int) -> str:
        if self.mode == "json":
            return json.dumps({"event": "dropped", "count": count})
        return f"{render.CONTINUATION}{count} lines were left out here: the terminal took them too slowly"


def _writer(stream: TextIO) -> Callable[[str], None]:
    """Write straight to the file: Python's own buffer could be flushed late, or twice after an error."""
    fd, encoding = stream.fileno(), stream.encoding or "utf-8"

    def write(text: str) -> None:
        data = memoryview(text.encode(encoding, "backslashreplace"))
        while data:
            data = data[os.write(fd, data) :]

    return write
