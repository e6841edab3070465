"""The engine's socket, spoken to by hand."""

from __future__ import annotations

import asyncio
import json
import os
import queue
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tako.errors import TakoError, Unauthorized
from tako.protocol.framing import MAX_FRAME_BYTES
from tako.rpc import connection as connection_module
from tako.rpc.auth import Peer, Principal, Role
from tako.rpc.connection import Connection, Message
from tako.rpc.server import Server


class Running:
    """A server in a thread of its own, with the commands echo, slow, fail, bug and work (for workers)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.loop = asyncio.new_event_loop()
        self.released = asyncio.Event()
        self.closed: queue.SimpleQueue[Connection] = queue.SimpleQueue()
        self.server = Server(
            path,
            handlers={
                "echo": lambda c, m: m.get("value"),
                "slow": self.slow,
                "later": self.later,
                "fail": self.fail,
                "bug": self.bug,
                "work": lambda c, m: "worked",
                "release": self.release,
                "large": lambda c, m: "x" * 4_000_000,
            },
            worker_commands=frozenset({"work"}),
            authenticate=self.authenticate,
            on_close=self.closed.put,
        )
        self.thread = threading.Thread(target=self.loop.run_forever)

    def __enter__(self) -> Running:
        self.thread.start()
        asyncio.run_coroutine_threadsafe(self.server.start(), self.loop).result(5)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self.server.stop(), self.loop).result(5)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(5)
        self.loop.close()

    def authenticate(self, message: Message, peer: Peer) -> Principal:
        if message.get("app") != "shop":
            raise Unauthorized(f"unknown app: {message.get('app')}")
        token = message.get("token")
        if token not in (None, "worker-token"):
            raise Unauthorized("this token belongs to no process of this app")
        return Principal("shop", Role.WORKER if token else Role.CLIENT, worker_id=None)

    async def slow(self, connection: Connection, message: Message) -> str:
        await self.released.wait()
        return "slow"

    def later(self, connection: Connection, message: Message) -> asyncio.Future[str]:
        future: asyncio.Future[str] = self.loop.create_future()
        self.loop.call_soon(future.set_result, "later")
        return future

    def release(self, connection: Connection, message: Message) -> None:
        self.released.set()

    def fail(self, connection: Connection, message: Message) -> None:
        raise TakoError("no", cure="say please", detail={"n": 1})

    def bug(self, connection: Connection, message: Message) -> None:
        raise ZeroDivisionError("secret-value")


class Client:
    """A blocking socket that speaks lines."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(10)
        self.socket.connect(str(path))
        self.file = self.socket.makefile("rb")

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        self.socket.close()

    def send(self, **message: Any) -> None:
        self.raw(json.dumps({"app": "shop", **message}).encode() + b"\n")

    def raw(self, data: bytes) -> None:
        self.socket.sendall(data)

    def read(self) -> dict[str, Any] | None:
        """The next reply; None at the end of the stream."""
        try:
            line = self.file.readline()
        except ConnectionResetError:
            return None
        return json.loads(line) if line else None

    def call(self, **message: Any) -> Any:
        self.send(**message)
        return self.read()


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    with Running(tmp_path / "s.sock") as running:
        yield running


@pytest.fixture
def client(running: Running) -> Iterator[Client]:
    with Client(running.path) as client:
        yield client


def test_the_socket_is_readable_by_its_owner_alone(running: Running) -> None:
    assert stat.S_IMODE(running.path.stat().st_mode) == 0o600


def test_a_request_is_answered_with_its_data(client: Client) -> None:
    assert client.call(command="echo", value=[1, None]) == {"status": "ok", "data": [1, None]}


def test_a_future_and_a_coroutine_are_awaited(client: Client) -> None:
    assert client.call(command="later") == {"status": "ok", "data": "later"}


def test_requests_without_a_request_number_are_answered_in_order(running: Running, client: Client) -> None:
    client.send(command="slow")
    client.send(command="echo", value="second")
    with Client(running.path) as other:
        other.call(command="release")
    assert [client.read(), client.read()] == [
        {"status": "ok", "data": "slow"},
        {"status": "ok", "data": "second"},
    ]


def test_requests_with_a_number_overtake_each_other(client: Client) -> None:
    client.send(command="slow", request=1)
    client.send(command="echo", value="x", request=2)
    assert client.read() == {"status": "ok", "data": "x", "request": 2}
    client.send(command="release", request=3)
    assert {reply["request"] for reply in (client.read(), client.read()) if reply} == {1, 3}


def test_an_error_carries_code_cause_cure_and_detail(client: Client) -> None:
    assert client.call(command="fail") == {
        "status": "error",
        "message": "no",
        "code": "error",
        "detail": {"n": 1, "cure": "say please"},
    }


