"""Arguments, results and signals to JSON text and back, by annotation. `codecs.py` says what each type looks like.

Every function here raises PayloadError, with the place: `result.items[3].due: expected …`. Never pickle: what is
stored must be readable by the next release, by people, and by other languages.
"""

from tako.errors import PayloadError
from tako.protocol import json_text
from tako.sdk.annotations import MISSING, codec_of, returned_by
from tako.sdk.codecs import ANY, Codec, Misfit, Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

MAX_BYTES = 1_048_576

dumps: "Callable[[Any], str]" = json_text.encode


def encode(codec: Codec, value: "Any", *, what: str) -> str:
    """The JSON text of a value; `what` is how its place begins in errors ("result", "argument user_id").

    Raises:
        PayloadError: it does not fit, or is larger than MAX_BYTES.
    """
    try:
        text = dumps(codec.dump(value))
    except Misfit as misfit:
        raise misfit_error(misfit, what) from None
    except Unsupported as error:
        raise PayloadError(f"{what}: {error}") from None
    except (RecursionError, ValueError) as error:  # a list in itself; an int of more than 4,300 digits
        raise PayloadError(f"{what}: cannot be stored: {error}") from None
    return checked(text, what=what)


def arguments_text(values: "Mapping[str, Any]", *, of: str) -> str:
    """The JSON text of arguments that are JSON values already; `of` is the workflow's name.

    Raises:
        PayloadError: names the argument that has no JSON text, or they are too large together.
    """
    try:
        text = dumps(values)
    except ValueError:  # an int of more than 4,300 digits
        for name, value in values.items():
            encode(ANY, value, what=f"arguments of {of}: {name}")
        raise
    return checked(text, what=f"arguments of {of}")


def decode(codec: Codec, text: str, *, what: str) -> "Any":
    """The value that was stored as `text`.

    Raises:
        PayloadError: it is not JSON, or does not fit (any more).
    """
    try:
        return codec.load(json_text.decode(text))
    except Misfit as misfit:
        raise misfit_error(misfit, what) from None
    except Unsupported as error:
        raise PayloadError(f"{what}: {error}") from None
    except (RecursionError, ValueError) as error:
        raise PayloadError(f"{what}: stored text is not JSON: {error}") from None


def checked(text: str, *, what: str) -> str:
    """The same text, if it can be stored: UTF-8, and not too large. Lone surrogates are escaped."""
    if not text.isascii():
        try:
            size = len(text.encode())
        except UnicodeEncodeError:
            text = json_text.encode_ascii(json_text.decode(text))
            size = len(text)
    else:
        size = len(text)
    if size > MAX_BYTES:
        raise too_large(what, size)
    return text


def too_large(what: str, size: int) -> PayloadError:
    """The error for what does not fit in a request; says what to do with it."""
    return PayloadError(
        f"{what}: {size:,} bytes as JSON; at most {MAX_BYTES:,} can be stored",
        cure="Store the data elsewhere (a file, a bucket, a table) and pass a reference to it.",
        detail={"bytes": size, "limit": MAX_BYTES},
    )


def misfit_error(misfit: Misfit, what: str) -> PayloadError:
    """A misfit as the error that people see."""
    place = f"{what}{misfit.trail}"
    return PayloadError(f"{place}: {misfit.reason}", detail={"path": place})


def codec_for_step(fn: "Any", returns: "Any" = None) -> Codec:
    """The codec of a step's value: `returns` if given, else what `fn` says it returns, else plain JSON.

    Raises:
        PayloadError: the type cannot be stored.
    """
    annotation, scope = (returns, None) if returns is not None else returned_by(fn)
    if annotation is MISSING:
        return ANY
    try:
        return codec_of(annotation, scope)
    except Unsupported as error:
        raise PayloadError(f"result: {error}") from None


def dump_arguments(values: "Mapping[str, Any]") -> "dict[str, Any]":
    """Arguments for a workflow whose types are not known here, as JSON values; types that we know dump as such.

    Raises:
        PayloadError: names the argument that cannot be stored.
    """
    found = {}
    for name, value in values.items():
        if not isinstance(name, str):
            raise PayloadError(f"arguments: expected names of str, found {name!r}")
        try:
            found[name] = _dump_known(value)
        except Misfit as misfit:
            raise misfit_error(misfit, name) from None
        except Unsupported as error:
            raise PayloadError(f"{name}: {error}") from None
        except RecursionError:
            raise PayloadError(f"{name}: nested too deep, or a part of itself") from None
    return found


def _dump_known(value: "Any") -> "Any":
    kind = type(value)
    if kind is list or kind is tuple:
        return [_dump_known(item) for item in value]
    if kind is dict:
        return ANY.dump({key: _dump_known(item) for key, item in value.items()})
    if value is None or kind in (str, int, float, bool):
        return ANY.dump(value)
    return codec_of(kind).dump(value)


def codec_for(annotation: "Any", scope: "Any" = None, *, what: str) -> Codec:
    """The codec of an annotation. Raises PayloadError when values of it cannot be stored."""
    try:
        return codec_of(annotation, scope)
    except Unsupported as error:
        raise PayloadError(f"{what}: {error}") from None


def is_plain(value: object) -> bool:
    """Whether decoding what was just encoded is sure to give this value back, so that it need not be done.

    Numbers are not: an int that is annotated as a float comes back as one.
    """
    return value is None or type(value) is str or type(value) is bool
