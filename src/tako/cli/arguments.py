"""Reading the command line: argparse, with our way of saying what is wrong with it."""

from __future__ import annotations

import argparse
import difflib
import importlib
import re
from collections.abc import Iterable, Sequence
from types import ModuleType
from typing import Any, NoReturn

from tako.errors import TakoError


class UsageError(TakoError):
    """The command line cannot be understood; nothing was done. Exit code 2."""

    code = "usage"


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that raises UsageError instead of leaving, and that takes no abbreviated options.

    (`--work` for `--workflow` in a script breaks on the day `--workers` comes.)
    """

    def __init__(self, **options: Any) -> None:
        options.setdefault("allow_abbrev", False)
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(**options)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse does, but what a subcommand does not know is its own error, not its parent's."""
        found, unknown_words = super().parse_known_args(args, namespace)
        if unknown_words:
            self.error(f"unrecognized arguments: {' '.join(unknown_words)}")
        return found, unknown_words

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, with the option that may have been meant."""
        if found := re.match(r"unrecognized arguments: (\S+)", message):
            known = [option for action in self._actions for option in action.option_strings]
            near = _near(found[1].split("=")[0], known)
            message = f"{found[1]} is not known here." + (f" Did you mean {near}?" if near else "")
        elif found := re.match(r"the following arguments are required: (.+)", message):
            # argparse also names what may be left out, such as `key=value`.
            names = [name for name in found[1].split(", ") if "=" not in name]
            message = f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} missing."
            for action in self._get_positional_actions():
                if action.choices and [action.metavar] == names:
                    message += f" There are: {', '.join(action.choices)}."
        elif found := re.match(r"argument \S+: invalid choice: (.+?) \(choose from (.+)\)", message):
            names = re.findall(r"[\w-]+", found[2])
            near = _near(found[1].strip("'"), names)
            message = f"{found[1]} is not known here." + (
                f" Did you mean {near}?" if near else f" There are: {', '.join(names)}."
            )
        elif found := re.match(r"argument (\S+): not allowed with argument (\S+)", message):
            message = f"{found[1]} and {found[2]} exclude each other."
        elif found := re.match(r"argument (\S+): expected (?:one|at least one) argument", message):
            message = f"{found[1].rpartition('/')[2]} needs a value."
        elif found := re.match(r"argument (\S+): (.+)", message):
            message = f"{found[1].rpartition('/')[2]}: {found[2]}"
        usage = self.format_usage().strip().replace("\n", "\n  ")
        raise UsageError(f"{self.prog}: {message}", cure=f"{usage}\nSee `{self.prog} --help`.")


def whole(text: str) -> int:
    """A whole number, as an option's `type`."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a whole number, found {_quoted(text)}") from None


def count(text: str) -> int:
    """A whole number from 1 on, as an option's `type`."""
    if (number := whole(text)) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 on, found {_quoted(text)}")
    return number


class Subcommands:
    """The subcommands of a command, each a parser of its own that sets `args.subcommand`."""

    def __init__(self, parser: Parser, *, required: bool = True) -> None:
        self._action = parser.add_subparsers(
            dest="subcommand", metavar="COMMAND", required=required, parser_class=Parser
        )

    def add(self, name: str, help_line: str) -> Parser:
        """A subcommand that takes `--json` as every command does."""
        parser: Parser = self._action.add_parser(name, help=help_line, description=sentence(help_line))
        # SUPPRESS: without it the subcommand's default would overwrite what stood before it.
        parser.add_argument(
            "--json", action="store_true", default=argparse.SUPPRESS, help="one JSON document on stdout"
        )
        return parser


class Where:
    """The deployed app that a command means: `--env`, `--server` or both; each may be None."""

    __slots__ = ("env", "server")

    def __init__(self, env: str | None, server: str | None) -> None:
        self.env = env
        self.server = server


def add_where(parser: argparse.ArgumentParser) -> None:
    """`--env` and `--server`, before or after a subcommand."""
    parsers = [parser]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            parsers += action.choices.values()
    for each in parsers:
        default = None if each is parser else argparse.SUPPRESS
        each.add_argument("--env", metavar="NAME", default=default, help="of the app as it is deployed there")
        each.add_argument("--server", metavar="NAME", default=default, help="on this server of the environment")


def where(args: argparse.Namespace) -> Where | None:
    """What they say; None means the engine of this folder."""
    env, server = getattr(args, "env", None), getattr(args, "server", None)
    return Where(env, server) if env is not None or server is not None else None


def load(command: str) -> ModuleType:
    """The module of a command."""
    return importlib.import_module(f"tako.cli.commands.{command}")


def sentence(line: str) -> str:
    """A line of the table as a sentence."""
    return f"{line[0].upper()}{line[1:]}."


def unknown(kind: str, name: str, known: Iterable[str], *, usage: str) -> UsageError:
    """The error for a name that is none of `known`."""
    near = _near(name, known)
    hint = f"Did you mean `{near}`? " if near else ""
    return UsageError(f"There is no {kind} {name!r}.", cure=f"{hint}See `{usage}`.")


def key_values(pairs: Sequence[str]) -> list[tuple[str, str]]:
    """`key=value` arguments, split at the first `=`.

    Raises:
        UsageError: one has no `=`, or a key stands twice.
    """
    found: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.isidentifier():
            raise UsageError(
                f"{_quoted(pair)} is not an argument of a workflow.", cure="Write arguments as name=value: user_id=42"
            )
        if key in found:
            raise UsageError(f"The argument {key!r} was given twice.")
        found[key] = value
    return list(found.items())


def _near(name: str, known: Iterable[str]) -> str | None:
    return next(iter(difflib.get_close_matches(name, list(known), n=1)), None)


def _quoted(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:59] + "…")
