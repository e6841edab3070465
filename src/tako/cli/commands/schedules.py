"""`tako schedules`: what fires when, and when it last did."""

from __future__ import annotations

import argparse
from typing import Any

from tako.cli import moments
from tako.cli.context import Context


def configure(parser: argparse.ArgumentParser) -> None:
    """No options of its own."""


def run(context: Context, args: argparse.Namespace) -> int:
    """Print a row for each schedule."""
    found = context.engine().call("list_schedules")
    output = context.output
    if output.json:
        output.document(found)
        return 0
    if not found["schedules"]:
        output.say('No workflow has a schedule. Give one to @workflow: schedule="0 9 * * 1-5".')
        return 0
    now_ms = context.now_ms()
    rows = [
        [
            str(info.get("workflow", "")),
            expression(info),
            _when(info.get("next_ms"), now_ms),
            _when(info.get("last_ms"), now_ms),
        ]
        for info in found["schedules"]
    ]
    output.table(["workflow", "schedule", "next", "last"], rows)
    return 0


def expression(info: dict[str, Any]) -> str:
    """A schedule as it was written: five fields and their zone, or an interval."""
    if cron := info.get("cron") or info.get("expression"):
        zone = info.get("tz")
        return f"{cron} {zone}" if zone and zone != "UTC" else str(cron)
    return f"every {moments.span(info['every_ms'])}" if info.get("every_ms") else ""


def _when(at_ms: int | None, now_ms: int) -> str:
    return f"{moments.shown(at_ms)} ({moments.ago(at_ms, now_ms=now_ms)})" if at_ms else "never"
