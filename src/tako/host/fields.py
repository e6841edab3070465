"""Read the fields of a request: each is there and of its type, or the request is refused by the field's name.

JSON can say what the store cannot hold: numbers without a limit, and half of a surrogate pair, which is no character.
Names of that kind are refused. In JSON text and in words for people the half is escaped, so that neither a payload nor
the reason of a failure is lost for it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tako.errors import InvalidRequest

MAX_NAME_CHARS = 1024
# Every JSON reader keeps these exactly, and sums of two of them fit in the store.
MAX_INTEGER = 2**53


def text(message: Mapping[str, Any], name: str) -> str:
    """A text of at most MAX_NAME_CHARS: names, ids, keys."""
    value = message.get(name)
    if not isinstance(value, str):
        raise InvalidRequest(f"invalid request: `{name}` is a text")
    check_name(name, value)
    return value


def optional_text(message: Mapping[str, Any], name: str) -> str | None:
    """The same, or None when it is missing or null."""
    return None if message.get(name) is None else text(message, name)


def check_name(name: str, value: str) -> None:
    """Refuse a text that is too long for a name, or that is none."""
    if len(value) > MAX_NAME_CHARS:
        raise InvalidRequest(f"invalid request: `{name}` is longer than {MAX_NAME_CHARS} characters")
    if "\0" in value:
        raise InvalidRequest(f"invalid request: `{name}` has a NUL, where texts end for the store")
    if not value.isascii() and escaped(value) is not value:
        raise InvalidRequest(f"invalid request: `{name}` has half of a surrogate pair, which is no character")


def body(message: Mapping[str, Any], name: str) -> str:
    """JSON text without a limit of its own (a request is at most 1 MiB): payloads, results."""
    value = message.get(name)
    if not isinstance(value, str):
        raise InvalidRequest(f"invalid request: `{name}` is a text")
    return escaped(value)


def words(message: Mapping[str, Any], name: str) -> str:
    """What is written for people: reasons, errors, tracebacks, lines of a log. "" when it is missing or null."""
    return "" if message.get(name) is None else body(message, name).replace("\0", "\\0")


def escaped(value: str) -> str:
    """The text with each half of a surrogate pair as JSON writes it, `\\ud800`; the same object if it has none."""
    if value.isascii():
        return value
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.encode("utf-8", "backslashreplace").decode()
    return value


def integer(message: Mapping[str, Any], name: str) -> int:
    """A whole number of at most MAX_INTEGER, either way."""
    value = message.get(name)
    if type(value) is not int or not -MAX_INTEGER <= value <= MAX_INTEGER:
        raise InvalidRequest(f"invalid request: `{name}` is a whole number of at most 2^53")
    return value


def optional_integer(message: Mapping[str, Any], name: str) -> int | None:
    """The same, or None when it is missing or null."""
    return None if message.get(name) is None else integer(message, name)


def number(message: Mapping[str, Any], name: str) -> float:
    """A number that need not be whole, of at most MAX_INTEGER either way."""
    value = message.get(name)
    if type(value) not in (int, float) or not -MAX_INTEGER <= value <= MAX_INTEGER:  # type: ignore[operator]
        raise InvalidRequest(f"invalid request: `{name}` is a number of at most 2^53")
    return float(value)  # type: ignore[arg-type]


def flag(message: Mapping[str, Any], name: str) -> bool:
    """A boolean; false when it is missing."""
    value = message.get(name, False)
    if type(value) is not bool:
        raise InvalidRequest(f"invalid request: `{name}` is true or false")
    return value


def texts(message: Mapping[str, Any], name: str) -> list[str]:
    """A list of texts, each as `text` wants it."""
    value = message.get(name)
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise InvalidRequest(f"invalid request: `{name}` is a list of texts")
    for item in value:
        check_name(name, item)
    return value


def table(message: Mapping[str, Any], name: str) -> dict[str, Any]:
    """An object; empty when it is missing or null."""
    value = message.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidRequest(f"invalid request: `{name}` is an object")
    return value


def tables(message: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """A list of objects; empty when it is missing or null."""
    value = message.get(name)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise InvalidRequest(f"invalid request: `{name}` is a list of objects")
    return value


def json_text(message: Mapping[str, Any], name: str) -> str:
    """The JSON value of a v0 field as the text that is stored."""
    return escaped(json.dumps(message.get(name), ensure_ascii=False, separators=(",", ":")))
