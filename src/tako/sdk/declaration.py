"""The options of @workflow: read, checked at import with file and line, and told to the registry."""

from binascii import crc32

from tako.errors import DefinitionError, PayloadError
from tako.sdk import options
from tako.sdk.codecs import Unsupported
from tako.sdk.enqueueing import one_of
from tako.sdk.keys import Template
from tako.sdk.signature import Signature

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from tako.protocol.messages import Parameter, WorkflowInfo
    from tako.sdk.codecs import Codec
    from tako.sdk.options import Cron, Every, Rate, Retry
    from tako.sdk.signals import Signal

MAX_NAME = 128
_DEFAULTS: "dict[str, Any]" = {
    "name": None,
    "aliases": (),
    "group": "default",
    "retries": 2,
    "timeout": None,
    "step_timeout": "1h",
    "schedule": None,
    "signals": (),
    "key": None,
    "concurrency": None,
    "concurrency_key": None,
    "rate": None,
    "max_pending": None,
    "on_dead": None,
    "if_unhealthy": "raise",
    "strict": False,
    "retention": None,
}


class Declaration:
    """A workflow as it is declared. Durations are milliseconds; `templates` are (field of NewRun, template)."""

    name: str
    aliases: tuple[str, ...]
    group: str
    file: str
    line: int
    signature: Signature
    retry: "Retry"
    timeout_ms: int | None
    step_timeout_ms: int
    schedules: "tuple[Cron | Every, ...]"
    signals: "tuple[Signal[Any], ...]"
    key: str | None
    concurrency: int | None
    concurrency_key: str | None
    rate: "Rate | None"
    max_pending: int | None
    on_dead: str | None
    if_unhealthy: str
    strict: bool
    retention_ms: int | None
    templates: "tuple[tuple[str, Template], ...]"

    @property
    def zone(self) -> str:
        """The time zone of its schedule, in which `ctx.scheduled_for` is told; of the first where there are several."""
        return next((schedule.tz for schedule in self.schedules if isinstance(schedule, options.Cron)), "UTC")


def read(fn: "Callable[..., Any]", given: "Mapping[str, Any]") -> Declaration:
    """The declaration of a handler.

    Raises:
        DefinitionError: it cannot work; names file and line.
    """
    found = Declaration()
    found.file, found.line = _place(fn)
    name = getattr(fn, "__name__", type(fn).__name__)
    try:
        unknown = given.keys() - _DEFAULTS.keys()
        if unknown:
            raise ValueError(f"unknown option {min(unknown)!r}; there are: {', '.join(_DEFAULTS)}")
        found.signature = Signature(fn)
        _read_options(found, {**_DEFAULTS, **given}, name)
    except (ValueError, TypeError) as error:
        raise DefinitionError(f"{found.file}:{found.line}: workflow {name!r}: {error}") from None
    return found


def _read_options(found: Declaration, given: "dict[str, Any]", name: str) -> None:
    found.name = _name(name if given["name"] is None else given["name"], what="name")
    found.aliases = tuple(_name(alias, what="aliases") for alias in _several(given["aliases"], what="aliases"))
    found.group = _name(given["group"], what="group")
    found.retry = options.retry_of(given["retries"])
    found.timeout_ms = _optional_ms(given["timeout"], what="timeout")
    found.step_timeout_ms = options.duration_ms(given["step_timeout"], what="step_timeout")
    found.retention_ms = _optional_ms(given["retention"], what="retention")
    found.schedules = options.schedules_of(given["schedule"])
    found.signals = _several(given["signals"], what="signals")
    found.concurrency = _optional_count(given["concurrency"], what="concurrency")
    found.max_pending = _optional_count(given["max_pending"], what="max_pending")
    found.rate = given["rate"]
    found.on_dead = None if given["on_dead"] is None else _name(given["on_dead"], what="on_dead")
    found.if_unhealthy = one_of(given["if_unhealthy"], ("raise", "hold"), what="if_unhealthy")
    found.strict = given["strict"]
    found.key, found.concurrency_key = given["key"], given["concurrency_key"]
    found.templates = _templates(found)
    _check_together(found)
    _check_paths(found, found.signature.early)


def _check_together(found: Declaration) -> None:
    if not isinstance(found.strict, bool):
        raise TypeError(f"strict: expected True or False, found {found.strict!r}")
    if found.rate is not None and not isinstance(found.rate, options.Rate):
        raise TypeError(f'rate: expected Rate(20, per="1s"), found {found.rate!r}')
    if found.concurrency_key is not None and found.concurrency is None:
        raise ValueError("concurrency_key says of what; concurrency= says how many")
    if found.schedules and found.signature.required:
        names = ", ".join(sorted(found.signature.required))
        raise ValueError(f"a scheduled workflow is called without arguments; give a default to: {names}")
    if found.on_dead == found.name:
        raise ValueError("on_dead names the workflow itself, which would go on for ever")
    for signal in found.signals:
        if not hasattr(signal, "received"):
            raise TypeError(f'signals: expected Signal("name", type), found {signal!r}')
    for name in found.timeout_ms, found.step_timeout_ms:
        if name == 0:
            raise ValueError("a timeout of 0 would let nothing run; use None for no timeout")


