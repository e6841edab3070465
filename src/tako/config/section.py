"""Read one table of `tako.toml` by its keys, and gather every problem with its line: one run shows them all."""

import datetime
import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from tako.config import keys
from tako.errors import ConfigError

Path = tuple[str, ...]
Table = Mapping[str, Any]


class Problems:
    """What is wrong with a file, each with the line of the key it is about."""

    def __init__(self, file: str, lines: Mapping[Path, int]) -> None:
        self._file = file
        self._lines = lines
        self._found: list[tuple[int, str]] = []

    def add(self, path: Path, message: str) -> None:
        """Note a problem of the key at `path`."""
        line = self._line(path)
        place = f"{self._file}:{line}" if line else self._file
        self._found.append((line, f"{place}: {dotted(path)}: {message}" if path else f"{place}: {message}"))

    def _line(self, path: Path) -> int:
        # A key inside a value that has no line of its own is found on the line of what holds it.
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines.get(path, 0)

    def raise_any(self) -> None:
        """Raise what was noted, in the order of the file.

        Raises:
            ConfigError: `detail["problems"]` has one text for each.
        """
        if self._found:
            found = [text for _, text in sorted(self._found, key=lambda item: item[0])]
            raise ConfigError("\n".join(found), detail={"problems": found})


def read(
    problems: Problems, table: Table, path: Path, checks: Mapping[str, keys.Check], *, other: Iterable[str] = ()
) -> dict[str, Any]:
    """The values of `table` that fit, by key. `other` are keys of it that the caller reads itself."""
    found = {}
    others = tuple(other)
    for key, value in table.items():
        if key in others:
            continue
        check = checks.get(key)
        if check is None:
            problems.add((*path, key), _unknown(key, known=(*checks, *others), path=path))
            continue
        try:
            found[key] = check(value)
        except keys.Mismatch as mismatch:
            shown = f", found {show(value)}" if mismatch.shown else ""
            problems.add((*path, key), f"expected {mismatch.expected}{shown}")
    return found


def table_at(problems: Problems, table: Table, path: Path, key: str) -> Table:
    """The table under `key`, empty when there is none. Another kind of value is a problem."""
    value = table.get(key, {})
    if isinstance(value, dict):
        return value
    problems.add((*path, key), f"expected a table, found {show(value)}")
    return {}


def _unknown(key: str, *, known: tuple[str, ...], path: Path) -> str:
    here = f"[{dotted(path)}]" if path else "the top of the file"
    if close := nearest(key, known):
        return f'unknown key; did you mean "{close}"?'
    # Only now: "workers" in [web] is misplaced, but a "helth" there is a typo.
    places = [place for place, checks in keys.PLACES.items() if key in checks and place != here]
    if not path and key in keys.TABLES:
        places = [f"[{key}]"]
    if places:
        first = " (before the first [table])" if places[0] == "the top of the file" else ""
        return f"unknown key; it belongs to {' or '.join(places)}{first}"
    if key in keys.TABLES:
        return f"unknown key; [{key}] is a table of its own"
    if not known:
        return f"unknown key; {here} takes none"
    return f"unknown key; known here: {', '.join(sorted(known))}"


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that was probably meant, or None."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.7)
    return close[0] if close else None


def dotted(path: Path) -> str:
    """A path as a person reads it."""
    return ".".join(keys.clean(part, limit=40) for part in path)


def show(value: object) -> str:
    """A value of the file as it may stand in a message: short, and on one line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{keys.clean(value)}"' if value else "an empty text"
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return _show_list(value)
    if isinstance(value, datetime.date | datetime.time):
        return "a date or time"
    if isinstance(value, int) and abs(value) >= 10**30:
        return "a very large number"
    return keys.clean(str(value))


def _show_list(values: list[object]) -> str:
    if not values:
        return "an empty list"
    if len(values) <= 4 and all(isinstance(value, str | int | float) for value in values):
        return f"[{', '.join(show(value) for value in values)}]"
    return "a list"
