"""What an enqueue may say besides the arguments: `using(...)`, checked once, turned into the fields of a NewRun."""

from tako.sdk import options, runtime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from datetime import datetime
    from typing import Any, Literal, TypedDict

    from tako.sdk.options import Duration

    class UsingOptions(TypedDict, total=False):
        """The keywords of `using`."""

        delay: Duration
        at: datetime
        key: str
        on_duplicate: Literal["return", "raise"]
        priority: int
        retries: int
        expires: Duration | datetime
        if_unhealthy: Literal["raise", "hold"]
        confirm: bool
        deadline: Duration
        immediate: bool


DEFAULT_DEADLINE_S = 5.0
_MAX_PRIORITY = 2**31


class Using:
    """Options of an enqueue. `fields` go into every NewRun as they are."""

    __slots__ = ("deadline_s", "expires_ms", "fields", "immediate")

    def __init__(self) -> None:
        self.fields: dict[str, Any] = {}
        self.expires_ms: int | None = None  # after the enqueue
        self.deadline_s = DEFAULT_DEADLINE_S
        self.immediate = False

    def of(self, given: "UsingOptions | dict[str, Any]") -> "Using":
        """These and the given options; the given ones win.

        Raises:
            ValueError, TypeError: names the option and what would do.
        """
        found = Using()
        found.fields = dict(self.fields)
        found.expires_ms, found.deadline_s, found.immediate = self.expires_ms, self.deadline_s, self.immediate
        for name, value in given.items():
            setter = _SETTERS.get(name)
            if setter is None:
                raise TypeError(f"unknown option {name!r}; there are: {', '.join(_SETTERS)}")
            setter(found, value)
        if "delay_ms" in found.fields and "run_at_ms" in found.fields:
            raise ValueError("delay and at were both given; one of them says when")
        if found.expires_ms is not None and found.expires_ms <= found.fields.get("delay_ms", 0):
            raise ValueError("expires: the run would expire before its delay has passed")
        return found

    def into(self, run: "dict[str, Any]") -> None:
        """Put the options into a NewRun."""
        run.update(self.fields)
        if self.expires_ms is not None:
            run["expires_at_ms"] = runtime.now_ms() + self.expires_ms


def _delay(found: Using, value: "Any") -> None:
    found.fields["delay_ms"] = options.duration_ms(value, what="delay")


def _at(found: Using, value: "Any") -> None:
    found.fields["run_at_ms"] = options.instant_ms(value, what="at")


def _key(found: Using, value: "Any") -> None:
    found.fields["key"] = check_key(value)


def check_key(value: "Any") -> str:
    """A key as text that can be stored."""
    from tako.protocol.templates import MAX_KEY_BYTES

    if not isinstance(value, str):
        raise TypeError(f"key: expected text, found {value!r}")
    if not 1 <= len(value.encode("utf-8", "replace")) <= MAX_KEY_BYTES:
        raise ValueError(f"key: expected 1 to {MAX_KEY_BYTES} bytes, found {len(value)} characters")
    return value


def _on_duplicate(found: Using, value: "Any") -> None:
    found.fields["on_duplicate"] = one_of(value, ("return", "raise"), what="on_duplicate")


def _priority(found: Using, value: "Any") -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not -_MAX_PRIORITY <= value < _MAX_PRIORITY:
        raise ValueError(f"priority: expected a whole number, found {value!r}")
    found.fields["priority"] = value


def _retries(found: Using, value: "Any") -> None:
    found.fields["retries"] = options.count_of(value, what="retries", least=0)


def _expires(found: Using, value: "Any") -> None:
    if hasattr(value, "utcoffset"):
        found.fields["expires_at_ms"] = options.instant_ms(value, what="expires")
        found.expires_ms = None
        return
    found.expires_ms = options.duration_ms(value, what="expires")
    found.fields.pop("expires_at_ms", None)


def _if_unhealthy(found: Using, value: "Any") -> None:
    found.fields["if_unhealthy"] = one_of(value, ("raise", "hold"), what="if_unhealthy")


def _confirm(found: Using, value: "Any") -> None:
    found.fields["confirm"] = _truth(value, what="confirm")


def _deadline(found: Using, value: "Any") -> None:
    found.deadline_s = options.duration_ms(value, what="deadline") / 1000
    if found.deadline_s <= 0:
        raise ValueError(f"deadline: expected more than nothing, found {value!r}")


def _immediate(found: Using, value: "Any") -> None:
    found.immediate = _truth(value, what="immediate")


def _truth(value: "Any", *, what: str) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{what}: expected True or False, found {value!r}")
    return value


def one_of(value: "Any", allowed: "tuple[str, ...]", *, what: str) -> str:
    """The value, if it is one of these."""
    if value not in allowed:
        raise ValueError(f"{what}: expected {' or '.join(map(repr, allowed))}, found {value!r}")
    found: str = value
    return found


_SETTERS = {
    "delay": _delay,
    "at": _at,
    "key": _key,
    "on_duplicate": _on_duplicate,
    "priority": _priority,
    "retries": _retries,
    "expires": _expires,
    "if_unhealthy": _if_unhealthy,
    "confirm": _confirm,
    "deadline": _deadline,
    "immediate": _immediate,
}

NOTHING = Using()
