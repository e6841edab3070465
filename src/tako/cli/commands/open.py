"""`tako open`: the dashboard, in a browser.

Its address holds the key, and what a browser is started with can be read by every user of the machine (`ps`). So the
browser is given a file of the owner's that leads to the address.
"""

from __future__ import annotations

import argparse
import html
import os
from pathlib import Path

from tako.cli.context import Context
from tako.cli.errors import DONE
from tako.errors import NoEngine

PAGE = '<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0; url={url}"><title>Tako</title>\n'


def configure(parser: argparse.ArgumentParser) -> None:
    """Which page, and whether to start a browser."""
    parser.add_argument("--run", metavar="ID", help="the page of this run")
    parser.add_argument("--print", action="store_true", help="print the address instead; it holds the key")


def run(context: Context, args: argparse.Namespace) -> int:
    """Open it. With --json: `{"url": …}` and no browser."""
    engine = context.engine()
    place = engine.place
    if not place.dashboard:
        raise NoEngine("The engine of this folder has no dashboard.", cure="Start it again with `tako dev`.")
    url = f"{place.dashboard}{place.app}/"
    if args.run is not None:
        from tako.cli import run_ids

        url += f"runs/{run_ids.resolve(engine, args.run)}"
    if context.output.json:
        context.output.document({"url": url})
    elif args.print or not _browse(place.folder / ".tako" / "dashboard.html", url):
        if not args.print:
            context.output.say("No browser could be started here. The dashboard is at:")
        context.output.result(url)
    else:
        context.output.done("Opened the dashboard. Its address: tako open --print")
    return DONE


def _browse(page: Path, url: str) -> bool:
    import webbrowser

    page.unlink(missing_ok=True)
    with os.fdopen(os.open(page, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as file:
        file.write(PAGE.format(url=html.escape(url)))
    try:
        return webbrowser.open(page.as_uri())
    except webbrowser.Error:
        return False
