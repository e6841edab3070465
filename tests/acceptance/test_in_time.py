"""What must happen within seconds, with nothing else running beside it. D8, D10 and E12 of docs/promises.md, row 29 of
docs/loud.md. The times of recovery are measured by reliability/recovery.
"""

from __future__ import annotations

import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.acceptance.apps import BROKEN_IMPORT, FASTAPI, FIVE_STEPS, GREET, greeting_app
from tests.support.dev import Dev, kill, runtime_folder, until, write
from tests.support.disk import Disk
from tests.support.locks import locked
from tests.support.loud import GREET as GREETS
from tests.support.loud import Shop, Shopkeeper

import tako
from tako.host import groups, holding
from tako.sdk import runtime
from tako.sdk.engine import RemoteEngine

pytestmark = pytest.mark.alone

DISK_FULL_S = 1.0
LOCKED_S = 2.0
UNROUTABLE_S = 5.0
TURN_S = 0.5  # what a turn of the loop may take, and the way there and back
LEASE_S = 2.0


def test_a_typo_is_on_the_screen_within_two_seconds_of_saving(folder: Path) -> None:
    write(folder, greeting_app())
    with Dev(folder) as dev:
        until(lambda: dev.json("status")["groups"][0]["state"] == "healthy", what="the first probe")
        mark, saved = dev.mark(), time.monotonic()
        write(folder, {"workflows/greet.py": BROKEN_IMPORT})

        shown = dev.wait_for(r"ModuleNotFoundError: No module named 'strin'", after=mark, timeout_s=10)
        dev.wait_for(r"workflows/greet\.py\D+3", after=mark, timeout_s=1)
        assert shown.at - saved < 2.0

        mark = dev.mark()
        write(folder, {"workflows/greet.py": GREET})
        dev.wait_for(r"mended", after=mark, timeout_s=10)


def test_a_worker_killed_in_step_3_of_5_repeats_neither_1_nor_2_and_goes_on_in_under_a_second(folder: Path) -> None:
    write(folder, {"app.py": FASTAPI, "workflows/__init__.py": "", "workflows/five.py": FIVE_STEPS})
    with Dev(folder) as dev:
        run_id = dev.http("/enqueue/five", {}).json()["id"]
        until(lambda: (folder / "in-step-3").exists(), what="step 3 runs")
        (worker,) = dev.workers()
        (folder / "killed").touch()
        killed_at = time.monotonic()
        kill(worker["pid"])
        until(lambda: [run for run in dev.runs() if run["status"] == "succeeded"], what="the run succeeds")

        notes = [line.split() for line in (folder / "notes.txt").read_text().splitlines()]
        assert [number for _, number, _ in notes] == ["1", "2", "3", "3", "4", "5"]
        assert float(notes[3][2]) - killed_at < 1.0
        assert dev.json("runs", "show", run_id)["steps"][2]["name"] == "s3"


def test_29_no_enqueue_hangs_when_the_engine_is_frozen_or_dead(folder: Path) -> None:
    write(folder, greeting_app())
    dev = Dev(folder, "--no-web").start(ready="workflows")
    place = json.loads((folder / ".tako/engine.json").read_text())
    before = runtime.install(RemoteEngine(place["socket"], place["app"], None))
    assert dev.process is not None
    try:
        os.kill(dev.process.pid, signal.SIGSTOP)
        began = time.monotonic()
        with pytest.raises((tako.EnqueueUnknown, tako.StoreUnavailable)):
            tako.enqueue("greet", {"name": "Ann"}, deadline="1s")
        assert time.monotonic() - began < 2.0

        dev.kill()
        began = time.monotonic()
        with pytest.raises(tako.StoreUnavailable):
            tako.enqueue("greet", {"name": "Ann"}, deadline="1s")
        assert time.monotonic() - began < 2.0
    finally:
        engine = runtime.engine()
        runtime.restore(before)
        assert isinstance(engine, RemoteEngine)
        engine.close()
        if dev.process.poll() is None:
            dev.kill()


