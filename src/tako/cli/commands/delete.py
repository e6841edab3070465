"""`tako delete`: stop a deployed app and remove it from its servers, with its data."""

from __future__ import annotations

import argparse

from tako.cli import deployed
from tako.cli.arguments import Parser, UsageError
from tako.cli.context import Context
from tako.cli.errors import DONE, REFUSED
from tako.deploy.channel import who

DEADLINE_S = 120.0


def configure(parser: Parser) -> None:
    """What, where, and whether it was thought over."""
    deployed.add_options(parser)
    parser.add_argument("--keep-data", action="store_true", help="keep runs and data; the next deploy finds them")
    parser.add_argument("--yes", metavar="APP/ENV", help="do not ask: the app and environment that are meant")


def run(context: Context, args: argparse.Namespace) -> int:
    """Remove it from every server, after it was named."""
    output = context.output
    target = deployed.target(context, args)
    name = f"{target.app}/{target.environment.name}"
    where = ", ".join(server.name for server in target.servers)
    what = "its releases and logs" if args.keep_data else "its releases, logs, runs and data"
    if args.yes is None:
        if not output.can_ask:
            raise UsageError(f"Delete {name} on {where} with {what}? There is nobody to ask.", cure=f"Add --yes {name}")
        if not output.ask(f"Delete {name} on {where} with {what}? This cannot be undone."):
            output.say("Nothing was deleted.")
            return REFUSED
    elif args.yes != name:
        raise UsageError(f"--yes names {args.yes!r}, and this is {name!r}; nothing was deleted.")
    fields = {**target.ref, "by": who(), "confirm": name, "keep_data": args.keep_data}
    deployed.each(target, lambda channel: channel.call("delete", fields, deadline_s=DEADLINE_S))
    if not output.json:
        output.done(f"Deleted {name} on {where} with {what}.")
    if output.json:
        output.document({"deleted": [server.name for server in target.servers], **target.ref})
    return DONE
