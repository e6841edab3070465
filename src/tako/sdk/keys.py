"""Templates of a workflow, bound to its parameters: which exist is checked at import, defaults are filled in here."""

from tako.protocol import templates

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from tako.protocol.templates import Part
    from tako.sdk.codecs import Codec

_SCALARS = ("null", "bool", "number", "string")


class Template:
    """A template over a workflow's arguments, such as "order:{order_id}"."""

    __slots__ = ("_defaults", "_parts", "names", "text", "what")

    def __init__(
        self, text: str, parameters: "list[str]", *, what: str, defaults: "Callable[[str], dict[str, Any]]"
    ) -> None:
        """`defaults(name)` is asked late for {name: its default as JSON}; {} when it has none.

        Raises:
            ValueError: braces that do not close, or a name that is no parameter.
        """
        if not isinstance(text, str) or not text:
            raise ValueError(f'{what}: expected text such as "order:{{order_id}}", found {text!r}')
        self.text = text
        self.what = what
        try:
            self._parts: list[Part] = templates.parse(text)
        except ValueError as error:
            raise ValueError(f"{what}: {error}") from None
        self.names = templates.names(self._parts)
        self._defaults = defaults
        for name in self.names:
            if name not in parameters:
                known = ", ".join(parameters) or "none"
                raise ValueError(f"{what}: {text!r} names {name!r}, which is no argument; there are: {known}")

    def check(self, codec_of: "Callable[[str], Codec | None]") -> None:
        """Refuse a path that no value can have. `codec_of(name)` is a parameter's; None where it is not known yet.

        Raises:
            ValueError: names the path, what stands in its way, and what would do.
        """
        for path in self._parts:
            if type(path) is tuple and (codec := codec_of(path[0])) is not None:
                wrong = _wrong(path, codec)
                if wrong:
                    raise ValueError(f"{self.what}: {self.text!r} can never be made: {wrong}")

    def render(self, values: "dict[str, Any]") -> str:
        """The text for these arguments (as JSON). Raises PayloadError when a value cannot be part of a key."""
        for name in self.names:
            if name not in values:
                values = {**self._defaults(name), **values}
        return templates.render(self._parts, values, what=self.what)


def _wrong(path: "tuple[str, ...]", codec: "Codec") -> str:
    """Why no value of this type has such a path; "" when one may."""
    place = path[0]
    for name in path[1:]:
        codec = codec.inner or codec
        if codec.kind in _SCALARS:
            return f"{place} is {codec.name}, which has no {name!r}; write {{{place}}}"
        if codec.kind == "array":
            return f"{place} is {codec.name}, and {{{place}.{name}}} names a field of an object"
        if codec.fields is None:
            return ""
        fields = codec.fields()
        if name not in fields:
            return f"{place} is {codec.name}, which has no {name!r}; it has: {', '.join(fields) or 'nothing'}"
        place, codec = f"{place}.{name}", fields[name]
    codec = codec.inner or codec
    if codec.kind == "array":
        return f"{place} is {codec.name}; a part of a key is text or a number"
    if codec.kind == "object":
        some = next(iter(codec.fields()), "id") if codec.fields is not None else "id"
        return f"{place} is {codec.name}; a part of a key is text or a number, for example {{{place}.{some}}}"
    return ""
