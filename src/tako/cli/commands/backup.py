"""`tako backup`: a consistent copy of the store and the app's data, made by the engine while it runs."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from tako.cli.context import Context
from tako.errors import TakoError

DEADLINE_S = 600.0
NAME = "%Y%m%d-%H%M%S"


def configure(parser: argparse.ArgumentParser) -> None:
    """Where the copy goes."""
    parser.add_argument(
        "path", nargs="?", type=Path, metavar="PATH",
        help="a new folder; default: .tako/backups/TIME. With --env: a new file, default APP-ENV-TIME.tgz",
    )  # fmt: skip


def run(context: Context, args: argparse.Namespace) -> int:
    """Have the engine write the copy; what is there is never overwritten."""
    if context.where is not None:
        return _of_deployed(context, args)
    engine = context.engine()
    path = _target(args.path, engine.place.folder, context.folder)
    _require_new(path)
    context.output.doing(f"Copying the store of {engine.place.app} to {path}…")
    done = engine.call("backup", {"path": str(path)}, deadline_s=DEADLINE_S)
    if context.output.json:
        context.output.document(done)
    else:
        context.output.done(f"Copied {done['bytes']:,} bytes to {done['path']}.")
    return 0


def _of_deployed(context: Context, args: argparse.Namespace) -> int:
    """A copy beside the app's data, on the server; then here, as one archive; then no more there."""
    from tako.cli import deployed
    from tako.deploy import remote

    engine = context.engine()
    assert isinstance(engine, deployed.RemoteEngine)
    stamp = time.strftime(NAME)
    path = (context.folder / (args.path or f"{engine.place.app}-{engine.environment}-{stamp}.tgz")).absolute()
    _require_new(path)
    context.output.doing(f"Copying the store and the data of {engine.place.app} on {engine.server}…")
    store = Path(engine.call("status")["store"]["path"])
    folder = store.parents[2] / f"backup-{stamp}"
    done = engine.call("backup", {"path": str(folder)}, deadline_s=DEADLINE_S)
    try:
        engine.ssh.fetch(remote.pack(str(folder)), path)
    finally:
        engine.ssh.run(remote.remove(str(folder)))
    if context.output.json:
        context.output.document({"path": str(path), "bytes": path.stat().st_size, "unpacked_bytes": done["bytes"]})
    else:
        size = path.stat().st_size
        context.output.done(f"Copied {done['bytes']:,} bytes to {path}, packed into {size:,}.")
    return 0


def _require_new(path: Path) -> None:
    if path.exists():
        raise TakoError(f"{path} exists; no backup was made.", cure="Give another path, or remove that file first.")


def _target(asked: Path | None, app: Path, here: Path) -> Path:
    if asked is not None:
        return (here / asked).absolute()
    folder = app / ".tako" / "backups"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder / time.strftime(NAME)
