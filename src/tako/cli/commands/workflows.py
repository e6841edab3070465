"""`tako workflows`: what exists, in which file and group, how healthy; pause and resume."""

from __future__ import annotations

import argparse
import shlex
from typing import Any

from tako.cli import moments
from tako.cli.arguments import Parser, Subcommands, UsageError
from tako.cli.context import Context
from tako.cli.errors import DONE
from tako.cli.output import Output
from tako.logs.render import clean


def configure(parser: Parser) -> None:
    """Alone it lists; the subcommands hold back and let go."""
    commands = Subcommands(parser, required=False)
    for name, line in (
        ("pause", "claim no more runs of a workflow, a group or a key; what runs goes on"),
        ("resume", "let them go on"),
    ):
        command = commands.add(name, line)
        command.add_argument("name", nargs="?", metavar="NAME", help="the workflow")
        command.add_argument("--group", metavar="NAME", help="a whole group, which refuses enqueues meanwhile")
        command.add_argument("--key", metavar="KEY", help="of the workflow only the runs that have this key")


def run(context: Context, args: argparse.Namespace) -> int:
    """Print a row for each workflow, or do what the subcommand says."""
    if args.subcommand is not None:
        return _pause(context, args)
    found = context.engine().call("list_workflows")
    output = context.output
    if output.json:
        output.document(found)
        return DONE
    if not found["workflows"]:
        output.say("No workflow is declared. `tako init` writes a first one into workflows/hello.py.")
        return DONE
    rows = [
        [
            info["name"],
            info.get("group") or "",
            "paused" if info.get("paused") else str(info.get("health") or ""),
            ", ".join(f"{number} {status}" for status, number in (info.get("counts") or {}).items()) or "none",
            f"{info['file']}:{info['line']}" if info.get("file") else "",
        ]
        for info in found["workflows"]
    ]
    output.table(["workflow", "group", "health", "runs", "file"], rows)
    for pause in found.get("pauses", ()):
        _tell_pause(output, pause, now_ms=context.now_ms())
    return DONE


def _pause(context: Context, args: argparse.Namespace) -> int:
    if (args.name is None) == (args.group is None) or (args.group is not None and args.key is not None):
        raise UsageError("Name a workflow, a workflow with --key KEY, or --group NAME.", cure="See `tako workflows`.")
    output = context.output
    answer = context.engine().call(args.subcommand, {"workflow": args.name, "group": args.group, "key": args.key})
    if output.json:
        output.document(answer)
        return DONE
    what = f"group {args.group}" if args.group else f"key {args.key!r} of {args.name}" if args.key else args.name
    of = {
        ("pause", True): f"Paused {what}: no run of it is claimed from now on; what runs goes on.",
        ("pause", False): f"{what} was paused already.",
        ("resume", True): f"Resumed {what}.",
        ("resume", False): f"{what} was not paused.",
    }
    output.done(clean(of[args.subcommand, answer["changed"]]))
    if args.subcommand == "pause":
        output.say(f"  End it with `tako workflows resume {_target(args.name, args.group, args.key)}`.")
    return DONE


def _tell_pause(output: Output, pause: dict[str, Any], *, now_ms: int) -> None:
    name, key = pause["name"], pause["key"]
    is_group = pause["kind"] == "group"
    what = f"group {name}" if is_group else f"key {key!r} of {name}" if key else name
    runs = f"{pause['waiting']} run{' waits' if pause['waiting'] == 1 else 's wait'}"
    command = f"tako workflows resume {_target(None if is_group else name, name if is_group else None, key or None)}"
    since = moments.span(max(0, now_ms - pause["since_ms"]))
    output.warn(f"{clean(what)} has been paused for {since}; {runs}. End it with `{command}`.")


def _target(name: str | None, group: str | None, key: str | None) -> str:
    words = ["--group", group] if group else [name or "", *(["--key", key] if key else [])]
    return clean(shlex.join(words))