def _templates(found: Declaration) -> "tuple[tuple[str, Template], ...]":
    rate_key = found.rate.key if isinstance(found.rate, options.Rate) else None
    every = (
        ("key", "key", found.key),
        ("concurrency_key", "concurrency_key", found.concurrency_key),
        ("rate_key", "rate", rate_key),
    )
    names, default = found.signature.names, found.signature.default_json
    return tuple(
        (field, Template(text, names, what=what, defaults=default)) for field, what, text in every if text is not None
    )


def _check_paths(found: Declaration, codec_of: "Callable[[str], Codec | None]") -> None:
    for _, template in found.templates:
        try:
            template.check(codec_of)
        except Unsupported:
            continue  # a field of a class cannot be read, yet or ever: `check_types` says so when all is loaded


def check_types(found: Declaration) -> None:
    """Compile every annotation, dump every default, and look again at templates over them.

    Raises:
        DefinitionError: names file and line.
    """
    try:
        for name in found.signature.compiled():
            found.signature.default_json(name)
        _ = found.signature.result
        for signal in found.signals:
            signal.declared()
        _check_paths(found, found.signature.compiled().get)
    except (PayloadError, ValueError) as error:
        words = error.message if isinstance(error, PayloadError) else str(error)
        raise DefinitionError(f"{found.file}:{found.line}: workflow {found.name!r}: {words}") from None


def info(found: Declaration) -> "WorkflowInfo":
    """What the registry tells. Raises DefinitionError when the types cannot be stored."""
    check_types(found)
    signature = found.signature
    parameters: list[Parameter] = [
        {"name": name, "type": signature.type_text(name), "required": name in signature.required}
        for name in signature.names
    ]
    return {
        "name": found.name,
        "aliases": list(found.aliases),
        "group": found.group,
        "file": found.file,
        "line": found.line,
        "parameters": parameters,
        "signature": digest(found),
        "retries": found.retry.retries,
        "timeout_ms": found.timeout_ms,
        "key": found.key,
        "max_pending": found.max_pending,
        "on_dead": found.on_dead,
        "if_unhealthy": "hold" if found.if_unhealthy == "hold" else "raise",
        "schedules": [schedule.declared() for schedule in found.schedules],
        "signals": [signal.declared() for signal in found.signals],
        "options": {
            "retry": found.retry.policy(),
            "step_timeout_ms": found.step_timeout_ms,
            "concurrency": found.concurrency,
            "concurrency_key": found.concurrency_key,
            "rate": None if found.rate is None else found.rate.declared(),
            "strict": found.strict,
            "retention_ms": found.retention_ms,
            "is_async": signature.is_async,
            "defaults": _defaults(signature),
        },
    }


def _defaults(signature: Signature) -> "dict[str, Any]":
    """The defaults as JSON: whoever renders a template for a payload that lacks them needs their values."""
    found: dict[str, Any] = {}
    for name in signature.names:
        found.update(signature.default_json(name))
    return found


def digest(found: Declaration) -> str:
    """What changes when arguments that were checked against this declaration may not fit another one."""
    signature = found.signature
    parts = [(name, signature.type_text(name), name in signature.required) for name in signature.names]
    templates = [(field, template.text) for field, template in found.templates]
    text = repr((found.name, templates, parts)).encode()
    # Not for safety, so no hash: `hashlib` would load OpenSSL.
    return f"{crc32(text):08x}{crc32(text[::-1]):08x}"


def _place(fn: "Any") -> tuple[str, int]:
    """File and line of a handler; the file relative to the working directory, which is the app's root."""
    while hasattr(fn, "__wrapped__"):
        fn = fn.__wrapped__
    code = getattr(fn, "__code__", None)
    if code is None:
        return getattr(fn, "__module__", "?"), 0
    import os

    try:
        root = os.getcwd() + os.sep  # noqa: PTH109  (pathlib costs 8 ms)
    except FileNotFoundError:  # the folder has been removed under us
        root = ""
    return code.co_filename.removeprefix(root), code.co_firstlineno


def _name(value: "Any", *, what: str) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{what}: expected text, found {value!r}")
    if not value or len(value) > MAX_NAME or not value.isprintable() or any(char.isspace() for char in value):
        raise ValueError(f"{what}: expected 1 to {MAX_NAME} characters without spaces, found {value[:MAX_NAME]!r}")
    if value == "<lambda>":
        raise ValueError("a lambda has no name; give it one with name=, or use def")
    return value


def _several(value: "Any", *, what: str) -> "tuple[Any, ...]":
    if not isinstance(value, (list, tuple)):
        raise TypeError(f"{what}: expected a list, found {value!r}")
    return tuple(value)


def _optional_ms(value: "Any", *, what: str) -> int | None:
    return None if value is None else options.duration_ms(value, what=what)


def _optional_count(value: "Any", *, what: str) -> int | None:
    return None if value is None else options.count_of(value, what=what, least=1)
