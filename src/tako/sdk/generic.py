"""What stands in for `typing` at run time: importing it would cost every cold start 5 ms. `Run[str]` is Run."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Generic:
    """A base that may be subscripted, and forgets with what."""

    __slots__ = ()

    def __class_getitem__(cls, item: object) -> type:
        return cls


class _Anything:
    """What the names of type parameters are bound to at run time."""

    args: object = None
    kwargs: object = None


P = R = T = _Anything()


def overload(fn: "Any") -> "Any":
    """Mark a signature that only type checkers read. The definition that follows replaces it."""
    return fn
