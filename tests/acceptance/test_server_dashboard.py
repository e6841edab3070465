"""The dashboard of a deployed app, as `tako open --server` brings it here; with a real SSH: `test_deploy_ssh.py`."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.dashboard.bookshop import ask
from tests.support.chromium import Chromium
from tests.support.server import Server
from tests.support.shop import shop

from tako.cli.tunnel import Tunnel
from tako.errors import TakoError
from tako.protocol import framing

pytestmark = pytest.mark.acceptance

REF = {"app": "shop", "env": "production"}


class LocalConversation:
    """As one through SSH, but for the SSH."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(path))

    def close(self) -> None:
        self.socket.close()

    def failure(self) -> TakoError:
        self.close()
        return TakoError("the connection was cut")


class LocalSsh:
    """In place of ssh: its conversations are with the socket of a server on this machine."""

    def __init__(self, path: Path) -> None:
        self.server = SimpleNamespace(name="fra1")
        self._path = path

    def talk(self, argv: Any) -> LocalConversation:
        return LocalConversation(self._path)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    with Server(folder) as running:
        with running.client() as client:
            client.deploy("shop", shop(folder, "r1"), "r1")
        yield running


@pytest.fixture
def tunnel(server: Server) -> Iterator[Tunnel]:
    ssh: Any = LocalSsh(server.run / "tako.sock")
    with Tunnel(ssh, REF) as tunnel:
        threading.Thread(target=_serve, args=(tunnel,), daemon=True).start()
        yield tunnel


def _serve(tunnel: Tunnel) -> None:
    with suppress(OSError):  # it was closed
        tunnel.serve()


def test_the_pages_of_a_deployed_app_are_live_in_a_browser_here(server: Server, tunnel: Tunnel, tmp_path: Path) -> None:
    run_id = server.get("/enqueue").text
    with Chromium(tmp_path / "chromium") as chromium, chromium.page() as page:
        page.goto(f"{tunnel.url}runs")
        page.wait_for("document.getElementById('pulse').textContent == 'live'")
        assert run_id[-6:] in page.text()
        assert "shop-production" in page.text()

        second = server.get("/enqueue").text

        page.wait_for(f"document.getElementById('run-{second}')?.innerText.includes('succeeded')")
        assert page.complaints == []


def test_the_tunnels_port_is_no_door_for_others(tunnel: Tunnel) -> None:
    base = tunnel.url.rpartition("/shop-production/")[0].rpartition("/")[0]

    assert ask(f"{base}/shop-production/").status == 403
    assert ask(tunnel.url, host="evil.example").status == 421
    assert ask(tunnel.url).status == 200


def test_a_connection_that_has_become_one_of_http_serves_many_requests(server: Server) -> None:
    with server.client() as client:
        path = client.ask("dashboard", **REF)["path"]
        connection = http.client.HTTPConnection("127.0.0.1", timeout=30)
        connection.sock = client.socket
        for _ in range(3):
            connection.request("GET", f"{path}runs")
            answer = connection.getresponse()
            assert (answer.status, b"Runs" in answer.read()) == (200, True)


def test_who_does_not_wait_for_the_reply_is_cut_off(server: Server) -> None:
    with server.client() as client:
        line = framing.encode({"command": "dashboard", **REF})
        client.socket.sendall(line + line)
        with pytest.raises((ConnectionError, OSError)):
            while True:
                client.line()


def test_an_app_that_is_not_there_has_no_dashboard(server: Server) -> None:
    ssh: Any = LocalSsh(server.run / "tako.sock")
    with pytest.raises(TakoError, match="nowhere"):
        Tunnel(ssh, {"app": "nowhere", "env": "production"})
