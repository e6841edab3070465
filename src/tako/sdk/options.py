"""Durations, Retry, Cron, Every, Rate: what a workflow is declared with. Checked where they are written."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta
    from typing import Any, Literal

    from tako.protocol.messages import RetryPolicy

    Duration = timedelta | int | float | str
    Overlap = Literal["skip", "queue", "allow", "replace"]

_UNIT_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_OVERLAPS = ("skip", "queue", "allow", "replace")
_CATCH_UPS = ("latest", "none")
# About 285,000 years; beyond it, adding to a Unix time in milliseconds would leave SQLite's 64-bit integers.
MAX_DURATION_MS = 2**53


def duration_ms(value: "Duration", *, what: str = "duration") -> int:
    """A duration in milliseconds: a timedelta, seconds as a number, or text such as "90s" "10m" "1h30m" "7d".

    Raises:
        ValueError: not a duration, or negative; `what` names it in the text.
        TypeError: neither number, text nor timedelta.
    """
    if isinstance(value, str):
        found = _parse(value)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        found = value * 1_000 if value == value else None
    elif callable(total_seconds := getattr(value, "total_seconds", None)):
        found = total_seconds() * 1_000
    else:
        raise TypeError(f'{what}: expected a duration such as "90s", 90 or a timedelta, found {value!r}')
    if found is None or not 0 <= found <= MAX_DURATION_MS:
        raise ValueError(f'{what}: expected a duration such as "90s", "1h30m" or 90, found {value!r}')
    return round(found)


def _parse(text: str) -> float | None:
    """Milliseconds of "1h30m", or None when the text is not a duration. A unit must follow every number."""
    total = 0.0
    number = unit = ""
    for char in text.strip() + "0":  # the last 0 closes the last unit
        if char in "0123456789.":
            if unit:
                amount = _amount(number)
                if amount is None or unit not in _UNIT_MS:
                    return None
                total += amount * _UNIT_MS[unit]
                number = unit = ""
            number += char
        elif char.isalpha() and number:
            unit += char
        elif char != " ":
            return None
    return total if number == "0" and text.strip() else None


def _amount(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def instant_ms(value: "datetime", *, what: str = "time") -> int:
    """An aware datetime as Unix milliseconds. Naive ones are refused: they mean another instant on each machine.

    Raises:
        TypeError: not a datetime.
        ValueError: it has no time zone.
    """
    offset = getattr(value, "utcoffset", None)
    if not callable(offset) or not callable(getattr(value, "timestamp", None)):
        raise TypeError(f"{what}: expected a datetime with a time zone, found {value!r}")
    if offset() is None:
        raise ValueError(
            f"{what}: {value!r} has no time zone; use datetime.now(UTC) or .replace(tzinfo=...) to say which it is"
        )
    return round(value.timestamp() * 1_000)


class Retry:
    """How failed attempts of a run, or failed executions of a step, are tried again.

    `retries` counts those after the first attempt. The n-th waits first * factor^(n-1), at most `max`, plus or minus
    `jitter` (a fraction). `on` and `not_on` are exception classes: what is not in `on` (when given), or is in
    `not_on`, is not tried again.
    """

    __slots__ = ("factor", "first_ms", "jitter", "max_ms", "not_on", "on", "retries")

    def __init__(
        self,
        retries: int = 2,
        *,
        first: "Duration" = "1s",
        factor: float = 2,
        max: "Duration" = "1h",
        jitter: float = 0.2,
        on: "type[BaseException] | Sequence[type[BaseException]]" = (),
        not_on: "type[BaseException] | Sequence[type[BaseException]]" = (),
    ) -> None:
        self.retries = count_of(retries, what="retries", least=0)
        self.first_ms = duration_ms(first, what="first")
        self.max_ms = duration_ms(max, what="max")
        self.factor = _number(factor, what="factor", least=1, most=1_000)
        self.jitter = _number(jitter, what="jitter", least=0, most=1)
        self.on = _exceptions(on, what="on")
        self.not_on = _exceptions(not_on, what="not_on")

    def covers(self, error: BaseException) -> bool:
        """Whether this exception is one to try again after; how often is another question."""
        if self.on and not isinstance(error, self.on):
            return False
        return not isinstance(error, self.not_on)

    def policy(self) -> "RetryPolicy":
        """What the engine needs of it."""
        return {
            "first_ms": self.first_ms,
            "factor": self.factor,
            "max_ms": self.max_ms,
            "jitter": self.jitter,
            "retries": self.retries,
        }

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Retry):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in Retry.__slots__)

    def __hash__(self) -> int:
        return hash((self.retries, self.first_ms, self.max_ms, self.factor, self.jitter, self.on, self.not_on))

    def __repr__(self) -> str:
        return (
            f"Retry({self.retries}, first={self.first_ms / 1000:g}, factor={self.factor:g}, max={self.max_ms / 1000:g})"
        )


def retry_of(value: "int | Retry", *, what: str = "retries") -> Retry:
    """`retries=` as it may be written, a number or a Retry, as a Retry."""
    if isinstance(value, Retry):
        return value
    return Retry(count_of(value, what=what, least=0))


class Cron:
    """A five-field cron line: minute, hour, day of month, month, day of week (0 and 7 are Sunday, names allowed).

    `tz` names a time zone. A time that does not exist on a day fires right after the gap, one that exists twice fires
    once. `catch_up="latest"` fires once for what was missed while the engine was away, if that is not older than
    `catch_up_window`; "none" never does. `overlap` says what happens when the last run is not finished yet: "skip",
    "allow", "queue" (one, for afterwards) or "replace" (the last run is cancelled). A fire that comes later than
    `grace` is shown as late by `tako status`.

    Raises ValueError: names the option and what would do.
    """

    __slots__ = ("catch_up", "catch_up_window_ms", "expression", "grace_ms", "overlap", "tz")

    def __init__(
        self,
        expression: str,
        *,
        tz: str = "UTC",
        catch_up: 'Literal["latest", "none"]' = "latest",
        catch_up_window: "Duration" = "24h",
        overlap: "Overlap" = "skip",
        grace: "Duration" = "5m",
    ) -> None:
        if not isinstance(expression, str) or len(expression.split()) != 5:
            raise ValueError(f'schedule: expected five fields such as "0 9 * * 1-5", found {expression!r}')
        if not isinstance(tz, str) or not tz:
            raise ValueError(f'tz: expected the name of a time zone such as "Europe/Paris", found {tz!r}')
        self.expression = " ".join(expression.split())
        self.tz = tz
        self.catch_up = _one_of(catch_up, _CATCH_UPS, what="catch_up")
        self.catch_up_window_ms = duration_ms(catch_up_window, what="catch_up_window")
        self.overlap = _one_of(overlap, _OVERLAPS, what="overlap")
        self.grace_ms = duration_ms(grace, what="grace")

    def declared(self) -> "dict[str, Any]":
        """What the registry tells of it."""
        return {
            "kind": "cron",
            "expression": self.expression,
            "tz": self.tz,
            "catch_up": self.catch_up,
            "catch_up_window_ms": self.catch_up_window_ms,
            "overlap": self.overlap,
            "grace_ms": self.grace_ms,
        }

    def __repr__(self) -> str:
        return f"Cron({self.expression!r}, tz={self.tz!r})"


class Every:
    """A fixed interval, at least one second, each time shifted by up to `jitter`. Options as in Cron."""

    __slots__ = ("catch_up", "catch_up_window_ms", "grace_ms", "interval_ms", "jitter_ms", "overlap")

    def __init__(
        self,
        interval: "Duration",
        *,
        jitter: "Duration" = 0,
        catch_up: 'Literal["latest", "none"]' = "latest",
        catch_up_window: "Duration" = "24h",
        overlap: "Overlap" = "skip",
        grace: "Duration" = "5m",
    ) -> None:
        self.interval_ms = duration_ms(interval, what="interval")
        if self.interval_ms < 1_000:
            raise ValueError(f"interval: expected at least 1s, found {interval!r}")
        self.jitter_ms = duration_ms(jitter, what="jitter")
        if self.jitter_ms >= self.interval_ms:
            raise ValueError(f"jitter: expected less than the interval, found {jitter!r}")
        self.catch_up = _one_of(catch_up, _CATCH_UPS, what="catch_up")
        self.catch_up_window_ms = duration_ms(catch_up_window, what="catch_up_window")
        self.overlap = _one_of(overlap, _OVERLAPS, what="overlap")
        self.grace_ms = duration_ms(grace, what="grace")

    def declared(self) -> "dict[str, Any]":
        """What the registry tells of it."""
        return {
            "kind": "every",
            "interval_ms": self.interval_ms,
            "jitter_ms": self.jitter_ms,
            "catch_up": self.catch_up,
            "catch_up_window_ms": self.catch_up_window_ms,
            "overlap": self.overlap,
            "grace_ms": self.grace_ms,
        }

    def __repr__(self) -> str:
        return f"Every({self.interval_ms / 1000:g})"


def schedules_of(value: "str | Cron | Every | Sequence[str | Cron | Every] | None") -> "tuple[Cron | Every, ...]":
    """`schedule=` as it may be written, as a tuple."""
    if value is None:
        return ()
    if isinstance(value, str):
        return (Cron(value),)
    if isinstance(value, (Cron, Every)):
        return (value,)
    if not isinstance(value, (list, tuple)):
        raise TypeError(f"schedule: expected text, Cron, Every or a list of them, found {value!r}")
    return tuple(schedule for item in value for schedule in schedules_of(item))


class Rate:
    """At most `count` claims of the workflow in any `per`, over all workers, or for each value of `key`."""

    __slots__ = ("count", "key", "per_ms")

    def __init__(self, count: int, *, per: "Duration" = "1s", key: str | None = None) -> None:
        self.count = count_of(count, what="count", least=1)
        self.per_ms = duration_ms(per, what="per")
        if self.per_ms < 1:
            raise ValueError(f"per: expected more than nothing, found {per!r}")
        self.key = key

    def declared(self) -> "dict[str, Any]":
        """What the registry tells of it."""
        return {"count": self.count, "per_ms": self.per_ms, "key": self.key}

    def __repr__(self) -> str:
        return f"Rate({self.count}, per={self.per_ms / 1000:g}, key={self.key!r})"


def count_of(value: object, *, what: str, least: int) -> int:
    """The value, if it is a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{what}: expected a whole number of at least {least}, found {value!r}")
    return value


def _number(value: float, *, what: str, least: float, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
        raise ValueError(f"{what}: expected a number from {least} to {most}, found {value!r}")
    return float(value)


def _one_of(value: str, allowed: "Sequence[str]", *, what: str) -> str:
    if value not in allowed:
        raise ValueError(f"{what}: expected {', '.join(map(repr, allowed))}, found {value!r}")
    return value


def _exceptions(value: object, *, what: str) -> "tuple[type[BaseException], ...]":
    found = value if isinstance(value, (list, tuple)) else (value,)
    for kind in found:
        if not isinstance(kind, type) or not issubclass(kind, BaseException):
            raise TypeError(f"{what}: expected exception classes, found {kind!r}")
    return tuple(found)
