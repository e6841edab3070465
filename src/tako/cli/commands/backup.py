"""`tako backup`: a consistent copy of the store, made by the engine while it runs."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from tako.cli.context import Context
from tako.errors import TakoError

DEADLINE_S = 600.0


def configure(parser: argparse.ArgumentParser) -> None:
    """Where the copy goes."""
    parser.add_argument("path", nargs="?", type=Path, metavar="PATH", help="a file; default: .tako/backups/TIME.db")


def run(context: Context, args: argparse.Namespace) -> int:
    """Have the engine write the copy; an existing file is never overwritten."""
    engine = context.engine()
    path = _target(args.path, engine.place.folder, context.folder)
    if path.exists():
        raise TakoError(f"{path} exists; no backup was made.", cure="Give another path, or remove that file first.")
    context.output.doing(f"Copying the store of {engine.place.app} to {path}…")
    done = engine.call("backup", {"path": str(path)}, deadline_s=DEADLINE_S)
    if context.output.json:
        context.output.document(done)
    else:
        context.output.done(f"Copied {done['bytes']:,} bytes to {done['path']}.")
    return 0


def _target(asked: Path | None, app: Path, here: Path) -> Path:
    if asked is not None:
        return (here / asked).absolute()
    folder = app / ".tako" / "backups"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder / time.strftime("runs-%Y%m%d-%H%M%S.db")
