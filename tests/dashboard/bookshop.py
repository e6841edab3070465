"""An app that has something of everything to look at, and its engine."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.dev import Dev, until, write
from tests.support.ports import free_port

from tako.cli.engine import Engine, find
from tako.protocol import ids

SHOP = """
import logging
import os
import threading
import time

from tako import AsyncContext, Context, Fatal, Signal, secrets, workflow

approved = Signal("approved", bool)
log = logging.getLogger("shop")

def work(value):
    return value

@workflow(retries=0, key="order:{order}")
def sell(ctx: Context, order: int) -> str:
    ctx.step("load", work, order)
    ctx.step("charge", charge, order)
    return "sold"

def charge(order):
    if order < 0:
        raise ValueError(f"no such order: {order}")
    return {"paid": order, "text": "<script>alert(1)</script>"}

@workflow(signals=[approved])
def approve(ctx: Context, book: str = "<b>Dune</b>") -> str:
    ctx.step("prepare", work, 1)
    return "yes" if ctx.wait_for(approved, timeout="7d") else "no"

@workflow
def approve_both(ctx: Context) -> list[str]:
    return ctx.gather(ctx.start("hardcover", approve), ctx.start("paperback", approve))

@workflow(schedule="0 3 1 1 *")
def yearly(ctx: Context) -> int:
    return 1

@workflow
def talk(ctx: Context) -> None:
    print("said before any step")
    ctx.step("speak", speak)

def speak():
    print("printed in the step")
    log.warning("logged in the step")
    other = threading.Thread(target=lambda: print("printed in a thread of the step"))
    other.start()
    other.join()
    print("the key is", secrets.get("PAY_KEY", "none"))

@workflow(retries=0, key="leak:{value}")
def leak(ctx: Context, value: str) -> str:
    ctx.step("keep", work, value)
    raise Fatal(f"it was {value}")
"""


FILES = {"workflows/shop.py": SHOP, "tako.toml": 'name = "bookshop"\n'}


class Bookshop(Dev):
    """`tako dev --no-web` in a folder of its own."""

    def __init__(self, folder: Path, files: Mapping[str, str] = FILES) -> None:
        write(folder, {"workflows/__init__.py": "", **files})
        super().__init__(folder, "--no-web", "--dashboard-port", str(free_port()))

    @property
    def root(self) -> str:
        """The address of the dashboard, with its key."""
        return str(self.engine_json()["dashboard"])

    @property
    def pages(self) -> str:
        """The address of the app's pages."""
        return f"{self.root}bookshop/"

    def call(self, command: str, **fields: Any) -> Any:
        """A command of the socket."""
        engine = Engine(find(self.folder))
        try:
            return engine.call(command, fields)
        finally:
            engine.close()

    def enqueue(self, workflow: str, **arguments: Any) -> str:
        """Enqueue one; its id."""
        new = {"id": ids.uuid7(), "workflow": workflow, "payload_json": json.dumps(arguments)}
        run_id: str = self.call("enqueue_runs", runs=[new])["runs"][0]["id"]
        return run_id

    def ended(self, run_id: str) -> str:
        """Its status, when it has ended."""
        return str(self.call("wait_run", id=run_id, timeout_ms=30_000)["status"])

    def status(self, run_id: str) -> str:
        """Its status now."""
        return str(self.call("get_run", id=run_id)["status"])

    def waits(self, run_id: str) -> str:
        """The same run, when it waits for its signal."""
        until(lambda: self.status(run_id) == "waiting", what="the run waits")
        return run_id


@dataclass(frozen=True)
class Answer:
    status: int
    text: str
    headers: Mapping[str, str]


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *arguments: Any, **more: Any) -> None:
        return None


def ask(url: str, *, form: Mapping[str, str] | None = None, method: str | None = None, **headers: str) -> Answer:
    """One request, redirects not followed. Underscores in the names of headers are dashes."""
    data = None if form is None else urllib.parse.urlencode(form).encode()
    request = urllib.request.Request(
        url, data=data, method=method, headers={name.replace("_", "-"): value for name, value in headers.items()}
    )
    try:
        with urllib.request.build_opener(_NoRedirects).open(request, timeout=30) as answer:
            return Answer(answer.status, answer.read().decode(), dict(answer.headers))
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.read().decode(), dict(error.headers))


def events(url: str) -> Iterator[tuple[str, str]]:
    """A stream of server-sent events, connected when this returns: pairs of event and data."""
    answer = urllib.request.urlopen(url, timeout=30)

    def read() -> Iterator[tuple[str, str]]:
        with answer:
            event = ""
            for raw in answer:
                line = raw.decode().rstrip("\n")
                if line.startswith("event: "):
                    event = line[7:]
                elif line.startswith("data: "):
                    yield event, line[6:]

    return read()
