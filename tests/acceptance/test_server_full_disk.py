"""The disk of a server is full, in each way in which it can be: what serves goes on, what cannot be done says why and
leaves nothing half-way, and when there is room again nobody has to be asked to go on."""

from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.support.dev import is_alive, until
from tests.support.disk import Disk, small_disk
from tests.support.server import App, Server, failed, manifest_of
from tests.support.shop import shop

from tako.errors import DeployRefused, StoreUnavailable, TakoError

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(300)]

DISK = "size=160m,nr_inodes=6000"
PRINTS = """
def tell():
    for number in range(200):
        print(f"line {number} " + "x" * 2_000, flush=True)
    return 200
"""


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Disk]:
    with small_disk(tmp_path_factory.mktemp("disk"), options=DISK) as disk:
        yield disk


@pytest.fixture(scope="module")
def server(disk: Disk) -> Iterator[Server]:
    with Server(disk.folder) as running:
        yield running


def recorded(server: Server) -> list[int]:
    """The processes that `state.db` knows."""
    with closing(sqlite3.connect(server.data / "state.db")) as state:
        return [pid for (pid,) in state.execute("SELECT json_extract(record, '$.pid') FROM instances")]


def test_a_release_that_does_not_fit_is_refused_before_it_is_sent(app: App, disk: Disk) -> None:
    app.deploy("r1")

    with (
        app.load(clients=2, slow=False) as load,
        disk.full(but_for=30 << 20),
        pytest.raises(DeployRefused, match=r"has \d+ MiB free, and this deploy needs 6\d MiB"),
    ):
        app.client.upload(app.name, shop(app.folder, "r2"), "r2")

    assert load.report.failed == []
    app.deploy("r2")


def test_a_disk_that_fills_up_during_the_upload_keeps_whole_files_only_and_the_next_deploy_sends_the_rest(
    app: App, disk: Disk
) -> None:
    source = shop(app.folder, "r1", files={"big.bin": os.urandom(2_500_000).hex()})
    manifest, contents = manifest_of(source)
    begun = app.client.ask(
        "deploy.begin", app=app.name, env="production", release="r1", manifest=manifest, by="ann@test"
    )
    big = next(entry["sha256"] for entry in manifest if entry["path"] == "big.bin")
    for digest in begun["need"]:
        if digest != big:
            app.client.put(begun["job"], digest, contents[digest])

    with disk.full(but_for=1 << 20), pytest.raises(DeployRefused, match="takes no more files: No space left"):
        app.client.put(begun["job"], big, contents[big])

    blobs = app.server.data / "blobs"
    assert list(blobs.glob("*/.*.tmp")) == []
    app.client.ask("deploy.abort", job=begun["job"])
    again = app.client.upload(app.name, source, "r1")
    assert again["need"] == [big]
    app.client.ask("deploy.commit", job=again["job"])
    app.client.ended(again["job"])
    assert app.get("/").text == "r1"


def test_a_disk_that_fills_up_before_the_release_is_put_together_refuses_it(app: App, disk: Disk) -> None:
    app.deploy("r1")
    job = app.client.upload(app.name, shop(app.folder, "r2"), "r2")["job"]

    with app.load(path=str(app.listener), clients=2, slow=False) as load, disk.full():
        app.client.ask("deploy.commit", job=job)
        events = list(app.client.follow(job))
        load.more(10)

    assert events[-1]["outcome"] == "failed"
    assert "full" in failed(events)["message"]
    assert load.report.failed == []
    assert [path.name for path in (app.data / "releases").iterdir()] == ["r1"]
    # What was told while nothing could be written is written down now, and the next one may begin.
    app.until(lambda status: status["job"] is None, what="the job is over")
    assert app.ask("releases")["jobs"][0]["outcome"] == "failed"
    assert [event["seq"] for event in app.client.follow(job)] == [event["seq"] for event in events]
    app.deploy("r2")
    assert app.get("/").text == "r2"


def test_with_no_room_at_all_the_app_serves_prints_and_is_replaced_when_it_dies(app: App, disk: Disk) -> None:
    app.deploy("r1", at_import=PRINTS, status='tell() if path == "/tell" else 200')
    (before,) = [each["pid"] for each in app.status()["instances"]]

    with disk.full():
        with app.load(clients=2, slow=False) as load:
            for _ in range(3):
                assert app.get("/tell").status_code == 200
            load.more(10)
        assert load.report.failed == []
        with pytest.raises(TakoError):
            app.ask("secrets.put", by="x", secrets={"A": "b"})
        with pytest.raises(StoreUnavailable), app.engine() as engine:
            new = {"id": "01890000-0000-7000-8000-000000000000", "workflow": "charge", "payload_json": "{}"}
            engine.ask("enqueue_runs", runs=[new])
        os.killpg(before, signal.SIGKILL)
        until(lambda: not is_alive(before), what="the instance is gone")
        answer = app.get("/")
        assert answer.text == "r1", app.status()["reason"]

    (after,) = [each["pid"] for each in app.status()["instances"]]
    until(lambda: recorded(app.server) == [after], what="what was owed to the disk is written")
    app.server.restart()
    app.reconnect()
    assert [each["pid"] for each in app.status()["instances"]] == [after]
    answer = app.get("/enqueue")
    assert answer.status_code == 200, "\n".join(str(x) for x in app.logs(limit=60))
    run_id = answer.text
    with app.engine() as engine:
        assert engine.ask("wait_run", id=run_id, timeout_ms=30_000)["result_json"] == '"r1"'


def test_a_release_that_dies_in_its_watch_on_a_full_disk_is_taken_back_at_once_and_its_runs_when_there_is_room(
    disk: Disk, tmp_path: Path
) -> None:
    folder = disk.folder / "watched"
    folder.mkdir()
    with Server(folder) as server, App(server, "shop", tmp_path) as app:
        app.deploy("r1")
        server.arguments.append("--watch=600")
        server.restart()
        app.reconnect()
        job = app.begin("r2")
        app.client.until_phase(job, "watch")
        (new,) = [each["pid"] for each in app.status()["instances"]]

        app.reconnect()
        with disk.full():
            os.killpg(new, signal.SIGKILL)
            app.client.until_phase(job, "watch", "failed")
            assert app.get("/").text == "r1"
            assert app.status()["job"]["job"] == job

        app.reconnect()
        app.client.ended(job, outcome="rolled_back")
        run_id = app.get("/enqueue").text
        with app.engine() as engine:
            assert engine.ask("wait_run", id=run_id, timeout_ms=30_000)["result_json"] == '"r1"'


def test_without_inodes_a_deploy_is_refused_and_what_serves_goes_on(app: App, disk: Disk) -> None:
    app.deploy("r1")

    with disk.without_inodes(), app.load(clients=2, slow=False) as load:
        with pytest.raises(DeployRefused, match="inodes left"):
            app.client.upload(app.name, shop(app.folder, "r2"), "r2")
        load.more(10)

    assert load.report.failed == []
    app.deploy("r2")
