"""What the last engine left, when it was killed between two of its transactions."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tako.engine import health, runs
from tako.engine.store import Store
from tako.errors import StoreDamaged
from tako.host import recovery
from tako.host.code import Code
from tako.host.places import places_of
from tako.supervisor import child
from tests.host.running import RunningHost
from tests.support.dev import write

GREET = "from tako import Context, workflow\n\n\n@workflow\ndef greet(ctx: Context) -> str:\n    return 'done'\n"


@pytest.fixture
def folder(tmp_path: Path, runtime: Path) -> Path:
    folder = tmp_path / "shop"
    folder.mkdir()
    write(folder, {"workflows/__init__.py": "", "workflows/greet.py": GREET})
    return folder


def test_a_store_that_is_not_the_one_that_was_here_is_refused_and_left_alone(folder: Path) -> None:
    with RunningHost(folder):
        pass
    database = places_of(folder).database
    database.rename(database.with_name("mine.db"))
    other = Store.open(database)
    with other.transaction():
        runs.enqueue(other, [{"id": "run-1", "workflow": "greet", "payload_json": "{}"}], now_ms=1)
    other.close()
    before = database.read_bytes()

    with pytest.raises(StoreDamaged, match=r"runs.db is not the store that was here"), RunningHost(folder):
        pass

    assert database.read_bytes() == before
    database.with_name("mine.db").replace(database)
    with RunningHost(folder) as host:
        assert host.ok("list_runs")["runs"] == []


def test_who_holds_a_run_has_claimed_though_its_record_does_not_say_so_yet(folder: Path) -> None:
    with RunningHost(folder) as before:
        before.until(lambda: before.ok("health")["groups"][0]["state"] == "healthy", what="the group is healthy")
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as worker:
        leave_a_worker(folder, worker.pid, run_id="run-1")
        with RunningHost(folder) as host:
            worker.kill()
            worker.wait()

            host.ended("run-1")
            told = [line["message"] for line in host.host.hub.recent()]
            assert [message for message in told if "1 run in flight" in message], told
            assert [message for message in told if "failed start" in message] == []


def test_a_worker_of_old_code_drains_also_if_the_engine_that_noticed_it_was_killed_at_once(folder: Path) -> None:
    with RunningHost(folder) as before:
        before.until(lambda: before.ok("health")["groups"][0]["state"] == "healthy", what="the group is healthy")
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as worker:
        leave_a_worker(folder, worker.pid, run_id="run-1")
        write(folder, {"workflows/greet.py": GREET.replace("done", "done anew")})
        notice_the_code(folder)

        with RunningHost(folder) as host:
            old = [slot for slot in host.ok("health")["groups"][0]["workers"] if slot["id"] == "default-1"]
            worker.kill()
            worker.wait()

            assert [slot["why"] for slot in old] == ["deploy"]
            host.ended("run-1")


def notice_the_code(folder: Path) -> None:
    """As the engine does that is killed before it has told anybody that the code is another."""
    code = Code(folder, on_change=lambda changed: None)
    code.start(python=sys.executable)
    store = Store.open(places_of(folder).database)
    with store.transaction():
        recovery._read_and_mark(store, code=code.digest, release="dev")
    store.close()


def leave_a_worker(folder: Path, pid: int, *, run_id: str) -> None:
    """As the engine does that is killed after a claim: the run is held, and the worker's record is older."""
    places = places_of(folder)
    store = Store.open(places.database)
    with store.transaction():
        runs.enqueue(store, [{"id": run_id, "workflow": "greet", "payload_json": "{}"}], now_ms=1)
        runs.claim(store, worker_id="default-1", names=["greet"], max_runs=1, now_ms=2, release="dev")
        record = {
            "worker_id": "default-1", "group": "default", "release": "dev", "started_ms": 1, "ready": True,
            "claimed": False, "solo": False, "v0": False, "pid": pid, "start_time": child.start_time(pid),
            "boot_id": child.boot_id(), "spool": str(places.spool / "none"), "root": str(folder),
        }  # fmt: skip
        health.record_worker(store, record=record)
    store.close()
