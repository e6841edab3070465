"""`tako.secrets`: the app's secrets, from the envelope. Never in the environment, never in a text that leaves."""

import os

from tako.errors import NoEngine
from tako.protocol import env
from tako.sdk import runtime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TypeVar, overload

    T = TypeVar("T")

REDACTED = "[secret]"
# Shorter values would turn ordinary words into [secret]; `tako secrets set` warns of them.
_MIN_REDACTED = 4


class Secrets:
    """A mapping of the app's secrets. Printing it shows names only."""

    __slots__ = ()

    def __getitem__(self, name: str) -> str:
        """The value of a secret.

        Raises:
            MissingSecret: a KeyError that lists the names that are known.
            NoEngine: this process was not started by Tako.
        """
        known = _known()
        try:
            return known[name]
        except KeyError:
            raise MissingSecret(name, sorted(known)) from None

    if TYPE_CHECKING:

        @overload
        def get(self, name: str) -> str | None: ...
        @overload
        def get(self, name: str, default: T) -> str | T: ...

    def get(self, name: str, default: object = None) -> object:
        """The value of a secret, or `default`; outside Tako always `default`."""
        return (runtime.secrets() or {}).get(name, default)

    def __contains__(self, name: object) -> bool:
        return name in _known()

    def __iter__(self) -> "Iterator[str]":
        return iter(_known())

    def __len__(self) -> int:
        return len(_known())

    def keys(self) -> "list[str]":
        """The names."""
        return list(_known())

    def redact(self, text: str) -> str:
        """The text with every value of a secret replaced. Does nothing outside Tako."""
        for value in sorted((runtime.secrets() or {}).values(), key=len, reverse=True):
            if len(value) >= _MIN_REDACTED and value in text:
                text = text.replace(value, REDACTED)
        return text

    def __repr__(self) -> str:
        known = runtime.secrets()
        return "<secrets: not under Tako>" if known is None else f"<secrets: {', '.join(sorted(known)) or 'none'}>"


class MissingSecret(KeyError):
    """No secret has this name."""

    def __init__(self, name: str, known: "list[str]") -> None:
        super().__init__(name)
        self.name = name
        self.known = known

    def __str__(self) -> str:
        names = ", ".join(self.known) or "none"
        environment = os.environ.get(env.ENVIRONMENT, "development")
        where = "" if environment == "development" else f" --env {environment}"
        return f"no secret {self.name!r}; known are: {names}\n  Set it with `tako secrets set {self.name}{where}`."


def _known() -> dict[str, str]:
    found = runtime.secrets()
    if found is None:
        raise NoEngine(
            "Secrets are known only under Tako.",
            cure=f"Start the process with {runtime.WAYS_IN}; or use secrets.get(name, default).",
        )
    return found


secrets = Secrets()
