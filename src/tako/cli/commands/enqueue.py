"""`tako enqueue NAME key=value…`: enqueue a run on the running engine, and wait for it if asked.

Values are read by the types of the workflow's signature, which the engine tells. Keys, limits and payloads are the
engine's to check: it does for us what it does for an app.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from tako.cli import arguments, follow, moments, run_page, values
from tako.cli.context import Context
from tako.cli.engine import Engine
from tako.cli.errors import DONE, REFUSED, Interrupted
from tako.protocol import ids

DEADLINE_S = 5.0


_WITH_VALUE = frozenset({"--payload", "--delay", "--at", "--key", "--priority", "--env", "--server"})


def configure(parser: argparse.ArgumentParser) -> None:
    """What to run, with which arguments, when."""
    parser.epilog = (
        "The arguments as one JSON object: tako enqueue NAME --json '{\"user_id\": 42}' (or --json - for stdin)."
    )
    parser.add_argument("name", metavar="NAME", help="the workflow")
    parser.add_argument("arguments", nargs="*", metavar="key=value", help="its arguments, read by their types")
    parser.add_argument("--payload", metavar="JSON", help="all arguments as one JSON object; - reads stdin")
    parser.add_argument("--wait", action="store_true", help="show its output until it ends, then print its result")
    when = parser.add_mutually_exclusive_group()
    when.add_argument("--delay", metavar="DURATION", help='not before this long from now: "10m"')
    when.add_argument("--at", metavar="TIME", help="not before this time: 2026-11-24T09:00:00+01:00")
    parser.add_argument("--key", help="at most one unfinished run of the workflow has it")
    parser.add_argument("--priority", type=arguments.whole, metavar="N", help="higher goes first; default 0")


def prepare(argv: list[str]) -> list[str]:
    """The words as argparse understands them: `--json '{…}'` and `--json -` are the payload, `--json` alone asks for
    output as JSON; and options may stand anywhere, also between the name and its arguments."""
    found: list[str] = []
    for at, word in enumerate(argv):
        follower = argv[at + 1].lstrip() if at + 1 < len(argv) else ""
        if word == "--json" and (follower.startswith(("{", "[", '"')) or follower == "-"):
            found.append("--payload")
        elif word.startswith("--json="):
            found.append(f"--payload={word.removeprefix('--json=')}")
        else:
            found.append(word)
    return _options_last(found)


def _options_last(argv: list[str]) -> list[str]:
    words: list[str] = []
    options: list[str] = []
    rest = iter(argv)
    for word in rest:
        if word == "--":
            words += rest
        elif not word.startswith("-"):
            words.append(word)
        else:
            options.append(word)
            if word in _WITH_VALUE and (value := next(rest, None)) is not None:
                options.append(value)
    return [*options, "--", *words]


def run(context: Context, args: argparse.Namespace) -> int:
    """Enqueue; with --wait, follow the run to its end: exit 0 when it succeeded, 1 when not."""
    if args.payload is not None and args.arguments:
        raise arguments.UsageError("Give the arguments as key=value or as one JSON object, not both.")
    given = arguments.key_values(args.arguments)
    options = _options(args)
    engine = context.engine()
    payload = _payload_of(context, args.payload) if args.payload is not None else _typed(engine, args.name, given)
    run_id = ids.uuid7()
    new = {"id": run_id, "workflow": args.name, "payload_json": json.dumps(payload, ensure_ascii=False), **options}
    if not args.wait:
        accepted = _enqueue(engine, new)
        _tell(context, args.name, accepted)
        return DONE
    return _enqueue_and_wait(context, engine, new)


def _options(args: argparse.Namespace) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if args.delay is not None:
        options["delay_ms"] = moments.duration_ms(args.delay, option="--delay")
    if args.at is not None:
        options["run_at_ms"] = moments.instant_ms(args.at, option="--at")
    if args.key is not None:
        options["key"] = args.key
    if args.priority is not None:
        options["priority"] = args.priority
    return options


def _payload_of(context: Context, text: str) -> dict[str, Any]:
    if text == "-":
        text = context.output.read()
    try:
        payload = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise arguments.UsageError(f"The payload is not JSON: {error}. Nothing was enqueued.") from None
    if not isinstance(payload, dict):
        raise arguments.UsageError('The payload is an object of arguments: {"user_id": 42}. Nothing was enqueued.')
    return payload


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _typed(engine: Engine, name: str, given: list[tuple[str, str]]) -> dict[str, Any]:
    """The arguments by their declared types. What is not declared is taken as JSON or text, and left to the engine."""
    if not given:
        return {}
    known = engine.call("list_workflows", {"about": name})["workflows"]
    declared: dict[str, str] = {}
    for info in known:
        if name == info["name"] or name in info.get("aliases", ()):
            declared = {parameter["name"]: parameter["type"] for parameter in info.get("parameters") or ()}
    return {key: values.value(text, declared.get(key, ""), name=key) for key, text in given}


def _enqueue(engine: Engine, new: dict[str, Any]) -> dict[str, Any]:
    reply = engine.call("enqueue_runs", {"runs": [new]}, deadline_s=DEADLINE_S)
    accepted: dict[str, Any] = reply["runs"][0]
    return accepted


def _tell(context: Context, name: str, accepted: dict[str, Any]) -> None:
    output = context.output
    if output.json:
        output.document(accepted)
        return
    if accepted["is_new"]:
        output.done(f"Enqueued {name}. See it with `tako runs show {accepted['id']}`.")
    else:
        output.done(f"{name} was there already: an unfinished run has this key. Nothing new was enqueued.")
    output.result(accepted["id"])


def _enqueue_and_wait(context: Context, engine: Engine, new: dict[str, Any]) -> int:
    output = context.output
    # Listen first: what the run says between its enqueue and our listening would be lost.
    with engine.stream(["logs", "runs"], run=new["id"]) as stream:
        accepted = _enqueue(engine, new)
        run_id = accepted["id"]
        try:
            if accepted["is_new"]:
                output.done(f"Enqueued {new['workflow']} {run_id}.")
                run = follow.to_the_end(engine, stream, run_id, output=output)
            else:
                output.done(f"An unfinished run has this key: waiting for {run_id}. Nothing new was enqueued.")
                with engine.stream(["logs", "runs"], run=run_id) as other:
                    run = follow.to_the_end(engine, other, run_id, output=output)
        except KeyboardInterrupt:
            raise Interrupted(f"The run goes on: `tako runs show {run_id}`.") from None
    return _ended(context, run)


def _ended(context: Context, run: dict[str, Any]) -> int:
    output = context.output
    if output.json:
        output.document(run_page.document(run))
    elif run["status"] == "succeeded":
        output.done(f"{run['workflow']} succeeded.")
        output.result(run.get("result_json") or "null")
    else:
        why = run.get("error") or run.get("reason") or "no reason was given"
        cure = f"See it with `tako runs show {run['id']}`; run it again with `tako runs retry {run['id']}`."
        output.fail(f"{run['workflow']} ended as {run['status']}: {why}", cure=cure)
    return DONE if run["status"] == "succeeded" else REFUSED
