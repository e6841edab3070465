"""The app: a shop's till. Each order is a run of two steps with a pause between them, and each step is in a ledger."""

from pathlib import Path

APP = """\
import asyncio
from urllib.parse import parse_qs

from workflows.settle import settle

RELEASE = "{release}"


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({{"type": "lifespan.startup.complete"}})
        return await send({{"type": "lifespan.shutdown.complete"}})
    if scope["type"] == "websocket":
        return await echo(receive, send)
    size = 0
    while (message := await receive())["type"] == "http.request":
        size += len(message.get("body", b""))
        if not message.get("more_body"):
            break
    path, text = scope["path"], RELEASE
    if path == "/slow":
        await asyncio.sleep(1.0)
    elif path == "/upload":
        text = str(size)
    elif path == "/order":
        patient = settle.using(deadline="30s")  # a busy machine starts a daemon slowly
        run = await patient.aenqueue(order=int(parse_qs(scope["query_string"].decode())["n"][0]))
        text = run.id
    body = text.encode()
    headers = [(b"content-length", str(len(body)).encode()), (b"content-type", b"text/plain")]
    await send({{"type": "http.response.start", "status": 200, "headers": headers}})
    await send({{"type": "http.response.body", "body": body}})


async def echo(receive, send):
    await send({{"type": "websocket.accept"}})
    while (message := await receive())["type"] != "websocket.disconnect":
        if message["type"] == "websocket.receive":
            await send({{"type": "websocket.send", "text": message["text"]}})
"""

WORKFLOW = '''\
import os
import time
from pathlib import Path

from tako import Context, current, workflow

RELEASE = "{release}"


@workflow
def settle(ctx: Context, order: int) -> str:
    ctx.step("charge", write, "charge", order, ctx.run_id)
    if order % 3 == 0:
        ctx.sleep("pause", 0.5)
    ctx.step("ship", write, "ship", order, ctx.run_id)
    return RELEASE


def write(step: str, order: int, run_id: str) -> None:
    """One line that says that this step's body has begun; every tenth takes so long that a switch falls into it."""
    line = f"{{step}} {{order}} {{run_id}} {{RELEASE}}\\n".encode()
    fd = os.open(Path(current.data_dir) / "ledger", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(fd, line)
    os.fsync(fd)
    os.close(fd)
    time.sleep(1.5 if order % 10 == 0 else 0.01)
'''

# A run takes half a second, and there are up to 40 orders a second: with fewer at once the queue would only grow.
TOML = """\
name = "till"
main = "app:app"

[workflows]
concurrency = 40

[envs.production]
routes = ["till.test"]
servers = ["fra1"]
"""
HOST = "till.test"


def write(folder: Path, release: str) -> Path:
    """Write the till's files, with the release's name in them, and return their folder."""
    source = folder / f"till-{release}"
    (source / "workflows").mkdir(parents=True)
    (source / "tako.toml").write_text(TOML)
    (source / "app.py").write_text(APP.format(release=release))
    (source / "workflows/__init__.py").touch()
    (source / "workflows/settle.py").write_text(WORKFLOW.format(release=release))
    return source
