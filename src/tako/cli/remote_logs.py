"""`tako logs --env NAME`: what a deployed app said, of all its servers in one stream, by time."""

from __future__ import annotations

import argparse
import queue
import threading
from typing import TYPE_CHECKING, Any, cast

from tako.cli import deployed
from tako.cli.context import Context
from tako.cli.errors import DONE, REFUSED
from tako.cli.output import DIM
from tako.deploy.channel import Channel
from tako.deploy.servers import Server
from tako.deploy.target import Target
from tako.errors import TakoError
from tako.logs import render

if TYPE_CHECKING:
    from tako.protocol.messages import LogLine

Line = dict[str, Any]


def show(context: Context, args: argparse.Namespace, *, since_ms: int, limit: int) -> int:
    """Print lines, oldest first; with --follow go on with those that come."""
    assert context.where is not None
    target = deployed.target(context, context.where)
    fields = {
        **target.ref, "limit": limit, "since_ms": since_ms or None, "group": args.group, "run_id": args.run,
        "workflow": args.workflow, "level": args.level, "release": args.release, "scope": args.scope,
        "instance": args.instance,
    }  # fmt: skip
    fields = {name: value for name, value in fields.items() if value is not None}
    if args.follow:
        return _follow(context, target, fields)
    answers, failed = deployed.each_there(target, lambda channel: channel.call("logs", fields))
    for error in failed.values():
        context.output.warn(error.message)
    lines = [{**line, "server": server} for server, answer in answers.items() for line in answer["lines"]]
    lines = sorted(lines, key=lambda line: line["ts_ms"])[-limit:]
    if context.output.json:
        context.output.document({"lines": lines})
        return REFUSED if failed else DONE
    if not lines:
        context.output.say("No line matches.")
    for line in lines:
        _print(context, line, is_several=len(target.servers) > 1)
    return REFUSED if failed else DONE


def _follow(context: Context, target: Target, fields: dict[str, Any]) -> int:
    lines: queue.SimpleQueue[Line | TakoError] = queue.SimpleQueue()
    for server in target.servers:
        threading.Thread(target=_listen, args=(server, fields, lines), name=f"logs-{server.name}", daemon=True).start()
    listening = len(target.servers)
    while listening:
        line = lines.get()
        if isinstance(line, TakoError):
            listening -= 1
            context.output.warn(line.message)
            continue
        _print(context, line, is_several=len(target.servers) > 1)
        context.output.flush()
    context.output.say("No server is listened to any more.")
    return 1


def _listen(server: Server, fields: dict[str, Any], lines: queue.SimpleQueue[Line | TakoError]) -> None:
    try:
        link = deployed.connection(server)
        link.connect()
        with Channel(link) as channel:
            answer, events = channel.events("logs", {**fields, "follow": True}, push="log")
            for line in answer["lines"]:
                lines.put({**line, "server": server.name})
            for event in events:
                lines.put({**event["line"], "server": server.name})
        lines.put(TakoError(f"{server.name} has ended its stream."))
    except TakoError as error:
        lines.put(error)


def _print(context: Context, line: Line, *, is_several: bool) -> None:
    output = context.output
    if output.json:
        output.json_line(line)
        return
    server = f"{output.shown(line['server'], DIM)} " if is_several else ""
    output.result(server + render.render(cast("LogLine", line), colour=output.colour_out))
