"""JSON as the standard library writes and reads it, by the C functions that do its work.

`import json` also loads `re` and `enum` for its slow paths, half of the start of a worker (7 of 16 ms). Errors still
are json.JSONDecodeError, which is a ValueError: `json` is imported when there is one to raise.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Scan = Callable[[str, int], tuple[Any, int]]


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _refuse_type(value: object) -> None:
    raise TypeError(f"{type(value).__name__} is not JSON")


class _Rules:
    """What a scanner is made from; the names are those of json.JSONDecoder."""

    strict = True
    memo: "dict[str, str]" = {}  # noqa: RUF012  (the scanner of other Pythons wants it; cleared by them)

    def __init__(
        self,
        object_pairs_hook: "Callable[[list[tuple[str, Any]]], Any] | None",
        parse_constant: "Callable[[str], Any]",
        parse_float: "Callable[[str], Any]",
    ) -> None:
        self.object_hook = None
        self.object_pairs_hook = object_pairs_hook
        self.parse_constant = parse_constant
        self.parse_float = parse_float
        self.parse_int = int


def scanner(
    *,
    object_pairs_hook: "Callable[[list[tuple[str, Any]]], Any] | None" = None,
    parse_constant: "Callable[[str], Any]" = _refuse_constant,
    parse_float: "Callable[[str], Any]" = float,
) -> "Scan":
    """A function from a text and an index to the value there and the index behind it.

    It raises StopIteration where no value begins, and ValueError where one goes wrong.
    """
    try:
        from _json import make_scanner
    except ImportError:  # another Python than CPython
        from json import JSONDecoder

        decoder = JSONDecoder(
            object_pairs_hook=object_pairs_hook, parse_constant=parse_constant, parse_float=parse_float
        )
        return decoder.scan_once  # type: ignore[attr-defined, no-any-return]
    found: Scan = make_scanner(_Rules(object_pairs_hook, parse_constant, parse_float))  # type: ignore[arg-type]
    return found


def decode_with(scan: "Scan", text: str) -> "Any":
    """The value of a text that holds one and nothing else. Raises ValueError otherwise."""
    text = text.strip(" \t\n\r")
    try:
        value, end = _scanned(scan, text)
    except StopIteration as stop:
        raise ValueError(f"expected a value at character {stop.value}") from None
    if end != len(text):
        raise ValueError(f"more than one value: character {end}")
    return value


def _scanned(scan: "Scan", text: str) -> "tuple[Any, int]":
    try:
        return scan(text, 0)
    except SystemError:
        # Up to Python 3.12 the scanner takes JSONDecodeError from the loaded `json`, and raises nothing without it.
        import json.decoder  # noqa: F401

        return scan(text, 0)


scan = scanner()


def decode(text: str) -> "Any":
    """The value of a JSON text. Raises ValueError, RecursionError."""
    return decode_with(scan, text)


def _encoder(*, is_ascii: bool) -> "Callable[[Any], str]":
    try:
        from _json import encode_basestring, encode_basestring_ascii, make_encoder
    except ImportError:
        from json import JSONEncoder

        return JSONEncoder(ensure_ascii=is_ascii, allow_nan=False, separators=(",", ":")).encode
    text_of = encode_basestring_ascii if is_ascii else encode_basestring
    # markers (none: what contains itself ends in RecursionError), default, encoder, indent, separators, sort_keys,
    # skipkeys, allow_nan
    chunks_of = make_encoder(None, _refuse_type, text_of, None, ":", ",", False, False, False)
    join = "".join
    return lambda value: join(chunks_of(value, 0))


encode = _encoder(is_ascii=False)
encode_ascii = _encoder(is_ascii=True)
