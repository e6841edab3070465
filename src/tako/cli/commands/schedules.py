"""`tako schedules`: what fires when, when it last did, what was left out; pause, resume, run now."""

from __future__ import annotations

import argparse
from typing import Any

from tako.cli import moments
from tako.cli.arguments import Parser, Subcommands
from tako.cli.context import Context
from tako.cli.errors import DONE

RUN_DEADLINE_S = 5.0


def configure(parser: Parser) -> None:
    """Alone it lists; the subcommands act on the schedules of one workflow."""
    commands = Subcommands(parser, required=False)
    for name, line in (
        ("pause", "fire no more, until resume"),
        ("resume", "fire again; what was missed in the pause does not"),
        ("run", "enqueue now what the schedule would"),
    ):
        commands.add(name, line).add_argument("name", metavar="NAME", help="the workflow")


def run(context: Context, args: argparse.Namespace) -> int:
    """Print a row for each schedule, or do what the subcommand says."""
    if args.subcommand == "run":
        return _run_now(context, args.name)
    if args.subcommand is not None:
        return _pause(context, args.name, args.subcommand)
    found = context.engine().call("list_schedules")
    output = context.output
    if output.json:
        output.document(found)
        return DONE
    if not found["schedules"]:
        output.say('No workflow has a schedule. Give one to @workflow: schedule="0 9 * * 1-5".')
        return DONE
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
    return DONE


def _pause(context: Context, name: str, command: str) -> int:
    answer = context.engine().call(f"{command}_schedules", {"workflow": name})
    if context.output.json:
        context.output.document(answer)
    elif command == "pause":
        context.output.done(f"Paused the schedule of {name}: it does not fire until `tako schedules resume {name}`.")
    else:
        context.output.done(f"Resumed the schedule of {name}; what was missed meanwhile does not fire.")
    return DONE


def _run_now(context: Context, name: str) -> int:
    answer = context.engine().call("run_schedule", {"workflow": name}, deadline_s=RUN_DEADLINE_S)
    output = context.output
    if output.json:
        output.document(answer)
        return DONE
    if answer["is_new"]:
        output.done(f"Enqueued {name}. See it with `tako runs show {answer['id']}`.")
    else:
        output.done(f"{name} was there already: an unfinished run has its key. Nothing new was enqueued.")
    output.result(answer["id"])
    return DONE


def _state(info: dict[str, Any]) -> str:
    if info["paused"]:
        return "paused"
    return f"late by {moments.span(info['late_ms'])}" if info["late_ms"] else "on time"


def _when(at_ms: int | None, now_ms: int) -> str:
    return f"{moments.shown(at_ms)} ({moments.ago(at_ms, now_ms=now_ms)})" if at_ms else "never"
