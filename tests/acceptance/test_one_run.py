"""From `tako dev` in a fresh folder to a finished run, and back to rest."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.acceptance.apps import FLASK, greeting_app
from tests.acceptance.conftest import processes_in
from tests.support.dev import Dev, is_alive, until, write


def finished(dev: Dev, run_id: str, *, status: str = "succeeded") -> bool:
    return any(run["id"] == run_id and run["status"] == status for run in dev.runs())


def test_a_run_enqueued_over_http_is_carried_out(folder: Path) -> None:
    write(folder, greeting_app())
    with Dev(folder) as dev:
        run_id = dev.http("/enqueue/greet", {"name": "Ada"}).json()["id"]
        until(lambda: finished(dev, run_id), what="the run succeeds")
        assert (folder / "delivered.txt").read_text() == "Hello Ada\n"
    assert dev.process is not None
    assert dev.process.returncode == 0


def test_a_flask_route_enqueues_without_await(folder: Path) -> None:
    write(folder, {**greeting_app(), "app.py": FLASK})
    with Dev(folder) as dev:
        run_id = dev.http("/enqueue/greet", {"name": "Ada"}).json()["id"]
        until(lambda: finished(dev, run_id), what="the run succeeds")


def test_ctrl_c_leaves_no_process(folder: Path) -> None:
    write(folder, greeting_app(**{"tako.toml": "[workflows]\nworkers = 1\n"}))
    with Dev(folder) as dev:
        until(dev.workers, what="an always-on worker")
    assert processes_in(folder) == []


def test_nothing_runs_before_the_first_enqueue_one_worker_after_it_and_none_after_the_idle_timeout(
    folder: Path,
) -> None:
    # Long enough that `tako status` comes to see the worker, on a busy machine, too.
    write(folder, greeting_app(**{"tako.toml": '[workflows]\nidle_timeout = "4s"\n'}))
    with Dev(folder) as dev:
        # The probe that shows that the code starts is gone at once.
        until(lambda: dev.json("status")["groups"][0]["state"] == "healthy", what="the probe said hello")
        until(lambda: not dev.workers(), what="the probe is gone")

        dev.http("/enqueue/greet", {"name": "Ada"})
        first = until(dev.workers, what="a worker for the run")
        assert len(first) == 1
        until(lambda: not dev.workers(), what="scaled to zero")
        assert not is_alive(first[0]["pid"])

        dev.http("/enqueue/greet", {"name": "Bob"})
        second = until(dev.workers, what="a fresh worker")
        assert second[0]["pid"] != first[0]["pid"]
        until(lambda: (folder / "delivered.txt").read_text() == "Hello Ada\nHello Bob\n", what="both delivered")


def test_two_pinned_workers_are_kept_alive_through_kill_and_clean_exit(folder: Path) -> None:
    leave = "import os\nfrom tako import Context, workflow\n\n@workflow\ndef leave(ctx: Context) -> None: os._exit(0)\n"
    write(
        folder,
        greeting_app(**{"tako.toml": "[workflows]\nworkers = 2\nmax_workers = 2\n", "workflows/leave.py": leave}),
    )
    with Dev(folder) as dev:

        def two_alive(besides: set[int]) -> list[int] | None:
            pids = [
                worker["pid"] for worker in dev.workers() if worker["pid"] and worker["state"] in ("ready", "active")
            ]
            return pids if len(pids) == 2 and not besides & set(pids) else None

        first = until(lambda: two_alive(set()), what="two workers")
        os.kill(first[0], signal.SIGKILL)
        second = until(lambda: two_alive({first[0]}), what="two workers after a kill -9")
        dev.http("/enqueue/leave", {})
        until(lambda: two_alive(set()) and set(two_alive(set()) or ()) != set(second), what="two after a clean exit")
