"""How many columns text takes on a terminal. Pure."""

from __future__ import annotations

import unicodedata


def cells(text: str) -> int:
    """The columns that the text takes: wide characters two, marks that stand on another one none."""
    if text.isascii():
        return len(text)
    return sum(_of(char) for char in text)


def cut(text: str, width: int) -> str:
    """The text in at most `width` columns, with an ellipsis where it was cut."""
    if cells(text) <= width:
        return text
    used, kept = 0, ""
    for char in text:
        used += _of(char)
        if used > width - 1:
            break
        kept += char
    return f"{kept}…"


def cut_middle(text: str, width: int) -> str:
    """The text in at most `width` columns, with an ellipsis in its middle where it was cut."""
    if cells(text) <= width:
        return text
    tail, used = "", 0
    for char in reversed(text):
        used += _of(char)
        if used > (width - 1) // 2:
            break
        tail = char + tail
    return cut(text, width - cells(tail)) + tail


def _of(char: str) -> int:
    if unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1
