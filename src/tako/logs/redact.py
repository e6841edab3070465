"""Take the app's secrets out of text before anybody keeps or shows it. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping

TYPE_CHECKING = False  # the command line loads this too, and has no time for `typing`
if TYPE_CHECKING:
    from typing import Any

    from tako.protocol.messages import LogLine

Redact = Callable[[str], str]

# A shorter value ("1", "on") would blot out half of every log and hide nothing.
MIN_SECRET_CHARS = 4


def keep(text: str) -> str:
    """The redaction of an app without secrets."""
    return text


def redactor(secrets: Mapping[str, str]) -> Redact:
    """A function that puts `[secret NAME]` where the value of a secret stands.

    Values are also found as they look inside JSON and `repr`, and a value of several lines (a PEM key) line by line,
    since output is followed line by line.
    """
    names: dict[str, str] = {}
    for name, value in secrets.items():
        for form in _forms(value):
            names.setdefault(form, name)
    if not names:
        return keep
    # Longest first: a secret that begins with another one must not leave its tail behind.
    pattern = re.compile("|".join(re.escape(form) for form in sorted(names, key=len, reverse=True)))
    return lambda text: pattern.sub(lambda found: f"[secret {names[found.group()]}]", text)


def redacted(line: LogLine, redact: Redact) -> LogLine:
    """The line without secrets; the line itself when there are none to take out."""
    if redact is keep:
        return line
    clean: LogLine = {**line, "message": redact(line["message"])}
    if "fields" in line:
        clean["fields"] = _deep(line["fields"], redact)
    return clean


def _deep(value: Any, redact: Redact) -> Any:
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {redact(str(name)): _deep(item, redact) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_deep(item, redact) for item in value]
    return value


def _forms(value: str) -> list[str]:
    """How a secret may look in output: as it is, escaped, and each of its lines."""
    forms = {value, value.strip(), repr(value)[1:-1]}
    forms.update(json.dumps(value, ensure_ascii=ascii_only)[1:-1] for ascii_only in (True, False))
    if "\n" in value:
        # The first and last lines of a PEM file are the same for everybody: no secret, and worth reading.
        forms.update(line.strip() for line in value.splitlines() if not line.startswith("-----") and len(line) >= 8)
    return [form for form in forms if len(form) >= MIN_SECRET_CHARS]
