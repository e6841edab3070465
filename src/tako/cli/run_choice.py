"""Which runs a command means: those that were named, those that its filters choose, or `--all`."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from typing import Any

from tako.cli import moments, run_ids
from tako.cli.arguments import Parser, UsageError
from tako.cli.context import Context
from tako.cli.engine import Engine

PAGE = 500
UNFINISHED = ("pending", "running", "sleeping", "waiting", "limited", "blocked")
FILTERS = ("workflow", "group", "key", "status", "since", "error")


def configure(parser: Parser, *, what: str, filters: Sequence[str]) -> None:
    """Ids, `--all`, and filters that choose among `what` it takes."""
    parser.add_argument("ids", nargs="*", metavar="ID")
    parser.add_argument("--all", action="store_true", help=f"all {what}; or those that the options below choose")
    of = {
        "workflow": ("NAME", "of this workflow"),
        "group": ("NAME", "of this group"),
        "key": ("KEY", "with this key"),
        "status": ("STATUS", f"one of {', '.join(UNFINISHED)}"),
        "since": ("WHEN", 'created after this: "1h" ago, or a time'),
        "error": ("TEXT", "whose error has this text in it"),
    }
    for name in filters:
        metavar, words = of[name]
        parser.add_argument(f"--{name}", metavar=metavar, help=words, choices=UNFINISHED if name == "status" else None)


def chosen(context: Context, args: argparse.Namespace, *, statuses: Sequence[str]) -> list[str]:
    """The ids. All pages are read before anything is done: acting while paging would change the pages.

    Raises:
        UsageError: neither ids nor a choice, or both.
    """
    filters = [name for name in FILTERS if getattr(args, name, None) is not None]
    if args.ids and (args.all or filters):
        raise UsageError(f"Name runs, or say --{filters[0] if filters else 'all'}, not both.")
    if not (args.ids or args.all or filters):
        raise UsageError(
            "Name runs, choose some (with --workflow NAME, for example), or say --all.", cure="See `tako runs list`."
        )
    engine = context.engine()
    if args.ids:
        return list(dict.fromkeys(run_ids.resolve(engine, text) for text in args.ids))
    given = {name: getattr(args, name, None) for name in ("workflow", "group", "key")}
    if getattr(args, "since", None) is not None:
        given["since_ms"] = moments.past_ms(args.since, option="--since", now_ms=context.now_ms())
    wanted = [args.status] if getattr(args, "status", None) else statuses
    found: dict[str, None] = {}  # each once: a run may change its status between two lists, and be in both
    for status in wanted:
        found.update(dict.fromkeys(_matching(engine, args, {**given, "status": status})))
    return list(found)


def described(args: argparse.Namespace, count: int) -> str:
    """The chosen runs in words: what is asked about before they are touched."""
    words = f"{count} run{'' if count == 1 else 's'}"
    if getattr(args, "status", None):
        words += f" that {'is' if count == 1 else 'are'} {args.status}"
    of = {"workflow": "of {}", "group": "of group {}", "key": "with the key {}", "since": "since {}"}
    return " ".join([words, *(of[name].format(getattr(args, name)) for name in of if getattr(args, name, None))])


def _matching(engine: Engine, args: argparse.Namespace, fields: dict[str, Any]) -> Iterator[str]:
    text = getattr(args, "error", None)
    after: str | None = None
    while True:
        page = engine.call("list_runs", {**fields, "limit": PAGE, "after": after})
        yield from (run["id"] for run in page["runs"] if text is None or text in (run["error"] or ""))
        after = page["next"]
        if after is None:
            return
