"""Small apps that the acceptance tests run, as text."""

from __future__ import annotations

FASTAPI = """
import tako
from fastapi import FastAPI
from fastapi.responses import JSONResponse

app = FastAPI()


@app.get("/")
def home():
    return {"ok": True}


@app.post("/enqueue/{name}")
async def enqueue(name: str, arguments: dict):
    try:
        run = await tako.aenqueue(name, arguments)
    except tako.TakoError as error:
        return JSONResponse({"error": str(error), "code": error.code}, status_code=503)
    return {"id": run.id}
"""

FLASK = """
import tako
from flask import Flask, jsonify, request

app = Flask(__name__)


@app.get("/")
def home():
    return jsonify(ok=True)


@app.post("/enqueue/<name>")
def enqueue(name):
    try:
        run = tako.enqueue(name, request.get_json())
    except tako.TakoError as error:
        return jsonify(error=str(error), code=error.code), 503
    return jsonify(id=run.id)
"""

# Line 3 is the import that the tests break.
GREET = """\
from pathlib import Path
from tako import Context, workflow
from string import Template


@workflow
def greet(ctx: Context, name: str) -> str:
    text = ctx.step("render", render, name)
    ctx.step("deliver", deliver, text)
    return text


def render(name: str) -> str:
    return Template("Hello $name").substitute(name=name)


def deliver(text: str) -> None:
    with Path("delivered.txt").open("a") as file:
        file.write(text + "\\n")
"""

BROKEN_IMPORT = GREET.replace("from string import Template", "from strin import Template")


def greeting_app(**more: str) -> dict[str, str]:
    """A FastAPI app with the workflow `greet`."""
    return {"app.py": FASTAPI, "workflows/__init__.py": "", "workflows/greet.py": GREET, **more}


# Five steps, each of which writes a line before its body and after its save; step 3 waits to be killed.
FIVE_STEPS = """\
import time
from pathlib import Path
from tako import Context, workflow


def note(line: str) -> None:
    with Path("notes.txt").open("a") as file:
        file.write(line + "\\n")


def body(number: int, slow: bool) -> int:
    note(f"start {number} {time.monotonic()}")
    if slow and number == 3 and not Path("killed").exists():
        Path("in-step-3").touch()
        time.sleep(60)
    return number


@workflow
def five(ctx: Context, slow: bool = True) -> int:
    return sum(ctx.step(f"s{number}", body, number, slow) for number in range(1, 6))
"""

# Writes what it did to a ledger, so that a test can tell what ran, how often, and what was saved.
LEDGER = """\
import os
import time
from tako import Context, workflow


def note(line: str) -> None:
    fd = os.open("ledger.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, (line + "\\n").encode())
    os.close(fd)


def said(start: str) -> int:
    with open("ledger.txt") as file:
        return sum(line.startswith(start) for line in file)


def body(run_id: str, number: int, pause: float) -> int:
    note(f"X {run_id} {number}")
    time.sleep(pause)
    return number


@workflow(retries=0)
def three(ctx: Context, pause: float = 0.02) -> None:
    for number in range(3):
        ctx.step(f"s{number}", body, ctx.run_id, number, pause)
        note(f"A {ctx.run_id} {number}")


@workflow(retries=0)
def poison(ctx: Context) -> None:
    note(f"P {ctx.run_id}")
    while said("I ") < 9:  # it takes nine others along
        time.sleep(0.02)
    os.kill(os.getpid(), 9)


@workflow(retries=0)
def innocent(ctx: Context) -> None:
    note(f"I {ctx.run_id}")
    while said(f"I {ctx.run_id}") == 1:  # the first time it is there to be taken along
        time.sleep(0.02)
"""


def ledger_app(**more: str) -> dict[str, str]:
    """A FastAPI app with the workflows `three`, `poison` and `innocent`."""
    return {"app.py": FASTAPI, "workflows/__init__.py": "", "workflows/ledger.py": LEDGER, **more}
