"""How the value of a secret comes in: asked for, or on stdin. Not as an argument, unless it is insisted on."""

from __future__ import annotations

import argparse

from tako.cli.arguments import UsageError
from tako.cli.context import Context
from tako.errors import TakoError


def value_of(context: Context, args: argparse.Namespace) -> str:
    """The value for `args.name`. Raises TakoError when there is none."""
    name = args.name
    if "=" in name:
        raise UsageError(
            "A value on the command line can be seen by other users, so it was not taken.",
            cure=f"Use `tako secrets set {name.split('=')[0]}`, which asks for it, or --value.",
        )
    value: str = args.value if args.value is not None else _read(context, name)
    if not value:
        raise TakoError(f"The value is empty; {name} was not changed.", cure=f"`tako secrets rm {name}` removes it.")
    return value


def _read(context: Context, name: str) -> str:
    if context.output.can_ask:
        from getpass import getpass

        return getpass(f"Value of {name} (not shown): ", stream=context.output.stderr)
    # The newline that `echo` and most editors put at the end is not part of a secret.
    return context.output.read().removesuffix("\n").removesuffix("\r")
