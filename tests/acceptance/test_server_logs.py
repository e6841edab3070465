"""What apps print, kept on the server: every line once, whoever dies; found by what it is about."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from tests.support.dev import until
from tests.support.server import App, Server

pytestmark = pytest.mark.acceptance

COUNTS = """
import threading
import time


def count():
    for number in range(3_000):
        print(f"line {number}", flush=True)
        if number % 10 == 0:
            time.sleep(0.004)
    print("counted", flush=True)


threading.Thread(target=count, daemon=True).start()
"""


def test_every_line_is_kept_once_though_the_daemon_is_killed_while_it_reads(tmp_path: Path) -> None:
    with Server(tmp_path) as server, App(server, "shop", tmp_path) as app:
        app.begin("r1", at_import=COUNTS)
        app.until(lambda status: status["instances"], what="it serves")

        for _ in range(4):
            server.kill()
            server.start()

        app.reconnect()
        until(lambda: app.logs(scope="web")[-1]["message"] == "counted", what="all is read")
        lines = Counter(line["message"] for line in app.logs(scope="web") if line["message"].startswith("line "))
        assert len(lines) == 3_000
        assert lines.most_common(1)[0][1] == 1


def test_logs_are_found_by_release_instance_group_and_run(app: App) -> None:
    app.deploy("r1", at_startup='print("r1 starts")')
    app.deploy("r2", at_startup='print("r2 starts")')
    run_id = app.get("/enqueue").text
    with app.engine() as engine:
        engine.ask("wait_run", id=run_id, timeout_ms=30_000)

    assert {line["message"] for line in app.logs(release="r1", scope="web")} >= {"r1 starts"}
    assert not any(line["message"] == "r1 starts" for line in app.logs(release="r2"))
    (instance,) = app.status()["instances"]
    assert {line["release"] for line in app.logs(instance=instance["id"])} == {"r2"}
    until(lambda: app.logs(run_id=run_id), what="the run's lines")
    assert all(line["release"] == "r2" for line in app.logs(run_id=run_id, scope="worker") if "pid" in line)
    assert "charging" in {line["message"] for line in app.logs(workflow="charge", level="info", scope="worker")}
    assert app.logs(workflow="charge", level="error") == []
    assert app.logs(since_ms=2**52) == []
    assert len(app.logs(limit=3)) == 3


def test_logs_are_followed_as_they_come(app: App, server: Server) -> None:
    app.deploy("r1")
    with server.client() as watcher:
        watcher.ask("logs", app=app.name, env="production", limit=1, follow=True, scope="web")
        app.get("/about?x=1")

        while True:
            line = watcher.line()
            assert line["push"] == "log"
            if "/about" in line["line"]["message"]:
                break
    assert line["line"]["scope"] == "web"


def test_metrics_tell_of_requests_runs_and_workers(app: App) -> None:
    app.deploy("r1")
    run_id = app.get("/enqueue").text
    with app.engine() as engine:
        engine.ask("wait_run", id=run_id, timeout_ms=30_000)

    def counted() -> str | None:
        text: str = app.client.ask("metrics")["text"]
        return text if f'tako_web_requests_total{{app="{app.name}",env="production"}} 1' in text else None

    text = until(counted, what="the request is counted")
    assert f'tako_runs{{app="{app.name}",env="production",workflow="charge",status="succeeded"}} 1' in text
    assert f'tako_web_instances{{app="{app.name}",env="production"}} 1' in text


def test_the_apps_own_socket_is_reached_by_connect_and_each_socket_refuses_the_others_commands(app: App) -> None:
    app.deploy("r1")
    with app.engine() as engine:
        assert engine.ask("status")["release"] == "r1"
        assert [info["name"] for info in engine.ask("list_workflows")["workflows"]] == ["charge"]
        with pytest.raises(Exception, match="unknown command 'releases'"):
            engine.ask("releases", env="production")
    with app.server.client() as client, pytest.raises(Exception, match=r"`list_runs`|unknown command 'list_runs'"):
        client.ask("list_runs", app=app.name)
