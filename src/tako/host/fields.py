"""Read the fields of a request: each is there and of its type, or the request is refused by the field's name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tako.errors import InvalidRequest

MAX_NAME_BYTES = 1024


def text(message: Mapping[str, Any], name: str) -> str:
    """A text of at most MAX_NAME_BYTES: names, ids, keys."""
    value = message.get(name)
    if not isinstance(value, str):
        raise InvalidRequest(f"invalid request: `{name}` is a text")
    if len(value) > MAX_NAME_BYTES:
        raise InvalidRequest(f"invalid request: `{name}` is longer than {MAX_NAME_BYTES} characters")
    return value


def optional_text(message: Mapping[str, Any], name: str) -> str | None:
    """The same, or None when it is missing or null."""
    return None if message.get(name) is None else text(message, name)


def body(message: Mapping[str, Any], name: str) -> str:
    """A text without a limit of its own (a request is at most 1 MiB): payloads, results, tracebacks."""
    value = message.get(name)
    if not isinstance(value, str):
        raise InvalidRequest(f"invalid request: `{name}` is a text")
    return value


def integer(message: Mapping[str, Any], name: str) -> int:
    """A whole number, within what the store can hold."""
    value = message.get(name)
    if type(value) is not int or not -(2**63) <= value < 2**63:
        raise InvalidRequest(f"invalid request: `{name}` is a whole number")
    return value


def optional_integer(message: Mapping[str, Any], name: str) -> int | None:
    """The same, or None when it is missing or null."""
    return None if message.get(name) is None else integer(message, name)


def flag(message: Mapping[str, Any], name: str) -> bool:
    """A boolean; false when it is missing."""
    value = message.get(name, False)
    if type(value) is not bool:
        raise InvalidRequest(f"invalid request: `{name}` is true or false")
    return value


def texts(message: Mapping[str, Any], name: str) -> list[str]:
    """A list of texts."""
    value = message.get(name)
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise InvalidRequest(f"invalid request: `{name}` is a list of texts")
    return value


def json_text(message: Mapping[str, Any], name: str) -> str:
    """The JSON value of a v0 field as the text that is stored."""
    return json.dumps(message.get(name), ensure_ascii=False, separators=(",", ":"))
