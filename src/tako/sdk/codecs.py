"""A codec for each annotation: values of Python to JSON and back, compiled once, exact about what fits.

A codec is a pair of functions, `dump` (value to JSON) and `load` (JSON to value). Both raise Misfit, which gathers the
path on its way out, so that nothing is spent on paths while all is well. What a type's JSON looks like:

    datetime, date, timedelta   ISO text ("2026-11-23T08:00:00+00:00", seconds as a number for timedelta)
    UUID, Decimal, bytes        text (base64 for bytes)
    Enum                        its value
    dataclass, NamedTuple, TypedDict, pydantic, msgspec, attrs      an object
    union                       the member's JSON; where two members would look alike, {"$": name, "value": ...}

Libraries are looked up among the loaded modules and never imported: an app that does not use pydantic does not pay
for it. Sets are refused: their order would make one payload two texts.
"""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, NoReturn

    Dump = Callable[[Any], Any]
    Load = Callable[[Any], Any]
    Scope = Mapping[str, Any]  # the globals in which string annotations are read


class Misfit(Exception):
    """A value does not fit its annotation. `trail` is the way to it, innermost last."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.trail = ""

    def inside(self, segment: str) -> "Misfit":
        """The same misfit, one level further out."""
        self.trail = segment + self.trail
        return self


class Unsupported(Exception):
    """An annotation that cannot be stored, whatever the value."""


class Codec:
    """How values of one annotation are stored. `kind` is what their JSON looks like, for telling unions apart."""

    __slots__ = ("dump", "exact", "fields", "inner", "is_required", "kind", "load", "name", "needed")

    def __init__(self, name: str, kind: str, dump: "Dump", load: "Load", exact: "Any" = None) -> None:
        self.name = name
        self.kind = kind  # null bool number string array object any
        self.dump = dump
        self.load = load
        self.exact = exact  # the class whose instances this codec is first choice for
        self.is_required: bool | None = None  # what Required and NotRequired say of a key of a TypedDict
        self.fields: Callable[[], Mapping[str, Codec]] | None = None  # of an object's JSON, where all are known
        self.needed: Callable[[], list[str]] | None = None  # those of `fields` that must be there, where it is known
        self.inner: Codec | None = None  # of `T | None`: the codec of T

    def marked(self, *, is_required: bool) -> "Codec":
        """The same codec for a key that must be there, or need not."""
        found = Codec(self.name, self.kind, self.dump, self.load, self.exact)
        found.is_required, found.fields, found.inner, found.needed = is_required, self.fields, self.inner, self.needed
        return found


def wrong(expected: str, value: object) -> "NoReturn":
    """Say what was expected and what was found; the value itself only when it is short and harmless."""
    found = type(value).__name__
    if isinstance(value, int) and abs(value) >= 10**30:
        found = "a very large int"  # of thousands of digits Python shows none
    elif value is None or isinstance(value, (bool, int, float)):
        found = repr(value)
    raise Misfit(f"expected {expected}, found {found}")


# --- plain JSON -----------------------------------------------------------------------------------------------------


def dump_any(value: "Any") -> "Any":
    """Plain JSON, checked all the way down: what json.dumps would quietly change is refused."""
    kind = type(value)
    if kind is str or kind is int or kind is bool or value is None:
        return value
    if kind is float:
        return _finite(value)
    if kind is list or kind is tuple:
        return _dump_items(value)
    if kind is dict:
        return _dump_object(value)
    return _not_plain(value)


def _dump_items(values: "Any") -> "list[Any]":
    found = []
    for index, item in enumerate(values):
        kind = type(item)
        if kind is str or kind is int:
            found.append(item)
            continue
        try:
            found.append(dump_any(item))
        except Misfit as misfit:
            raise misfit.inside(f"[{index}]") from None
    return found


def _dump_object(value: "Any") -> "dict[str, Any]":
    found = {}
    for key, item in value.items():
        if type(key) is not str:
            raise Misfit(f"expected keys of str, found {key!r}; annotate it, or make the keys text")
        kind = type(item)
        if kind is str or kind is int:
            found[key] = item
            continue
        try:
            found[key] = dump_any(item)
        except Misfit as misfit:
            raise misfit.inside(f".{key}") from None
    return found


def _not_plain(value: "Any") -> "Any":
    if isinstance(value, (set, frozenset)):
        raise Misfit(f"found {type(value).__name__}, which has no order; use sorted(...) to make it a list")
    if isinstance(value, (str, int, float)) and not hasattr(type(value), "__members__"):
        return dump_any(_str(value) if isinstance(value, str) else value.real)  # a subclass, as its base
    if isinstance(value, dict) and not hasattr(value, "__dataclass_fields__"):
        return _dump_object(value)
    raise Misfit(
        f"found {type(value).__name__}, which is not plain JSON; annotate the type, so that it can be read back"
    )


def _finite(value: float) -> float:
    if value - value != 0:  # NaN and the infinities
        raise Misfit(f"found {value!r}, which JSON cannot say")
    return value


def load_any(value: "Any") -> "Any":
    """Plain JSON is what it is."""
    return value


ANY = Codec("JSON", "any", dump_any, load_any)


# --- scalars --------------------------------------------------------------------------------------------------------


def _str(value: "Any") -> str:
    if type(value) is str:
        return value
    return str.__str__(value) if isinstance(value, str) else wrong("str", value)


def _int(value: "Any") -> int:
    if type(value) is int:
        return value
    return int(value) if isinstance(value, int) else wrong("int", value)


def _bool(value: "Any") -> bool:
    return value if type(value) is bool else wrong("bool", value)


def _float(value: "Any") -> float:
    if type(value) is float:
        return _finite(value)
    if isinstance(value, (float, int)) and not isinstance(value, bool):
        try:
            return _finite(float(value))
        except OverflowError:
            return wrong("float", value)
    return wrong("float", value)


def _none(value: "Any") -> None:
    return None if value is None else wrong("None", value)


def _load_int(value: "Any") -> int:
    if type(value) is int:
        return value
    if type(value) is float and value.is_integer():  # 3.0: JSON of other languages has one kind of number
        return int(value)
    return wrong("int", value)


SCALARS: "dict[Any, Codec]" = {
    str: Codec("str", "string", _str, _str, str),
    int: Codec("int", "number", _int, _load_int, int),
    float: Codec("float", "number", _float, _float, float),
    bool: Codec("bool", "bool", _bool, _bool, bool),
    None: Codec("None", "null", _none, _none, type(None)),
    type(None): Codec("None", "null", _none, _none, type(None)),
    object: ANY,
}


# --- containers -----------------------------------------------------------------------------------------------------


def list_of(item: Codec) -> Codec:
    """A list, or any sequence that is annotated as one."""

    def convert(step: "Dump", accepted: "Any") -> "Dump":
        def run(values: "Any") -> "list[Any]":
            if type(values) is not list and not isinstance(values, accepted):
                wrong("list", values)
            found = []
            for index, value in enumerate(values):
                try:
                    found.append(step(value))
                except Misfit as misfit:
                    raise misfit.inside(f"[{index}]") from None
            return found

        return run

    return Codec(f"list[{item.name}]", "array", convert(item.dump, (list, tuple)), convert(item.load, list), list)


def tuple_of(items: "list[Codec]") -> Codec:
    """A tuple of fixed length; JSON array."""

    def convert(steps: "list[Dump]", accepted: "Any", build: "Callable[[list[Any]], Any]") -> "Dump":
        def run(values: "Any") -> "Any":
            if not isinstance(values, accepted):
                wrong("tuple", values)
            if len(values) != len(steps):
                raise Misfit(f"expected {len(steps)} items, found {len(values)}")
            found = []
            for index, step in enumerate(steps):
                try:
                    found.append(step(values[index]))
                except Misfit as misfit:
                    raise misfit.inside(f"[{index}]") from None
            return build(found)

        return run

    name = f"tuple[{', '.join(item.name for item in items)}]"
    return Codec(
        name,
        "array",
        convert([item.dump for item in items], (tuple, list), lambda found: found),
        convert([item.load for item in items], list, tuple),
        tuple,
    )


def tuple_of_any_length(item: Codec) -> Codec:
    """`tuple[T, ...]`."""
    inner = list_of(item)
    return Codec(f"tuple[{item.name}, ...]", "array", inner.dump, lambda value: tuple(inner.load(value)), tuple)


def dict_of(key: Codec, item: Codec) -> Codec:
    """A dict. Keys are text in JSON: str, and what dumps to text or int (UUID, date, Enum, int)."""
    number_keys = key.kind == "number"

    def dump(values: "Any") -> "dict[str, Any]":
        if not hasattr(values, "items"):
            wrong("dict", values)
        found = {}
        for name, value in values.items():
            try:
                dumped = key.dump(name)
                found[dumped if type(dumped) is str else str(dumped)] = item.dump(value)
            except Misfit as misfit:
                raise misfit.inside(f"[{name!r}]") from None
        return found

    def load(values: "Any") -> "dict[Any, Any]":
        if type(values) is not dict:
            wrong("dict", values)
        found = {}
        for name, value in values.items():
            try:
                found[key.load(_number_of(name) if number_keys else name)] = item.load(value)
            except Misfit as misfit:
                raise misfit.inside(f"[{name!r}]") from None
        return found

    return Codec(f"dict[{key.name}, {item.name}]", "object", dump, load, dict)


def _number_of(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        return wrong("a key of int", text)


def literal_of(values: "tuple[Any, ...]") -> Codec:
    """`Literal[...]` of str, int, bool, None; Enum members are refused by Unsupported."""
    for value in values:
        if type(value) not in (str, int, bool, type(None)):
            raise Unsupported(f"Literal of {value!r}; use str, int, bool or None")
    expected = " or ".join(map(repr, values))

    def check(value: "Any") -> "Any":
        for allowed in values:
            if type(value) is type(allowed) and value == allowed:
                return value
        if isinstance(value, str):
            raise Misfit(f"expected {expected}, found {value[:40]!r}")
        return wrong(expected, value)

    kinds = {SCALARS[type(value)].kind for value in values}
    return Codec(expected, kinds.pop() if len(kinds) == 1 else "any", check, check)


# --- unions ---------------------------------------------------------------------------------------------------------

TAG = "$"


def union_of(members: "list[Codec]") -> Codec:
    """One of several. Members whose JSON would look alike are tagged, so that what comes back is what went in."""
    some = [member for member in members if member.kind != "null"]
    optional = len(some) < len(members)
    if len(some) == 1:
        return _optional(some[0])
    name = " | ".join(member.name for member in members)
    tags = _tags(some)

    def dump(value: "Any") -> "Any":
        if value is None and optional:
            return None
        member, dumped = _choose(some, value, name)
        tag = tags.get(id(member))
        return dumped if tag is None else {TAG: tag, "value": dumped}

    by_tag = {tags[id(member)]: member for member in some if id(member) in tags}

    def load(value: "Any") -> "Any":
        if value is None and optional:
            return None
        if type(value) is dict and value.keys() == {TAG, "value"} and value[TAG] in by_tag:
            return by_tag[value[TAG]].load(value["value"])
        return _load_first(some, value, name)

    return Codec(name, "any", dump, load)


def _optional(member: Codec) -> Codec:
    dump, load = member.dump, member.load
    found = Codec(
        f"{member.name} | None",
        "any",
        lambda value: None if value is None else dump(value),
        lambda value: None if value is None else load(value),
        member.exact,
    )
    found.inner = member
    return found


def _tags(members: "list[Codec]") -> "dict[int, str]":
    """Names for the members that need one. A plain str, int, float or bool never does: it is what no tag means."""
    found: dict[int, str] = {}
    for member in members:
        alike = [other for other in members if other.kind == member.kind or "any" in (other.kind, member.kind)]
        if len(alike) > 1 and member is not SCALARS.get(member.exact) and member is not ANY:
            name = member.name
            while name in found.values():
                name += "'"
            found[id(member)] = name
    return found


def _choose(members: "list[Codec]", value: "Any", name: str) -> "tuple[Codec, Any]":
    kind = type(value)
    # Those made for exactly this class first, else `int | bool` would depend on the order in which it is written.
    for member in members:
        if member.exact is kind:
            return member, member.dump(value)
    for member in members:
        try:
            return member, member.dump(value)
        except Misfit:
            continue
    return wrong(name, value)


def _load_first(members: "list[Codec]", value: "Any", name: str) -> "Any":
    for member in members:
        if member.exact is type(value) and SCALARS.get(member.exact) is member:
            return member.load(value)
    misfits = []
    for member in members:
        try:
            return member.load(value)
        except Misfit as misfit:
            misfits.append(misfit)
    # The member that was meant is the one that has got furthest, and lacks nothing.
    likely = max(misfits, key=lambda misfit: (misfit.reason != "missing", misfit.trail.count(".")))
    if likely.trail:
        raise likely
    return wrong(name, value)


def loaded(module: str, name: str) -> "Any":
    """A class of a library, if the library is loaded; else None."""
    return getattr(sys.modules.get(module), name, None)
