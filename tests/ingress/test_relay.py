"""Requests reach the app that their Host names, whole, once and in order, and nobody else gets through.

Real sockets: `Upstream` plays an app on a unix socket, word by word; the acceptance with a real instance is at the end.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
import uvloop
import websockets

from tako.clock import SystemClock
from tako.ingress import relay as relays
from tako.ingress import routes
from tako.ingress.addresses import Addresses, AllApps, OneApp, open_addresses
from tako.ingress.relay import Relay
from tako.protocol import control, envelope
from tako.supervisor.instances import InstancePool, WebConfig
from tako.supervisor.listener import Listener
from tako.supervisor.spawn import SpawnRequest

PATIENCE_S = 20.0
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
Play = Callable[["Stage"], Coroutine[Any, Any, None]]


class Peer:
    """One side of a connection, read and written step by step."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def head(self) -> str:
        """The next head."""
        return (await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), PATIENCE_S)).decode("latin-1")

    async def read(self, count: int) -> bytes:
        return await asyncio.wait_for(self.reader.readexactly(count), PATIENCE_S)

    async def rest(self) -> bytes:
        """All that comes until the other side closes; a reset is an end too."""
        with suppress(ConnectionError):
            return await asyncio.wait_for(self.reader.read(), PATIENCE_S)
        return b""

    def write(self, data: bytes) -> None:
        self.writer.write(data)

    def stop_reading(self) -> None:
        cast(asyncio.Transport, self.writer.transport).pause_reading()

    def reset(self) -> None:
        """Close without having read what has come."""
        self.writer.transport.abort()

    async def close(self) -> None:
        self.writer.close()
        with suppress(OSError):
            await self.writer.wait_closed()


