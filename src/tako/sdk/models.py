"""Codecs of classes: dates, UUID, Decimal, Enum, bytes, dataclasses, NamedTuple, TypedDict, pydantic, msgspec, attrs.

`of_class` is given a way to compile the annotations of fields, since classes contain each other and themselves.
"""

import sys

from tako.sdk.codecs import ANY, Codec, Misfit, Unsupported, loaded, wrong

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from tako.sdk.codecs import Scope

    Compile = Callable[[Any, Scope | None], Codec]

_HINTS = {
    "set": "use list: a set has no order",
    "frozenset": "use list: a set has no order",
    "Path": "use str(path)",
    "PosixPath": "use str(path)",
    "complex": "use a tuple of two floats",
    "bytearray": "use bytes",
}


def of_class(cls: type, compile_: "Compile") -> Codec:
    """The codec of a class.

    Raises:
        Unsupported: the class cannot be stored; says what can be used in its place.
    """
    make = _BY_NAME.get((cls.__module__, cls.__name__))
    if make is not None:
        return make(cls)
    if hasattr(cls, "__members__"):
        return _enum(cls)
    if (base := loaded("pydantic", "BaseModel")) is not None and issubclass(cls, base):
        return _pydantic(cls)
    if (base := loaded("msgspec", "Struct")) is not None and issubclass(cls, base):
        return _msgspec(cls)
    if hasattr(cls, "__attrs_attrs__"):
        return _attrs(cls, compile_)
    if hasattr(cls, "__dataclass_fields__"):
        return _dataclass(cls, compile_)
    if issubclass(cls, tuple) and hasattr(cls, "_fields"):
        return _named_tuple(cls, compile_)
    if issubclass(cls, dict) and hasattr(cls, "__required_keys__"):
        return _typed_dict(cls, compile_)
    hint = _HINTS.get(cls.__name__, "use a dataclass, or a type that the docs list")
    raise Unsupported(f"{cls.__qualname__} cannot be stored as JSON; {hint}")


# --- single values --------------------------------------------------------------------------------------------------


def _text_codec(cls: "Any", parse: "Callable[[str], Any]", show: "Callable[[Any], str]", what: str) -> Codec:
    def dump(value: "Any") -> str:
        return show(value) if isinstance(value, cls) else wrong(what, value)

    def load(value: "Any") -> "Any":
        if type(value) is not str:
            wrong(what, value)
        try:
            return parse(value)
        except (ValueError, ArithmeticError):
            raise Misfit(f"expected {what}, found {value[:40]!r}") from None

    return Codec(cls.__name__, "string", dump, load, cls)


def _datetime(cls: "Any") -> Codec:
    what = "datetime with a time zone"

    def check(value: "Any") -> "Any":
        if value.utcoffset() is None:
            raise Misfit(f"expected {what}, found a naive one; use datetime.now(UTC), or .replace(tzinfo=...)")
        return value

    return _text_codec(cls, lambda text: check(cls.fromisoformat(text)), lambda value: check(value).isoformat(), what)


def _date(cls: "Any") -> Codec:
    def show(value: "Any") -> str:
        if hasattr(value, "hour"):
            raise Misfit("expected date, found datetime; use .date()")
        text: str = value.isoformat()
        return text

    return _text_codec(cls, cls.fromisoformat, show, "date")


def _timedelta(cls: "Any") -> Codec:
    # Seconds, as JSON of any language would say it. A double tells microseconds apart up to 2**33 seconds.
    def dump(value: "Any") -> float:
        if not isinstance(value, cls):
            wrong("timedelta", value)
        seconds: float = value.total_seconds()
        try:
            if cls(seconds=seconds) == value:
                return seconds
        except OverflowError:
            pass
        raise Misfit("expected a timedelta of less than 272 years")

    def load(value: "Any") -> "Any":
        if type(value) not in (int, float):
            wrong("timedelta (seconds)", value)
        try:
            return cls(seconds=value)
        except OverflowError:
            raise Misfit(f"expected timedelta (seconds), found {value!r}") from None

    return Codec("timedelta", "number", dump, load, cls)


def _decimal(cls: "Any") -> Codec:
    def parse(text: str) -> "Any":
        value = cls(text)
        if not value.is_finite():
            raise ValueError
        return value

    def show(value: "Any") -> str:
        if not value.is_finite():
            raise Misfit(f"expected a finite Decimal, found {value}")
        return str(value)

    return _text_codec(cls, parse, show, "Decimal")


def _bytes(cls: "Any") -> Codec:
    from binascii import a2b_base64, b2a_base64

    def parse(text: str) -> bytes:
        return a2b_base64(text.encode(), strict_mode=True)

    return _text_codec(cls, parse, lambda value: b2a_base64(value, newline=False).decode(), "bytes (base64)")


def _uuid(cls: "Any") -> Codec:
    return _text_codec(cls, cls, str, "UUID")


