"""`tako open`: the dashboard, in a browser.

Its address holds the key, and what a browser is started with can be read by every user of the machine (`ps`). So the
browser is given a file of the owner's that leads to the address.
"""

from __future__ import annotations

import argparse
import html
import os
from contextlib import suppress
from pathlib import Path

from tako.cli.context import Context
from tako.cli.errors import DONE
from tako.errors import NoEngine, TakoError

PAGE = '<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0; url={url}"><title>Tako</title>\n'


def configure(parser: argparse.ArgumentParser) -> None:
    """Which page, and whether to start a browser."""
    parser.add_argument("--run", metavar="ID", help="the page of this run")
    parser.add_argument("--print", action="store_true", help="print the address instead; it holds the key")


def run(context: Context, args: argparse.Namespace) -> int:
    """Open it. With --json: `{"url": …}` and no browser."""
    if context.where is not None:
        return _of_a_server(context, args)
    engine = context.engine()
    place = engine.place
    if not place.dashboard:
        raise NoEngine("The engine of this folder has no dashboard.", cure="Start it again with `tako dev`.")
    url = f"{place.dashboard}{place.app}/{_page(context, args)}"
    _tell(context, args, url, page=place.folder / ".tako" / "dashboard.html")
    return DONE


def _of_a_server(context: Context, args: argparse.Namespace) -> int:
    """Through SSH, until Ctrl-C."""
    from tako.cli import deployed
    from tako.cli.tunnel import Tunnel

    assert context.where is not None
    target = deployed.target(context, context.where)
    if len(target.servers) > 1:
        names = " or --server ".join(server.name for server in target.servers)
        raise TakoError(
            f"{target.environment.name} is on {len(target.servers)} servers, and each has a dashboard of its own.",
            cure=f"Name one: --server {names}",
        )
    page = _page(context, args)
    link = deployed.connection(target.servers[0])
    link.connect()
    with Tunnel(link, target.ref) as tunnel:
        folder = target.config.root / ".tako"
        folder.mkdir(mode=0o700, exist_ok=True)
        _tell(context, args, tunnel.url + page, page=folder / "dashboard.html")
        name = target.servers[0].name
        context.output.say(f"It comes through SSH from {name}, as long as this runs. (Ctrl-C ends it)")
        context.output.flush()
        with suppress(KeyboardInterrupt):
            tunnel.serve()
    return DONE


def _page(context: Context, args: argparse.Namespace) -> str:
    if args.run is None:
        return ""
    from tako.cli import run_ids

    return f"runs/{run_ids.resolve(context.engine(), args.run)}"


def _tell(context: Context, args: argparse.Namespace, url: str, *, page: Path) -> None:
    output = context.output
    if output.json:
        output.document({"url": url})
    elif args.print or not _browse(page, url):
        if not args.print:
            output.say("No browser could be started here. The dashboard is at:")
        output.result(url)
    else:
        output.done(
            "Opened the dashboard." if context.where else "Opened the dashboard. Its address: tako open --print"
        )


def _browse(page: Path, url: str) -> bool:
    import webbrowser

    page.unlink(missing_ok=True)
    with os.fdopen(os.open(page, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as file:
        file.write(PAGE.format(url=html.escape(url)))
    try:
        return webbrowser.open(page.as_uri())
    except webbrowser.Error:
        return False
