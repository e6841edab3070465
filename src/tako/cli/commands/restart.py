"""`tako restart`: new instances and workers of the release that serves. No request is refused meanwhile."""

from __future__ import annotations

import argparse
import time

from tako.cli import deploy_screen, deployed
from tako.cli.arguments import Parser
from tako.cli.commands import deploy
from tako.cli.context import Context
from tako.deploy.leg import Leg
from tako.deploy.rollout import to_the_end


def configure(parser: Parser) -> None:
    """Where."""
    deployed.add_options(parser)


def run(context: Context, args: argparse.Namespace) -> int:
    """Have every server roll the release to itself; exit 0 when all have."""
    started = time.monotonic()
    target = deployed.target(context, args)
    rollout = deployed.rollout(target)
    screen = deploy_screen.Screen(context.output, [leg.server for leg in rollout.legs], skip=["release"])
    deploy.connect(context, rollout, screen)

    def begin(leg: Leg) -> None:
        leg.restart()
        leg.follow(to_the_end)

    deploy.run_and_tell(rollout, lambda: screen.follow(rollout.each(begin)))
    return deploy.finish(context, target, rollout, release=None, verb="restarted on", started=started)
