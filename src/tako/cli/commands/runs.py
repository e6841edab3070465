"""`tako runs`: list, show, retry, cancel, signal, ack, tail."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import Any

from tako.cli import moments, names, run_choice, run_ids, run_page
from tako.cli.arguments import Parser, Subcommands, UsageError, count
from tako.cli.context import Context
from tako.cli.errors import DONE, REFUSED
from tako.logs.render import clean, clock, short_id

STATUSES = ("pending", "running", "sleeping", "waiting", "limited", "blocked", "succeeded", "cancelled", "dead")
LISTED = ("id", "workflow", "status", "attempt", "created_ms", "error")
PAGE = 50
CHILDREN = 100
AT_ONCE = 500
# Cancelling waits a little for handlers that are in the middle of something.
DEADLINE_S = 60.0


def configure(parser: Parser) -> None:
    """One parser a subcommand."""
    commands = Subcommands(parser)
    _configure_list(commands.add("list", "the newest runs, with filters"))
    show = commands.add("show", "a run with its steps, errors and timing")
    show.add_argument("id", metavar="ID", help="whole, as the log shows it (0198…4f2a1c), or any end of it")
    retry = commands.add("retry", "run again what has ended; saved steps are kept")
    run_choice.configure(retry, what="dead runs", filters=("workflow", "group", "key", "since", "error"))
    retry.add_argument("--from-step", metavar="NAME", help="forget this step and all after it, and run them again")
    cancel = commands.add("cancel", "on return no further step starts and no result is saved")
    run_choice.configure(cancel, what="unfinished runs", filters=("workflow", "group", "key", "status", "since"))
    cancel.add_argument("--reason", metavar="TEXT", help="kept with the run")
    cancel.add_argument("--yes", action="store_true", help="do not ask")
    signal = commands.add("signal", "send a signal to a run")
    signal.add_argument("run", metavar="RUN", help="the run's id, or with --workflow its key")
    signal.add_argument("signal", metavar="SIGNAL", help="the signal's name")
    signal.add_argument("value", nargs="?", metavar="JSON", default="null", help="its value; default null")
    signal.add_argument("--workflow", metavar="NAME", help="RUN is the key of this workflow's unfinished run")
    signal.add_argument("--id", metavar="ID", dest="signal_id", help="the same id twice is kept once")
    ack = commands.add("ack", "say that somebody has seen dead runs")
    run_choice.configure(ack, what="dead runs", filters=("workflow",))
    tail = commands.add("tail", "each change of a run's status, as it happens")
    tail.add_argument("--workflow", metavar="NAME", help="of this workflow")
    tail.add_argument("--run", metavar="ID", help="of this run")


def _configure_list(parser: Parser) -> None:
    parser.add_argument("--workflow", metavar="NAME", help="of this workflow")
    parser.add_argument("--status", choices=STATUSES, metavar="STATUS", help=", ".join(STATUSES))
    parser.add_argument("--group", metavar="NAME", help="of the workflows of this group")
    parser.add_argument("--key", metavar="KEY", help="with this key")
    parser.add_argument("--since", metavar="WHEN", help='created after this: "1h" ago, or a time')
    parser.add_argument("--until", metavar="WHEN", help="created before this")
    parser.add_argument("--parent", metavar="ID", help="children of this run")
    parser.add_argument("-n", "--limit", type=count, default=PAGE, metavar="N", help=f"default {PAGE}")
    parser.add_argument("--after", metavar="NEXT", help="go on where a list ended: its `next`")


def run(context: Context, args: argparse.Namespace) -> int:
    """Do what the subcommand says."""
    return SUBCOMMANDS[args.subcommand](context, args)


def _list(context: Context, args: argparse.Namespace) -> int:
    now_ms = context.now_ms()
    engine = context.engine()
    fields = {
        "workflow": args.workflow,
        "status": args.status,
        "group": args.group,
        "key": args.key,
        "since_ms": moments.past_ms(args.since, option="--since", now_ms=now_ms) if args.since else None,
        "until_ms": moments.past_ms(args.until, option="--until", now_ms=now_ms) if args.until else None,
        "parent_id": run_ids.resolve(engine, args.parent) if args.parent else None,
        "limit": args.limit,
        "after": args.after,
    }
    page = engine.call("list_runs", fields)
    output = context.output
    if output.json:
        output.document({"runs": [{name: run[name] for name in LISTED} for run in page["runs"]], "next": page["next"]})
        return DONE
    if not page["runs"]:
        if _is_filtered(args):
            output.say(f"No run matches.{names.doubt(engine, args.workflow)}")
        else:
            output.say("There are no runs yet. Make one: tako enqueue NAME key=value")
        return DONE
    rows = [
        [
            run["id"],
            run["workflow"],
            run["status"],
            str(run["attempt"]),
            moments.ago(run["created_ms"], now_ms=now_ms),
            (run["error"] or run.get("blocked") or "").split("\n")[0],
        ]
        for run in page["runs"]
    ]
    output.table(["run", "workflow", "status", "attempt", "created", "error"], rows)
    if page["next"] is not None:
        output.say(f"There are more: add --after {page['next']}")
    return DONE


def _is_filtered(args: argparse.Namespace) -> bool:
    filters = ("workflow", "status", "group", "key", "since", "until", "parent", "after")
    return any(getattr(args, name) is not None for name in filters)


def _show(context: Context, args: argparse.Namespace) -> int:
    engine = context.engine()
    fields = {"id": run_ids.resolve(engine, args.id), "with": ["payload", "result", "steps", "attempts"]}
    found = engine.call("get_run", fields)
    page = engine.call("list_runs", {"parent_id": found["id"], "limit": CHILDREN})
    if page["runs"]:
        found["children"] = page["runs"][::-1]
        found["more_children"] = page["next"] is not None
    if context.output.json:
        context.output.document(run_page.document(found))
    else:
        run_page.show(context.output, found, now_ms=context.now_ms())
    return DONE


def _retry(context: Context, args: argparse.Namespace) -> int:
    ids = run_choice.chosen(context, args, statuses=["dead"])
    fields = {"from_step": args.from_step}
    return _each(context, "retry", ids, fields, past="Enqueued again", verb="retried", one_by_one=bool(args.ids))


def _cancel(context: Context, args: argparse.Namespace) -> int:
    ids = run_choice.chosen(context, args, statuses=run_choice.UNFINISHED)
    if ids and not args.ids and not args.yes:
        question = f"Cancel {run_choice.described(args, len(ids))}?"
        if not context.output.can_ask:
            raise UsageError(f"{question} There is nobody to ask; nothing was cancelled.", cure="Add --yes.")
        if not context.output.ask(question):
            context.output.say("Nothing was cancelled.")
            return REFUSED
    fields = {"reason": args.reason}
    return _each(context, "cancel", ids, fields, past="Cancelled", verb="cancelled", one_by_one=bool(args.ids))


def _each(
    context: Context, command: str, ids: list[str], fields: dict[str, Any], *, past: str, verb: str, one_by_one: bool
) -> int:
    """Act on each run; one that refuses does not stop the others. Exits 1 when any refused."""
    output, engine = context.output, context.engine()
    done: list[dict[str, Any]] = []
    refused: list[dict[str, Any]] = []
    if len(ids) == 1:
        done.append(engine.call(command, {"id": ids[0], **fields}, deadline_s=DEADLINE_S))
    else:
        for at in range(0, len(ids), AT_ONCE):
            if len(ids) > AT_ONCE:
                output.doing(f"Run {at + 1:,} of {len(ids):,}…")
            answer = engine.call(command, {"ids": ids[at : at + AT_ONCE], **fields}, deadline_s=DEADLINE_S)
            done += answer["runs"]
            refused += answer["refused"]
    if output.json:
        output.document({"runs": [{name: run.get(name) for name in LISTED} for run in done], "refused": refused})
        return REFUSED if refused else DONE
    for each in refused:
        output.fail(f"{each['id']} was not {verb}: {clean(each['error'])}", cure=clean(each.get("cure", "")))
    if not ids:
        output.say(f"There is nothing to be {verb}.")
    elif one_by_one:
        for run in done:
            output.done(f"{past}: {clean(run['workflow'])} {run['id']} is {run['status']}.")
    else:
        output.done(f"{past}: {len(done)} run{'' if len(done) == 1 else 's'}.")
    return REFUSED if refused else DONE


def _ack(context: Context, args: argparse.Namespace) -> int:
    engine = context.engine()
    if not args.ids and not args.all and args.workflow is None:
        raise UsageError("Name runs, or say --workflow NAME, or --all.", cure="See `tako runs list --status dead`.")
    if args.ids and (args.all or args.workflow is not None):
        raise UsageError("Name runs, or say --workflow NAME or --all, not both.")
    if args.ids:
        answer = engine.call("ack", {"ids": [run_ids.resolve(engine, text) for text in args.ids]})
    else:
        answer = engine.call("ack", {"workflow": args.workflow, "all": True})
    if context.output.json:
        context.output.document(answer)
    else:
        count = answer["count"]
        context.output.done(
            f"Acknowledged {count} dead run{'' if count == 1 else 's'}; `tako runs retry` still takes them."
        )
    return DONE


def _signal(context: Context, args: argparse.Namespace) -> int:
    try:
        json.loads(args.value)
    except (ValueError, RecursionError):
        raise UsageError(
            f"The value of a signal is JSON, found {args.value!r}. Nothing was sent.",
            cure="A text needs its quotes: '\"yes\"'",
        ) from None
    engine = context.engine()
    if args.workflow is None:
        target = {"id": run_ids.resolve(engine, args.run)}
    else:
        target = {"workflow": args.workflow, "key": args.run}
    fields = {**target, "signal": args.signal, "payload_json": args.value, "signal_id": args.signal_id}
    answer = engine.call("signal_run", fields)
    if context.output.json:
        context.output.document(answer)
    elif answer.get("known"):
        became = "the run has taken it" if answer["delivered"] else "it is kept until the run waits for it"
        context.output.done(f"{args.signal} was sent before with this id, and {became}. Nothing was added.")
    elif answer["delivered"]:
        context.output.done(f"Sent {args.signal}; the run was waiting for it and goes on.")
    else:
        context.output.done(f"Sent {args.signal}; it is kept until the run waits for it.")
    return DONE


def _tail(context: Context, args: argparse.Namespace) -> int:
    engine = context.engine()
    output = context.output
    run_id = run_ids.resolve(engine, args.run) if args.run else None
    with engine.stream(["runs"], workflow=args.workflow, run=run_id) as stream:
        output.say("Waiting for runs to change… (Ctrl-C ends this; runs go on)")
        for event in stream:
            if event.get("event") != "run":
                continue
            found = event["run"]
            if output.json:
                output.json_line({**{name: found.get(name) for name in LISTED}, "ts_ms": event.get("ts_ms")})
                continue
            error = clean((found.get("error") or "").split("\n")[0])
            status = output.shown(found["status"])
            stamp = clock(event.get("ts_ms") or context.now_ms())
            output.result(f"{stamp} {clean(found['workflow'])} {short_id(found['id'])} {status} {error}".rstrip())
            output.flush()
    output.say("The engine has stopped.")
    return DONE


SUBCOMMANDS: dict[str, Callable[[Context, argparse.Namespace], int]] = {
    "list": _list,
    "show": _show,
    "retry": _retry,
    "cancel": _cancel,
    "signal": _signal,
    "ack": _ack,
    "tail": _tail,
}
