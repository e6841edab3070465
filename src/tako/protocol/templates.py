"""Templates such as "order:{order_id}", rendered from a payload as JSON: the same text for SDK, CLI, cron and daemon.

Pure. `{name}` and `{name.field}` stand for a value of the payload, `{{` and `}}` for braces. No formats, no indexing:
a key must not depend on how a Python object prints itself.
"""

from tako.errors import PayloadError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    Part = str | tuple[str, ...]  # literal text, or the path of a value

MAX_KEY_BYTES = 512


def parse(text: str) -> "list[Part]":
    """The parts of a template: texts, and paths as tuples.

    Raises:
        ValueError: braces that do not close, or a name that is not one.
    """
    parts: list[Part] = []
    literal = ""
    at = 0
    while at < len(text):
        char = text[at]
        if char in "{}" and text[at + 1 : at + 2] == char:
            literal += char
            at += 2
        elif char == "{":
            end = text.find("}", at)
            path = tuple(text[at + 1 : end].split(".")) if end > 0 else ()
            if not path or not all(name.isidentifier() for name in path):
                raise ValueError(f"{text!r}: expected {{name}} at column {at + 1}")
            if literal:
                parts.append(literal)
            parts.append(path)
            literal = ""
            at = end + 1
        elif char == "}":
            raise ValueError(f"{text!r}: a single '}}' at column {at + 1}; write '}}}}' for a brace")
        else:
            literal += char
            at += 1
    if literal:
        parts.append(literal)
    return parts


def names(parts: "list[Part]") -> list[str]:
    """The arguments that a template uses, in order."""
    return [part[0] for part in parts if type(part) is tuple]


def of(info: "Mapping[str, Any]") -> "dict[str, str]":
    """The templates of a workflow, as its registry tells of it, by the field of NewRun that each is for."""
    options = info.get("options") or {}
    found = {
        "key": info.get("key"),
        "concurrency_key": options.get("concurrency_key"),
        "rate_key": (options.get("rate") or {}).get("key"),
    }
    return {field: text for field, text in found.items() if text is not None}


def render_all(texts: "Mapping[str, str]", values: "Mapping[str, Any]") -> "dict[str, str]":
    """Every template's text for these values, defaults included.

    Raises:
        PayloadError: as `render`.
    """
    return {field: render(parse(text), values, what=field) for field, text in texts.items()}


def render(parts: "list[Part]", values: "Mapping[str, Any]", *, what: str = "key") -> str:
    """The text for these values (JSON, as stored).

    Raises:
        PayloadError: a value is missing, or is no text, number, truth value or null; or the text is empty or too long.
    """
    text = "".join([part if type(part) is str else _text(part, values, what) for part in parts])
    if not text or len(text.encode("utf-8", "surrogatepass")) > MAX_KEY_BYTES:
        raise PayloadError(f"{what}: expected 1 to {MAX_KEY_BYTES} bytes, found {len(text)} characters")
    return text


def _text(path: "Any", values: "Mapping[str, Any]", what: str) -> str:
    found: Any = values
    for name in path:
        if not isinstance(found, dict) or name not in found:
            raise PayloadError(f"{what}: the arguments have no {'.'.join(path)!r}")
        found = found[name]
    if type(found) is str:
        return found
    if found is None or type(found) is bool:
        return {None: "null", True: "true", False: "false"}[found]
    if isinstance(found, (int, float)):
        return repr(found)
    raise PayloadError(f"{what}: {'.'.join(path)!r} is a {type(found).__name__}; expected text or a number")
