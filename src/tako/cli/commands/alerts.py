"""`tako alerts test`: try each channel of `[alerts]` and say what happened."""

from __future__ import annotations

from typing import Any

from tako.cli.arguments import Parser, Subcommands
from tako.cli.context import Context
from tako.cli.errors import DONE, REFUSED
from tako.config.model import Config
from tako.errors import NoEngine
from tako.logs.render import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

DEADLINE_S = 60.0


def configure(parser: Parser) -> None:
    """One subcommand."""
    Subcommands(parser).add("test", "try each channel of [alerts] and say what happened")


def run(context: Context, args: argparse.Namespace) -> int:
    """Exit 0 when every channel has delivered, 1 when one has not, or there is none."""
    output = context.output
    output.doing("Trying each channel of [alerts]…")
    found = _tried(context)
    failed = [one for one in found if one["error"] is not None]
    if output.json:
        output.document({"channels": found})
    elif not found:
        output.fail(
            "No channel is set, so nobody is told of anything.",
            cure='Write one into tako.toml: [alerts] webhook = "https://…", command = "…", or '
            'email = { to = "…", smtp = "smtp://…" }.',
        )
    else:
        for one in found:
            if one["error"] is None:
                output.done(f"{one['channel']} delivered a test.")
            else:
                output.fail(f"{one['channel']} delivered nothing: {clean(one['error'])}")
    return REFUSED if failed or not found else DONE


def _tried(context: Context) -> list[dict[str, Any]]:
    """By the engine, from where alerts are sent; without one, from here."""
    try:
        engine = context.engine()
    except NoEngine:
        return _tried_here(context)
    found: list[dict[str, Any]] = engine.call("test_alerts", deadline_s=DEADLINE_S)["channels"]
    return found


def _tried_here(context: Context) -> list[dict[str, Any]]:
    import asyncio

    from tako.config import load

    config = load.load(context.app_folder())
    context.output.say("No engine runs in this folder, so they are tried from here.")
    found = asyncio.run(_test(config))
    return [{"channel": name, "error": why} for name, why in found]


async def _test(config: Config) -> list[tuple[str, str | None]]:
    import socket

    from tako.alerts.alert import Sender
    from tako.alerts.alerter import Alerter
    from tako.clock import SystemClock

    sender = Sender(app=config.name, environment="development", machine=socket.gethostname())
    alerter = Alerter(
        config.alerts, sender=sender, root=config.root, clock=SystemClock(), log=lambda level, message: None
    )
    try:
        return await alerter.test()
    finally:
        await alerter.stop()