def test_a_run_that_no_code_declares_is_told_within_five_seconds_of_the_code_and_wakes_nobody(shop: Shopkeeper) -> None:
    with shop() as it:
        it.ready()
        stored = tako.enqueue("greet", {"name": "Ann"}, delay="1h")
        saved_at = time.monotonic()
        it.save(GREETS.replace("def greet", "def welcome"))
        it.until(lambda: it.host.registry.find("welcome"), what="a worker has told what the code declares")
        known_at = time.monotonic()

        what = it.problem("unroutable_runs")["what"]
        took_s = time.monotonic() - known_at

        print(f"known {known_at - saved_at:.3f} s after the save, told {took_s:.3f} s after that")
        assert took_s < UNROUTABLE_S
        assert what == "1 unfinished run of 'greet': no code declares this workflow any more"
        it.logged("error", "runs of 'greet' wait, but no code declares this workflow")
        it.until(lambda: it.workers() == [], what="the worker that told it has gone")

        it.change_store("UPDATE runs SET run_at_ms = 1 WHERE id = ?", stored.id)
        it.rounds()
        it.rounds()
        it.until(lambda: it.state(stored.id)["status"] == "blocked", what="it is due and blocked")
        assert it.workers() == [], "nobody was woken for it"


def test_behind_a_locked_store_callers_are_told_after_two_seconds_and_the_engine_answers_meanwhile(
    shop: Shopkeeper,
) -> None:
    with shop() as it:
        it.ready()
        with locked(it.host.places.database) as pid:
            began = time.monotonic()
            with ThreadPoolExecutor(1) as callers:
                waiting = callers.submit(it.enqueue, "greet", name="Ann")
                slowest_s = 0.0
                while not waiting.done():
                    asked = time.monotonic()
                    it.health()
                    slowest_s = max(slowest_s, time.monotonic() - asked)
            took_s = time.monotonic() - began

        print(f"refused after {took_s:.3f} s, others answered within {slowest_s:.3f} s")
        error = waiting.exception()
        assert isinstance(error, tako.StoreUnavailable)
        assert error.detail["reason"] == "DB_LOCKED"
        assert f"pid {pid}" in error.message
        assert took_s < LOCKED_S + TURN_S
        assert slowest_s < TURN_S


def test_on_a_full_disk_callers_are_told_within_a_second_and_what_runs_is_saved_when_there_is_room_again(
    disk: Disk, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime_folder(folder)))
    for module in (groups, holding):
        monkeypatch.setattr(module, "LEASE_S", LEASE_S)
        monkeypatch.setattr(module, "HEARTBEAT_S", LEASE_S / 10)
    works = (
        "import time\nfrom pathlib import Path\nfrom tako import Context, workflow\n\n"
        "@workflow(retries=0)\ndef works(ctx: Context) -> str:\n    return ctx.step('work', work)\n\n"
        "def work() -> str:\n    while not Path('go').exists():\n        time.sleep(0.02)\n    return 'done'\n"
    )
    with Shop(disk.folder / "shop", works) as it:
        run_id = it.enqueue("works")
        it.until(lambda: it.state(run_id)["status"] == "running", what="the run is under way")
        (it.folder / "go.not-yet").touch()  # its inode is there before the disk is full
        with disk.full():
            began = time.monotonic()
            with pytest.raises(tako.StoreUnavailable) as refused:
                it.enqueue("works")
            took_s = time.monotonic() - began
            (it.folder / "go.not-yet").rename(it.folder / "go")

            assert refused.value.detail["reason"] == "DISK_FULL"
            assert took_s < DISK_FULL_S
            assert [run["id"] for run in it.runs("works")] == [run_id], "reads work, and nothing was written"
            began = time.monotonic()
            until(lambda: time.monotonic() - began > 2 * LEASE_S, what="two leases have passed")
            assert it.state(run_id)["status"] == "running", "its worker keeps the result and its lease"

        done = it.ended(run_id)
        print(f"refused after {took_s:.3f} s")
        assert done["result_json"] == '"done"'
        assert [attempt["epoch"] for attempt in it.state(run_id, "attempts")["attempts"]] == [1]
        it.ended(it.enqueue("works"))
