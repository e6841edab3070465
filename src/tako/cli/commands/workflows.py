"""`tako workflows`: what exists, in which file and group, and how healthy its group is."""

from __future__ import annotations

import argparse
from typing import Any

from tako.cli.context import Context

LANES = ("later", "ready", "solo")


def configure(parser: argparse.ArgumentParser) -> None:
    """No options of its own."""


def run(context: Context, args: argparse.Namespace) -> int:
    """Print a row for each workflow."""
    found = context.engine().call("list_workflows")
    output = context.output
    if output.json:
        output.document(found)
        return 0
    if not found["workflows"]:
        output.say("No workflow is declared. `tako init` writes a first one into workflows/hello.py.")
        return 0
    rows = [
        [
            info["name"],
            info.get("group", ""),
            _health(info.get("health")),
            _counts(info.get("counts") or {}),
            f"{info['file']}:{info['line']}" if info.get("file") else "",
        ]
        for info in found["workflows"]
    ]
    output.table(["workflow", "group", "health", "runs", "file"], rows)
    return 0


def _health(health: Any) -> str:
    return str(health.get("state", "")) if isinstance(health, dict) else str(health or "")


def _counts(counts: dict[str, int]) -> str:
    """Runs by status; lanes are where a pending run waits, and `unseen` counts dead runs a second time."""
    total: dict[str, int] = {}
    for state, number in counts.items():
        if number and state != "unseen":
            status = "pending" if state in LANES else state
            total[status] = total.get(status, 0) + number
    return ", ".join(f"{number} {status}" for status, number in total.items()) or "none"
