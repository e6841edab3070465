"""What a command says: narration on stderr, results on stdout, JSON instead of results when it was asked for.

Narration is what people read while they wait and when something fails. A result is what was asked for (a table, a
page, log lines): it goes to stdout so that `| grep` and `| less` work on it. With `--json` the result is one document
(streams: one a line) and nothing else reaches stdout. Colour, questions and widths of a terminal exist only there.
"""

from __future__ import annotations

import json as json_module
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence

from tako.logs.render import clean, paint
from tako.logs.width import cells, cut, cut_middle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TextIO

GREEN, RED, YELLOW, CYAN, DIM, BOLD = "32", "31", "33", "36", "2", "1"
STATUS_COLOURS = {
    "succeeded": GREEN, "healthy": GREEN, "dead": RED, "blocked": RED, "cooldown": RED, "failing": RED,
    "running": CYAN, "degraded": YELLOW, "probing": YELLOW, "limited": YELLOW, "cancelled": DIM,
}  # fmt: skip


LEAST_WIDTH, LEAST_LAST_WIDTH = 12, 8
# As long as they fit: an id is told from others by some letters, a reason is not.
GOOD_WIDTH, GOOD_LAST_WIDTH = 16, 32


class Output:
    """The two streams of a command, and what they may show."""

    def __init__(
        self,
        *,
        stdout: TextIO | None,
        stderr: TextIO | None,
        stdin: TextIO | None,
        environ: Mapping[str, str],
        json: bool = False,
    ) -> None:
        self.stdout = stdout
        self.stderr = stderr
        self.stdin = stdin
        self.json = json
        plain = bool(environ.get("NO_COLOR")) or environ.get("TERM") == "dumb"
        self.colour_out = _is_terminal(stdout) and not plain
        self.colour_err = _is_terminal(stderr) and not plain
        self.can_ask = _is_terminal(stdin) and _is_terminal(stderr)

    @classmethod
    def of_this_process(cls, *, json: bool) -> Output:
        """The process's own streams; what they cannot encode is escaped instead of raising in the middle of a page.

        A stream is None when whoever started us has closed it.
        """
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")
        return cls(stdout=sys.stdout, stderr=sys.stderr, stdin=sys.stdin, environ=os.environ, json=json)

    # --- narration ---

    def say(self, text: str = "") -> None:
        """A line for people."""
        print(text, file=self.stderr, flush=True)

    def doing(self, text: str) -> None:
        """What begins now: a verb and an ellipsis."""
        self.say(text)

    def done(self, text: str) -> None:
        """What happened, in the past tense."""
        self.say(f"{self.painted('✔', GREEN)} {text}")

    def warn(self, text: str) -> None:
        """What a person may want to act on."""
        self.say(f"{self.painted('!', YELLOW)} {text}")

    def fail(self, text: str, *, cure: str = "") -> None:
        """The result first, then the reason and the way on, indented."""
        first, *rest = text.split("\n")
        self.say(f"{self.painted('✘', RED)} {first}")
        for line in [*rest, *cure.split("\n")] if cure else rest:
            self.say(line if line.startswith("  ") else f"  {line}")

    def painted(self, text: str, code: str) -> str:
        """The text for stderr, coloured if it shows colours."""
        return paint(text, code) if self.colour_err else text

    # --- results ---

    def result(self, text: str = "") -> None:
        """A line of what was asked for. Not with --json."""
        assert not self.json, "a result for people, where a program asked for JSON"
        print(text, file=self.stdout)

    def document(self, value: object) -> None:
        """The one document of --json."""
        print(json_module.dumps(value, ensure_ascii=False, indent=2), file=self.stdout, flush=True)

    def json_line(self, value: object) -> None:
        """One line of a stream of --json."""
        text = json_module.dumps(value, ensure_ascii=False, separators=(",", ":"))
        print(text, file=self.stdout, flush=True)

    def flush(self) -> None:
        """Let what was printed be seen now: between the lines of a stream."""
        if self.stdout is not None:
            self.stdout.flush()

    def shown(self, text: str, code: str = "") -> str:
        """The text for stdout, coloured if it shows colours; with no `code`, in the colour of the status it names."""
        code = code or STATUS_COLOURS.get(text, "")
        return paint(text, code) if self.colour_out else text

    def table(self, headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Rows under headers; on a terminal the widest columns are cut so that a row is one line.

        They are cut in the middle: both ends tell one run from another, and commands take an id that is cut so.
        """
        cleaned = [[clean(cell) for cell in row] for row in rows]
        widths = [max(cells(row[at]) for row in [list(headers), *cleaned]) for at in range(len(headers))]
        if _is_terminal(self.stdout):
            widths = _narrowed(widths, shutil.get_terminal_size().columns)
        self.result(self.shown(self._row(headers, widths, lambda text: text), DIM))
        for row in cleaned:
            self.result(self._row(row, widths, self.shown))

    def _row(self, row: Sequence[str], widths: Sequence[int], paint_cell: Callable[[str], str]) -> str:
        fitting = [cut_middle(cell, width) for cell, width in zip(row[:-1], widths, strict=False)]
        parts = [paint_cell(cell) + " " * (width - cells(cell)) for cell, width in zip(fitting, widths, strict=False)]
        return "  ".join([*parts, paint_cell(cut(row[-1], widths[-1]))]).rstrip()

    # --- questions and input ---

    def ask(self, question: str) -> bool:
        """Ask for a yes. Only when `can_ask`."""
        assert self.can_ask, "a question without a terminal"
        print(f"{question} [y/N] ", end="", file=self.stderr, flush=True)
        assert self.stdin is not None
        return self.stdin.readline().strip().lower() in ("y", "yes")

    def read(self) -> str:
        """All of stdin."""
        return self.stdin.read() if self.stdin is not None else ""


def _narrowed(widths: Sequence[int], columns: int) -> list[int]:
    """Widths that fit into a terminal, as far as that can be read: the last column and the widest of the others give
    way in turns, each down to a width at which it is still told well, then to one at which it is just told."""
    found = list(widths)
    last = len(found) - 1
    too_many = sum(found) + 2 * last - columns
    turns = ((True, GOOD_LAST_WIDTH), (False, GOOD_WIDTH), (True, LEAST_LAST_WIDTH), (False, LEAST_WIDTH))
    for is_last, least in turns:
        while too_many > 0:
            at = last if is_last else max(range(last), key=found.__getitem__, default=last)
            if found[at] <= least:
                break
            found[at] -= 1
            too_many -= 1
    return found


def _is_terminal(stream: TextIO | Any) -> bool:
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError):  # None under a daemon, or closed
        return False
