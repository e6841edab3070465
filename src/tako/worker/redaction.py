"""Secrets, taken out of whatever leaves the worker as text."""

from __future__ import annotations

from tako.protocol import json_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# A shorter value ("1", "on") would blot out half of every log and hide nothing.
_MIN_SECRET_CHARS = 4


def clean(text: str) -> str:
    """The text without values of secrets."""
    return text if _replace is None else _replace(text)


def is_used() -> bool:
    """Whether there is anything to take out."""
    return _replace is not None


def use(secrets: Mapping[str, str]) -> None:
    """Take the values of these secrets out from now on, also as they look inside JSON and `repr`."""
    global _replace
    forms: dict[str, str] = {}
    for name, value in secrets.items():
        for form in _forms(value):
            forms.setdefault(form, f"[secret {name}]")
    # Longest first: a secret that begins with another one must not leave its tail behind.
    pairs = sorted(forms.items(), key=lambda pair: -len(pair[0]))

    def replace(text: str) -> str:
        for form, shown in pairs:
            if form in text:
                text = text.replace(form, shown)
        return text

    _replace = replace if pairs else None


_replace: Callable[[str], str] | None = None


def _forms(value: str) -> list[str]:
    # A value of several lines (a PEM key) is looked for line by line as well: a traceback shows single lines.
    wholes = [value, *(line.strip() for line in value.splitlines())]
    found = []
    for whole in wholes:
        if len(whole) >= _MIN_SECRET_CHARS:
            found += [whole, json_text.encode_ascii(whole)[1:-1], json_text.encode(whole)[1:-1], repr(whole)[1:-1]]
    return found
