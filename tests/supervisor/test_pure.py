"""The table is pure: time, chance and the world come in as arguments, so that a simulation can replay any history."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import tako.supervisor

PURE = ("deaths", "events", "exits", "health", "rows", "states", "turn")
WORLDLY = {"time", "datetime", "random", "os", "asyncio", "threading", "subprocess", "uuid", "pathlib", "secrets"}


@pytest.mark.parametrize("name", PURE)
def test_a_module_of_the_table_imports_nothing_of_the_world(name: str) -> None:
    tree = ast.parse((Path(tako.supervisor.__file__).parent / f"{name}.py").read_text())
    for guarded in [node for node in tree.body if isinstance(node, ast.If)]:
        tree.body.remove(guarded)  # TYPE_CHECKING

    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}

    assert not {module.split(".")[0] for module in imported} & WORLDLY
    assert not called & {"id", "hash", "open", "print", "input"}
    own = {module.removeprefix("tako.supervisor.") for module in imported if module.startswith("tako.supervisor.")}
    assert own <= set(PURE)
