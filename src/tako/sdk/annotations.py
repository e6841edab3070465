"""From an annotation to its codec, compiled once and kept. Text is read late, in the globals of its module."""

from tako.sdk import codecs, models
from tako.sdk.codecs import ANY, SCALARS, Codec, Unsupported, loaded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from tako.sdk.codecs import Scope

_LISTS = ("list", "Sequence", "MutableSequence", "Iterable", "Collection")
_DICTS = ("dict", "Mapping", "MutableMapping", "OrderedDict", "defaultdict")
_AWAITABLES = ("Awaitable", "Coroutine", "Future", "Task")
_WRAPPERS = ("ReadOnly", "Final")

_compiled: "dict[Any, Codec]" = {}
_MISSING: "Any" = object()


def codec_of(annotation: "Any", scope: "Scope | None" = None) -> Codec:
    """The codec of an annotation; ANY where there is none. `scope` is where text is read.

    Raises:
        Unsupported: values of it cannot be stored, or the text names nothing.
    """
    if annotation is _MISSING:
        return ANY
    if type(annotation) is str:
        return _of_text(annotation, scope)
    try:
        found = _compiled.get(annotation)
    except TypeError:  # not hashable: Annotated with a list in it, a Literal of something odd
        return _compile(annotation, scope)
    if found is None:
        found = _compile(annotation, scope)
        if not _has_text(annotation):  # text means another thing in another module
            _compiled[annotation] = found
    return found


def returned_by(fn: "Any") -> "tuple[Any, Scope | None]":
    """The annotation of what a callable returns, and where it is read; MISSING where there is none."""
    while (inner := getattr(fn, "func", None)) is not None and hasattr(fn, "keywords"):  # functools.partial
        fn = inner
    if isinstance(fn, type):
        return fn, None
    if not hasattr(fn, "__code__") and not hasattr(fn, "__func__") and not hasattr(fn, "__wrapped__"):
        fn = type(fn).__call__  # an object that can be called
    written = getattr(fn, "__annotations__", None)
    if not written or "return" not in written:
        return _MISSING, None
    while (inner := getattr(fn, "__wrapped__", None)) is not None:
        fn = inner
    return written["return"], getattr(fn, "__globals__", None)


def _of_text(text: str, scope: "Scope | None") -> Codec:
    # The scope is kept beside the codec, so that its id cannot come to mean another one.
    key = (text, id(scope))
    found = _texts.get(key)
    if found is None or found[0] is not scope:
        found = _texts[key] = (scope, codec_of(read_text(text, scope), scope))
    return found[1]


_texts: "dict[tuple[str, int], tuple[Scope | None, Codec]]" = {}


def read_text(text: str, scope: "Scope | None") -> "Any":
    """What an annotation that was written as text means.

    Raises:
        Unsupported: it names something that is not there at run time.
    """
    try:
        return eval(text, {**scope} if scope is not None else {})  # the user's own source, as typing reads it
    except Exception as error:
        raise Unsupported(
            f"the annotation {text!r} cannot be read: {type(error).__name__}: {error}; "
            "import the name at run time, not only under TYPE_CHECKING"
        ) from error


def _has_text(annotation: "Any") -> bool:
    if isinstance(annotation, str) or hasattr(annotation, "__forward_arg__"):
        return True
    return any(_has_text(argument) for argument in getattr(annotation, "__args__", None) or ())


def _compile(annotation: "Any", scope: "Scope | None") -> Codec:
    if annotation is None or (isinstance(annotation, type) and annotation in SCALARS):
        return SCALARS[annotation]
    if annotation is loaded("typing", "Any"):
        return ANY
    forward = getattr(annotation, "__forward_arg__", None)
    if forward is not None:
        return _of_text(forward, scope)
    origin = getattr(annotation, "__origin__", None)
    if hasattr(annotation, "__metadata__"):  # Annotated[T, ...]
        return codec_of(origin, scope)
    for inner in ("__supertype__", "__value__", "__bound__"):  # NewType, `type X = ...`, TypeVar
        if (found := getattr(annotation, inner, None)) is not None and not isinstance(annotation, type):
            return codec_of(found, scope)
    arguments = getattr(annotation, "__args__", None)
    if type(annotation).__name__ == "UnionType" or (origin is not None and origin is loaded("typing", "Union")):
        return codecs.union_of([codec_of(argument, scope) for argument in arguments or ()])
    if origin is not None:
        return _generic(annotation, origin, arguments or (), scope)
    if isinstance(annotation, type):
        return _class(annotation)
    if type(annotation).__name__ == "TypeVar":
        return ANY
    raise Unsupported(f"{annotation!r} is not a type that can be stored")


def _generic(annotation: "Any", origin: "Any", arguments: "tuple[Any, ...]", scope: "Scope | None") -> Codec:
    if origin is loaded("typing", "Literal"):
        return codecs.literal_of(arguments)
    name = getattr(origin, "__name__", None) or getattr(origin, "_name", "")
    if name in ("Required", "NotRequired"):
        return codec_of(arguments[0], scope).marked(is_required=name == "Required")
    if name in _WRAPPERS:
        return codec_of(arguments[0], scope)
    if name in _AWAITABLES:
        return codec_of(arguments[-1], scope)
    if origin is tuple:
        if len(arguments) == 2 and arguments[1] is ...:
            return codecs.tuple_of_any_length(codec_of(arguments[0], scope))
        return codecs.tuple_of([codec_of(argument, scope) for argument in arguments])
    if name in _LISTS:
        return codecs.list_of(codec_of(arguments[0], scope))
    if name in _DICTS:
        return codecs.dict_of(_key(arguments[0], scope), codec_of(arguments[1], scope))
    if (base := loaded("pydantic", "BaseModel")) is not None and isinstance(origin, type) and issubclass(origin, base):
        return _class(annotation)
    if isinstance(origin, type) and origin not in (set, frozenset, type):
        return models.of_class(origin, codec_of)  # a generic dataclass: its type parameters hold plain JSON
    hint = "use list: a set has no order" if origin in (set, frozenset) else "use a type that the docs list"
    raise Unsupported(f"{annotation!r} cannot be stored as JSON; {hint}")


def _key(annotation: "Any", scope: "Scope | None") -> Codec:
    key = codec_of(annotation, scope)
    if key is ANY:
        return SCALARS[str]
    if key.kind not in ("string", "number") or key.exact is float or key.name == "timedelta":
        raise Unsupported(f"keys of {key.name} cannot be stored in JSON; use str or int")
    return key


def _class(cls: type) -> Codec:
    if cls is list or cls is dict or cls is tuple:
        return _PLAIN[cls]
    name = cls.__name__
    if cls.__module__ in ("collections.abc", "typing") and name in (*_LISTS, *_DICTS):
        return _PLAIN[dict if name in _DICTS else list]
    return models.of_class(cls, codec_of)


def _plain_dict() -> Codec:
    return Codec("dict", "object", codecs.dict_of(SCALARS[str], ANY).dump, codecs.dict_of(SCALARS[str], ANY).load, dict)


_PLAIN: "dict[type, Codec]" = {
    list: codecs.list_of(ANY),
    tuple: codecs.tuple_of_any_length(ANY),
    dict: _plain_dict(),
}

MISSING = _MISSING
