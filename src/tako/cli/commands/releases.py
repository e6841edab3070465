"""`tako releases`: what is on the servers, what serves, and the deploys that brought it there."""

from __future__ import annotations

import argparse

from tako.cli import deploy_screen, deployed, moments
from tako.cli.arguments import Parser
from tako.cli.context import Context
from tako.cli.errors import DONE
from tako.protocol import management


def configure(parser: Parser) -> None:
    """Of which environment."""
    deployed.add_options(parser)


def run(context: Context, args: argparse.Namespace) -> int:
    """Print a row for each release, newest first, and what is under way."""
    target = deployed.target(context, args)
    found: dict[str, management.Releases] = deployed.each(target, lambda channel: channel.call("releases", target.ref))
    if context.output.json:
        context.output.document({**target.ref, "servers": found})
        return DONE
    now_ms = context.now_ms()
    rows = [
        [server, *_row(release, now_ms=now_ms)]
        for server, releases in found.items()
        for release in releases["releases"]
    ]
    context.output.table(["server", "release", "state", "created", "by", "size", "commit"], rows)
    for name, releases in found.items():
        for job in releases["jobs"]:
            if job["finished_ms"] is None:
                since = moments.span(now_ms - job["started_ms"])
                context.output.say(
                    f"{name}: a {job['kind']} by {job['by']} is in its phase {job['phase']}, since {since}. "
                    "`tako deploy --attach` follows it."
                )
    return DONE


def _row(release: management.ReleaseInfo, *, now_ms: int) -> list[str]:
    state = "serves" if release["is_current"] else "ready" if release["is_complete"] else "failed"
    created = moments.ago(release["created_ms"], now_ms=now_ms)
    size = f"{release['files']} files, {deploy_screen.size(release['bytes'])}"
    return [release["release"], state, created, release["by"], size, release["message"] or ""]
