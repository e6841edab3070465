"""The management socket's shapes, and the page that tells of them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from tako.protocol import management
from tests.support import shapes

PAGE = (Path(__file__).parents[2] / "docs/reference/protocol.md").read_text()
SHAPES = shapes.shapes_of(management)


@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_says_what_it_is_and_its_types_exist(name: str) -> None:
    shapes.says_what_it_is(management, name)


def test_the_page_has_every_command_and_no_other() -> None:
    section = PAGE[PAGE.index("## The management socket") :]

    assert set(re.findall(r"^\| `([a-z._]+)` \|", section, re.MULTILINE)) == set(management.COMMANDS)


def test_every_shape_that_a_command_names_exists() -> None:
    named = {
        word for shapes in management.COMMANDS.values() for text in shapes for word in re.findall(r"[A-Z]\w+", text)
    }

    assert named <= set(SHAPES)


def test_the_phases_are_those_of_their_type_in_order() -> None:
    assert get_args(management.Phase) == management.PHASES
    assert " ".join(management.PHASES) in " ".join(PAGE.split())


def test_the_hash_of_secrets_tells_apps_environments_and_values_apart_and_not_their_order() -> None:
    def digest(app: str = "shop", env: str = "production", **secrets: str) -> str:
        return management.secrets_hash(app=app, env=env, secrets=secrets)

    assert digest(A="1", B="2") == digest(B="2", A="1")
    assert (
        len({digest(A="1"), digest(A="2"), digest(B="1"), digest(app="other", A="1"), digest(env="test", A="1")}) == 5
    )
