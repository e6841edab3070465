"""Signal: a named, typed value that a run can wait for. Kept until a wait takes it."""

from tako.errors import PayloadError, SignalTimeout
from tako.sdk import annotations, payload
from tako.sdk.codecs import Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builtins import type as Class  # the parameter that is named so hides it from pyright
    from typing import Any, Generic, TypeVar, overload

    T = TypeVar("T")
else:
    from tako.sdk.generic import Generic, T

MISSING: "Any" = type("MISSING", (), {"__slots__": (), "__repr__": lambda self: "MISSING"})()


class Signal(Generic[T]):
    """A signal that workflows declare (`signals=[shipped]`), wait for and are sent.

    `Signal("shipped", Shipment)` is typed: `wait_for` returns a Shipment. Without a type it carries plain JSON.
    """

    __slots__ = ("_codec", "name", "value_type")

    if TYPE_CHECKING:

        @overload
        def __init__(self: "Signal[Any]", name: str) -> None: ...
        @overload
        def __init__(self, name: str, type: Class[T]) -> None: ...

    def __init__(self, name: str, type: "Any" = MISSING) -> None:
        if not isinstance(name, str) or not name or not name.isprintable():
            raise ValueError(f"Signal: expected a name, found {name!r}")
        self.name = name
        self.value_type = type
        self._codec: Any = None

    def encode(self, value: T) -> str:
        """The JSON text of a value of this signal. Raises PayloadError when it does not fit."""
        return payload.encode(self._of(), value, what=f"signal {self.name}")

    def decode(self, text: str) -> T:
        """The value that was sent as `text`. Raises PayloadError when it does not fit (any more)."""
        value: T = payload.decode(self._of(), text, what=f"signal {self.name}")
        return value

    def received(self, text: str | None, default: "Any" = MISSING) -> "Any":
        """What `wait_for` gives back for what the engine answered; None stands for the timeout.

        Raises:
            SignalTimeout: the timeout was reached, and there is no default.
        """
        if text is not None:
            return self.decode(text)
        if default is MISSING:
            raise SignalTimeout(f"no signal {self.name!r} came before the timeout")
        return default

    def declared(self) -> "dict[str, Any]":
        """What the registry tells of it: enough for the engine to refuse most of what no wait could read.

        Raises:
            PayloadError: its type cannot be stored.
        """
        name = None if self.value_type is MISSING else getattr(self.value_type, "__qualname__", str(self.value_type))
        found: dict[str, Any] = {"name": self.name, "type": name}
        codec = self._of()
        try:
            found["kind"] = codec.kind
            if codec.fields is not None:
                found["fields"] = {field: inner.kind for field, inner in codec.fields().items()}
                found["needed"] = [] if codec.needed is None else codec.needed()
        except Unsupported as error:
            raise PayloadError(f"signal {self.name}: {error}") from None
        return found

    def _of(self) -> "Any":
        if self._codec is None:
            annotation = annotations.MISSING if self.value_type is MISSING else self.value_type
            self._codec = payload.codec_for(annotation, what=f"signal {self.name}")
        return self._codec

    def __repr__(self) -> str:
        return f"Signal({self.name!r})"
