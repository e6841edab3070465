"""`tako dev`: app, workers, schedules and logs in one terminal, from the folder it is started in."""

from __future__ import annotations

import argparse

from tako.cli.context import Context


def configure(parser: argparse.ArgumentParser) -> None:
    """Ports, and what not to start."""
    parser.add_argument(
        "--port", type=_port, metavar="N", help="serve the app at http://localhost:N; default: the next free from 8000"
    )
    parser.add_argument("--dashboard-port", type=_port, metavar="N", help="the dashboard's port; default: a free one")
    parser.add_argument("--no-web", action="store_true", help="workers and schedules only")
    parser.add_argument("--no-alerts", action="store_true", help="tell nobody by [alerts] what goes wrong here")
    parser.add_argument("--plain", action="store_true", help="no box that stays, no keys, as without a terminal")


def run(context: Context, args: argparse.Namespace) -> int:
    """Run until Ctrl-C."""
    from tako.dev import engine
    from tako.dev.options import DevOptions

    options = DevOptions(
        port=args.port,
        dashboard_port=args.dashboard_port,
        web=not args.no_web,
        alerts=not args.no_alerts,
        json=context.output.json,
        plain=args.plain,
    )
    return engine.run(context.folder, options)


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 65_536:
        raise argparse.ArgumentTypeError(f"expected a port from 1 to 65535, found {text!r}")
    return int(text)
