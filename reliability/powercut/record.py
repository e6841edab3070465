"""One recording: a daemon under the shim, real workers, and an app that makes use of all that is durable.

Parts of it, in order: work; a kill -9 of the daemon in the middle; a backup; a stop in good order; a start of the next
version, which migrates the schema; work.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reliability.daemon import Daemon
from tako.errors import TakoError
from tako.protocol import ids
from tako.rpc.client import Client

CALLERS = 3
PAUSE_S = 0.025
SOURCE = Path(__file__).with_name("iolog.c")
WORKFLOWS = """\
import time
from tako import Context, Retry, Signal, workflow

news = Signal("news", str)


def body(number: int, size: int) -> str:
    time.sleep(0.001)
    return "x" * size


@workflow
def steps(ctx: Context, size: int) -> str:
    for number in range(3):
        ctx.step(f"s{number}", body, number, size)
    return "done"


@workflow
def sleeps(ctx: Context, seconds: float) -> str:
    ctx.step("before", body, 0, 10)
    ctx.sleep("nap", seconds)
    return ctx.step("after", body, 1, 10)


@workflow(signals=[news])
def waits(ctx: Context, name: str) -> str:
    return ctx.wait_for(news, timeout="60s")


@workflow(retries=Retry(3, first="0.01s"))
def fails(ctx: Context, times: int) -> str:
    if ctx.attempt <= times:
        raise ValueError("not yet")
    return "at last"
"""


@dataclass(frozen=True, slots=True)
class Recording:
    """A log, the folder it is about, and the number of the first record of the next version."""

    log: Path
    root: Path
    migrates_at: int | None


def build(target: Path) -> Path:
    """Compile the shim. Raises CalledProcessError with the compiler's words."""
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-O2", "-Wall", "-o", str(target), str(SOURCE), "-ldl", "-lpthread"], check=True
    )
    return target


def record(folder: Path, *, seconds: float, durability: str = "full", with_change: bool = True) -> Recording:
    """Record a daemon at work in `folder`, which is made. `with_change`: also the backup, the stop, the migration."""
    root = folder / "shop"
    root.mkdir(parents=True)
    log = folder / "io.log"
    toml = f'name = "shop"\n[workflows]\nconcurrency = 4\nidle_timeout = "20s"\ndurability = "{durability}"\n'
    files = {"tako.toml": toml, "workflows/__init__.py": "", "workflows/flows.py": WORKFLOWS}
    launch = [sys.executable, "-m", "reliability.powercut.launch"]
    here = str(Path(__file__).parents[2])
    daemon = Daemon(
        root, files, command=[*launch, "dev", "--no-web", "--plain"],
        variables={"LD_PRELOAD": str(build(folder / "iolog.so")), "IOLOG": str(log), "IOLOG_ROOT": str(root),
                   "PYTHONPATH": here},
    )  # fmt: skip
    migrates_at = None
    with daemon:
        daemon.start()
        with Load(daemon):
            time.sleep(seconds / 2)
            daemon.kill()
            daemon.start()
            time.sleep(seconds / 2)
            if with_change:
                daemon.ask("backup", path=str(root / "backup"))
        if with_change:
            daemon.stop()
            migrates_at = log.stat().st_size
            daemon.command = [*launch, "--next-schema", "dev", "--no-web", "--plain"]
            daemon.start()
            with Load(daemon):
                time.sleep(seconds / 4)
        daemon.kill()
    return Recording(log, root, migrates_at)


class Load:
    """Callers that enqueue and signal, each as fast as it is answered, from `with` to its end."""

    def __init__(self, daemon: Daemon, *, callers: int = CALLERS) -> None:
        self._daemon = daemon
        self._is_over = threading.Event()
        self._threads = [threading.Thread(target=self._call, args=(number,)) for number in range(callers)]

    def __enter__(self) -> None:
        for thread in self._threads:
            thread.start()

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join()

    def _call(self, number: int) -> None:
        place = self._daemon.place()
        client = Client(place["socket"], place["app"])
        turn = 0
        while not self._is_over.wait(PAUSE_S):
            with suppress(TakoError):  # the daemon is away, or stops: what was not acknowledged is no fact
                self._ask(client, turn, size=(10, 400, 3_000)[turn % 3])
            turn += 1
        client.close()

    def _ask(self, client: Client, turn: int, *, size: int) -> None:
        runs: list[dict[str, Any]] = [
            {"id": ids.uuid7(), "workflow": "steps", "payload_json": f'{{"size": {size}}}'},
            {"id": ids.uuid7(), "workflow": "sleeps", "payload_json": '{"seconds": 6}'},
            {"id": ids.uuid7(), "workflow": "waits", "payload_json": '{"name": "Ann"}'},
            {"id": ids.uuid7(), "workflow": "fails", "payload_json": '{"times": 1}'},
        ]
        run = runs[turn % len(runs)]
        client.call("enqueue_runs", {"runs": [run]}, deadline_s=5)
        if run["workflow"] == "waits":
            client.call("signal_run", {"id": run["id"], "signal": "news", "payload_json": '"good"'}, deadline_s=5)
