"""The TypedDicts of a module, which are the shapes of messages."""

from __future__ import annotations

from types import ModuleType
from typing import get_type_hints


def shapes_of(module: ModuleType) -> list[str]:
    """The names of those that it defines."""
    return [
        name
        for name, found in vars(module).items()
        if hasattr(found, "__required_keys__") and found.__module__ == module.__name__
    ]


def says_what_it_is(module: ModuleType, name: str) -> None:
    """A shape has a docstring, and the types of its fields exist."""
    shape = getattr(module, name)

    assert shape.__doc__
    assert get_type_hints(shape)
