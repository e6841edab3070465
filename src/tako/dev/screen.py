"""What the terminal of `tako dev` shows, as lines of text. Pure: sizes come in, nothing is printed here.

Two parts: the stream (header, log lines, notes), which only ever grows, and what is pinned below it: the problems that
nobody has mended yet. `Canvas` makes the bytes that replace the pinned part when the stream grows.
"""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tako.logs.render import clean, clean_lines, paint
from tako.logs.width import cells, cut

BOLD, DIM, RED, GREEN, CYAN = "1", "2", "31", "32", "36"
MAX_BOX_COLUMNS = 120
MIN_BOX_COLUMNS = 24
_STYLE = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What is said once, at the start. Each text is one thing: a URL, a workflow's name, a group with its settings."""

    app: str
    version: str
    urls: tuple[str, ...] = ()
    dashboard: str | None = None
    workflows: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    schedules: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()  # such as the names of variables that were not passed on


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is broken until its file is mended."""

    key: str
    title: str
    body: str


def header(info: Header, *, columns: int, colour: bool) -> list[str]:
    """The header: a name, then a labelled row for each kind of thing there is."""
    info = replace(info, notes=tuple(clean(note) for note in info.notes))
    rows = [
        ("app", info.urls),
        ("dashboard", (info.dashboard,) if info.dashboard else ()),
        ("workflows", info.workflows or ("none yet: `tako init` writes a first one",)),
        ("groups", info.groups),
    ]
    lines = ["", f"  {_paint(clean(info.app), BOLD, colour)}  {_paint(f'tako {info.version}', DIM, colour)}", ""]
    for label, items in rows:
        if items:
            lines += _row(label, items, columns=columns, colour=colour)
    for at, schedule in enumerate(info.schedules):  # a line each: they have commas of their own, and are read down
        lines += _row("" if at else "schedules", (schedule,), columns=columns, colour=colour)
    lines += [f"  {_paint(line, DIM, colour)}" for note in info.notes for line in textwrap.wrap(note, columns - 3)]
    return [*lines, ""]


def _row(label: str, items: Sequence[str], *, columns: int, colour: bool) -> list[str]:
    """Items separated by commas, URLs by spaces (a comma would be taken for a part of them), wrapped between items."""
    room = max(columns - 15, 20)
    lines: list[str] = []
    line = ""
    for at, item in enumerate(items):
        text = clean(item)
        mark = "" if at == len(items) - 1 else "  " if "://" in text else ", "
        if line and cells(line) + cells(text) > room:
            lines.append(line.rstrip())
            line = ""
        line += text + mark
    lines.append(line.rstrip())
    first = f"  {_paint(f'{label:<11}', DIM, colour)} {lines[0]}"
    return [first, *(f"{'':<14}{more}" for more in lines[1:])]


def plain_box(problem: Problem) -> list[str]:
    """The problem for a place that is no terminal: complete, and no line broken, so that it can be searched."""
    body = [f"│ {line}".rstrip() for line in clean_lines(problem.body)]
    return [f"┌─ ✘ {clean(problem.title)}", *body, "└─"]


def box(problem: Problem, *, columns: int, colour: bool) -> list[str]:
    """The problem in a box of at most `columns` columns; long lines go on in the next row."""
    width = max(min(columns, MAX_BOX_COLUMNS), MIN_BOX_COLUMNS)
    title = cut(f" ✘ {clean(problem.title)} ", width - 4)
    edge = _Edge(colour)
    lines = [edge("╭─") + _paint(title, f"{BOLD};{RED}", colour) + edge("─" * (width - 3 - cells(title)) + "╮")]
    texts = [part for line in clean_lines(problem.body) for part in wrap(line, width - 4)]
    lines += [f"{edge('│')} {text}{' ' * (width - 4 - cells(text))} {edge('│')}" for text in texts]
    return [*lines, edge("╰" + "─" * (width - 2) + "╯")]


class _Edge:
    def __init__(self, colour: bool) -> None:
        self._colour = colour

    def __call__(self, text: str) -> str:
        return _paint(text, RED, self._colour)


def pinned(problems: Sequence[Problem], *, columns: int, rows: int, colour: bool) -> list[str]:
    """The lines that stay at the end of the screen: the newest problem in its box, the others by their titles.

    Never wider than the terminal, so that no line wraps, and never as high, so that the stream is seen to move. A box
    that is too high loses its middle: the first lines say where, the last ones what.
    """
    if not problems:
        return []
    *older, newest = problems
    room = max(rows - 4, 3)
    titles = [_paint(cut(f"✘ {clean(problem.title)}", columns - 1), RED, colour) for problem in older]
    if len(titles) > max(room - 6, 0):
        more = len(titles)
        titles = [_paint(f"✘ {more} other {'file is' if more == 1 else 'files are'} broken", RED, colour)]
    lines = box(newest, columns=columns - 1, colour=colour)
    return [*titles, *_shortened(lines, room - len(titles), columns=columns, colour=colour)]


def fits(problem: Problem, *, columns: int, rows: int) -> bool:
    """Whether the whole problem can be pinned. If not, it is printed in the stream once, where one can scroll to it."""
    return len(box(problem, columns=columns - 1, colour=False)) <= max(rows - 4, 3)


def _shortened(lines: list[str], room: int, *, columns: int, colour: bool) -> list[str]:
    if len(lines) <= room:
        return lines
    if room < 5:
        return lines[:1]
    width = cells(_STYLE.sub("", lines[0]))
    left_out = len(lines) - (room - 1)
    text = cut(f"… {left_out} more lines: scroll up, or `tako logs --last-crash`", width - 4)
    edge = _Edge(colour)
    middle = f"{edge('│')} {_paint(text, DIM, colour)}{' ' * (width - 4 - cells(text))} {edge('│')}"
    head = max((room - 1) // 4, 2)
    return [*lines[:head], middle, *lines[len(lines) - (room - 1 - head) :]]


def wrap(text: str, width: int) -> list[str]:
    """The text in rows of at most `width` columns. Nothing is left out, spaces in front included: code is indented."""
    rows: list[str] = []
    row, used = "", 0
    for char in text:
        size = cells(char)
        if used + size > width:
            rows.append(row)
            row, used = "", 0
        row += char
        used += size
    return [*rows, row]


class Canvas:
    """The bytes that turn what is on the screen into what should be there.

    It remembers how wide the pinned lines were that it drew last. After a resize a terminal folds a line that has
    become too long into several rows, so rows are counted anew from those widths.
    """

    def __init__(self) -> None:
        self._widths: list[int] = []

    def frame(self, stream: Sequence[str], below: Sequence[str], *, columns: int) -> str:
        """Take away what was pinned, print new lines of the stream, pin `below`: one write, so nothing flickers."""
        parts = []
        if self._widths:
            height = sum(max(1, math.ceil(width / max(columns, 1))) for width in self._widths)
            parts.append(f"\r\x1b[{height}A\x1b[J")
        parts += [f"{line}\n" for line in (*stream, *below)]
        self._widths = [cells(_STYLE.sub("", line)) for line in below]
        return "".join(parts)

    @property
    def is_pinning(self) -> bool:
        """Whether something is pinned now."""
        return bool(self._widths)


def _paint(text: str, code: str, colour: bool) -> str:
    return paint(text, code) if colour else text
