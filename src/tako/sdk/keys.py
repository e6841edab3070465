"""Templates of a workflow, bound to its parameters: which exist is checked at import, defaults are filled in here."""

from tako.protocol import templates

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from tako.protocol.templates import Part


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

    def render(self, values: "dict[str, Any]") -> str:
        """The text for these arguments (as JSON). Raises PayloadError when a value cannot be part of a key."""
        for name in self.names:
            if name not in values:
                values = {**self._defaults(name), **values}
        return templates.render(self._parts, values, what=self.what)
