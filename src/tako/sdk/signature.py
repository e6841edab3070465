"""The parameters of a handler, read from its code object: `inspect` is not imported, annotations are compiled late."""

from tako.errors import PayloadError
from tako.sdk import codecs as kinds
from tako.sdk import payload
from tako.sdk.annotations import MISSING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from tako.sdk.codecs import Codec

# Flags of code objects, as `inspect` names them.
_VARARGS, _VARKEYWORDS, _GENERATOR, _COROUTINE, _ASYNC_GENERATOR = 0x04, 0x08, 0x20, 0x80, 0x200
_MUTABLE = (list, dict, set, bytearray)
CONTEXTS = ("Context", "AsyncContext")


class Signature:
    """What a handler takes after its context, and what it returns.

    `names` are in order; those in `required` have no default. What cannot be a handler raises ValueError.
    """

    __slots__ = ("_codecs", "_inner", "_result", "defaults", "is_async", "names", "required", "written")

    def __init__(self, fn: "Callable[..., Any]") -> None:
        inner: Any = fn
        while (wrapped := getattr(inner, "__wrapped__", None)) is not None:
            inner = wrapped
        code = getattr(inner, "__code__", None)
        if code is None:
            raise ValueError(f"expected a function, found {type(fn).__name__}")
        self._inner = inner
        own_flags = getattr(getattr(fn, "__code__", code), "co_flags", 0)
        self.is_async = bool((own_flags | code.co_flags) & _COROUTINE)
        _check_kind(code)
        count = code.co_argcount
        every = code.co_varnames[: count + code.co_kwonlyargcount]
        if not count:
            kind = CONTEXTS[self.is_async]
            raise ValueError(f"takes no context; its first parameter is one: ctx: {kind}")
        self.names: list[str] = list(every[1:])
        positional = inner.__defaults__ or ()
        self.defaults: dict[str, Any] = dict(
            zip(code.co_varnames[count - len(positional) : count], positional, strict=True)
        )
        self.defaults.update(inner.__kwdefaults__ or {})
        self.required = frozenset(self.names) - self.defaults.keys()
        self.written: dict[str, Any] = getattr(inner, "__annotations__", None) or {}
        self._codecs: dict[str, Codec] | None = None
        self._result: Codec | None = None
        self._check(every[0])

    def _check(self, context: str) -> None:
        kind = self.written.get(context, MISSING)
        text = kind if isinstance(kind, str) else getattr(kind, "__name__", "")
        wanted = CONTEXTS[self.is_async]
        if (found := text.rpartition(".")[2]) in CONTEXTS and found != wanted:
            how = "async def" if self.is_async else "def"
            raise ValueError(f"a handler declared with `{how}` gets {wanted}; found {context}: {found}")
        if kind is not MISSING and found not in CONTEXTS and found in _NOT_CONTEXTS:
            raise ValueError(f"the first parameter is the context; found {context}: {found}. Write ctx: {wanted}")
        for name, default in self.defaults.items():
            if isinstance(default, _MUTABLE):
                kind_of = type(default).__name__
                raise ValueError(f"{name} has a {kind_of} as default, which all runs would share; use None or a tuple")

    # --- arguments ---

    def dump(self, args: "tuple[Any, ...]", kwargs: "dict[str, Any]") -> "dict[str, Any]":
        """The arguments as JSON values by name, defaults left out.

        Raises:
            PayloadError: names the argument: unknown, missing, given twice, or not of its type.
        """
        if args:
            kwargs = self._named(args, kwargs)
        codecs = self._codecs or self.compiled()
        found = {}
        name = ""
        try:
            for name, value in kwargs.items():
                found[name] = codecs[name].dump(value)
        except kinds.Misfit as misfit:
            raise payload.misfit_error(misfit, name) from None
        except kinds.Unsupported as error:
            raise PayloadError(f"{name}: {error}") from None
        except RecursionError:
            raise PayloadError(f"{name}: nested too deep, or a part of itself") from None
        except KeyError:
            if name in codecs:
                raise
            raise self._unknown(name) from None
        if len(found) < len(self.names) and not self.required <= found.keys():
            missing = [name for name in self.names if name in self.required and name not in found]
            raise PayloadError(f"missing {_list(missing)}; the workflow takes {self}")
        return found

    def load(self, text: str) -> "dict[str, Any]":
        """The arguments that were stored as `text`.

        Raises:
            PayloadError: they do not fit the handler (any more).
        """
        values = payload.decode(kinds.ANY, text, what="payload")
        if type(values) is not dict:
            raise PayloadError(f"payload: expected an object of arguments, found {type(values).__name__}")
        return self.load_values(values)

    def load_values(self, values: "dict[str, Any]") -> "dict[str, Any]":
        """As `load`, of JSON values."""
        codecs = self._codecs or self.compiled()
        found = {}
        for name, value in values.items():
            if name not in codecs:
                raise self._unknown(name)
            try:
                found[name] = codecs[name].load(value)
            except kinds.Misfit as misfit:
                raise payload.misfit_error(misfit, name) from None
            except kinds.Unsupported as error:
                raise PayloadError(f"{name}: {error}") from None
        if not self.required <= found.keys():
            missing = [name for name in self.names if name in self.required and name not in found]
            raise PayloadError(f"missing {_list(missing)}; the workflow takes {self}")
        return found

    def default_json(self, name: str) -> "dict[str, Any]":
        """{name: its default as JSON}, {} when it has none."""
        if name not in self.defaults:
            return {}
        try:
            return {name: self.compiled()[name].dump(self.defaults[name])}
        except kinds.Misfit as misfit:
            raise payload.misfit_error(misfit, f"default of {name}") from None

    def compiled(self) -> "dict[str, Codec]":
        """A codec for each parameter. Raises PayloadError when the type of one cannot be stored."""
        if self._codecs is None:
            scope = getattr(self._inner, "__globals__", None)
            self._codecs = {
                name: payload.codec_for(self.written.get(name, MISSING), scope, what=name) for name in self.names
            }
        return self._codecs

    def early(self, name: str) -> "Codec | None":
        """The codec of a parameter at import; None while its annotation names what stands further down the file."""
        try:
            scope = getattr(self._inner, "__globals__", None)
            return payload.codec_for(self.written.get(name, MISSING), scope, what=name)
        except PayloadError:
            return None

    @property
    def result(self) -> "Codec":
        """The codec of what the handler returns. Raises PayloadError when its type cannot be stored."""
        if self._result is None:
            annotation = self.written.get("return", MISSING)
            scope = getattr(self._inner, "__globals__", None)
            self._result = payload.codec_for(annotation, scope, what="result")
        return self._result

    def type_text(self, name: str) -> str:
        """The annotation of a parameter as it is written; "" when there is none."""
        annotation = self.written.get(name, MISSING)
        if annotation is MISSING:
            return ""
        if isinstance(annotation, str):
            return annotation
        if isinstance(annotation, type) and not hasattr(annotation, "__args__"):
            return annotation.__name__
        return repr(annotation).replace("typing.", "")

    def __str__(self) -> str:
        return f"({', '.join(name if name in self.required else f'{name}=' for name in self.names)})"

    def _named(self, args: "tuple[Any, ...]", kwargs: "dict[str, Any]") -> "dict[str, Any]":
        code = self._inner.__code__
        positional = self.names[: code.co_argcount - 1]
        if len(args) > len(positional):
            raise PayloadError(f"{len(args)} positional arguments were given; the workflow takes {self}")
        named = dict(zip(positional, args, strict=False))
        for name in named:
            if name in kwargs:
                raise PayloadError(f"{name} was given twice, by position and by name")
        named.update(kwargs)
        return named

    def _unknown(self, name: str) -> PayloadError:
        from difflib import get_close_matches

        near = get_close_matches(name, self.names, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        return PayloadError(f"unknown argument {name!r}; {hint}the workflow takes {self}")


_NOT_CONTEXTS = ("str", "int", "float", "bool", "dict", "list", "UUID", "datetime", "Decimal")


def _check_kind(code: "Any") -> None:
    flags = code.co_flags
    if flags & (_GENERATOR | _ASYNC_GENERATOR):
        raise ValueError("is a generator; a handler returns its result, with `return`")
    if flags & (_VARARGS | _VARKEYWORDS):
        raise ValueError("takes *args or **kwargs; name each argument, so that it can be checked and stored")
    if code.co_posonlyargcount > 1:
        raise ValueError("has positional-only parameters; arguments are stored by name")


def _list(names: "list[str]") -> str:
    return ", ".join(repr(name) for name in names)
