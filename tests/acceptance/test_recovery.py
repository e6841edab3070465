"""Processes are killed in the middle of work; what was acknowledged stands, what was saved is not done again."""

from __future__ import annotations

import subprocess
import threading
from collections import Counter
from pathlib import Path
from typing import Any

from tests.acceptance.apps import FASTAPI, ledger_app
from tests.support.dev import TAKO, Dev, is_alive, kill, until, write


def ledger(folder: Path) -> list[list[str]]:
    path = folder / "ledger.txt"
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def steps_started_after_they_were_saved(folder: Path) -> list[tuple[str, str]]:
    saved: set[tuple[str, str]] = set()
    found = []
    for kind, *rest in ledger(folder):
        if kind == "A":
            saved.add((rest[0], rest[1]))
        elif kind == "X" and (rest[0], rest[1]) in saved:
            found.append((rest[0], rest[1]))
    return found


def test_a_daemon_killed_under_load_loses_nothing_and_repeats_no_saved_step(folder: Path) -> None:
    write(folder, ledger_app())
    with Dev(folder) as dev:
        acknowledged: list[str] = []
        stop = threading.Event()
        client = threading.Thread(target=enqueue_until, args=(folder, dev, acknowledged, stop))
        client.start()
        try:
            for _ in range(3):
                enough = len(acknowledged) + 40
                until(lambda enough=enough: len(acknowledged) >= enough, what="40 more runs acknowledged")  # type: ignore[misc]
                (alive,) = dev.workers()
                mark = dev.mark()
                dev.kill()
                assert is_alive(alive["pid"])
                dev.start(ready=None)
                dev.wait_for(r"http://", after=mark)
                assert alive["pid"] in [worker["pid"] for worker in dev.workers()], "the worker went on"
        finally:
            stop.set()
            client.join(30)

        def unfinished() -> list[dict[str, Any]]:
            return [run for run in dev.runs("--limit", "1000") if run["status"] != "succeeded"]

        until(lambda: not unfinished(), what="all runs succeed", timeout_s=60)
        stored = {run["id"] for run in dev.runs("--limit", "1000")}
        assert set(acknowledged) <= stored
        assert steps_started_after_they_were_saved(folder) == []


def enqueue_until(folder: Path, dev: Dev, acknowledged: list[str], stop: threading.Event) -> None:
    """Enqueue through a process of the app, as fast as it goes; note what was acknowledged."""
    script = (
        "import sys, tako\n"
        "while True:\n"
        "    try:\n"
        "        run = tako.enqueue('three', {'pause': 0.01})\n"
        "    except tako.TakoError as error:\n"
        "        print('refused', type(error).__name__, file=sys.stderr, flush=True)\n"
        "        continue\n"
        "    print(run.id, flush=True)\n"
        "    sys.stdin.readline()\n"
    )
    python = str(Path(TAKO).with_name("python"))
    with subprocess.Popen(
        [TAKO, "run", "--", python, "-c", script], cwd=folder, env=dev.env, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        while not stop.is_set():
            line = process.stdout.readline().strip()
            if not line:
                break
            acknowledged.append(line)
            process.stdin.write("\n")
            process.stdin.flush()
        process.kill()


def test_a_run_that_kills_its_worker_three_times_is_dead_while_nine_innocent_ones_succeed(folder: Path) -> None:
    write(folder, ledger_app())
    with Dev(folder) as dev:
        innocent = [dev.http("/enqueue/innocent", {}).json()["id"] for _ in range(9)]
        poison = dev.http("/enqueue/poison", {}).json()["id"]

        def all_ended() -> dict[str, dict[str, Any]] | None:
            runs = {run["id"]: run for run in dev.runs()}
            return runs if all(run["status"] in ("succeeded", "dead") for run in runs.values()) else None

        runs = until(all_ended, what="all ten runs end", timeout_s=90)
        assert runs[poison]["status"] == "dead"
        assert "worker died 3 times running it (SIGKILL" in runs[poison]["error"]
        assert [runs[run_id]["status"] for run_id in innocent] == ["succeeded"] * 9
        starts = Counter(entry[1] for entry in ledger(folder) if entry[0] == "P")
        assert starts[poison] == 4, "once among nine others, then three times alone"
        assert dev.tako("status").returncode == 1
        assert dev.tako("runs", "ack", poison).returncode == 0
        assert dev.tako("status").returncode == 0


def test_a_file_saved_every_second_during_a_long_run_makes_no_pile_of_processes(folder: Path) -> None:
    long = (
        "import time\nfrom pathlib import Path\nfrom tako import Context, workflow\n\n"
        "@workflow(retries=0)\ndef long(ctx: Context) -> None:\n"
        "    with Path('starts.txt').open('a') as file:\n        file.write('start\\n')\n"
        "    while not Path('enough').exists():\n        time.sleep(0.05)\n"
    )
    write(
        folder,
        {
            "app.py": FASTAPI,
            "workflows/__init__.py": "",
            "workflows/long.py": long,
            "tako.toml": '[workflows]\ndrain_timeout = "2s"\n',
        },
    )
    with Dev(folder) as dev:
        run_id = dev.http("/enqueue/long", {}).json()["id"]
        until(lambda: (folder / "starts.txt").exists(), what="the run started")
        second = threading.Event()
        most = 0
        for number in range(6):
            write(folder, {"workflows/long.py": long + f"# {number}\n"})
            second.wait(1.0)  # the pace of the saves is what is tested
            most = max(most, len(dev.workers()))
        assert most <= 3
        (folder / "enough").touch()
        until(lambda: dev.runs()[0]["status"] == "succeeded", what="the run finishes")
        shown = dev.json("runs", "show", run_id)
        assert shown["attempt"] == 1, "handed back uncounted"
        until(lambda: len(dev.workers()) <= 1, what="old workers are gone")


FAN_OUT = """
from tako import AsyncContext, Context, workflow

@workflow
def leaf(ctx: Context, n: int) -> int:
    return ctx.step("square", lambda: n * n)

@workflow
async def tree(ctx: AsyncContext, count: int) -> int:
    runs = [await ctx.start(f"leaf-{n}", leaf, n) for n in range(count)]
    return sum(await ctx.gather(*runs))
"""


def test_a_fan_out_whose_engine_and_worker_are_killed_starts_each_child_once_and_gathers_them_all(folder: Path) -> None:
    write(folder, {"app.py": FASTAPI, "workflows/__init__.py": "", "workflows/fan.py": FAN_OUT})
    with Dev(folder) as dev:
        run_id = dev.http("/enqueue/tree", {"count": 150}).json()["id"]
        for least in (20, 80):

            def enough(least: int = least) -> bool:
                return len(dev.json("runs", "list", "--parent", run_id, "--limit", "1000")["runs"]) >= least

            until(enough, what=f"{least} children")
            workers = [worker["pid"] for worker in dev.workers() if worker["pid"]]
            dev.kill()
            for pid in workers:
                kill(pid)
            dev.start()

        until(lambda: dev.json("runs", "show", run_id)["status"] == "succeeded", what="the tree succeeds")
        shown = dev.json("runs", "show", run_id)
        children = dev.json("runs", "list", "--parent", run_id, "--limit", "1000")["runs"]
        assert shown["result"] == sum(n * n for n in range(150))
        assert len(children) == 150
        assert {child["status"] for child in children} == {"succeeded"}
