"""Web instances on a server: how many, asleep and awake, dead and replaced, and what crosses a switch unharmed."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import socket
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets
from tests.support.dev import until
from tests.support.server import App, Server

pytestmark = pytest.mark.acceptance

SLOW_IF = "import pathlib, time\nif pathlib.Path({marker!r}).exists(): time.sleep(1.5)"


def pids(app: App) -> list[int]:
    return [each["pid"] for each in app.status()["instances"]]


def test_scale_adds_and_removes_instances_under_load(app: App) -> None:
    app.deploy("r1")

    with app.load(clients=8) as load:
        assert app.ask("scale", by="x", web=3) == {"web": 3, "workers": {"default": 0}}
        app.until(lambda status: len(status["instances"]) == 3, what="three instances")
        load.more(100)
        app.ask("scale", by="x", web=1)
        app.until(lambda status: len(status["instances"]) == 1, what="one instance")
        load.more()

    assert load.report.failed == []


def test_a_scale_outlives_a_deploy_until_the_settings_say_another_number(app: App) -> None:
    app.deploy("r1")
    app.ask("scale", by="x", web=2)

    app.deploy("r2")
    assert len(app.status()["instances"]) == 2

    app.deploy("r3", toml="[web]\ninstances = 3")
    assert len(app.status()["instances"]) == 3


def test_an_instance_that_is_killed_is_replaced_and_the_queue_waits_for_it(app: App) -> None:
    app.deploy("r1", toml="[web]\ninstances = 2")

    with app.load(slow=False, clients=2) as load:
        load.more(20)
        victim = pids(app)[0]
        os.kill(victim, signal.SIGKILL)

        def is_replaced(status: Any) -> bool:
            found = [each["pid"] for each in status["instances"]]
            return len(found) == 2 and victim not in found

        app.until(is_replaced, what="two instances again")
        load.more(20)

    # What it was answering when it was killed is lost, one for each client at most; what waited is not.
    assert len(load.report.failed) <= 2


def test_an_app_sleeps_when_idle_and_the_first_request_wakes_it(app: App) -> None:
    app.deploy("r1", toml='[web]\nidle_timeout = "200ms"')
    app.until(lambda status: status["state"] == "asleep", what="asleep")

    with httpx.Client(base_url=f"http://127.0.0.1:{app.server.port}", headers={"Host": app.host}, timeout=30) as http:
        assert http.get("/").text == "r1"

    app.until(lambda status: status["state"] == "asleep", what="asleep again")


def test_many_at_once_on_a_sleeping_app_are_all_answered(app: App) -> None:
    app.deploy("r1", toml='[web]\nidle_timeout = "200ms"')
    app.until(lambda status: status["state"] == "asleep", what="asleep")

    async def ask() -> list[int]:
        limits = httpx.Limits(max_connections=60)
        async with httpx.AsyncClient(limits=limits, headers={"Host": app.host}, timeout=30) as http:
            url = f"http://127.0.0.1:{app.server.port}/take"
            answers = await asyncio.gather(*(http.post(url, content=b"x" * 5_000) for _ in range(60)))
        return [answer.status_code for answer in answers]

    assert asyncio.run(ask()) == [200] * 60


def test_more_at_once_than_the_queue_holds_wait_their_turn_and_are_all_answered(app: App) -> None:
    marker = app.folder / "slow"
    app.deploy("r1", at_import=SLOW_IF.format(marker=str(marker)), toml='[web]\nidle_timeout = "200ms"')
    app.until(lambda status: status["state"] == "asleep", what="asleep")
    marker.touch()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8_192), hard))
    dialled_again = 0

    async def ask() -> bytes:
        nonlocal dialled_again
        while True:
            sock = socket.socket(socket.AF_UNIX)
            sock.setblocking(False)
            try:
                sock.connect(str(app.listener))
            except BlockingIOError:  # the queue is full: dial again, as Caddy does
                sock.close()
                dialled_again += 1
                await asyncio.sleep(0.05)
                continue
            reader, writer = await asyncio.open_unix_connection(sock=sock)
            writer.write(f"GET / HTTP/1.1\r\nHost: {app.host}\r\nConnection: close\r\n\r\n".encode())
            answer = await reader.read()
            writer.close()
            return answer.partition(b"\r\n")[0]

    async def ask_all() -> list[bytes]:
        return await asyncio.gather(*(ask() for _ in range(2_500)))

    try:
        assert set(asyncio.run(ask_all())) == {b"HTTP/1.1 200 OK"}
        assert dialled_again > 0
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_requests_timed_at_the_idle_limit_never_fail(app: App) -> None:
    app.deploy("r1", toml='[web]\nidle_timeout = "150ms"')

    with app.load(clients=2, pause_s=0.16, slow=False) as load:
        load.more(16)

    assert load.report.failed == []


def test_a_cold_app_that_cannot_start_answers_503_with_the_reason_in_status_and_log(app: App) -> None:
    marker = app.folder / "broken"
    code = f"import pathlib\nif pathlib.Path({str(marker)!r}).exists(): raise RuntimeError('no database')"
    app.deploy("r1", toml='[web]\nidle_timeout = "200ms"', at_import=code)
    app.until(lambda status: status["state"] == "asleep", what="asleep")
    marker.touch()

    answer = app.get("/")

    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1
    assert "no database" not in answer.text, "the reason is not for strangers"
    status = app.until(lambda status: status["state"] == "failed", what="failed")
    assert "exited with status 1" in status["reason"]
    assert any("no database" in line["message"] for line in app.logs())
    marker.unlink()
    until(lambda: app.get("/").status_code == 200, what="it is tried again by itself")


def test_an_instance_whose_loop_hangs_is_replaced_first_and_then_killed(app: App) -> None:
    app.deploy("r1", toml="[web]\ninstances = 1")
    (victim,) = pids(app)

    os.kill(victim, signal.SIGSTOP)

    app.until(lambda status: status["instances"] and status["instances"][0]["pid"] != victim, what="another one")
    assert app.get("/").text == "r1"


def test_a_websocket_an_event_stream_and_a_big_upload_cross_the_switch(app: App) -> None:
    app.deploy("r1")
    url = f"http://127.0.0.1:{app.server.port}"
    headers = {"Host": app.host}
    begun = threading.Event()
    found: dict[str, str] = {}

    async def upload() -> None:
        async def body() -> AsyncIterator[bytes]:
            for number in range(60):
                yield b"x" * 500_000
                if number == 5:
                    begun.set()
                await asyncio.sleep(0.03)

        async with httpx.AsyncClient(headers=headers, timeout=60) as http:
            found["upload"] = (await http.post(f"{url}/size", content=body())).text

    async def events() -> None:
        async with httpx.AsyncClient(headers=headers, timeout=60) as http:
            found["events"] = (await http.get(f"{url}/events")).text

    async def download() -> None:
        async with httpx.AsyncClient(headers=headers, timeout=60) as http:
            found["download"] = str(len((await http.get(f"{url}/download")).content))

    async def chat() -> None:
        # The address is the relay's; the name in the URL is what the app is found by.
        sock = socket.create_connection(("127.0.0.1", app.server.port))
        async with websockets.connect(f"ws://{app.host}/", sock=sock) as line:
            await line.send("hello")
            found["first"] = str(await line.recv())
            try:
                await line.recv()
            except websockets.ConnectionClosed as closed:
                found["closed"] = str(closed.rcvd.code if closed.rcvd else None)

    async def everything() -> None:
        await asyncio.gather(upload(), events(), download(), chat())

    thread = threading.Thread(target=lambda: asyncio.run(everything()))
    thread.start()
    begun.wait(30)
    app.deploy("r2")
    thread.join(60)

    assert found["upload"] == "r1 30000000"
    assert found["events"].count("data: r1") == 12
    assert found["download"] == str(400 * 65536)
    assert (found["first"], found["closed"]) == ("r1 hello", "1012")
    assert app.get("/").text == "r2"


def test_requests_sent_in_one_piece_are_all_answered_across_a_switch(app: App) -> None:
    app.deploy("r1")
    head = f"GET / HTTP/1.1\r\nHost: {app.host}\r\n\r\n".encode()

    with socket.create_connection(("127.0.0.1", app.server.port), timeout=30) as sock:
        sock.sendall(head * 3)
        answers = b""
        while answers.count(b"HTTP/1.1 200") < 3 or not answers.endswith(b"r1"):
            answers += sock.recv(65536)
        app.deploy("r2")
        sock.sendall(head)
        while not answers.endswith(b"r2"):
            data = sock.recv(65536)
            assert data
            answers += data


def test_a_killed_daemon_is_not_missed_and_the_next_one_finds_everything(tmp_path: Path) -> None:
    with Server(tmp_path) as server, App(server, "shop", tmp_path) as app:
        app.deploy("r1", toml="[web]\ninstances = 2")
        before = sorted(pids(app))

        with app.load(path=str(app.listener)) as load:
            for _ in range(3):
                server.kill()
                load.more(30)
                server.start()
                assert sorted(each["pid"] for each in server.status()["instances"]) == before
                assert [app.get("/enqueue").status_code for _ in before] == [200] * len(before)
            with server.client() as client:
                client.deploy("shop", app.folder / "shop-r1", "r2")
            load.more(30)

        assert load.report.failed == []


def test_a_daemon_that_executes_itself_anew_keeps_pid_instances_and_queue(tmp_path: Path) -> None:
    with Server(tmp_path) as server, App(server, "shop", tmp_path) as app:
        app.deploy("r1")
        before, (instance,) = app.client.server, pids(app)

        with app.load(path=str(app.listener)) as load:
            app.client.ask("server.restart")

            def is_new() -> bool:
                try:
                    with server.client() as client:
                        return bool(client.server["started_ms"] > before["started_ms"])
                except OSError:
                    return False

            until(is_new, what="it is there again")
            load.more(30)

        with server.client() as client:
            assert client.server["pid"] == before["pid"]
        assert [each["pid"] for each in server.status()["instances"]] == [instance]
        assert load.report.failed == []


def test_enqueues_wait_for_the_next_daemon_however_the_last_one_has_ended(tmp_path: Path) -> None:
    with Server(tmp_path) as server, App(server, "shop", tmp_path) as app:
        app.deploy("r1")

        with app.load(path=str(app.listener), enqueues=True, clients=12) as load:
            for end in (server.terminate, server.kill):
                load.until_answered_by("run")
                end()
                server.start()
            load.until_answered_by("run")
            with server.client() as client:
                client.ask("server.restart")
            load.until_answered_by("run", count=50)

        assert load.report.failed == []
        stored = sum(server.status()["engine"]["counts"].values())
        assert stored == load.report.answered["run"]


def test_a_daemon_that_is_terminated_leaves_everything_running(tmp_path: Path) -> None:
    with Server(tmp_path) as server, App(server, "shop", tmp_path) as app:
        app.deploy("r1")
        (instance,) = pids(app)

        with app.load(path=str(app.listener)) as load:
            server.terminate()
            load.more(30)
            server.start()
            load.more(10)

        assert [each["pid"] for each in server.status()["instances"]] == [instance]
        assert load.report.failed == []
