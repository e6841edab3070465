"""`tako version`: what is installed here, and what the engine of this folder runs."""

from __future__ import annotations

import argparse
import platform
from importlib import metadata

from tako.cli.context import Context
from tako.errors import TakoError
from tako.protocol import PROTOCOL_VERSION


def configure(parser: argparse.ArgumentParser) -> None:
    """No options of its own."""


def run(context: Context, args: argparse.Namespace) -> int:
    """Print the versions. The engine's own is told only when one runs and answers."""
    import sqlite3

    found: dict[str, object] = {
        "tako": metadata.version("tako-py"),
        "protocol": PROTOCOL_VERSION,
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "engine": _engine_version(context),
    }
    if context.output.json:
        context.output.document(found)
        return 0
    for name, value in found.items():
        if value is not None:
            context.output.result(f"{name:<9} {value}")
    return 0


def _engine_version(context: Context) -> object:
    try:
        return context.engine().call("status", deadline_s=2.0).get("version")
    except TakoError:
        return None
