"""A terminal of the simplest kind, for tests: takes what a program writes, tells what is on the screen.

It knows what our screen uses (new lines, carriage return, cursor up, clear to the end, colours), folds long lines, and
scrolls. Anything else in the bytes is an error: the test would be reading a screen that nobody sees.
"""

from __future__ import annotations

import re

_PIECE = re.compile(r"\x1b\[(\d*)([A-Za-z])|\n|\r|[^\x1b\n\r]+|\x1b(?!\[)")


class Terminal:
    def __init__(self, columns: int, rows: int) -> None:
        self.columns = columns
        self.rows = rows
        self.lines: list[str] = [""]  # scrollback and screen; the screen is the last `rows`
        self.row = 0
        self.column = 0

    def write(self, text: str) -> None:
        for piece in _PIECE.finditer(text):
            number, command = piece[1], piece[2]
            if command == "A":
                self.row = max(self.row - int(number or 1), len(self.lines) - self.rows, 0)
            elif command == "J":
                assert number in ("", "0")
                self.lines[self.row] = self.lines[self.row][: self.column]
                del self.lines[self.row + 1 :]
            elif command == "m":
                pass
            elif piece[0] == "\n":
                self._down()
            elif piece[0] == "\r":
                self.column = 0
            else:
                assert not piece[0].startswith("\x1b"), f"an escape that this terminal does not know: {piece[0]!r}"
                for char in piece[0]:
                    self._put(char)

    def _put(self, char: str) -> None:
        if self.column == self.columns:
            self._down()
        line = self.lines[self.row].ljust(self.column)
        self.lines[self.row] = line[: self.column] + char + line[self.column + 1 :]
        self.column += 1

    def _down(self) -> None:
        self.row += 1
        self.column = 0
        if self.row == len(self.lines):
            self.lines.append("")

    def screen(self) -> list[str]:
        """The rows that are seen, without the empty ones at the end."""
        return "\n".join(line.rstrip() for line in self.lines[-self.rows :]).rstrip("\n").split("\n")

    def everything(self) -> list[str]:
        """The scrollback too."""
        return "\n".join(line.rstrip() for line in self.lines).rstrip("\n").split("\n")
