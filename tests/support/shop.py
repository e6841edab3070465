"""The app that servers are tested with: ASGI without a framework, so that it boots fast, and workflows beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tests.support.dev import write


def until_there_is(go: Path) -> str:
    """`at_import` of an app that is to start when the test wants it: with this file, which it can read."""
    return f"import pathlib, time\nwhile not pathlib.Path({str(go)!r}).exists(): time.sleep(0.02)"


APP = """\
import asyncio
import json
import os

import tako
from tako import current, secrets
from workflows.charge import charge

RELEASE = "{release}"
{at_import}

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return await lifespan(receive, send)
    if scope["type"] == "websocket":
        return await echo(receive, send)
    path, body = scope["path"], RELEASE
    if path == "/slow":
        await asyncio.sleep(0.3)
    elif path == "/take":
        size = 0
        while True:
            message = await receive()
            size += len(message.get("body", b""))
            if not message.get("more_body"):
                break
    elif path == "/size":
        size = 0
        while True:
            message = await receive()
            size += len(message.get("body", b""))
            if not message.get("more_body"):
                break
        body = f"{{RELEASE}} {{size}}"
    elif path == "/events":
        return await events(send)
    elif path == "/download":
        return await download(send)
    elif path == "/about":
        body = json.dumps({{
            "release": RELEASE, "pid": os.getpid(), "env": dict(os.environ), "secrets": dict(secrets),
            "build": current.build, "data_dir": str(current.data_dir), "cwd": os.getcwd(), "uid": os.getuid(),
        }})
    elif path == "/enqueue":
        patient = charge.using(deadline="30s")  # a busy machine starts a daemon slowly
        run = await patient.aenqueue(order=int(scope["query_string"] or b"0"))
        body = run.id
    elif path == "/die":
        os._exit(3)
    await answer(send, body, {status})


async def answer(send, body, status):
    data = body.encode()
    headers = [(b"content-length", str(len(data)).encode()), (b"content-type", b"text/plain")]
    await send({{"type": "http.response.start", "status": status, "headers": headers}})
    await send({{"type": "http.response.body", "body": data}})


async def lifespan(receive, send):
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            {at_startup}
            await send({{"type": "lifespan.startup.complete"}})
        else:
            await send({{"type": "lifespan.shutdown.complete"}})
            return


async def echo(receive, send):
    await send({{"type": "websocket.accept"}})
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            return
        if message["type"] == "websocket.receive":
            await send({{"type": "websocket.send", "text": RELEASE + " " + (message.get("text") or "")}})


async def events(send):
    await send({{"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]}})
    for n in range(12):
        data = f"data: {{RELEASE}} {{n}}\\n\\n".encode()
        await send({{"type": "http.response.body", "body": data, "more_body": True}})
        await asyncio.sleep(0.25)
    await send({{"type": "http.response.body", "body": b""}})


async def download(send):
    block = b"x" * 65536
    size = 400 * len(block)
    await send({{
        "type": "http.response.start", "status": 200, "headers": [(b"content-length", str(size).encode())],
    }})
    for _ in range(400):
        await send({{"type": "http.response.body", "body": block, "more_body": True}})
        await asyncio.sleep(0.005)
    await send({{"type": "http.response.body", "body": b""}})
"""

CHARGE = """\
import os
import time
from pathlib import Path

from tako import Context, current, workflow

RELEASE = "{release}"


@workflow
def charge(ctx: Context, order: int = 0, takes_s: float = 0.0) -> str:
    ctx.log.info("charging")
    return ctx.step("charge", pay, order, takes_s, ctx.run_id)


def pay(order: int, takes_s: float, run_id: str) -> str:
    ledger = Path(current.data_dir) / "ledger"
    with ledger.open("a") as file:
        file.write(f"begin {{run_id}} {{RELEASE}} {{os.getpid()}}\\n")
    time.sleep(takes_s)
    with ledger.open("a") as file:
        file.write(f"end {{run_id}} {{RELEASE}} {{os.getpid()}}\\n")
    return RELEASE
"""


def shop(
    folder: Path, release: str, *, toml: str = "", at_import: str = "", at_startup: str = "pass", status: int = 200,
    files: Mapping[str, str] | None = None,
) -> Path:  # fmt: skip
    """Write the shop's files, with the release's name in them, and return their folder."""
    source = folder / f"shop-{release}"
    app = APP.format(release=release, at_import=at_import, at_startup=at_startup, status=status)
    found = {
        "tako.toml": f'name = "shop"\nmain = "app:app"\n{toml}',
        "app.py": app,
        "workflows/__init__.py": "",
        "workflows/charge.py": CHARGE.format(release=release),
    }
    write(source, {**found, **(files or {})})
    return source