_BY_NAME: "dict[tuple[str, str], Callable[[Any], Codec]]" = {
    ("datetime", "datetime"): _datetime,
    ("datetime", "date"): _date,
    ("datetime", "timedelta"): _timedelta,
    ("decimal", "Decimal"): _decimal,
    ("uuid", "UUID"): _uuid,
    ("builtins", "bytes"): _bytes,
}


def _enum(cls: "Any") -> Codec:
    for member in cls:
        if type(member.value) not in (str, int, float):
            raise Unsupported(f"{cls.__qualname__}.{member.name} has the value {member.value!r}; use text or a number")
    by_value = {member.value: member for member in cls}
    flag = loaded("enum", "Flag")
    is_flag = flag is not None and issubclass(cls, flag)
    kinds = {"string" if type(member.value) is str else "number" for member in cls}

    def dump(value: "Any") -> "Any":
        return value.value if isinstance(value, cls) else wrong(cls.__name__, value)

    def load(value: "Any") -> "Any":
        try:
            return cls(value) if is_flag else by_value[value]
        except (KeyError, ValueError, TypeError):
            known = ", ".join(repr(member.value) for member in list(cls)[:8])
            raise Misfit(f"expected {cls.__name__} ({known}), found {str(value)[:40]!r}") from None

    return Codec(cls.__name__, kinds.pop() if len(kinds) == 1 else "any", dump, load, cls)


# --- objects --------------------------------------------------------------------------------------------------------


class Field:
    """A field of an object: its name in Python and in JSON, its codec, whether it may be missing."""

    __slots__ = ("codec", "is_init", "is_required", "name", "parameter")

    def __init__(
        self, name: str, codec: Codec, *, is_required: bool, is_init: bool = True, parameter: str = ""
    ) -> None:
        self.name = name
        self.codec = codec
        self.is_required = is_required
        self.is_init = is_init
        self.parameter = parameter or name


def _exactly(cls: type, value: object) -> None:
    """Refuse what is not of this class. A subclass too: it would come back without the fields that it adds."""
    if type(value) is cls:
        return
    if isinstance(value, cls):
        raise Misfit(
            f"expected {cls.__name__}, found its subclass {type(value).__name__}; annotate the subclass, or both"
        )
    wrong(cls.__name__, value)


def _object(cls: "Any", fields_of: "Callable[[], Iterable[Field]]") -> Codec:
    """An object with attributes. Fields are compiled at the first use, since a class may contain itself.

    A field that the class has no more is skipped: what a run has stored outlives the release that stored it.
    """
    cache: list[Field] = []

    def fields() -> list[Field]:
        if not cache:
            cache.extend(list(fields_of()))  # all or none: a class that is named further down cannot be read yet
        return cache

    def dump(value: "Any") -> "dict[str, Any]":
        _exactly(cls, value)
        found = {}
        for field in fields():
            try:
                found[field.name] = field.codec.dump(getattr(value, field.name))
            except Misfit as misfit:
                raise misfit.inside(f".{field.name}") from None
        return found

    def load(value: "Any") -> "Any":
        if type(value) is not dict:
            wrong(f"{cls.__name__} (an object)", value)
        given, later = _loaded_fields(value, fields())
        try:
            made = cls(**given)
        except (ValueError, TypeError) as error:
            raise Misfit(f"expected {cls.__name__}: {error}") from error
        for name, item in later.items():
            object.__setattr__(made, name, item)
        return made

    found = Codec(cls.__name__, "object", dump, load, cls)
    found.fields = lambda: {field.name: field.codec for field in fields()}
    found.needed = lambda: [field.name for field in fields() if field.is_required]
    return found


def _loaded_fields(value: "dict[str, Any]", fields: "list[Field]") -> "tuple[dict[str, Any], dict[str, Any]]":
    given: dict[str, Any] = {}
    later: dict[str, Any] = {}
    for field in fields:
        if field.name not in value:
            if field.is_required:
                raise Misfit("missing").inside(f".{field.name}")
            continue
        try:
            item = field.codec.load(value[field.name])
        except Misfit as misfit:
            raise misfit.inside(f".{field.name}") from None
        if field.is_init:
            given[field.parameter] = item
        else:
            later[field.name] = item
    return given, later


def _scope(cls: type) -> "dict[str, Any]":
    """Where the string annotations of a class are read: its module, and itself."""
    module = sys.modules.get(cls.__module__)
    return {**(module.__dict__ if module else {}), cls.__name__: cls}


def annotations_of(cls: type) -> "dict[str, tuple[Any, type]]":
    """The annotations of a class and its bases, each with the class it was written in."""
    found: dict[str, tuple[Any, type]] = {}
    for base in reversed(cls.__mro__):
        if base.__module__ != "builtins":
            written = getattr(base, "__annotations__", {})
            found.update({name: (annotation, base) for name, annotation in written.items()})
    return found


