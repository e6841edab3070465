"""Every key of `tako.toml` and what it takes. A check returns the value as the model has it, or raises Mismatch."""

import re
import shlex
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from tako.config import durations
from tako.protocol import env

Check = Callable[[object], object]

APP_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")
GROUP_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,62}")
VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TARGET = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*(?:\(\))?")
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_ROUTE = re.compile(rf"(?:\*\.)?{_LABEL}(?:\.{_LABEL})*(?:/[A-Za-z0-9._~-]+)*")
_URL_PREFIX = re.compile(r"(?:/[A-Za-z0-9._~-]+)+")
_ADDRESS = re.compile(r"[^\s@,<>]+@[^\s@,<>]+")
_SSH_ADDRESS = re.compile(
    r"(?:[A-Za-z_][A-Za-z0-9_.-]*@)?(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9][A-Za-z0-9._-]*)(?::[0-9]{1,5})?"
)
_HOST_KEY = re.compile(r"[a-z][a-z0-9@.-]+ [A-Za-z0-9+/]{40,}={0,3}(?: .*)?")

# What Tako sets itself: a line in [vars] would be accepted and have no effect, or break the process contract.
RESERVED = frozenset({env.ENVIRONMENT, "PORT", "HOST", "PYTHONUNBUFFERED", "LISTEN_FDS", "LISTEN_PID"})
RESERVED_PREFIX = "TAKO_"


class Mismatch(Exception):
    """A value does not fit its key. `expected` completes the sentence "expected …"; `shown` is False for secrets."""

    def __init__(self, expected: str, *, shown: bool = True) -> None:
        super().__init__(expected)
        self.expected = expected
        self.shown = shown


def text(expected: str, pattern: re.Pattern[str] | None = None) -> Check:
    """A non-empty string, of this form if one is given."""

    def check(value: object) -> str:
        if (
            not isinstance(value, str)
            or not value.strip()
            or "\0" in value
            or (pattern and not pattern.fullmatch(value))
        ):
            raise Mismatch(expected)
        return value

    return check


def whole(*, least: int, most: int) -> Check:
    """A whole number. `true` is none, although Python says so."""

    def check(value: object) -> int:
        if type(value) is not int or not least <= value <= most:
            raise Mismatch(f"a whole number from {least} to {most}")
        return value

    return check


def duration(value: object) -> float:
    """Seconds of a text such as "10m". A bare number is refused: nobody remembers which unit it would be."""
    found = durations.parse_ms(value) if isinstance(value, str) else None
    if found is None:
        raise Mismatch('a duration such as "30s"')
    return found / 1000


def duration_or_never(value: object) -> float | None:
    """Like `duration`, or "never", which is None."""
    if value == "never":
        return None
    try:
        return duration(value)
    except Mismatch:
        raise Mismatch('a duration such as "30s", or "never"') from None


def size(value: object) -> int:
    """Bytes of a text such as "512M"."""
    found = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if found is None or (total := int(found[1]) * _UNIT_BYTES[found[2]]) < LEAST_MEMORY:
        raise Mismatch('a size such as "512M" or "2G", at least "32M"')
    return total


def choice(*allowed: str) -> Check:
    """One of these texts."""

    def check(value: object) -> str:
        if not isinstance(value, str) or value not in allowed:
            raise Mismatch(" or ".join(f'"{name}"' for name in allowed))
        return value

    return check


def texts(expected: str, pattern: re.Pattern[str] | None = None) -> Check:
    """A list of different texts, not empty."""
    one = text(expected, pattern)

    def check(value: object) -> tuple[str, ...]:
        if not isinstance(value, list) or not value:
            raise Mismatch(expected)
        try:
            found = tuple(str(one(item)) for item in value)
        except Mismatch:
            raise Mismatch(expected) from None
        if len(set(found)) != len(found):
            raise Mismatch(f"{expected}, each once")
        return found

    return check


def command(value: object) -> tuple[str, ...]:
    """A program and its arguments, as a list or as one line that is split like a shell does."""
    expected = 'a command such as ["gunicorn", "app:app"]'
    if isinstance(value, str):
        try:
            value = shlex.split(value)
        except ValueError as error:
            raise Mismatch(f"{expected} ({error})") from None
    if not isinstance(value, list) or not value or not value[0]:
        raise Mismatch(expected)
    if any(not isinstance(part, str) or "\0" in part for part in value):
        raise Mismatch(expected)
    return tuple(value)


def static(value: object) -> Mapping[str, str]:
    """URL prefixes and the folders of the app that answer them."""
    expected = 'a table such as { "/static" = "staticfiles" }'
    if not isinstance(value, dict) or not value:
        raise Mismatch(expected)
    for prefix, folder in value.items():
        if not _URL_PREFIX.fullmatch(prefix) or {".", ".."} & set(prefix.split("/")):
            raise Mismatch(f'{expected}; "{clean(prefix)}" is not a path such as "/static"')
        if not isinstance(folder, str) or not is_inside(folder):
            raise Mismatch(f'{expected}; the folder of "{prefix}" must lie inside the app')
    return dict(value)


