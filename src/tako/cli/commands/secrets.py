"""`tako secrets`: the values the app reads with `from tako import secrets`.

In development they lie in a file that only its owner reads; with `--env`, sealed in a file of the repository
(`sealed_secrets.py`).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tako.cli import secret_input
from tako.cli.arguments import Parser, Subcommands
from tako.cli.context import Context
from tako.config.model import DEVELOPMENT
from tako.errors import NoEngine, TakoError


def configure(parser: Parser) -> None:
    """set, rm, ls, rotate-key, sync."""
    commands = Subcommands(parser)
    setting = commands.add("set", "set a secret; its value is asked for, or read from stdin")
    setting.add_argument("name", metavar="NAME")
    setting.add_argument("--value", help="the value itself: other users of this machine can see it while we run")
    removing = commands.add("rm", "remove secrets")
    removing.add_argument("names", nargs="+", metavar="NAME")
    listing = commands.add("ls", "list the names; values are never shown")
    rotating = commands.add("rotate-key", "seal an environment's secrets for a new key")
    syncing = commands.add("sync", "bring an environment's secrets to its servers; what they change starts anew")
    for command in (setting, removing, listing, rotating, syncing):
        what = "the environment of tako.toml"
        is_needed = command in (rotating, syncing)
        command.add_argument("--env", metavar="NAME", help=what if is_needed else f"{what}; default: development")


def run(context: Context, args: argparse.Namespace) -> int:
    """Do one of them, in development or for a deployed environment."""
    if args.env not in (None, DEVELOPMENT) or args.subcommand in ("rotate-key", "sync"):
        from tako.cli import sealed_secrets

        return sealed_secrets.run(context, args)
    path = context.app_folder() / ".tako" / "secrets.json"
    if args.subcommand == "set":
        return _set(context, args, path)
    if args.subcommand == "rm":
        return _remove(context, args, path)
    return _list(context, path)


def _set(context: Context, args: argparse.Namespace, path: Path) -> int:
    from tako.vault import file

    name, value = args.name, secret_input.value_of(context, args)
    is_new = file.set(path, name, value)
    if context.output.json:
        _tell_engine(context)
        context.output.document({"set": name, "is_new": is_new})
        return 0
    took_effect = _tell_engine(context)
    then = "The app and its workers start anew with it." if took_effect else "`tako dev` will hand it to the app."
    context.output.done(f"{'Set' if is_new else 'Changed'} {name}. {then}")
    return 0


def _tell_engine(context: Context) -> bool:
    """Have a running engine look at the file now. False when none runs here."""
    try:
        context.engine().call("reload")
    except NoEngine:
        return False
    return True


def _remove(context: Context, args: argparse.Namespace, path: Path) -> int:
    from tako.vault import file

    known = file.load(path)
    missing = [name for name in args.names if name not in known]
    if missing:
        raise TakoError(
            f"There is no secret {missing[0]!r}; none was removed.",
            cure=f"Known: {', '.join(sorted(known))}." if known else "There are none at all.",
        )
    for name in dict.fromkeys(args.names):
        file.remove(path, name)
    if context.output.json:
        _tell_engine(context)
        context.output.document({"removed": args.names})
        return 0
    then = " The app and its workers start anew without." if _tell_engine(context) else ""
    context.output.done(f"Removed {', '.join(args.names)}.{then}")
    return 0


def _list(context: Context, path: Path) -> int:
    from tako.vault import file

    names = file.names(path)
    if context.output.json:
        context.output.document({"secrets": names})
        return 0
    if not names:
        context.output.say("There are no secrets. Set one with `tako secrets set NAME`.")
    for name in names:
        context.output.result(name)
    return 0
