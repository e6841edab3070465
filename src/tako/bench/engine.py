"""An engine in a folder of its own, started as anybody starts it, and what it costs at rest."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tako.errors import TakoError

BOOT_S = 30.0
WORKLOAD_S = 600.0
HERE = Path(__file__).parent


class BenchEngine:
    """A running engine."""

    def __init__(self, folder: Path, *, environment: Mapping[str, str], process: subprocess.Popen[bytes]) -> None:
        self._folder = folder
        self._environment = environment
        self._process = process

    def measure(self, workload: str, **options: float) -> dict[str, float]:
        """Run one workload of `caller.py` in a process of the app.

        Raises:
            TakoError: it failed; with its last lines.
        """
        command = [sys.executable, "-m", "tako.bench.caller", workload, json.dumps(options)]
        done = subprocess.run(
            [sys.executable, "-m", "tako", "run", "--", *command],
            cwd=self._folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=WORKLOAD_S,
        )
        if done.returncode != 0:
            last = "\n".join(done.stderr.strip().splitlines()[-8:])
            raise TakoError(f"The workload {workload} did not finish:\n{last}", cure="This is a bug: please report it.")
        found: dict[str, float] = json.loads(done.stdout)
        return found

    def at_rest(self, *, seconds: float = 30.0, settle_s: float = 10.0) -> dict[str, float]:
        """CPU seconds in 30 s, and proportional memory in MB, of the engine alone. Empty but on Linux.

        Its workers must have gone in the seconds in which it settles: start it with a short `idle_timeout`.
        """
        if not Path("/proc/self/smaps_rollup").exists():
            return {}
        time.sleep(settle_s)
        before = cpu_s(self._process.pid)
        time.sleep(seconds)
        spent = cpu_s(self._process.pid) - before
        return {"at rest, CPU s in 30 s": spent * 30 / seconds, "at rest, memory": _pss_mb(self._process.pid)}


@contextmanager
def engine(
    *, concurrency: int = 10, workers: int = 0, durability: str = "full", idle_timeout: str = "5m"
) -> Iterator[BenchEngine]:
    """Start an engine on an empty store, and end it with all that it started."""
    with tempfile.TemporaryDirectory(prefix="tako-bench-") as name:
        # What is written while it runs lies beside the app: `tako dev` watches all that is in it.
        beside, folder = Path(name), Path(name) / "app"
        _write_app(
            folder, marks=beside / "marks", concurrency=concurrency, workers=workers, durability=durability,
            idle_timeout=idle_timeout,
        )  # fmt: skip
        environment = {**os.environ, "XDG_RUNTIME_DIR": name, "NO_COLOR": "1"}
        screen_path = beside / "screen.txt"
        with screen_path.open("wb") as screen:
            process = subprocess.Popen(
                [sys.executable, "-m", "tako", "dev", "--no-web", "--no-alerts"],
                cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=screen, stderr=screen,
            )  # fmt: skip
        try:
            _wait_for_engine(folder, process, screen=screen_path)
            yield BenchEngine(folder, environment=environment, process=process)
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(BOOT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _write_app(folder: Path, *, marks: Path, **settings: Any) -> None:
    (folder / "workflows").mkdir(parents=True)
    (folder / "workflows/__init__.py").touch()
    shutil.copyfile(HERE / "app.py", folder / "workflows/app.py")
    (folder / "tako.toml").write_text(
        f'name = "bench"\n\n[vars]\nBENCH_MARKS = {json.dumps(str(marks))}\n\n[workflows]\n'
        f"concurrency = {settings['concurrency']}\nworkers = {settings['workers']}\n"
        f"max_workers = {max(1, settings['workers'])}\n"
        f'idle_timeout = "{settings["idle_timeout"]}"\ndurability = "{settings["durability"]}"\n'
    )


def _wait_for_engine(folder: Path, process: subprocess.Popen[bytes], *, screen: Path) -> None:
    end = time.monotonic() + BOOT_S
    while _pid_of(folder / ".tako/engine.json") != process.pid:
        if process.poll() is not None or time.monotonic() > end:
            last = screen.read_text(errors="replace").strip().splitlines()[-8:]
            raise TakoError("The engine to be measured did not start:\n" + "\n".join(last))
        time.sleep(0.02)


def _pid_of(path: Path) -> int:
    try:
        return int(json.loads(path.read_bytes())["pid"])
    except (OSError, ValueError, KeyError):
        return 0


def cpu_s(pid: int) -> float:
    """To the nanosecond: ticks of 10 ms are too coarse for what wakes only for a moment."""
    return sum(int(each.read_text().split()[0]) for each in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


def _pss_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0