def test_requests_before_one_that_is_too_long_are_answered_however_they_arrive(client: Client) -> None:
    client.raw(b'{"app":"shop","command":"echo","value":1}\n' + b"x" * (MAX_FRAME_BYTES + 1) + b"\n")

    assert client.read() == {"status": "ok", "data": 1}
    refusal = client.read()
    assert refusal is not None
    assert "longer than 1048576 bytes" in refusal["message"]
    assert client.read() is None


def test_a_bug_of_ours_is_named_without_what_it_held(client: Client) -> None:
    reply = client.call(command="bug")
    assert reply["code"] == "internal"
    assert "secret-value" not in json.dumps(reply)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"nonsense", "not JSON"),
        (b"[1]", "a request is a JSON object"),
        (b'{"a":1,"a":2}', "twice"),
        (b'{"command":"nope","app":"shop"}', "unknown command"),
        (b'{"command":"echo","app":"shop","value":NaN}', "NaN"),
        (b'{"command":"echo","app":"shop","value":1e400}', "out of range"),
        (b'{"command":"echo","app":"shop","value":"\xff"}', "UTF-8"),
        (b'{"app":"shop","command":"echo","value":' + b"[" * 65 + b"]" * 65 + b"}", "deeper"),
        (b'{"command":"echo","app":"other"}', "unknown app: other"),
        (b'{"command":"echo","app":"shop","token":"stolen"}', "token"),
    ],
)
def test_a_broken_rule_gets_one_error_and_nothing_after_it_is_read(client: Client, line: bytes, why: str) -> None:
    client.raw(line + b'\n{"app":"shop","command":"echo","value":"after"}\n')
    reply = client.read()
    assert reply is not None
    assert why in reply["message"]
    assert client.read() is None


def test_a_line_of_the_limit_is_read_and_one_byte_more_is_not(running: Running) -> None:
    def line(size: int) -> bytes:
        frame = b'{"app":"shop","command":"echo","value":""}'
        return frame[:-2] + b"x" * (size - len(frame)) + frame[-2:]

    with Client(running.path) as client:
        client.raw(line(MAX_FRAME_BYTES) + b"\n")
        reply = client.read()
        assert reply is not None
        assert reply["status"] == "ok"
    with Client(running.path) as client:
        client.raw(line(MAX_FRAME_BYTES + 1) + b"\n")
        reply = client.read()
        assert reply is not None
        assert "longer than 1048576 bytes" in reply["message"]
        assert client.read() is None


def test_an_app_cannot_call_worker_commands(client: Client) -> None:
    reply = client.call(command="work")
    assert reply["code"] == "unauthorized"
    assert client.call(command="echo", value=1)["data"] == 1


def test_a_worker_can(running: Running) -> None:
    with Client(running.path) as worker:
        assert worker.call(command="work", token="worker-token")["data"] == "worked"


def test_a_connection_cannot_become_somebody_else(client: Client) -> None:
    client.call(command="echo")
    reply = client.call(command="work", token="worker-token")
    assert "one caller" in reply["message"]
    assert client.read() is None


def test_a_client_may_close_its_half_after_its_line(running: Running, client: Client) -> None:
    client.send(command="slow")
    client.socket.shutdown(socket.SHUT_WR)
    with Client(running.path) as other:
        other.call(command="release")
    assert client.read() == {"status": "ok", "data": "slow"}
    assert client.read() is None


def test_a_client_that_closes_its_half_in_the_turn_of_its_answer_gets_it(running: Running) -> None:
    """The loop reads the line and the end of the stream in one turn, before it comes to send the answer."""
    for _ in range(50):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(20)
            connection.connect(str(running.path))
            connection.sendall(b'{"app":"shop","command":"echo","value":7}\n')
            connection.shutdown(socket.SHUT_WR)
            with connection.makefile("rb") as file:
                assert json.loads(file.readline()) == {"status": "ok", "data": 7}


def test_one_process_has_at_most_64_connections(running: Running) -> None:
    clients = [Client(running.path) for _ in range(64)]
    try:
        assert clients[-1].call(command="echo", value=1)["data"] == 1
        with Client(running.path) as one_more:
            reply = one_more.read()
            assert reply is not None
            assert f"process {os.getpid()} has 64 connections" in reply["message"]
            assert one_more.read() is None
    finally:
        for client in clients:
            client.__exit__()


def test_half_a_line_is_cut_after_the_patience(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "PATIENCE_S", 0.05)
    with Client(running.path) as client:
        client.raw(b'{"app":"shop"')
        assert client.read() is None


def test_a_client_that_never_reads_is_cut(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "PATIENCE_S", 0.05)
    client = Client(running.path)
    try:
        for number in range(4):
            client.send(command="large", request=number)
        assert running.closed.get(timeout=10) is not None
    finally:
        client.__exit__()


def test_stopping_twice_is_harmless(tmp_path: Path) -> None:
    with Running(tmp_path / "s.sock") as running:
        asyncio.run_coroutine_threadsafe(running.server.stop(), running.loop).result(5)
    assert not (tmp_path / "s.sock").exists()
