"""`tako maintenance on`: visitors of a deployed app get 503 from Caddy; the app, its workers and schedules go on."""

from __future__ import annotations

import argparse

from tako.cli import deployed
from tako.cli.arguments import Parser
from tako.cli.context import Context
from tako.cli.errors import DONE
from tako.deploy.channel import who


def configure(parser: Parser) -> None:
    """On or off, where."""
    parser.add_argument("state", choices=["on", "off"], metavar="STATE", help="on: 503; off: the app again")
    deployed.add_options(parser)


def run(context: Context, args: argparse.Namespace) -> int:
    """Set it on every server. It stays over deploys and reboots."""
    target = deployed.target(context, args)
    is_on = args.state == "on"
    fields = {**target.ref, "on": is_on, "by": who()}
    deployed.each(target, lambda channel: channel.call("maintenance", fields))
    names = [server.name for server in target.servers]
    if context.output.json:
        context.output.document({**target.ref, "on": is_on, "servers": names})
    elif is_on:
        context.output.done(
            f"{target.app} is down for maintenance on {', '.join(names)}: visitors get 503. Workers and schedules go "
            f"on. Its end: tako maintenance off --env {target.environment.name}"
        )
    else:
        context.output.done(f"{target.app} answers again on {', '.join(names)}.")
    return DONE
