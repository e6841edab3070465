"""What a process of the app gets when a command, not the daemon, starts it: built by the code the daemon uses."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from tako.cli.engine import Place
from tako.config import load
from tako.dev.variables import variables_of
from tako.protocol import env, envelope
from tako.vault import file as vault_file


@dataclass(frozen=True, slots=True)
class Prepared:
    """The environment, and the bytes for fd 3."""

    environment: dict[str, str]
    envelope: bytes


def prepare(place: Place) -> Prepared:
    """The process contract (SPEC.md section 1) for a command of the app at `place`.

    The token is empty: commands of the same user are known by the kernel's word on who they are.
    """
    config = load.load(place.folder)
    state = place.folder / ".tako"
    environment = env.build(
        inherited=os.environ,
        variables={**variables_of(config), **({env.url_variable(place.app): place.url} if place.url else {})},
        app=place.app,
        socket=place.socket,
        environment="development",
        release="dev",
        data_dir=str(state / "data"),
    )
    # What a person's terminal is, a command at that terminal may know; it says nothing about the machine.
    environment.update(
        {name: os.environ[name] for name in ("TERM", "COLORTERM", "NO_COLOR", "PWD") if name in os.environ}
    )
    environment["PATH"] = _path(config.python, environment.get("PATH", os.defpath))
    return Prepared(environment, envelope.build(token="", secrets=vault_file.load(state / "secrets.json")))


def _path(python: str, path: str) -> str:
    """PATH with the app's own interpreter first, so that `tako run -- python` is the one its workers have."""
    folder = str(Path(python).parent) if os.path.isabs(python) else str(Path(sys.executable).parent)  # noqa: PTH117
    return path if path.split(os.pathsep)[0] == folder else f"{folder}{os.pathsep}{path}"
