"""The keys of `tako dev`: read one at a time, without Enter, and without being shown.

The terminal is changed for that and must be given back whatever happens. It is taken only in the foreground: a process
in the background that touches its terminal is stopped by the kernel.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import sys
import termios
import tty
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Key:
    """What a key does: in a word for the header, and as a function."""

    what: str
    press: Callable[[], None]


class Keyboard:
    """Calls the function of each key that is pressed, until closed."""

    def __init__(self, fd: int, loop: asyncio.AbstractEventLoop, keys: Mapping[str, Key]) -> None:
        self._fd = fd
        self._loop = loop
        self._keys = keys
        self._before: list[Any] | None = termios.tcgetattr(fd)
        self.take()
        atexit.register(self.close)  # a crash must not leave a terminal that shows nothing typed
        loop.add_reader(fd, self._read)

    @classmethod
    def of_this_process(cls, loop: asyncio.AbstractEventLoop, keys: Mapping[str, Key]) -> Keyboard | None:
        """The keyboard at stdin; None when stdin is no terminal, or we are in its background."""
        try:
            fd = sys.stdin.fileno()
            if os.isatty(fd) and os.tcgetpgrp(fd) == os.getpgrp():
                return cls(fd, loop, keys)
        except (OSError, ValueError, AttributeError, termios.error):
            pass
        return None

    def take(self) -> None:
        """Keys without Enter and without echo; Ctrl-C and Ctrl-Z keep their meaning."""
        if self._before is not None and os.tcgetpgrp(self._fd) == os.getpgrp():
            tty.setcbreak(self._fd, termios.TCSADRAIN)

    def close(self) -> None:
        """Give the terminal back as it was. Twice is harmless."""
        if self._before is None:
            return
        before, self._before = self._before, None
        atexit.unregister(self.close)
        if not self._loop.is_closed():
            self._loop.remove_reader(self._fd)
        try:
            if os.tcgetpgrp(self._fd) == os.getpgrp():
                termios.tcsetattr(self._fd, termios.TCSADRAIN, before)
        except (OSError, termios.error):
            pass  # the terminal is gone

    def _read(self) -> None:
        try:
            data = os.read(self._fd, 64)
        except OSError:
            data = b""
        if not data:  # hung up
            self._loop.remove_reader(self._fd)
            return
        # An arrow or a function key sends several bytes that begin with Escape: none of its letters is a key of ours.
        for char in "" if data.startswith(b"\x1b") else data.decode(errors="ignore"):
            if key := self._keys.get(char.lower()):
                key.press()
