"""`tako`: find the command that was asked for and import nothing else.

`tako --help` is printed from the table below without argparse, so that it is there before one has let go of the key.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from tako.cli.context import Context

# What it is for, and the commands with one line each, in the order in which one meets them.
SECTIONS: dict[str, dict[str, str]] = {
    "Start": {
        "init": "write tako.toml, a first workflow and a test",
        "dev": "app, workers, schedules and logs in one terminal",
        "check": "start the app and every group once; name every problem",
        "run": "run any command as a process of the app, here or with --env: tako run -- COMMAND",
    },
    "Runs": {
        "enqueue": "enqueue a run: tako enqueue NAME key=value…",
        "runs": "list, show, retry, cancel, signal, ack, tail",
        "workflows": "what exists, in which file and group, how healthy; pause, resume",
        "schedules": "what fires when; pause, resume, run",
    },
    "Servers": {
        "servers": "add, ls, status, upgrade, logs, rm",
        "deploy": "this app to its servers; what cannot start changes nothing",
        "releases": "what is on the servers, what serves, who deployed it",
        "rollback": "back to a release that is there",
        "scale": "how many instances and workers are always there: web=2",
        "restart": "new instances and workers of the release that serves",
        "maintenance": "on, off: visitors of a deployed app get 503",
        "delete": "stop a deployed app and remove it, with its data",
    },
    "Operate": {
        "status": "one page; exits 1 when anything is wrong",
        "logs": "output of app and workers",
        "open": "the dashboard, in a browser",
        "secrets": "set, rm, ls; with --env, of servers: sync, rotate-key",
        "alerts": "test: try each channel of [alerts] and say what happened",
        "backup": "a consistent copy of the store and the app's data, while it runs",
        "doctor": "look at this machine and this folder",
        "bench": "measure this machine: enqueue, drain, latency, cold start",
        "version": "the versions of Tako, Python and SQLite",
    },
}
# They ask an engine, and it may be that of a deployed app: --env and --server.
OF_ANY_ENGINE = frozenset({"enqueue", "runs", "workflows", "schedules", "status", "logs", "open", "backup", "run"})
COMMANDS = {name: line for section in SECTIONS.values() for name, line in section.items()}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit code: 0 done, 1 refused or failed, 2 usage, 70 a bug of ours, 130 interrupted."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0] in ("-h", "--help", "help"):
        return _help(argv)
    if argv[0] in ("-V", "--version"):
        argv = ["version", *argv[1:]]
    name, rest = argv[0], argv[1:]
    from tako.cli import errors
    from tako.cli.output import Output

    output = Output.of_this_process(json="--json" in _before_dashes(rest))
    with errors.output_that_ends():
        return errors.guarded(lambda: _command(name, rest, output), command=f"tako {name}", output=output)


def _help(argv: list[str]) -> int:
    """Asked for: on stdout, exit 0. For want of a command: on stderr, exit 2."""
    lines = ["Workflow workers that scale to zero, then fail loudly.", "", "Usage: tako COMMAND [options]", ""]
    for section, commands in SECTIONS.items():
        lines.append(f"{section}:")
        lines += [f"  {name:<13}{line}" for name, line in commands.items()]
        lines.append("")
    lines.append("Each command has --help and --json. Start with `tako init`, then `tako dev`.")
    print(*lines, sep="\n", file=sys.stdout if argv else sys.stderr)
    return 0 if argv else 2


def _command(name: str, rest: list[str], output: object) -> int:
    from tako.cli import arguments
    from tako.cli.context import Context
    from tako.cli.output import Output

    assert isinstance(output, Output)
    if name not in COMMANDS:
        raise arguments.unknown("command", name, COMMANDS, usage="tako --help")
    module = arguments.load(name)
    parser = arguments.Parser(prog=f"tako {name}", description=arguments.sentence(COMMANDS[name]))
    module.configure(parser)
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout (streams: JSON lines)")
    if name in OF_ANY_ENGINE:
        arguments.add_where(parser)
    if {"-h", "--help"} & set(_before_dashes(rest)):
        from tako.cli import examples

        examples.add(parser, name)
    prepare = getattr(module, "prepare", list)
    args = parser.parse_args(prepare(rest))
    output.json = args.json
    context: Context = Context.of_this_process(output)
    context.where = arguments.where(args)
    try:
        code: int = module.run(context, args)
    finally:
        context.close()
    return code


def _before_dashes(argv: list[str]) -> list[str]:
    return argv[: argv.index("--")] if "--" in argv else argv
