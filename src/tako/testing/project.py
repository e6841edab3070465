"""The project under test: its folder, its `tako.toml`, and its workflow files, imported as a worker would."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable
from pathlib import Path

from tako.config import load
from tako.discovery import scan as scanning
from tako.errors import DefinitionError
from tako.worker import boot

MARKS = (load.FILE, scanning.FOLDER)


class Project:
    """The app in a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.config = load.load(self.root)

    def import_workflows(self) -> None:
        """Import every workflow file of every group. What is imported already stays as it is.

        Raises:
            DefinitionError: two workflows of one name, or a module of the file's name that is another one.
            Exception: whatever a file raises.
        """
        found = scanning.scan(self.root)
        for duplicate in found.duplicates:
            raise DefinitionError(duplicate.words(), cure="Give one of them another name, with name=.")
        put_first(self.root)
        for file in found.files:
            if file.declarations or file.error is not None:
                self._import(file.path)

    def _import(self, path: str) -> None:
        name = boot.module_name(path)
        module = importlib.import_module(name)
        where = getattr(module, "__file__", None)
        if where is None or not Path(where).samefile(self.root / path):
            raise DefinitionError(
                f"{path} could not be imported: {name} is {where or 'another module'}",
                cure="Another module of that name comes first; rename the file, or test one project at a time.",
            )


def root_of(start: Path, *, top: Path) -> Path | None:
    """The project's folder: the nearest one from `start` up to `top` with a tako.toml, else with a `workflows/`."""
    folders = [start, *start.parents]
    within = folders[: folders.index(top) + 1] if top in folders else [top]
    return _marked(within)


def _marked(folders: Iterable[Path]) -> Path | None:
    wanted = list(folders)
    for mark in MARKS:
        for folder in wanted:
            if (folder / mark).exists():
                return folder
    return None


def put_first(root: Path) -> None:
    """The app's root is the first place that modules are looked for in, as in its processes."""
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