def folders(value: object) -> tuple[str, ...]:
    """A list of folders of the app."""
    expected = 'a list of folders inside the app such as ["dist"]'
    found = texts(expected)(value)
    if not isinstance(found, tuple) or not all(is_inside(folder) for folder in found):
        raise Mismatch(expected)
    return found


def is_inside(folder: str) -> bool:
    """Whether a relative path stays inside the folder that it starts from."""
    parts = folder.split("/")
    return bool(folder.strip()) and not folder.startswith("/") and ".." not in parts and not has_control(folder)


def has_control(value: str) -> bool:
    """Whether a text holds control characters, which could forge lines of a terminal."""
    return any(not char.isprintable() for char in value)


def clean(value: str, *, limit: int = 60) -> str:
    """A text of the user's as it may stand in one line of a message."""
    value = "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in value)
    return value if len(value) <= limit else value[: limit - 1] + "…"


def webhook(value: object) -> str:
    """An http or https URL. Not shown in errors: it may carry a token."""
    if isinstance(value, str) and not has_control(value) and _url_scheme(value) in ("http", "https"):
        return value
    raise Mismatch('a URL such as "https://hooks.example.com/…"', shown=False)


def smtp(value: object) -> str:
    """An smtp or smtps URL. Not shown in errors: it may carry a password."""
    if isinstance(value, str) and not has_control(value) and _url_scheme(value) in ("smtp", "smtps"):
        return value
    raise Mismatch('a URL such as "smtp://localhost:25" or "smtps://user@mail.example.com"', shown=False)


def _url_scheme(value: str) -> str | None:
    try:
        parts = urlsplit(value)
        _ = parts.port  # reading it is what checks it
    except ValueError:
        return None
    return parts.scheme if parts.hostname else None


def variable_problem(name: str) -> str | None:
    """Why a name cannot be a variable of the app, or None."""
    if not VARIABLE_NAME.fullmatch(name):
        return "a variable's name has letters, digits and _ only, and does not begin with a digit"
    if name in RESERVED or name.startswith(RESERVED_PREFIX):
        return f"{name} is set by Tako; choose another name"
    return None


_SIZE = re.compile(r"([0-9]{1,9})([MG])")
_UNIT_BYTES = {"M": 1 << 20, "G": 1 << 30}
LEAST_MEMORY = 32 << 20  # a Python with nothing but our runner takes nearly that

_COMMAND_LINE = 'a command such as "python manage.py migrate"'
_NAME = "lowercase letters, digits and hyphens, at most 40"

TOP: dict[str, Check] = {
    "name": text(f'a name such as "my-app" ({_NAME})', APP_NAME),
    "main": text('"module:attribute" such as "app:app", or "app:create_app()"', _TARGET),
    "python": text('the path of a Python interpreter such as ".venv/bin/python"'),
    "release": text(_COMMAND_LINE),
}
GROUP: dict[str, Check] = {
    "workers": whole(least=0, most=1000),
    "concurrency": whole(least=1, most=1000),
    "idle_timeout": duration,
    "max_workers": whole(least=1, most=1000),
    "boot_timeout": duration,
    "drain_timeout": duration,
    "memory": size,
}
WORKFLOWS: dict[str, Check] = {**GROUP, "retention": duration, "durability": choice("full", "process")}
WEB: dict[str, Check] = {
    "instances": whole(least=1, most=1000),
    "idle_timeout": duration_or_never,
    "health": text('a path such as "/health"', re.compile(r"/[!-~]*")),
    "start_timeout": duration,
    "drain_timeout": duration,
    "static": static,
    "command": command,
    "listen": choice("fd", "port"),
    "memory": size,
}
BUILD: dict[str, Check] = {"run": text(_COMMAND_LINE), "include": folders}
ENVIRONMENT: dict[str, Check] = {
    "route": text('a host such as "example.com"', _ROUTE),
    "routes": texts('a list of hosts such as ["example.com"]', _ROUTE),
    "servers": texts('a list of server names such as ["fra1"]', APP_NAME),
}
SERVER: dict[str, Check] = {
    "address": text('an address such as "root@203.0.113.5"', _SSH_ADDRESS),
    "host_key": text('a host key such as "ssh-ed25519 AAAA…"', _HOST_KEY),
}
ALERTS: dict[str, Check] = {"webhook": webhook, "command": text('a command such as "notify-send Tako"')}
EMAIL: dict[str, Check] = {"to": text('an address such as "ops@example.com"', _ADDRESS), "smtp": smtp}

# Where each key may stand, so that a misplaced one can be told its place.
PLACES: dict[str, dict[str, Check]] = {
    "the top of the file": TOP, "[workflows]": WORKFLOWS, "[web]": WEB, "[build]": BUILD,
    "[envs.NAME]": ENVIRONMENT, "[servers.NAME]": SERVER, "[alerts]": ALERTS, "alerts.email": EMAIL,
}  # fmt: skip
TABLES = ("vars", "workflows", "web", "build", "envs", "servers", "alerts")
