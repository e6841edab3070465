"""What `tako COMMAND --help` says beside the options: what a command of commands is for, and examples. Loaded for help
only; a test reads every example with the command's own parser."""

from __future__ import annotations

import argparse

ABOUT = {
    "runs": "Look at runs, run them again, cancel them, send them signals.",
    "workflows": "What exists, in which file and group, how healthy; and holding it back for a while.",
    "schedules": "What fires when, when it fired last, and whether it is late.",
    "servers": "The machines that apps are deployed to.",
    "secrets": "The values that the app reads with `from tako import secrets`.",
    "alerts": "Who is told when something goes wrong: [alerts] of tako.toml.",
    "maintenance": "Let visitors of a deployed app see 503, or the app again.",
}

EXAMPLES: dict[str, tuple[str, ...]] = {
    "dev": ("tako dev", "tako dev --port 8000 --no-alerts"),
    "check": ("tako check",),
    "run": ("tako run -- python manage.py shell", "tako run -- python import_orders.py --year 2026"),
    "enqueue": (
        "tako enqueue send_email user_id=42 --wait",
        'tako enqueue report --json \'{"month": "2026-11"}\' --delay 10m',
    ),
    "runs": ("tako runs list --status dead", "tako runs show 4f2a1c", "tako runs retry --all --workflow report"),
    "runs list": (
        "tako runs list --status dead --since 24h",
        "tako runs list --workflow send_email --key welcome:42",
        "tako runs list -n 1000 --json",
    ),
    "runs show": ("tako runs show 0198…4f2a1c", "tako runs show 4f2a1c --json"),
    "runs retry": (
        "tako runs retry 4f2a1c",
        "tako runs retry 4f2a1c --from-step charge",
        "tako runs retry --workflow send_email --error 'Connection refused' --since 2h",
    ),
    "runs cancel": ("tako runs cancel 4f2a1c --reason 'ordered twice'", "tako runs cancel --workflow report --yes"),
    "runs signal": (
        "tako runs signal 4f2a1c approved true",
        'tako runs signal order:17 shipped \'{"parcel": "00340"}\' --workflow fulfil --id evt_1',
    ),
    "runs ack": ("tako runs ack 4f2a1c", "tako runs ack --all"),
    "runs tail": ("tako runs tail --workflow send_email", "tako runs tail --json"),
    "workflows": ("tako workflows", "tako workflows pause send_email"),
    "workflows pause": (
        "tako workflows pause send_email",
        "tako workflows pause send_email --key welcome:42",
        "tako workflows pause --group mail",
    ),
    "workflows resume": ("tako workflows resume send_email",),
    "schedules": ("tako schedules", "tako schedules run nightly"),
    "servers": ("tako servers add root@203.0.113.5 --name fra1", "tako servers status fra1"),
    "servers add": (
        "tako servers add root@203.0.113.5 --name fra1",
        "tako servers add deploy@example.com:2222 --identity ~/.ssh/fra1",
    ),
    "servers rm": ("tako servers rm fra1", "tako servers rm fra1 --uninstall"),
    "deploy": ("tako deploy", "tako deploy --env staging --dry-run"),
    "releases": ("tako releases --env production",),
    "rollback": ("tako rollback", "tako rollback 3f9c1b20aa41 --env production"),
    "scale": ("tako scale web=2", "tako scale web=4 mail=2 --env production"),
    "restart": ("tako restart --env production",),
    "maintenance": ("tako maintenance on", "tako maintenance off"),
    "delete": ("tako delete --env staging",),
    "status": ("tako status", "tako status --env production --json"),
    "logs": (
        "tako logs --follow",
        "tako logs --workflow send_email --level warning --since 1h",
        "tako logs --env production --scope web -n 1000",
    ),
    "open": ("tako open", "tako open --env production", "tako open --run 4f2a1c"),
    "secrets": ("tako secrets set STRIPE_KEY", "tako secrets set STRIPE_KEY --env production"),
    "secrets set": ("tako secrets set STRIPE_KEY", "tako secrets set TLS_KEY --env production < key.pem"),
    "alerts": ("tako alerts test",),
    "backup": ("tako backup", "tako backup copy", "tako backup --env production"),
    "bench": ("tako bench --quick", "tako bench --rounds 3"),
}


def add(parser: argparse.ArgumentParser, command: str) -> None:
    """Give the command's parser, and those of its subcommands, their words."""
    parser.description = ABOUT.get(command, parser.description)
    _add(parser, command)
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, subparser in action.choices.items():
                _add(subparser, f"{command} {name}")


def _add(parser: argparse.ArgumentParser, command: str) -> None:
    if lines := EXAMPLES.get(command, ()):
        noun = "example" if len(lines) == 1 else "examples"
        shown = "\n".join([f"{noun}:", *(f"  {line}" for line in lines)])
        parser.epilog = f"{parser.epilog}\n\n{shown}" if parser.epilog else shown
