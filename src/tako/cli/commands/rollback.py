"""`tako rollback`: back to a release that is on the servers already. Nothing is uploaded or built."""

from __future__ import annotations

import argparse
import time

from tako.cli import deploy_screen, deployed
from tako.cli.arguments import Parser
from tako.cli.commands import deploy
from tako.cli.context import Context
from tako.deploy.leg import Leg


def configure(parser: Parser) -> None:
    """To which release, where."""
    parser.add_argument("release", nargs="?", metavar="RELEASE", help="as in `tako releases`; default: the one before")
    deployed.add_options(parser)
    parser.add_argument(
        "--orphans", choices=["refuse", "keep", "cancel"], default="refuse",
        help="unfinished runs that the release has no code for; default: refuse to go back",
    )  # fmt: skip


def run(context: Context, args: argparse.Namespace) -> int:
    """Have every server go back; exit 0 when all serve it."""
    started = time.monotonic()
    target = deployed.target(context, args)
    rollout = deployed.rollout(target)
    screen = deploy_screen.Screen(context.output, [leg.server for leg in rollout.legs])
    deploy.connect(context, rollout, screen)

    def begin(leg: Leg, hold: bool) -> None:
        leg.roll_back(args.release, orphans=args.orphans, hold=hold)

    deploy.run_and_tell(rollout, lambda: screen.follow(rollout.run(begin)))
    return deploy.finish(context, target, rollout, release=args.release, verb="rolled back on", started=started)
