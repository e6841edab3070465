"""X2: where a secret is looked for after an app has printed it, logged it, and failed with it in every message."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from tests.support.dev import Dev, is_alive, until, write

from tako.vault import file as vault

SECRET = "sk-live-51Hx9QzT4"

APP = """
import logging

import tako
from fastapi import FastAPI
from tako import secrets

app = FastAPI()
KEY = secrets["API_KEY"]


@app.get("/")
def home():
    return {"ok": True}


@app.get("/fail")
def fail():
    print("web printed", KEY)
    logging.getLogger("shop").warning("web logged %s", KEY)
    raise RuntimeError(f"web failed with {KEY}")


@app.post("/enqueue/{name}")
async def enqueue(name: str, arguments: dict):
    return {"id": (await tako.aenqueue(name, arguments)).id}
"""

WORK = """
from tako import Context, secrets, workflow

KEY = secrets["API_KEY"]


@workflow(retries=0)
def leak(ctx: Context) -> None:
    print("worker printed", KEY)
    ctx.log.warning("worker logged", key=KEY)
    ctx.step("ask", ask, KEY)


def ask(key: str) -> None:
    raise RuntimeError(f"worker failed with {key}") from ValueError(repr({"key": key}))
"""


@pytest.fixture
def dev(folder: Path) -> Iterator[Dev]:
    write(folder, {"app.py": APP, "workflows/__init__.py": "", "workflows/leak.py": WORK})
    made = Dev(folder)
    vault.set(folder / ".tako/secrets.json", "API_KEY", SECRET)
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    try:
        with made:
            yield made
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))


def processes(dev: Dev) -> dict[str, int]:
    """`tako dev`, and all that it has started, by name and pid."""
    assert dev.process is not None
    found = {"tako dev": dev.process.pid}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                if Path(os.readlink(entry / "cwd")) == dev.folder and int(entry.name) not in found.values():  # noqa: PTH115
                    found[f"{(entry / 'comm').read_text().strip()} {entry.name}"] = int(entry.name)
    return found


def leak_everywhere(dev: Dev) -> str:
    """Make web and worker tell it in every way; the id of the dead run."""
    assert dev.http("/fail").status == 500
    run_id: str = dev.http("/enqueue/leak", {}).json()["id"]
    until(lambda: dev.runs("--status", "dead"), what="the run is dead")
    dev.wait_for(r"worker printed \[secret API_KEY\]")
    dev.wait_for(r"web printed \[secret API_KEY\]")
    return run_id


def test_a_secret_is_in_no_environment_argument_file_or_answer_but_the_file_it_was_set_in(dev: Dev) -> None:
    run_id = leak_everywhere(dev)

    places = {"the screen": dev.screen().encode()}
    for name, pid in processes(dev).items():
        for file in ("environ", "cmdline"):
            places[f"{file} of {name}"] = Path(f"/proc/{pid}/{file}").read_bytes()
    for command in (["runs", "show", run_id, "--json"], ["runs", "list"], ["status", "--json"], ["logs"], ["doctor"],
                    ["secrets", "list"], ["logs", "--last-crash"]):  # fmt: skip
        done = dev.tako(*command)
        places[" ".join(command)] = (done.stdout + done.stderr).encode()
    places.update(files_of(dev.folder))

    assert [place for place, content in places.items() if SECRET.encode() in content] == []
    assert len(processes(dev)) >= 3


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file below, but the one that secrets are kept in; spools are read when their lines have been."""
    found = {}
    for path in folder.rglob("*"):
        if not path.is_file() or path.name == "secrets.json":
            continue
        if path.suffix == ".spool":
            until(partial(is_without_secret, path), what=f"{path} was read")
        found[str(path)] = path.read_bytes()
    return found


def is_without_secret(path: Path) -> bool:
    return SECRET.encode() not in path.read_bytes()


def is_gone(pid: int) -> bool:
    return not is_alive(pid)


def test_no_process_that_knows_a_secret_leaves_a_core_file(dev: Dev) -> None:
    leak_everywhere(dev)
    everybody = processes(dev)

    for name, pid in everybody.items():
        limits = Path(f"/proc/{pid}/limits").read_text()
        (core,) = (line for line in limits.splitlines() if line.startswith("Max core file size"))
        assert core.split()[4:6] == ["0", "0"], name
    for pid in everybody.values():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGQUIT if pid != dev.process.pid else signal.SIGSEGV)  # type: ignore[union-attr]
    for pid in everybody.values():
        until(partial(is_gone, pid), what=f"{pid} is gone")

    assert [path for path in dev.folder.rglob("*core*") if path.is_file() and path.stat().st_size] == []


def test_a_command_of_the_app_has_secrets_and_leaves_no_core_file(dev: Dev) -> None:
    code = (
        "import os, resource; from tako import secrets; "
        "print(len(secrets['API_KEY']), resource.getrlimit(resource.RLIMIT_CORE), "
        "any(secrets['API_KEY'] in value for value in os.environ.values()))"
    )

    done = dev.tako("run", "--", "python", "-c", code)

    assert done.stdout.strip() == f"{len(SECRET)} (0, 0) False"
