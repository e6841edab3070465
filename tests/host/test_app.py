"""One app's engine with real workers, over its socket."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tako.errors import EngineRunning
from tako.protocol import ids
from tako.vault import file
from tests.host.running import RunningHost
from tests.support.dev import write

WORKFLOWS = """
import os
import time
from pathlib import Path
from tako import Context, secrets, workflow


@workflow
def greet(ctx: Context, name: str = "Ada") -> str:
    return ctx.step("text", lambda: f"Hello {name}")


@workflow
def tell_secret(ctx: Context) -> str:
    ctx.log.info(f"the secret is {secrets['API_KEY']}")
    print("printed", secrets["API_KEY"], flush=True)
    return secrets["API_KEY"][:3] + repr(secrets)


@workflow(retries=0)
def fails(ctx: Context) -> None:
    raise RuntimeError(f"it went wrong with {secrets['API_KEY']}")


@workflow(retries=0)
def waits(ctx: Context) -> str:
    Path("waiting").touch()
    while not Path("go").exists():
        time.sleep(0.01)
    return "went"
"""
SECRET = "s3cr3t-value-of-the-key"


@pytest.fixture
def shop(tmp_path: Path, runtime: Path) -> Path:
    folder = tmp_path / "shop"
    write(folder, {"workflows/__init__.py": "", "workflows/all.py": WORKFLOWS})
    file.set(folder / ".tako/secrets.json", "API_KEY", SECRET)
    return folder


@pytest.fixture
def host(shop: Path) -> Iterator[RunningHost]:
    with RunningHost(shop) as host:
        yield host


def enqueue(host: RunningHost, workflow: str, payload: dict[str, Any] | None = None) -> str:
    run_id = ids.uuid7()
    run = {"id": run_id, "workflow": workflow, "payload_json": json.dumps(payload or {})}
    host.ok("enqueue_runs", runs=[run])
    return run_id


def test_a_run_is_carried_out_and_its_result_can_be_waited_for(host: RunningHost) -> None:
    run = host.ended(enqueue(host, "greet", {"name": "Bob"}))
    assert json.loads(run["result_json"]) == "Hello Bob"


def test_the_same_enqueue_twice_is_one_run(host: RunningHost) -> None:
    run = {"id": ids.uuid7(), "workflow": "greet", "payload_json": "{}"}
    assert [host.ok("enqueue_runs", runs=[run])["runs"][0]["is_new"] for _ in range(2)] == [True, False]
    host.ended(run["id"])
    assert len(host.ok("list_runs")["runs"]) == 1


def test_status_is_well_and_tells_what_there_is(host: RunningHost) -> None:
    host.ended(enqueue(host, "greet"))
    status = host.ok("status")
    assert status["ok"], status["problems"]
    assert status["counts"]["succeeded"] == 1
    assert [group["state"] for group in status["groups"]] == ["healthy"]
    assert {workflow["name"] for workflow in status["workflows"]} == {"greet", "tell_secret", "fails", "waits"}


def test_status_shows_a_durability_that_survives_no_power_cut(shop: Path) -> None:
    write(shop, {"tako.toml": '[workflows]\ndurability = "process"\n'})
    with RunningHost(shop) as host:
        assert host.ok("status")["store"]["durability"] == "process"


def test_the_whole_store_is_looked_at_while_it_is_written_to(host: RunningHost) -> None:
    run_id = enqueue(host, "greet")
    assert host.ok("check_store") == {"problems": []}

    host.ended(run_id)
    host.run(host.host.writer.do(lambda store: store.connection.execute("DELETE FROM payloads").fetchall()))

    assert host.ok("check_store") == {"problems": [f"I1: run {run_id}: has no payload"]}


def test_a_dead_run_needs_a_person_until_somebody_has_seen_it(host: RunningHost) -> None:
    run_id = enqueue(host, "fails")
    host.ended(run_id, status="dead")
    (problem,) = host.ok("status")["problems"]
    assert problem["kind"] == "dead_runs"
    assert not host.ok("status")["ok"]

    assert host.ok("ack", ids=[run_id]) == {"count": 1}
    assert host.ok("status")["ok"]


def test_a_secret_reaches_the_worker_and_appears_nowhere_else(host: RunningHost) -> None:
    run = host.ended(enqueue(host, "tell_secret"))
    assert json.loads(run["result_json"]).startswith(SECRET[:3])
    dead = host.ended(enqueue(host, "fails"), status="dead")
    told = host.ok("get_run", id=dead["id"], **{"with": ["attempts"]})

    # What a worker prints comes a moment after what it does.
    host.until(
        lambda: any("printed [secret API_KEY]" in line["message"] for line in host.host.hub.recent()),
        what="what it printed",
    )
    (worker,) = host.ok("health")["groups"][0]["workers"]
    process = Path(f"/proc/{worker['pid']}")
    places = {
        "the environment": (process / "environ").read_bytes(),
        "the arguments": (process / "cmdline").read_bytes(),
        "the log": json.dumps(host.host.hub.recent()).encode(),
        "the error": json.dumps([dead, told]).encode(),
        "the result": run["result_json"].encode(),
        "the store": b"".join(path.read_bytes() for path in host.folder.glob(".tako/runs.db*")),
        "engine.json": (host.folder / ".tako/engine.json").read_bytes(),
    }
    assert [place for place, content in places.items() if SECRET.encode() in content] == []


def test_a_changed_secret_takes_effect_without_a_restart(host: RunningHost) -> None:
    host.ended(enqueue(host, "tell_secret"))
    file.set(host.folder / ".tako/secrets.json", "API_KEY", "another-value-altogether")
    host.ok("reload")
    run = host.ended(enqueue(host, "tell_secret"))
    assert json.loads(run["result_json"]).startswith("ano")


def test_a_backup_is_whole_and_never_written_over(host: RunningHost, tmp_path: Path) -> None:
    run_id = enqueue(host, "greet")
    host.ended(run_id)
    (host.folder / ".tako/data/picture").write_bytes(b"x" * 1000)

    target = tmp_path / "backup"
    assert host.ok("backup", path=str(target))["bytes"] > 1000
    with sqlite3.connect(target / "runs.db") as copy:
        assert copy.execute("SELECT id, status FROM runs").fetchall() == [(run_id, "succeeded")]
        assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    copy.close()
    assert (target / "data/picture").read_bytes() == b"x" * 1000

    assert "is there already" in host.call("backup", path=str(target))["message"]


def test_a_subscriber_hears_of_runs_and_lines_as_they_come(host: RunningHost) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(20)
        connection.connect(str(host.host.places.internal_socket))
        connection.sendall(
            json.dumps({"command": "subscribe", "app": "shop", "topics": ["runs"], "workflow": "greet"}).encode()
            + b"\n"
        )
        lines = connection.makefile("rb")
        assert json.loads(lines.readline())["status"] == "ok"
        run_id = enqueue(host, "greet")
        heard = []
        while "succeeded" not in heard:
            event = json.loads(lines.readline())
            assert event["run"]["id"] == run_id
            heard.append(event["run"]["status"])
    assert heard[-1] == "succeeded"


def test_what_a_run_has_printed_is_heard_before_its_end(host: RunningHost) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(20)
        connection.connect(str(host.host.places.internal_socket))
        asked = {"command": "subscribe", "app": "shop", "topics": ["logs", "runs"], "workflow": "tell_secret"}
        connection.sendall(json.dumps(asked).encode() + b"\n")
        events = map(json.loads, connection.makefile("rb"))
        assert next(events)["status"] == "ok"
        for _ in range(3):  # the first worker's start gives the line time to come; the next ones have none
            enqueue(host, "tell_secret")
            heard: list[str] = []
            while "succeeded" not in heard:
                event = next(events)
                heard.append(event["line"]["message"] if event["event"] == "log" else event["run"]["status"])

            assert [said for said in heard if said.startswith("printed")], heard


def test_a_worker_that_dies_gives_its_run_to_the_next_within_a_second(host: RunningHost) -> None:
    run_id = enqueue(host, "waits")
    host.until((host.folder / "waiting").exists, what="the run is on")
    (host.folder / "waiting").unlink()
    (worker,) = host.ok("health")["groups"][0]["workers"]
    os.kill(worker["pid"], signal.SIGKILL)
    host.until((host.folder / "waiting").exists, what="the run is on again", timeout_s=5)
    (host.folder / "go").touch()
    run = host.ended(run_id)
    attempts = host.ok("get_run", id=run_id, **{"with": ["attempts"]})["attempts"]
    assert [attempt["outcome"] for attempt in attempts] == ["crashed", "succeeded"]
    assert run["attempt"] == 1, "a crash spends no retry"


def test_a_stopped_engine_hands_runs_back_uncounted(shop: Path) -> None:
    (shop / "tako.toml").write_text('[workflows]\ndrain_timeout = "1s"\n')
    with RunningHost(shop) as first:
        run_id = enqueue(first, "waits")
        first.until((shop / "waiting").exists, what="the run is on")
    (shop / "go").touch()
    with RunningHost(shop) as second:
        second.ended(run_id)
        attempts = second.ok("get_run", id=run_id, **{"with": ["attempts"]})["attempts"]
    assert [attempt["outcome"] for attempt in attempts] == ["succeeded"]


def test_a_second_engine_in_the_folder_is_refused(host: RunningHost) -> None:
    with pytest.raises(EngineRunning), RunningHost(host.folder):
        raise AssertionError("started twice")


def test_an_app_cannot_speak_as_a_worker_and_nobody_as_another_app(host: RunningHost) -> None:
    assert host.call("claim_runs", max=1, wait_ms=0)["code"] == "unauthorized"
    assert host.call("get_run", id="x", app="other")["message"] == "unknown app: other"
    assert "belongs to no process" in host.call("get_run", id="x", token="stolen")["message"]


def test_many_callers_at_once_all_get_their_run(host: RunningHost) -> None:
    found: list[str] = []

    def caller() -> None:
        found.extend(enqueue(host, "greet") for _ in range(10))

    callers = [threading.Thread(target=caller) for _ in range(10)]
    for thread in callers:
        thread.start()
    for thread in callers:
        thread.join()
    for run_id in found:
        host.ended(run_id)
    assert host.ok("status")["counts"]["succeeded"] == 100
