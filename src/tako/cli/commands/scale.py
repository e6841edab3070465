"""`tako scale`: how many instances and workers are always there, now and until a deploy says otherwise."""

from __future__ import annotations

import argparse

from tako.cli import deployed
from tako.cli.arguments import Parser, UsageError
from tako.cli.context import Context
from tako.cli.errors import DONE
from tako.deploy.channel import who
from tako.protocol import management

DEADLINE_S = 120.0


def configure(parser: Parser) -> None:
    """What to, where."""
    parser.add_argument("counts", nargs="*", metavar="NAME=N", help="web=2, or a worker group: default=1 mail=3")
    deployed.add_options(parser)


def run(context: Context, args: argparse.Namespace) -> int:
    """Set the numbers on every server; say what holds now."""
    counts = _counts(args.counts)
    target = deployed.target(context, args)
    fields: dict[str, object] = {**target.ref, "by": who()}
    if "web" in counts:
        fields["web"] = counts.pop("web")
    if counts:
        fields["workers"] = counts
    found: dict[str, management.Scaled] = deployed.each(
        target, lambda channel: channel.call("scale", fields, deadline_s=DEADLINE_S)
    )
    if context.output.json:
        context.output.document({**target.ref, "servers": found})
        return DONE
    for name, scaled in found.items():
        groups = ", ".join(
            f"{group} {number or '0 (scales to zero)'}" for group, number in sorted(scaled["workers"].items())
        )
        context.output.done(f"{name}: web {scaled['web']}; workers: {groups or 'none'}.")
    return DONE


def _counts(pairs: list[str]) -> dict[str, int]:
    if not pairs:
        raise UsageError("Scale what?", cure="tako scale web=2    or a worker group: tako scale mail=3")
    counts: dict[str, int] = {}
    for pair in pairs:
        name, _, text = pair.partition("=")
        if not name or not text.isdecimal() or int(text) > 1000:
            raise UsageError(f"{pair[:60]!r}: expected NAME=N with a whole number from 0 to 1000, such as web=2.")
        if name in counts:
            raise UsageError(f"{name} was given twice.")
        counts[name] = int(text)
    return counts
