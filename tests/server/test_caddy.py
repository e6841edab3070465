"""What Caddy does with the folder: it is never reloaded, and knows nobody that the folder does not."""

from __future__ import annotations

import base64
import http.client
import json
import os
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.caddy import App, Caddy, Pebble

from tako.server import caddy, certificates
from tako.server.hosts import Hosts, parse


@pytest.fixture(scope="module")
def it(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Caddy]:
    """With certificates of its own authority: no ACME server is needed to see where requests go."""
    folder = tmp_path_factory.mktemp("caddy")
    with Caddy(folder, acme="internal") as caddy:
        yield caddy


@pytest.fixture
def hosts(it: Caddy) -> Iterator[Hosts]:
    hosts = Hosts(it.hosts)
    yield hosts
    for _, owner, _ in hosts.routes():
        hosts.remove(owner)


@pytest.fixture
def apps(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, App]]:
    folder = tmp_path_factory.mktemp("s")
    apps = {name: App(folder / name) for name in ("shop", "blog")}
    yield apps
    for app in apps.values():
        app.close()


def put(hosts: Hosts, app: App, *routes: str, public: Path | None = None) -> None:
    hosts.put(app.socket.name, [parse(text) for text in routes], socket=app.socket, public=public)


def test_a_host_answers_as_soon_as_it_is_there_and_no_longer(it: Caddy, hosts: Hosts, apps: dict[str, App]) -> None:
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        it.get("a.test")

    put(hosts, apps["shop"], "a.test")
    assert it.get("a.test", "/x?y=1") == (200, "shop /x?y=1 https")
    assert it.get("a.test", named="a.test:8443") == (200, "shop / https")
    assert it.get("a.test", named="a.test.") == (200, "shop / https")

    hosts.remove("shop")
    assert it.get("a.test") == (404, "No app answers here.\n")


def test_paths_belong_to_the_longest_route(it: Caddy, hosts: Hosts, apps: dict[str, App]) -> None:
    put(hosts, apps["shop"], "a.test/shop", "a.test/blog/x/y")
    put(hosts, apps["blog"], "a.test/blog")

    assert it.get("a.test", "/shop")[1] == "shop /shop https"
    assert it.get("a.test", "/shop/a/b/c")[1] == "shop /shop/a/b/c https"
    assert it.get("a.test", "/blog/x")[1] == "blog /blog/x https"
    assert it.get("a.test", "/blog/x/y/z")[1] == "shop /blog/x/y/z https"
    for path in ("/", "/shopping", "/shop~a", "/~shop", "//shop~"):
        assert it.get("a.test", path)[0] == 404


def test_a_wildcard_answers_one_level_below_and_a_host_of_its_own_goes_first(
    it: Caddy, hosts: Hosts, apps: dict[str, App]
) -> None:
    put(hosts, apps["shop"], "*.w.test")
    put(hosts, apps["blog"], "blog.w.test")

    assert it.get("any.w.test")[1] == "shop / https"
    assert it.get("blog.w.test")[1] == "blog / https"
    for host in ("w.test", "a.b.w.test"):
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            it.get(host)


@pytest.mark.parametrize(
    "named", ["other.test", "..", ".", "_none", "_.a.test", "a.test/../b.test", "paths", "a.test\x00", "*", "../run"]
)
def test_names_that_are_no_host_of_ours_are_nobody(it: Caddy, hosts: Hosts, apps: dict[str, App], named: str) -> None:
    put(hosts, apps["shop"], "a.test")

    assert it.get("a.test", named=named)[0] in (400, 404)


def test_static_files_are_served_without_the_app(it: Caddy, hosts: Hosts, apps: dict[str, App], tmp_path: Path) -> None:
    (tmp_path / "public/static").mkdir(parents=True)
    (tmp_path / "public/static/a.css").write_text("body{}")
    (tmp_path / "outside.txt").write_text("secret")
    put(hosts, apps["shop"], "a.test", public=tmp_path / "public")

    assert it.get("a.test", "/static/a.css") == (200, "body{}")
    assert it.get("a.test", "/static/gone.css") == (200, "shop /static/gone.css https")
    assert it.get("a.test", "/static/") == (200, "shop /static/ https")
    for path in (
        "/../outside.txt",
        "/static/../../outside.txt",
        "/%2e%2e/outside.txt",
        "/owner",
        "/sock",
        "/..%2foutside.txt",
    ):
        assert "secret" not in it.get("a.test", path)[1]


