"""Named statements from the `.sql` files, and the migrations that bring a file to the schema they are written for."""

from __future__ import annotations

import re
from importlib.resources import files

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


def load() -> dict[str, str]:
    """Every named statement, by its name. Comments stay out, so that a trace of the engine reads well."""
    found: dict[str, str] = {}
    for file in sorted(files("tako.engine").joinpath("queries").iterdir(), key=lambda file: file.name):
        if file.name.endswith(".sql"):
            for name, statement in parse(file.read_text()).items():
                assert name not in found, f"two statements are named {name}"
                found[name] = statement
    return found


def parse(text: str) -> dict[str, str]:
    """The statements of one file: `-- name: x`, then comments, then SQL up to the next name."""
    parts = _NAME.split(text)[1:]
    return {name: _strip(body) for name, body in zip(parts[::2], parts[1::2], strict=True)}


def _strip(body: str) -> str:
    lines = [line for line in body.splitlines() if line.strip() and not line.startswith("--")]
    return "\n".join(lines).rstrip(";")


STATEMENTS = load()


def migrations() -> list[tuple[int, str, str]]:
    """Each migration as (number, name, script), in order."""
    found = []
    for file in files("tako.engine").joinpath("migrations").iterdir():
        if file.name.endswith(".sql"):
            number, _, name = file.name.removesuffix(".sql").partition("_")
            found.append((int(number), name, file.read_text()))
    return sorted(found)
