"""What can happen to a server and to what stands in front of it: files gone or damaged, processes that nobody wrote
down, pids of somebody else, Caddy killed. One server for all tests; each leaves it running."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.support.caddy import Caddy
from tests.support.dev import is_alive, until
from tests.support.server import App, Server
from tests.support.shop import shop

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(300)]


@pytest.fixture(autouse=True)
def runs_again(server: Server) -> Iterator[None]:
    """A test that failed half-way must not fail the others."""
    yield
    if server.process is None or server.process.poll() is not None:
        server.start()


def pid_of(app: App) -> int:
    (instance,) = app.status()["instances"]
    return int(instance["pid"])


@contextlib.contextmanager
def bystander(**env: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is none of ours, unless `env` says so."""
    process = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(600)"], env={**os.environ, **env}, start_new_session=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_stale_socket_and_nobody_who_has_kept_it_are_no_obstacle(app: App, server: Server) -> None:
    app.deploy("r1")
    before = pid_of(app)
    server.kill()
    os.killpg(before, signal.SIGKILL)
    until(lambda: not is_alive(before), what="the instance is gone")
    assert app.listener.exists()

    server.start()

    assert app.get("/").text == "r1"
    app.reconnect()


def test_a_run_folder_that_was_wiped_is_made_anew_at_the_next_start(app: App, server: Server) -> None:
    app.deploy("r1")
    before = pid_of(app)
    for path in server.run.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    server.restart()

    assert app.get("/").text == "r1"
    assert not is_alive(before), "what it held was a queue without an entry"
    app.reconnect()


def test_a_pid_that_is_somebody_elses_now_is_neither_killed_nor_adopted(app: App, server: Server) -> None:
    app.deploy("r1", toml="[workflows]\nworkers = 1")
    before = pid_of(app)
    (worker,) = [each["pid"] for each in app.status()["engine"]["groups"][0]["workers"]]
    with bystander() as stranger:
        server.kill()
        for pid in (before, worker):
            os.killpg(pid, signal.SIGKILL)
            until(lambda pid=pid: not is_alive(pid), what="our process is gone")  # type: ignore[misc]
        with closing(sqlite3.connect(server.data / "state.db")) as state, state:
            state.execute("UPDATE instances SET record = json_set(record, '$.pid', ?)", (stranger.pid,))
        with closing(sqlite3.connect(app.data / "data/tako/runs.db")) as runs, runs:
            (count,) = runs.execute("SELECT count(*) FROM workers").fetchone()
            runs.execute("UPDATE workers SET record = json_set(record, '$.pid', ?)", (stranger.pid,))
        assert count == 1

        server.start()

        assert app.get("/").text == "r1"
        assert pid_of(app) not in (before, stranger.pid)
        app.until(
            lambda status: stranger.pid not in [each["pid"] for each in status["engine"]["groups"][0]["workers"]],
            what="the stranger is nobody's worker",
        )
        assert stranger.poll() is None
    app.reconnect()


def test_a_process_that_nobody_has_written_down_is_swept_and_others_are_not(app: App, server: Server) -> None:
    app.deploy("r1")
    before = pid_of(app)
    ours = {"TAKO_INTERNAL_SOCKET": f"{server.run}/apps/x/production/internal.sock"}
    with bystander(**ours, TAKO_INSTANCE="w999999") as orphan, bystander(TAKO_INSTANCE="w999999") as stranger:
        server.restart()

        assert orphan.wait(10) == -signal.SIGKILL
        assert stranger.poll() is None
    assert pid_of(app) == before
    app.reconnect()


def test_a_damaged_state_stops_the_daemon_and_nothing_else_and_a_damaged_store_stops_its_app_alone(
    app: App, server: Server, tmp_path: Path
) -> None:
    app.deploy("r1")
    with App(server, "damaged", tmp_path) as other:
        other.deploy("r1")
        damaged = other.data / "data/tako/runs.db"
    before = pid_of(app)
    server.terminate()
    state = server.data / "state.db"
    good = state.read_bytes()
    state.write_bytes(good[:100] + b"\xff" * 4_000 + good[4_100:])

    with app.load(path=str(app.listener), clients=2, slow=False) as load:
        said = server.refuses_to_start()
        load.more(10)
        assert "is damaged" in said
        assert "Apps go on as they are" in said

        state.write_bytes(good)
        for path in (damaged, damaged.with_name("runs.db-wal")):
            path.write_bytes(b"no database at all" * 100)
        server.start()
        load.more(10)

    assert load.report.failed == []
    assert pid_of(app) == before
    assert server.status("damaged")["state"] == "failed"
    app.reconnect()
    with pytest.raises(Exception, match="could not be opened"):
        app.client.upload("damaged", shop(tmp_path, "r2"), "r2")
    app.client.ask("delete", app="damaged", env="production", by="x", confirm="damaged/production")
    assert not damaged.exists()


