"""What must happen within a second or two, with nothing else running beside it. Row 29 of docs/loud.md."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest
from tests.acceptance.apps import BROKEN_IMPORT, FASTAPI, FIVE_STEPS, GREET, greeting_app
from tests.support.dev import Dev, kill, until, write

import tako
from tako.sdk import runtime
from tako.sdk.engine import RemoteEngine

pytestmark = pytest.mark.alone


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
