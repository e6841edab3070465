"""Where an app's secrets come from: in development a file that people change while the engine runs."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from tako.host import rescue
from tako.vault import file as vault


class Secrets(Protocol):
    """What a host asks."""

    def load(self) -> dict[str, str]:
        """The secrets by name. Raises TakoError when they cannot be had."""
        ...

    def stamp(self) -> object:
        """Other than before when the secrets may be others; cheap, since every enqueue asks."""
        ...


class FileSecrets:
    """The secrets of `.tako/secrets.json`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> dict[str, str]:
        """What the file holds; nothing when there is none."""
        return vault.load(self._path)

    def stamp(self) -> object:
        """When the file was changed last, and its size."""
        return rescue.stamp(self._path)