class Stage:
    """A relay for two apps, `shop` and `blog`, whose connections arrive in `accepted`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.accepted: dict[str, asyncio.Queue[Peer]] = {}
        self.relay = Relay(AllApps(folder, port=7777))
        self.port = 0
        self.peers: list[Peer] = []
        self.servers: dict[str, asyncio.Server] = {}
        self.routes: list[routes.Route] = []

    async def open(self) -> None:
        for name in ("shop", "blog"):
            await self.app(name)
        sock = socket.create_server(("127.0.0.1", 0))
        self.port = sock.getsockname()[1]
        await self.relay.serve([sock])

    async def app(self, name: str) -> None:
        accepted: asyncio.Queue[Peer] = asyncio.Queue()

        async def on_connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            peer = Peer(reader, writer)
            self.peers.append(peer)
            accepted.put_nowait(peer)

        path = self.folder / f"{name}-app"
        self.accepted[name] = accepted
        self.servers[name] = await asyncio.start_unix_server(on_connect, path=str(path))
        self.routes.append(routes.publish(self.folder, name, socket=path, root=Path(f"/srv/<{name}>"), port=8000))

    async def client(self) -> Peer:
        peer = Peer(*await asyncio.open_connection("127.0.0.1", self.port))
        self.peers.append(peer)
        return peer

    async def upstream(self, name: str = "shop") -> Peer:
        """The next connection that an app gets."""
        return await asyncio.wait_for(self.accepted[name].get(), PATIENCE_S)

    async def close(self) -> None:
        await self.relay.close()
        for peer in self.peers:
            await peer.close()
        for server in self.servers.values():
            server.close()
        for route in self.routes:
            route.withdraw()


@pytest.fixture(params=["asyncio", "uvloop"])
def play(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[Play], None]]:
    def run(scene: Play) -> None:
        async def main() -> None:
            stage = Stage(tmp_path)
            await stage.open()
            try:
                await scene(stage)
            finally:
                await stage.close()

        with asyncio.Runner(loop_factory=uvloop.new_event_loop if request.param == "uvloop" else None) as runner:
            runner.run(main())

    yield run


def get(path: str = "/", *, host: str = "shop.localhost:7777", fields: str = "") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n".encode()


def post(body: bytes, *, host: str = "shop.localhost") -> bytes:
    return f"POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


Player = Callable[[Play], None]


# Passing on


def test_a_request_reaches_its_app_with_who_asked_and_without_what_the_client_says_of_that(play: Player) -> None:
    async def scene(it: Stage) -> None:
        client = await it.client()
        lies = (
            "X-Forwarded-For: 6.6.6.6\r\nx-forwarded-proto: https\r\nForwarded: for=6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\n"
        )
        client.write(get("/a?b", fields=f"{lies}Connection: keep-alive, X-Gone\r\nKeep-Alive: 5\r\nCookie: c=d\r\n"))

        app = await it.upstream()
        assert await app.head() == (
            "GET /a?b HTTP/1.1\r\nHost: shop.localhost:7777\r\nCookie: c=d\r\n"
            "X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\n\r\n"
        )
        app.write(OK)
        assert await client.read(len(OK)) == OK

    play(scene)


def test_a_connection_is_kept_on_both_sides_for_the_next_requests(play: Player) -> None:
    async def scene(it: Stage) -> None:
        client = await it.client()
        client.write(get("/1"))
        app = await it.upstream()
        for number in range(1, 4):
            assert (await app.head()).startswith(f"GET /{number} ")
            app.write(OK)
            assert await client.read(len(OK)) == OK
            client.write(get(f"/{number + 1}"))

    play(scene)


def test_a_message_may_come_in_any_pieces(play: Player) -> None:
    async def scene(it: Stage) -> None:
        client = await it.client()
        for byte in post(b"hello"):
            client.write(bytes([byte]))
            await asyncio.sleep(0)
        app = await it.upstream()
        await app.head()
        assert await app.read(5) == b"hello"
        answer = (
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
        )
        for byte in answer:
            app.write(bytes([byte]))
            await asyncio.sleep(0)
        assert await client.read(len(answer)) == answer
        client.write(get("/next"))
        assert (await app.head()).startswith("GET /next ")

    play(scene)


def test_large_bodies_pass_both_ways_whole(play: Player) -> None:
    async def scene(it: Stage) -> None:
        body = os.urandom(1 << 20) * 8
        client = await it.client()
        client.write(post(body))
        app = await it.upstream()
        await app.head()
        assert await app.read(len(body)) == body
        app.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        await client.head()
        assert await client.read(len(body)) == body

    play(scene)


def test_an_answer_without_a_length_ends_with_the_connection(play: Player) -> None:
    async def scene(it: Stage) -> None:
        client = await it.client()
        client.write(get())
        app = await it.upstream()
        await app.head()
        app.write(b"HTTP/1.1 200 OK\r\n\r\nevent 1\n")
        await client.head()
        assert await client.read(8) == b"event 1\n"
        app.write(b"event 2\n")
        await app.close()
        assert await client.rest() == b"event 2\n"

    play(scene)


def test_a_client_that_says_close_is_closed(play: Player) -> None:
    async def scene(it: Stage) -> None:
        client = await it.client()
        client.write(get(fields="Connection: close\r\n"))
        app = await it.upstream()
        await app.head()
        app.write(OK)
        assert await client.rest() == OK

    play(scene)


def test_pipelined_requests_are_passed_on_one_at_a_time(play: Player) -> None:
    async def scene(it: Stage) -> None:
        client = await it.client()
        client.write(b"".join(get(f"/{number}") for number in range(2000)))
        app = await it.upstream()
        for number in range(2000):
            assert (await app.head()).startswith(f"GET /{number} ")
            app.write(OK)
        assert await client.read(len(OK) * 2000) == OK * 2000

    play(scene)


def test_a_websocket_passes_both_ways_after_the_app_agreed(play: Player) -> None:
    async def scene(it: Stage) -> None:
        client = await it.client()
        client.write(
            get("/ws", fields="Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n")
        )
        app = await it.upstream()
        head = await app.head()
        assert "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n" in head
        app.write(b"HTTP/1.1 101 Switching Protocols\r\n\r\n\x81\x02hi")
        await client.head()
        assert await client.read(4) == b"\x81\x02hi"
        client.write(get("/not-a-request", host="blog.localhost"))
        assert (await app.head()).startswith("GET /not-a-request ")
        await app.close()
        assert await client.rest() == b""

    play(scene)


def test_an_upgrade_that_is_no_websocket_is_not_passed_on(play: Player) -> None:
    async def scene(it: Stage) -> None:
        client = await it.client()
        client.write(get(fields="Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n"))
        head = await (await it.upstream()).head()
        assert "pgrade" not in head
        assert "HTTP2" not in head

    play(scene)


def test_what_the_app_says_wrongly_is_passed_on_as_it_is_and_ends_the_connection(play: Player) -> None:
    async def scene(it: Stage) -> None:
        client = await it.client()
        client.write(get())
        app = await it.upstream()
        await app.head()
        wrong = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nok"
        app.write(wrong)
        await app.close()
        assert await client.rest() == wrong

    play(scene)


# Routing


def test_each_request_of_a_connection_goes_to_the_app_of_its_own_host(play: Player) -> None:
    async def scene(it: Stage) -> None:
        client = await it.client()
        client.write(get("/1") + get("/2", host="blog.localhost") + get("/3"))
        for name, number in (("shop", 1), ("blog", 2), ("shop", 3)):
            app = await it.upstream(name)
            assert (await app.head()).startswith(f"GET /{number} ")
            app.write(OK)
            assert await client.read(len(OK)) == OK

    play(scene)


@pytest.mark.parametrize(
    "host", ["shop.localhost", "SHOP.localhost.:7777", "feature-1.shop.localhost", "a.b.shop.localhost"]
)
def test_an_app_has_its_name_and_all_below_it(play: Player, host: str) -> None:
    async def scene(it: Stage) -> None:
        (await it.client()).write(get(host=host))
        assert f"Host: {host}\r\n" in await (await it.upstream()).head()

    play(scene)


def test_an_unknown_name_gets_a_list_of_the_apps_that_run_and_it_is_escaped(play: Player) -> None:
    async def scene(it: Stage) -> None:
        for accept, words in (("text/html", "&lt;shop&gt;"), ("*/*", "http://shop.localhost:7777/  /srv/<shop>")):
            client = await it.client()
            client.write(get(host="gone.localhost", fields=f"Accept: {accept}\r\n"))
            answer = (await client.rest()).decode()
            assert answer.startswith("HTTP/1.1 404 Not Found\r\n")
            assert "No app is called gone." in answer
            assert words in answer

    play(scene)


@pytest.mark.parametrize("host", ["localhost:7777", "127.0.0.1:7777", "[::1]"])
def test_loopback_itself_gets_the_list(play: Player, host: str) -> None:
    async def scene(it: Stage) -> None:
        client = await it.client()
        client.write(get(host=host))
        answer = (await client.rest()).decode()
        assert answer.startswith("HTTP/1.1 200 OK\r\n")
        assert "http://blog.localhost:7777/" in answer

    play(scene)


@pytest.mark.parametrize(
    "host", ["evil.example:7777", "shop.localhost.evil.example", "192.168.1.2", "shop", "<b>.localhost", ""]
)
def test_a_name_that_is_not_ours_is_refused_and_learns_no_name_of_an_app(play: Player, host: str) -> None:
    async def scene(it: Stage) -> None:
        client = await it.client()
        client.write(get(host=host, fields="Accept: text/html\r\n"))
        answer = (await client.rest()).decode()
        assert answer.startswith("HTTP/1.1 404 Not Found\r\n")
        assert "blog" not in answer
        assert "<b>" not in answer
        assert it.accepted["shop"].empty()

    play(scene)


def test_an_app_that_has_ended_says_so(play: Player) -> None:
    async def scene(it: Stage) -> None:
        it.servers["shop"].close()
        (it.folder / "shop-app").unlink(missing_ok=True)
        client = await it.client()
        client.write(post(b"x" * 1_000_000))
        answer = (await client.rest()).decode()
        assert answer.startswith("HTTP/1.1 502 Bad Gateway\r\n")
        assert "shop is not running." in answer

    play(scene)


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: shop.localhost\r\nHost: blog.localhost\r\n\r\n",
        b"GET http://blog.localhost/ HTTP/1.1\r\nHost: shop.localhost\r\n\r\n",
        b"CONNECT blog.localhost:80 HTTP/1.1\r\nHost: shop.localhost\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: shop.localhost\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: shop.localhost\r\nTransfer-Encoding : chunked\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: shop.localhost\r\nX: a\nHost: blog.localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
    ],
)
def test_what_could_be_read_in_two_ways_is_refused_and_reaches_nobody(play: Player, request_: bytes) -> None:
    async def scene(it: Stage) -> None:
        client = await it.client()
        client.write(request_ + get("/smuggled", host="blog.localhost"))
        answer = await client.rest()
        assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert answer.count(b"HTTP/1.1") == 1
        assert it.accepted["shop"].empty()
        assert it.accepted["blog"].empty()

    play(scene)


def test_chunks_that_are_none_end_the_connection(play: Player) -> None:
    async def scene(it: Stage) -> None:
        client = await it.client()
        client.write(
            b"POST / HTTP/1.1\r\nHost: shop.localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nZ\r\n"
        )
        await (await it.upstream()).head()
        assert await client.rest() == b""

    play(scene)


# Instances that come and go


def test_an_app_that_closes_a_connection_at_rest_costs_nobody_a_request(play: Player) -> None:
    async def scene(it: Stage) -> None:
        client = await it.client()
        for _ in range(3):
            client.write(post(b"x"))
            app = await it.upstream()
            await app.head()
            await app.read(1)
            app.write(OK)
            assert await client.read(len(OK)) == OK
            await app.close()

    play(scene)


def test_a_request_that_was_never_read_is_sent_again(play: Player) -> None:
    async def scene(it: Stage) -> None:
        client = await it.client()
        client.write(post(b"first"))
        app = await it.upstream()
        await app.head()
        await app.read(5)
        app.stop_reading()
        app.write(OK)
        await client.read(len(OK))
        client.write(post(b"second"))
        await it_is_there(app)
        app.reset()

        app = await it.upstream()
        await app.head()
        assert await app.read(6) == b"second"

    play(scene)


def test_a_request_that_was_being_worked_on_is_not_sent_again(play: Player) -> None:
    async def scene(it: Stage) -> None:
        client = await it.client()
        client.write(post(b"charge"))
        app = await it.upstream()
        await app.head()
        await app.read(6)
        await app.close()

        answer = await client.rest()
        assert answer.startswith(b"HTTP/1.1 502 Bad Gateway\r\n")
        assert b"closed the connection without an answer" in answer
        assert it.accepted["shop"].empty()

    play(scene)


def test_an_answer_that_is_cut_off_is_cut_off_for_the_client_too(play: Player) -> None:
    async def scene(it: Stage) -> None:
        client = await it.client()
        client.write(get())
        app = await it.upstream()
        await app.head()
        app.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        await app.close()
        assert (await client.rest()).endswith(b"half")

    play(scene)


def test_a_client_that_goes_away_takes_its_request_with_it(play: Player) -> None:
    async def scene(it: Stage) -> None:
        client = await it.client()
        client.write(get())
        app = await it.upstream()
        await app.head()
        await client.close()
        assert await app.rest() == b""

    play(scene)


def test_an_answer_before_the_end_of_the_body_is_passed_on(play: Player) -> None:
    async def scene(it: Stage) -> None:
        client = await it.client()
        client.write(b"POST / HTTP/1.1\r\nHost: shop.localhost\r\nContent-Length: 10\r\n\r\nhello")
        app = await it.upstream()
        await app.head()
        await app.read(5)
        app.write(OK)
        assert await client.read(len(OK)) == OK
        client.write(b"world" + get("/next"))
        assert await app.read(5) == b"world"
        assert (await app.head()).startswith("GET /next ")

    play(scene)


# Limits


def test_half_a_head_is_waited_for_and_then_cut_off(play: Player, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relays, "HEAD_TIMEOUT_S", 0.05)
    monkeypatch.setattr(relays, "IDLE_TIMEOUT_S", 0.2)
    monkeypatch.setattr(relays, "SWEEP_S", 0.02)

    async def scene(it: Stage) -> None:
        slow, silent = await it.client(), await it.client()
        slow.write(b"GET / HTTP/1.1\r\n")
        assert await slow.rest() == b""
        assert len(it.relay.clients) == 1
        assert await silent.rest() == b""
        assert not it.relay.clients

    play(scene)


def test_a_body_that_does_not_come_is_waited_for_and_then_cut_off(
    play: Player, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relays, "BODY_TIMEOUT_S", 0.1)
    monkeypatch.setattr(relays, "SWEEP_S", 0.02)

    async def scene(it: Stage) -> None:
        client = await it.client()
        client.write(b"POST / HTTP/1.1\r\nHost: shop.localhost\r\nContent-Length: 10\r\n\r\nhello")
        app = await it.upstream()
        await app.head()
        assert await client.rest() == b""
        assert await app.rest() == b"hello"

    play(scene)


def test_a_head_without_an_end_is_refused(play: Player) -> None:
    async def scene(it: Stage) -> None:
        client = await it.client()
        client.write(b"GET / HTTP/1.1\r\nX: " + b"x" * 70_000)
        assert (await client.rest()).startswith(b"HTTP/1.1 431 ")

    play(scene)


def test_who_only_waits_gives_way_to_who_asks(play: Player) -> None:
    async def scene(it: Stage) -> None:
        it.relay._max_connections = 3
        idle = [await it.client() for _ in range(3)]
        busy = await it.client()
        busy.write(get())
        await (await it.upstream()).head()

        ends = [asyncio.ensure_future(peer.rest()) for peer in idle]
        ended, others = await asyncio.wait(ends, timeout=PATIENCE_S, return_when=asyncio.FIRST_COMPLETED)
        for each in others:
            each.cancel()
        assert [each.result() for each in ended] == [b""]
        assert len(it.relay.clients) == 3

    play(scene)


def test_when_all_are_busy_the_next_one_is_told_so(play: Player) -> None:
    async def scene(it: Stage) -> None:
        it.relay._max_connections = 1
        busy = await it.client()
        busy.write(get())
        await (await it.upstream()).head()

        assert (await (await it.client()).rest()).startswith(b"HTTP/1.1 503 ")

    play(scene)


async def it_is_there(app: Peer) -> None:
    """Wait until something has come for the app, without reading it."""
    loop = asyncio.get_running_loop()
    sock = app.writer.get_extra_info("socket")
    with socket.socket(fileno=os.dup(sock.fileno())) as copy:
        for _ in range(int(PATIENCE_S * 100)):
            try:
                if copy.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT):
                    return
            except BlockingIOError:
                pass
            await asyncio.sleep(0.01)
    assert loop, "nothing came"


# Addresses


def addresses(folder: Path, name: str, **options: Any) -> Awaitable[Addresses]:
    return open_addresses(name, listener=folder / "app.sock", runtime=folder, root=Path(f"/srv/{name}"), **options)


def test_the_shared_port_passes_to_the_next_when_its_holder_ends(tmp_path: Path) -> None:
    async def main() -> None:
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            shared = found.getsockname()[1]
        first = await addresses(tmp_path, "one", shared_port=shared)
        second = await addresses(tmp_path, "two", shared_port=shared)
        assert first.urls() == (f"http://one.localhost:{shared}", f"http://localhost:{first.port}")
        assert (first.notes, second.notes) == ([], [])
        assert first.port != second.port

        await first.close()

        async with httpx.AsyncClient() as client:
            for _ in range(500):
                with suppress(httpx.ConnectError):
                    answer = await client.get(f"http://127.0.0.1:{shared}/")
                    break
                await asyncio.sleep(0.02)
        assert "http://two.localhost" in answer.text
        assert "one" not in answer.text
        await second.close()
        await second.close()

    asyncio.run(main())


def test_a_program_that_holds_the_shared_port_and_a_name_that_is_taken_are_told(tmp_path: Path) -> None:
    async def main() -> None:
        program = (
            "import http.server; s = http.server.HTTPServer(('127.0.0.1', 0), None); print(s.server_port, flush=True)"
        )
        other = await asyncio.create_subprocess_exec(
            sys.executable, "-c", f"{program}; s.serve_forever()", stdout=asyncio.subprocess.PIPE
        )
        assert other.stdout is not None
        shared = int(await other.stdout.readline())
        found = await addresses(tmp_path, "one", shared_port=shared)
        same = await addresses(tmp_path, "one", shared_port=shared)
        urls = same.urls()
        await same.close()
        await found.close()
        other.kill()
        await other.communicate()

        assert f"Port {shared} is taken by `{sys.executable} -c import http.server;" in found.notes[0]
        assert f"so http://one.localhost:{shared} does not answer until it is free." in found.notes[0]
        assert urls == (f"http://localhost:{same.port}",)
        assert "The name one belongs to the `tako dev` in /srv/one" in same.notes[0]

    asyncio.run(main())


def test_an_explicit_port_that_is_taken_is_an_error(tmp_path: Path) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]
            with pytest.raises(Exception, match=rf"Port {port} is taken by .*pid {os.getpid()}"):
                await addresses(tmp_path, "one", port=port)

    asyncio.run(main())


# With a real app


APP = """
import asyncio, os
from fastapi import FastAPI, Request, WebSocket
app = FastAPI()

