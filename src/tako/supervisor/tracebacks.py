"""The one line of a traceback that helps: the error, and where in the app's own files it came from. Pure but for
reading a source line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePath

_HEAD = "Traceback (most recent call last):"
_FRAME = re.compile(r'^\s*File "(?P<file>[^"]+)", line (?P<line>\d+)(?:, in (?P<name>.+))?$')
_DUMPED = re.compile(r'^\s*File "(?P<file>[^"]+)", line (?P<line>\d+) in (?P<name>.+)$')
_THREAD = re.compile(r"^(Current thread|Thread) 0x[0-9a-f]+.*\(most recent call first\):$")
# Folders inside an app's folder whose files are not the app's own.
_FOREIGN = frozenset({"site-packages", "dist-packages", ".venv", "venv", ".tako", "node_modules", "__pypackages__"})
_MAX_SOURCE_BYTES = 1 << 20


def tail(lines: Sequence[str], *, root: Path) -> str | None:
    """The last traceback among `lines` in two lines, or None when there is none.

    The first is the error, the second the innermost frame that lies in the app's folder, with its source:

        ModuleNotFoundError: No module named 'jinja2'
          workflows/send_email.py:3  from jinja2 import Environment
    """
    found = _last_traceback(lines)
    if found is None:
        return None
    block, error = found
    own = None
    for at, line in enumerate(block):
        match = _FRAME.match(line)
        path = match and _own_path(match["file"], root=root)
        if match and path:
            own = f"{path}:{match['line']}  {_source_below(block, at)}".rstrip()
    return f"{error.strip()}\n  {own}" if own else error.strip()


def hang_frame(lines: Iterable[str], *, root: Path) -> str | None:
    """Where a boot hung, from the stacks that `faulthandler` dumped: `workflows/report.py:7, in <module>: import x`.

    The main thread is dumped last. The innermost frame of the app's own files, else the innermost of all.
    """
    found = None
    for stack in _stacks(lines):
        own = [frame for frame in stack if _own_path(frame["file"], root=root)]
        frame = (own or stack)[0]
        path = _own_path(frame["file"], root=root)
        source = _source(root / path, int(frame["line"])) if path else ""
        where = f"{path or frame['file']}:{frame['line']}, in {frame['name']}"
        found = f"{where}: {source}" if source else where
    return found


def _last_traceback(lines: Sequence[str]) -> tuple[list[str], str] | None:
    """The frames and the error of the last one.

    A syntax error in the file that was asked for has a place and no frames, so it is printed without a head.
    """
    found = None
    block: list[str] | None = None
    for line in lines:
        if line.strip() == _HEAD:
            block = []
        elif block is None:
            block = [line] if _FRAME.match(line) else None
        elif line[:1].isspace() or not line:
            block.append(line)
        else:
            found, block = (block, line), None
    return found


def _source_below(block: Sequence[str], at: int) -> str:
    below = block[at + 1] if at + 1 < len(block) else ""
    return "" if _FRAME.match(below) or not below[:1].isspace() else below.strip()


def _stacks(lines: Iterable[str]) -> Iterator[list[re.Match[str]]]:
    stack: list[re.Match[str]] | None = None
    for line in lines:
        if _THREAD.match(line):
            if stack:
                yield stack
            stack = []
        elif stack is not None:
            match = _DUMPED.match(line)
            if match:
                stack.append(match)
            elif stack:
                yield stack
                stack = None
    if stack:
        yield stack


def _own_path(file: str, *, root: Path) -> str | None:
    """The path inside the app's folder, or None when the file is not one of the app's own."""
    path = PurePath(file)
    if path.is_absolute():
        home = next((home for home in (root, root.resolve()) if path.is_relative_to(home)), None)
        if home is None:
            return None
        path = path.relative_to(home)
    elif file.startswith("<"):
        return None
    return None if _FOREIGN & set(path.parts) else str(path)


def _source(path: Path, number: int) -> str:
    try:
        if path.stat().st_size > _MAX_SOURCE_BYTES:
            return ""
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return lines[number - 1].strip() if 0 < number <= len(lines) else ""