def test_a_daemon_that_dies_while_its_release_command_runs_never_runs_it_again(app: App, server: Server) -> None:
    app.deploy("r1")
    toml = 'release = "echo ran >> $TAKO_DATA_DIR/migrations; sleep 600"'
    job = app.begin("r2", toml=toml)
    ran = app.data / "data/app/migrations"
    until(ran.exists, what="the command runs")

    server.restart()

    app.reconnect()
    events = app.client.ended(job, outcome="failed")
    assert "its outcome is unknown, it is not run again" in str(events[-1]["error"])
    assert ran.read_text() == "ran\n"
    assert not [each for each in server.processes() if "sleep 600" in each]
    assert app.get("/").text == "r1"


# In front of it


@pytest.fixture
def caddy(server: Server, tmp_path: Path) -> Iterator[Caddy]:
    """The real Caddy, which looks for hosts where this server puts them."""
    it = Caddy(tmp_path, acme="internal")
    it.hosts = server.run / "hosts"
    it.settings = dataclasses.replace(it.settings, hosts=str(it.hosts))
    with it:
        yield it


class Visitor:
    """One request through Caddy, in a thread of its own."""

    def __init__(self, caddy: Caddy, host: str) -> None:
        self.answer: tuple[int, str] | None = None
        self._thread = threading.Thread(target=self._ask, args=(caddy, host), daemon=True)
        self._thread.start()

    def _ask(self, caddy: Caddy, host: str) -> None:
        self.answer = caddy.get(host)

    def end(self) -> tuple[int, str]:
        self._thread.join(30)
        assert self.answer is not None, "it was never answered"
        return self.answer


def test_a_visitor_of_a_sleeping_app_whose_daemon_is_dead_waits_for_the_next_daemon(
    app: App, server: Server, caddy: Caddy
) -> None:
    host = f"{app.name}.test"
    app.deploy("r1", toml='[web]\nidle_timeout = "200ms"', begin={"routes": [host]})
    assert caddy.get(host) == (200, "r1")
    app.until(lambda status: status["state"] == "asleep", what="asleep")
    server.kill()  # nobody holds the socket any more, and its name leads nowhere

    visitor = Visitor(caddy, host)
    server.start()

    assert visitor.end() == (200, "r1")
    app.reconnect()


def test_caddy_killed_and_started_again_loses_what_it_held_and_nothing_else(app: App, caddy: Caddy) -> None:
    host = f"{app.name}.test"
    app.deploy("r1", begin={"routes": [host]})
    before = pid_of(app)
    assert caddy.get(host) == (200, "r1")
    with caddy.connect(host) as held:
        caddy.process.kill()
        caddy.process.wait()
        with contextlib.suppress(ConnectionResetError):
            assert held.recv(1) == b""
    with pytest.raises(ConnectionRefusedError):
        caddy.get(host)

    with caddy:  # as systemd does, at once
        assert [caddy.get(host) for _ in range(10)] == [(200, "r1")] * 10
        assert pid_of(app) == before


def test_many_streams_of_one_http2_connection_are_all_answered_across_a_switch(app: App, caddy: Caddy) -> None:
    host = f"{app.name}.test"
    app.deploy("r1", begin={"routes": [host]})
    assert caddy.get(host) == (200, "r1")
    port = caddy.settings.https_port
    asks = subprocess.Popen(
        ["curl", "--http2", "--silent", "--insecure", "--parallel", "--parallel-max", "60", "--max-time", "60",
         "--connect-to", f"::127.0.0.1:{port}", "--write-out", "%{http_version} %{http_code} %{num_connects}\\n",
         "--output", "/dev/null", f"https://{host}/slow?[1-600]"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip

    app.deploy("r2", begin={"routes": [host]})

    said, _ = asks.communicate(timeout=60)
    answers = [line.split() for line in said.splitlines()]
    assert [answer[:2] for answer in answers] == [["2", "200"]] * 600
    assert sum(int(answer[2]) for answer in answers) < 60, "streams share connections"
    assert json.loads(caddy.get(host, "/about")[1])["release"] == "r2"