@app.post("/")
async def post(request: Request):
    return {"length": len(await request.body()), "client": request.client.host, "pid": os.getpid()}

@app.websocket("/ws")
async def ws(socket: WebSocket):
    await socket.accept()
    await socket.send_text(await socket.receive_text())
"""


class House:
    """The least that a pool of instances needs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def spawn_request(self, instance_id: str, web: Mapping[str, str]) -> SpawnRequest:
        return SpawnRequest(
            argv=control.argv(sys.executable, control.Arguments(main="app:app")),
            env={"PATH": os.environ["PATH"], **web},
            cwd=self.folder,
            envelope=envelope.build(token="", secrets={}),
            spool=self.folder / f"{instance_id}.spool",
        )

    def redact(self, text: str) -> str:
        return text

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args, **fields: None


def test_clients_that_keep_their_connections_lose_no_post_while_instances_are_replaced(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)

    async def main() -> None:
        listener = Listener.bind(tmp_path / "app.sock")
        pool = InstancePool(
            "shop",
            WebConfig(development=True),
            listener=listener,
            sockets=tmp_path,
            house=House(tmp_path),
            clock=SystemClock(),
        )
        relay = Relay(OneApp("shop", listener.path, port=0))
        sock = socket.create_server(("127.0.0.1", 0))
        url = f"localhost:{sock.getsockname()[1]}"
        await relay.serve([sock])
        pool.start()
        assert await asyncio.wait_for(pool.settled(), PATIENCE_S) is None
        stop = asyncio.Event()
        answers: list[dict[str, Any]] = []

        async def load() -> None:
            async with httpx.AsyncClient(base_url=f"http://{url}", timeout=PATIENCE_S) as client:
                while not stop.is_set():
                    answer = await client.post("/", content=b"x" * 5000)
                    assert answer.status_code == 200, answer.text
                    answers.append(answer.json())

        clients = [asyncio.ensure_future(load()) for _ in range(8)]
        for _ in range(4):
            pool.replace("saved")
            await asyncio.wait_for(pool.settled(), PATIENCE_S)
            async with websockets.connect(f"ws://{url}/ws") as ws:
                await ws.send("hello")
                assert await ws.recv() == "hello"
        os.kill(pool.snapshot()["instances"][0]["pid"], signal.SIGTERM)
        before = len(answers)
        while len(answers) < before + 20:  # noqa: ASYNC110 - an answer is no event
            await asyncio.sleep(0.01)
        stop.set()
        await asyncio.gather(*clients)
        await relay.close()
        await pool.stop(timeout_s=5.0)
        listener.close()

        assert {(answer["length"], answer["client"]) for answer in answers} == {(5000, "127.0.0.1")}
        assert len({answer["pid"] for answer in answers}) >= 5

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
