"""The real engine of a small app, in a process of its own: `python -m reliability.hostile.engine FOLDER`.

It prints one line of JSON when it can be spoken to, writes its log to FOLDER/engine.log, and ends when its stdin does.
Each line on its stdin is answered with a second token of a worker that lives: with it we say what that one never would.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

APP = "shop"
WORKFLOWS = r'''
import time

from tako import Context, Signal, workflow

shipped = Signal("shipped", dict)


@workflow
def greet(ctx: Context, n: int = 0) -> int:
    return ctx.step("add", lambda: n + 1)


@workflow(retries=0)
def halves(ctx: Context, where: str) -> None:
    """Half of a surrogate pair, as the names of files have it that are not UTF-8."""
    ctx.log.info("before \udce9", name="caf\ud800")
    print("printed", ascii("caf\udce9"))
    if where == "step":
        ctx.step("caf\udce9", lambda: 1)
    elif where == "result":
        ctx.step("read", lambda: "caf\udce9")
    elif where == "error":
        raise ValueError("caf\udce9")
    elif where == "stop":
        raise ctx.stop("caf\ud800")


@workflow(signals=[shipped], key="wait:{n}", concurrency=5)
def wait(ctx: Context, n: int = 0) -> dict:
    return ctx.wait_for(shipped, timeout="1h")
'''
SECRET = "sk-hostile-4f1d9c"
ROOT = Path(__file__).parents[2]


class Engine:
    """`with Engine(folder) as engine:` starts it, and ends it with all its workers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "engine.log"
        self.socket = ""
        self.token = ""
        self.worker_id = ""
        self.pid = 0
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        write_app(self.folder)
        runtime = self.folder / "run"
        runtime.mkdir(mode=0o700, exist_ok=True)
        environment = {**os.environ, "XDG_RUNTIME_DIR": str(runtime), "PYTHONPATH": str(ROOT)}
        with (self.folder / "stderr.log").open("w") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "reliability.hostile.engine", str(self.folder)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True, env=environment, cwd=ROOT,
            )  # fmt: skip
        assert self._process.stdout is not None
        found = self._told()
        self.socket, self.pid = found["socket"], found["pid"]
        self.impersonate()
        return self

    def impersonate(self) -> None:
        """Take on the id of a worker that lives now: `worker_id` and `token`."""
        assert self._process is not None and self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        found = self._told()
        self.worker_id, self.token = found["worker_id"], found["token"]

    def _told(self) -> dict[str, Any]:
        assert self._process is not None and self._process.stdout is not None
        said = self._process.stdout.readline()
        if not said:
            raise RuntimeError(f"the engine has ended: {(self.folder / 'stderr.log').read_text()[-2000:]}")
        found: dict[str, Any] = json.loads(said)
        return found

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None and self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)
        if self._process.stdout is not None:
            self._process.stdout.close()

    @property
    def is_alive(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    def rss_bytes(self) -> int:
        """Its resident memory."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def said(self) -> str:
        """All it has logged, and what Python printed to its stderr."""
        printed = (self.folder / "stderr.log").read_text(errors="replace")
        return printed + (self.log.read_text(errors="replace") if self.log.exists() else "")


def write_app(folder: Path) -> None:
    """A folder with two workflows and a secret."""
    (folder / "workflows").mkdir(parents=True, exist_ok=True)
    (folder / "workflows" / "__init__.py").touch()
    (folder / "workflows" / "shop.py").write_text(WORKFLOWS)
    (folder / "tako.toml").write_text(f'name = "{APP}"\n[workflows]\nworkers = 1\ndrain_timeout = "1s"\n')


async def _serve(folder: Path) -> None:
    from tako.config import load
    from tako.host.app import AppHost
    from tako.logs.hub import Hub
    from tako.vault import file as vault

    log = (folder / "engine.log").open("w")

    def keep(line: Any) -> None:
        log.write(json.dumps(line) + "\n")
        log.flush()

    changed = asyncio.Event()
    host = AppHost(load.load(folder), hub=Hub(sinks=(keep,)), on_health=lambda group: changed.set())
    vault.set(host.places.secrets, "API_KEY", SECRET)
    await host.start()
    try:
        host.begin()
        print(json.dumps({"socket": str(host.places.internal_socket), "pid": os.getpid()}), flush=True)
        loop = asyncio.get_running_loop()
        while await loop.run_in_executor(None, sys.stdin.readline):
            while not (workers := host.groups.pools["default"].snapshot()["workers"]):
                changed.clear()
                await changed.wait()
            worker_id = workers[0]["id"]
            token = host.tokens.issue(worker_id=worker_id)
            print(json.dumps({"worker_id": worker_id, "token": token}), flush=True)
    finally:
        await host.stop()


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1])))
