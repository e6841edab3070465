"""`tako schedules`: what fires when, when it last did, and what was left out."""

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
            str(info["workflow"]),
            str(info["spec"]),
            _when(info["next_ms"], now_ms),
            _when(info["fired_ms"], now_ms),
            str(info["skipped"]),
            _state(info),
        ]
        for info in found["schedules"]
    ]
    output.table(["workflow", "schedule", "next", "last", "skipped", "state"], rows)
    return 0


def _state(info: dict[str, Any]) -> str:
    if info["paused"]:
        return "paused"
    return f"late by {moments.span(info['late_ms'])}" if info["late_ms"] else "on time"


def _when(at_ms: int | None, now_ms: int) -> str:
    return f"{moments.shown(at_ms)} ({moments.ago(at_ms, now_ms=now_ms)})" if at_ms else "never"
