"""`key=value` arguments as JSON values, read by the types that the workflow's signature says. Pure.

The engine tells types as they are written (`int`, `str | None`, `list[str]`). What cannot be told from its text (a
dataclass, an alias) is taken as JSON when it is JSON, else as a text: the worker decodes it and names what is wrong.
"""

from __future__ import annotations

import json
import re
from typing import Any

from tako.cli.arguments import UsageError

_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0"})
# Types whose JSON is a text that is written as people write it.
_TEXTS = frozenset({"str", "datetime", "date", "time", "timedelta", "UUID", "Decimal", "bytes", "Path"})
_OPEN, _CLOSE = "[(", "])"


def value(text: str, declared: str, *, name: str) -> Any:
    """The JSON value that `text` means for a parameter declared so.

    Raises:
        UsageError: it cannot be read as any of the declared types.
    """
    members = _members(declared)
    # `None` first and text last: "5" for `str | int` is a number, "null" for `str | None` is no text.
    for member in sorted(members, key=_precedence):
        found = _read(text, member)
        if found is not _NOT:
            return found
    raise UsageError(f"{name}: expected {declared}, found {text!r}. Nothing was enqueued.")


class _Not:
    """The text is no value of this type."""


_NOT = _Not()


def _read(text: str, member: str) -> Any:
    plain = member.rpartition(".")[2] if "[" not in member else member
    lowered = text.strip().lower()
    match plain:
        case "None":
            return None if lowered in ("null", "none", "") else _NOT
        case "bool":
            return True if lowered in _TRUE else False if lowered in _FALSE else _NOT
        case "int":
            return int(text) if re.fullmatch(r"\s*[+-]?\d{1,4000}\s*", text, re.ASCII) else _NOT
        case "float":
            return _float(text)
    if plain in _TEXTS:
        return text
    outer = re.split(r"[\[(]", plain, maxsplit=1)[0].rpartition(".")[2].lower()
    if outer in ("list", "tuple", "set", "frozenset", "sequence"):
        return _json(text, list)
    if outer in ("dict", "mapping"):
        return _json(text, dict)
    if outer == "literal" and "[" in plain:
        return _literal(text, plain)
    parsed = _json(text, object)
    return text if parsed is _NOT else parsed


def _float(text: str) -> Any:
    try:
        number = float(text)
    except ValueError:
        return _NOT
    return number if number - number == 0 else _NOT  # no NaN, no infinity: they are not JSON


def _json(text: str, kind: type) -> Any:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return _NOT
    return found if isinstance(found, kind) else _NOT


def _literal(text: str, declared: str) -> Any:
    for choice in _split(declared[declared.index("[") + 1 : -1], ","):
        bare = choice.strip()
        if bare[:1] in "'\"" and bare[1:-1] == text:
            return text
        if bare == text and re.fullmatch(r"-?\d+", bare):
            return int(bare)
        if bare in ("True", "False") and bare.lower() == text.lower():
            return bare == "True"
    return _NOT


def _members(declared: str) -> list[str]:
    """The members of a union, `Optional[X]` and `Union[X, Y]` as well."""
    found: list[str] = []
    for part in _split(declared, "|"):
        member = part.strip()
        inner = re.fullmatch(r"(?:typing\.)?(Optional|Union)\[(.*)\]", member)
        if inner is None:
            found.append(member)
            continue
        for piece in _split(inner[2], ","):
            found += _members(piece.strip())
        if inner[1] == "Optional":
            found.append("None")
    return found or [declared]


def _precedence(member: str) -> int:
    order = {"None": 0, "bool": 3, "int": 1, "float": 2, "str": 9}
    return order.get(member, 8 if member.rpartition(".")[2] in _TEXTS else 4)


def _split(text: str, mark: str) -> list[str]:
    """Split at a mark that stands outside brackets and quotes."""
    parts, depth, quote, begin = [], 0, "", 0
    for at, char in enumerate(text):
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char in _OPEN:
            depth += 1
        elif char in _CLOSE:
            depth -= 1
        elif char == mark and depth == 0:
            parts.append(text[begin:at])
            begin = at + 1
    return [*parts, text[begin:]]
