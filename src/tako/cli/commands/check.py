"""`tako check`: boot the app and every group once, in processes of their own; name every problem. For CI and deploy."""

from __future__ import annotations

import argparse
from typing import Any

from tako.cli.context import Context
from tako.cli.errors import DONE, REFUSED


def configure(parser: argparse.ArgumentParser) -> None:
    """No options of its own."""


def run(context: Context, args: argparse.Namespace) -> int:
    """Exit 0 when everything starts, 1 when anything does not. Needs no engine and stores nothing."""
    import asyncio

    from tako.config import load
    from tako.dev import check
    from tako.dev.variables import variables_of

    config = load.load(context.app_folder())
    context.output.doing(f"Checking {config.name}…")
    found = asyncio.run(check.check(config, variables_of(config)))
    problems = found["problems"]
    if context.output.json:
        context.output.document(found)
        return REFUSED if problems else DONE
    for problem in problems:
        context.output.fail(str(problem["what"]), cure=str(problem.get("cure") or ""))
    if problems:
        context.output.say(f"{_count(len(problems), 'problem')}. Nothing was stored, and nothing is running.")
        return REFUSED
    context.output.done(f"{config.name} starts{_what(found)}.")
    return DONE


def _what(found: dict[str, Any]) -> str:
    workflows = [name for group in found.get("groups", []) for name in group.get("workflows", [])]
    if not workflows:
        return ""
    return f": {_count(len(workflows), 'workflow')} in {_count(len(found['groups']), 'group')}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
