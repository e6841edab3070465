"""`tako logs`: what app, workers and Tako said; from the engine, or from its files when none runs."""

from __future__ import annotations

import argparse
from typing import Any

from tako.cli import moments, names, run_ids
from tako.cli.arguments import UsageError, count
from tako.cli.context import Context
from tako.errors import NoEngine
from tako.logs import render

LIMIT = 200


def configure(parser: argparse.ArgumentParser) -> None:
    """Which lines, and whether to go on."""
    parser.add_argument("--run", metavar="ID", help="what this run said")
    parser.add_argument("--workflow", metavar="NAME", help="what runs of this workflow said")
    parser.add_argument("--group", metavar="NAME", help="what workers of this group said")
    parser.add_argument("--level", choices=["debug", "info", "warning", "error"], help="this grave or graver")
    parser.add_argument("--last-crash", action="store_true", help="the last lines of the worker that crashed last")
    parser.add_argument("--since", metavar="WHEN", help='not older than this: "10m", or a time')
    parser.add_argument("-n", "--limit", type=count, metavar="N", help=f"at most so many lines; default {LIMIT}")
    parser.add_argument("--scope", choices=["web", "worker", "tako"], help="who said it")
    parser.add_argument("--release", metavar="RELEASE", help="of a deployed app: what this release said")
    parser.add_argument("--instance", metavar="ID", help="of a deployed app: what this process said")
    parser.add_argument("-f", "--follow", action="store_true", help="go on with lines as they come")


def run(context: Context, args: argparse.Namespace) -> int:
    """Print lines, oldest first; with --json one document `{"lines": […]}`, or with --follow one line each."""
    if args.follow and args.last_crash:
        raise UsageError("--last-crash shows what is over: it cannot be followed.", cure="Leave one of the two out.")
    since_ms = moments.past_ms(args.since, option="--since", now_ms=context.now_ms()) if args.since else 0
    limit = LIMIT if args.limit is None else args.limit
    if context.where is not None:
        return _of_servers(context, args, since_ms=since_ms, limit=limit)
    for option in ("release", "instance"):
        if getattr(args, option) is not None:
            raise UsageError(f"--{option} is for deployed apps.", cure="Add --env NAME.")
    try:
        context.engine()
    except NoEngine as error:
        if args.follow:
            raise
        return _from_files(context, args, since_ms=since_ms, limit=limit, why=error)
    if args.run is not None:
        args.run = run_ids.resolve(context.engine(), args.run)
    if args.follow:
        return _follow(context, args, since_ms=since_ms, limit=limit)
    fields = {"limit": limit, "since_ms": since_ms or None, "last_crash": args.last_crash or None, **_filters(args)}
    found = context.engine().call("logs", fields)
    lines = [line for line in found["lines"] if line["ts_ms"] >= since_ms]
    _print(context, lines, args, doubt="" if lines else names.doubt(context.engine(), args.workflow))
    return 0


def _of_servers(context: Context, args: argparse.Namespace, *, since_ms: int, limit: int) -> int:
    from tako.cli import remote_logs

    if args.last_crash:
        raise UsageError("--last-crash is for the engine of this folder.", cure="Write --level error in its place.")
    if args.run is not None:
        args.run = run_ids.resolve(context.engine(), args.run)
    return remote_logs.show(context, args, since_ms=since_ms, limit=limit)


def _filters(args: argparse.Namespace) -> dict[str, Any]:
    filters = ("run", "workflow", "group", "level", "scope")
    return {name: getattr(args, name) for name in filters}


def _follow(context: Context, args: argparse.Namespace, *, since_ms: int, limit: int) -> int:
    output = context.output
    with context.engine().stream(["logs"], tail=limit, **_filters(args)) as stream:
        for event in stream:
            line = event.get("line")
            if event.get("event") != "log" or line is None or line["ts_ms"] < since_ms:
                continue
            if output.json:
                output.json_line(line)
            else:
                output.result(render.render(line, colour=output.colour_out))
                output.flush()
    output.say("The engine has stopped; there are no more lines.")
    return 0


def _from_files(context: Context, args: argparse.Namespace, *, since_ms: int, limit: int, why: NoEngine) -> int:
    """What an engine that has stopped, or died, left behind: often just what one wants to read."""
    from tako.logs import files
    from tako.logs.filters import Filter

    if args.run is not None and not run_ids.WHOLE.fullmatch(args.run):
        raise UsageError(f"{args.run[:80]} cannot be completed while no engine runs.", cure="Give the run's whole id.")
    folder = context.app_folder() / ".tako" / "logs"
    if not folder.is_dir():
        raise why
    context.output.say(f"No engine runs in this folder; these lines are from {folder}.")
    if args.last_crash:
        lines = files.last_crash(folder, group=args.group, limit=limit)
    else:
        wanted = Filter(**_filters(args))
        lines = files.read(folder, wanted, limit=limit, since_ms=since_ms)
    _print(context, list(lines), args)
    return 0


def _print(context: Context, lines: list[Any], args: argparse.Namespace, *, doubt: str = "") -> None:
    output = context.output
    if output.json:
        output.document({"lines": lines})
        return
    if not lines:
        output.say("No worker has crashed." if args.last_crash else f"No line matches.{doubt}")
    for line in lines:
        output.result(render.render(line, colour=output.colour_out))