def _dataclass(cls: "Any", compile_: "Compile") -> Codec:
    missing = sys.modules["dataclasses"].MISSING

    def fields() -> "Iterable[Field]":
        written = annotations_of(cls)
        for field in cls.__dataclass_fields__.values():
            if field._field_type is not sys.modules["dataclasses"]._FIELD:  # ClassVar, InitVar
                continue
            home = written.get(field.name, (None, cls))[1]
            codec = compile_(field.type, _scope(home))
            is_required = field.default is missing and field.default_factory is missing and field.init
            yield Field(field.name, codec, is_required=is_required, is_init=field.init)

    return _object(cls, fields)


def _attrs(cls: "Any", compile_: "Compile") -> Codec:
    nothing = sys.modules["attr"].NOTHING

    def fields() -> "Iterable[Field]":
        for field in cls.__attrs_attrs__:
            annotation = object if field.type is None else field.type
            yield Field(
                field.name,
                compile_(annotation, _scope(cls)),
                is_required=field.default is nothing and field.init,
                is_init=field.init,
                parameter=getattr(field, "alias", None) or field.name.lstrip("_"),
            )

    return _object(cls, fields)


def _named_tuple(cls: "Any", compile_: "Compile") -> Codec:
    def fields() -> "Iterable[Field]":
        written = annotations_of(cls)
        for name in cls._fields:
            annotation, home = written.get(name, (object, cls))
            yield Field(name, compile_(annotation, _scope(home)), is_required=name not in cls._field_defaults)

    return _object(cls, fields)


def _typed_dict(cls: "Any", compile_: "Compile") -> Codec:
    cache: dict[str, Codec] = {}

    def fields() -> "dict[str, Codec]":
        if not cache:
            # A TypedDict keeps no bases: it has the annotations of all of them, as ForwardRef where they were text.
            cache.update({name: compile_(kind, _scope(cls)) for name, kind in cls.__annotations__.items()})
        return cache

    def convert(value: "Any", *, is_dump: bool) -> "dict[str, Any]":
        if not isinstance(value, dict):
            wrong(f"{cls.__name__} (a dict)", value)
        found = {}
        for name, codec in fields().items():
            if name not in value:
                # In a module of text annotations, __required_keys__ does not know of NotRequired; the codec does.
                if name in cls.__required_keys__ if codec.is_required is None else codec.is_required:
                    raise Misfit("missing").inside(f".{name}")
                continue
            try:
                found[name] = codec.dump(value[name]) if is_dump else codec.load(value[name])
            except Misfit as misfit:
                raise misfit.inside(f".{name}") from None
        if is_dump and (unknown := [name for name in value if name not in fields()]):
            raise Misfit(f"unknown key {unknown[0]!r} of {cls.__name__}")
        return found

    found = Codec(
        cls.__name__,
        "object",
        lambda value: convert(value, is_dump=True),
        lambda value: convert(value, is_dump=False),
    )
    found.fields = fields
    return found


# --- libraries ------------------------------------------------------------------------------------------------------


def _pydantic(cls: "Any") -> Codec:
    invalid = sys.modules["pydantic"].ValidationError

    def dump(value: "Any") -> "Any":
        _exactly(cls, value)
        try:
            return value.model_dump(mode="json", by_alias=True, round_trip=True, warnings="error")
        except Exception as error:  # pydantic_core has a class of its own for each way to fail
            raise Misfit(f"{cls.__name__} cannot be stored: {error}") from error

    def load(value: "Any") -> "Any":
        from tako.sdk.payload import dumps

        try:
            # From JSON, not from Python: in strict models a date is text in the one and a date in the other.
            return cls.model_validate_json(dumps(value))
        except invalid as error:
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            trail = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])
            raise Misfit(first["msg"]).inside(trail) from error

    found = Codec(cls.__name__, "object", dump, load, cls)
    # Which keys its JSON has, unless it is free to have others.
    decorators = getattr(cls, "__pydantic_decorators__", None)
    if cls.model_config.get("extra") != "allow" and not getattr(decorators, "model_serializers", True):
        found.fields = lambda: {
            field.serialization_alias or field.alias or name: ANY for name, field in cls.model_fields.items()
        }
    return found


def _msgspec(cls: "Any") -> Codec:
    msgspec = sys.modules["msgspec"]

    def dump(value: "Any") -> "Any":
        _exactly(cls, value)
        try:
            return msgspec.to_builtins(value, str_keys=True)
        except TypeError as error:
            raise Misfit(f"{cls.__name__} cannot be stored: {error}") from error

    def load(value: "Any") -> "Any":
        try:
            return msgspec.convert(value, cls, str_keys=True)
        except msgspec.ValidationError as error:
            reason, _, place = str(error).partition(" - at `$")
            raise Misfit(reason).inside(place.rstrip("`")) from error

    found = Codec(cls.__name__, "object", dump, load, cls)
    found.fields = lambda: dict.fromkeys(cls.__struct_encode_fields__, ANY)
    return found