def test_maintenance_asks_no_app(it: Caddy, hosts: Hosts, apps: dict[str, App]) -> None:
    put(hosts, apps["shop"], "a.test")
    hosts.set_maintenance("shop", on=True)
    assert it.get("a.test") == (503, "Down for maintenance.\n")

    hosts.set_maintenance("shop", on=False)
    assert it.get("a.test")[0] == 200


def test_http_is_sent_to_https(it: Caddy) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", it.settings.http_port, timeout=10)
    connection.request("GET", "/a?b=c", headers={"Host": f"a.test:{it.settings.http_port}"})
    answer = connection.getresponse()

    assert answer.status == 308
    assert answer.headers["Location"] == f"https://a.test:{it.settings.https_port}/a?b=c"
    connection.close()


def test_a_websocket_goes_through_to_the_app(it: Caddy, hosts: Hosts, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("w") / "sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        hosts.put("chat", [parse("ws.test")], socket=path, public=None)
        with it.connect("ws.test") as client:
            key = base64.b64encode(os.urandom(16)).decode()
            client.sendall(
                f"GET /chat HTTP/1.1\r\nHost: ws.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
            )
            app, _ = listener.accept()
            with app:
                assert b"upgrade: websocket" in app.recv(65_536).lower()
                app.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
                assert client.recv(65_536).startswith(b"HTTP/1.1 101")
                client.sendall(b"ping")
                assert app.recv(16) == b"ping"
                app.sendall(b"pong")
                assert client.recv(16) == b"pong"


def test_the_configuration_is_what_caddy_says_is_valid(tmp_path: Path) -> None:
    settings = caddy.Settings(email="ops@example.com", log=str(tmp_path / "log"))

    text = json.dumps(caddy.config(settings))

    assert '"listen": [":443"]' in text
    assert "https://{http.request.host}{http.request.uri}" in text


@pytest.mark.parametrize("text", ["[https]\nport = 1", "[https]\nhttp_port = '80'", "[https]\nemail = 1", "https = 1"])
def test_settings_that_mean_nothing_are_refused_by_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "server.toml").write_text(text)

    with pytest.raises(ValueError, match="https"):
        caddy.settings_of(tmp_path / "server.toml")


# Certificates from a real ACME server


@pytest.fixture
def acme(tmp_path: Path) -> Iterator[tuple[Caddy, Pebble]]:
    pebble = Pebble(tmp_path)
    it = Caddy(tmp_path, acme=pebble.directory, acme_root=str(pebble.root), email="ops@example.com")
    pebble.start(http_port=it.settings.http_port, tls_port=it.settings.https_port)
    try:
        with it:
            yield it, pebble
    finally:
        pebble.stop()


def test_a_new_host_gets_its_certificate_before_anybody_asks(acme: tuple[Caddy, Pebble]) -> None:
    it, pebble = acme
    hosts = Hosts(it.hosts)
    hosts.put("shop", [parse("shop.test"), parse("www.shop.test")], socket=Path("/none"), public=None)

    found = certificates.warm("shop.test", port=it.settings.https_port, log=it.log)
    assert found.problem is None
    assert "Pebble" in (found.issuer or "")

    # The authority goes down: who has a certificate keeps it, and who has none is told why.
    pebble.stop()
    assert certificates.warm("shop.test", port=it.settings.https_port, log=it.log).problem is None
    late = certificates.warm("www.shop.test", port=it.settings.https_port, log=it.log, deadline_s=5)
    assert late.issuer is None
    assert "connection refused" in (late.problem or "")


def test_who_is_not_deployed_gets_no_certificate_and_nobody_is_asked_for_one(acme: tuple[Caddy, Pebble]) -> None:
    it, pebble = acme

    found = certificates.warm("evil.test", port=it.settings.https_port, log=it.log)

    assert found.issuer is None
    assert "newOrder" not in (pebble.folder / "pebble.out").read_text()
