"""The commands as types: what SPEC.md says, messages.py says."""

from __future__ import annotations

from pathlib import Path
from typing import get_type_hints

import pytest

from tako.protocol import control, messages

SPEC = (Path(__file__).parents[2] / "SPEC.md").read_text()
SHAPES = [
    name
    for name, found in vars(messages).items()
    if hasattr(found, "__required_keys__") and found.__module__ == messages.__name__
]


@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_says_what_it_is_and_its_types_exist(name: str) -> None:
    shape = getattr(messages, name)

    assert shape.__doc__
    assert get_type_hints(shape)


@pytest.mark.parametrize("name", ["NewRun", "ClaimedRun"])
def test_every_field_of_a_run_on_the_wire_is_in_the_specification(name: str) -> None:
    start = SPEC.index(f"`{name}`: ")
    paragraph = SPEC[start : SPEC.index("\n\n", start)]

    missing = [field for field in getattr(messages, name).__annotations__ if field not in paragraph]

    assert not missing, f"SPEC.md, {name}: {missing}"


def test_the_control_socket_is_where_the_specification_says() -> None:
    assert (control.CONTROL_FD, control.LISTENER_FD) == (4, 5)
