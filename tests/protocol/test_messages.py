"""The commands as types: what SPEC.md says, messages.py says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tako.protocol import control, messages
from tests.support import shapes

SPEC = (Path(__file__).parents[2] / "SPEC.md").read_text()
SHAPES = shapes.shapes_of(messages)


@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_says_what_it_is_and_its_types_exist(name: str) -> None:
    shapes.says_what_it_is(messages, name)


@pytest.mark.parametrize("name", ["NewRun", "ClaimedRun"])
def test_every_field_of_a_run_on_the_wire_is_in_the_specification(name: str) -> None:
    start = SPEC.index(f"`{name}`: ")
    paragraph = SPEC[start : SPEC.index("\n\n", start)]

    missing = [field for field in getattr(messages, name).__annotations__ if field not in paragraph]

    assert not missing, f"SPEC.md, {name}: {missing}"


def test_the_control_socket_is_where_the_specification_says() -> None:
    assert (control.CONTROL_FD, control.LISTENER_FD) == (4, 5)
