"""Clients that take no replies, send no end, or ask for too much at once: what they cost, and when they are cut."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from tako.protocol import framing
from tako.rpc import connection as connection_module
from tako.rpc import server as server_module
from tako.rpc.connection import Connection, Message
from tako.rpc.server import Server
from tests.rpc.test_server import Client, Running

LARGE = 400_000


class Counting(Running):
    """With commands that count how often they were begun."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.begun = 0
        self.server.handlers = {**self.server.handlers, "counted": self.counted, "read": self.read}

    def counted(self, connection: Connection, message: Message) -> str:
        self.begun += 1
        return "x" * LARGE

    async def read(self, connection: Connection, message: Message) -> str:
        async with connection.turn():
            self.begun += 1
            await asyncio.sleep(0)  # as a read in another thread
            return "x" * LARGE


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Counting]:
    counting = Counting(tmp_path / "s.sock")
    with counting:
        yield counting


def settled(running: Running) -> None:
    """The engine's loop has made what it could make of what was sent."""
    for _ in range(20):
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0), running.loop).result(10)


@pytest.mark.parametrize("command", ["counted", "read"])
def test_of_a_client_that_takes_no_replies_nothing_more_is_begun(running: Counting, command: str) -> None:
    with Client(running.path) as client:
        requests = [{"app": "shop", "command": command, "request": number} for number in range(500)]
        client.raw(b"".join(map(framing.encode, requests)))
        settled(running)

        assert running.begun < 10
        assert all(reply["data"] == "x" * LARGE for reply in (client.read() or {} for _ in range(500)))


def test_a_client_that_takes_no_replies_is_cut_however_few_they_are(
    running: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "PATIENCE_S", 0.05)
    with Client(running.path) as client:
        client.send(command="counted", request=1)
        assert running.closed.get(timeout=10) is not None


def test_a_client_that_was_refused_and_takes_no_replies_is_cut_as_well(
    running: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "PATIENCE_S", 0.05)
    with Client(running.path) as client:
        client.send(command="counted", request=1)
        client.raw(b"nonsense\n")
        assert running.closed.get(timeout=10) is not None


def test_a_client_that_is_slow_is_not_cut(running: Counting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "PATIENCE_S", 0.2)
    with Client(running.path) as client:
        client.send(command="large")
        got = b""
        while not got.endswith(b"\n"):
            got += client.socket.recv(65_536)
            settled(running)

        assert len(got) > 4_000_000


def test_one_request_too_many_at_once_is_refused_and_the_others_are_answered(
    running: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "MAX_IN_FLIGHT", 3)
    with Client(running.path) as client:
        for number in range(4):
            client.send(command="slow", request=number)
        refusal = client.read()
        assert refusal is not None
        assert (refusal["request"], refusal["status"]) == (3, "error")
        assert "3 requests under way, the limit" in refusal["message"]
        with Client(running.path) as other:
            other.call(command="release")
        assert {reply["request"] for reply in (client.read() or {} for _ in range(3))} == {0, 1, 2}


def test_large_requests_behind_a_slow_one_wait_in_the_socket_and_not_in_memory(running: Counting) -> None:
    with Client(running.path) as client:
        client.send(command="slow")
        client.socket.setblocking(False)
        sent = 0
        line = b'{"app":"shop","command":"echo","value":"' + b"x" * 500_000 + b'"}\n'
        stream = line * 20
        while True:
            try:
                sent += client.socket.send(stream[sent:])
            except BlockingIOError:
                settled(running)
                try:
                    sent += client.socket.send(stream[sent:])
                except BlockingIOError:
                    break

        assert sent < len(stream) / 2


def test_who_always_stands_in_the_middle_of_a_line_is_not_cut_as_long_as_lines_end(tmp_path: Path) -> None:
    async def scenario() -> None:
        connection, timers = unconnected(tmp_path)
        connection.data_received(b'{"app":"shop","command":"echo"}\n{"app":"sh')
        connection.data_received(b'op","command":"echo"}\n{"ap')

        assert [timer.cancelled() for timer in timers] == [True, False]

    asyncio.run(scenario())


def test_half_a_line_that_we_do_not_read_on_is_not_held_against_the_client(tmp_path: Path) -> None:
    async def scenario() -> None:
        connection, timers = unconnected(tmp_path)
        connection.data_received(b'{"app":"shop","command":"slow"}\n{"app":"shop","command":"slow"}\n{"ap')
        timers[0].fire()

        assert not connection.closed
        connection.connection_lost(None)

    asyncio.run(scenario())


def test_what_is_answered_leaves_in_one_piece_when_all_of_it_is_there_or_the_turn_is_over(tmp_path: Path) -> None:
    async def scenario() -> None:
        connection, _ = unconnected(tmp_path)
        written = cast(Transport, connection._transport).written
        for _ in range(2):
            connection.data_received(b'{"app":"shop","request":1,"command":"echo"}\n' * 3)
            assert written == []
            connection._server.flush()
            connection._server.flush()
            assert [piece.count(b"\n") for piece in written] == [3]
            written.clear()
        connection.data_received(b'{"app":"shop","request":1,"command":"echo"}\n' * 3)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert [piece.count(b"\n") for piece in written] == [3]

    asyncio.run(scenario())


class Timer:
    def __init__(self, callback: Any) -> None:
        self.callback = callback
        self._cancelled = False

    def cancel(self) -> None:
        self._cancelled = True

    def cancelled(self) -> bool:
        return self._cancelled

    def fire(self) -> None:
        self.callback()


class Transport(asyncio.Transport):
    """Takes all, and is nobody."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__({"socket": sock})
        self.written: list[bytes] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def abort(self) -> None:
        pass


def unconnected(folder: Path) -> tuple[Connection, list[Timer]]:
    """A connection without a socket's other end, and the timers that it sets."""
    running = Running(folder / "s.sock")
    running.loop.close()
    timers: list[Timer] = []
    loop = asyncio.get_running_loop()

    def call_later(delay: float, callback: Any, *args: Any) -> Timer:
        timers.append(Timer(callback))
        return timers[-1]

    loop.call_later = call_later  # type: ignore[method-assign, assignment]
    connection = Connection(running.server)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        connection.connection_made(Transport(ours))
    return connection, timers


def test_a_token_that_is_no_text_is_nobodys() -> None:
    from tako.errors import Unauthorized
    from tako.host.tokens import Tokens

    tokens: list[object] = ["\ud800", "ü", 1, ["a"], {}, True]
    for token in tokens:
        with pytest.raises(Unauthorized, match="belongs to no process"):
            Tokens("shop").principal(token)


def test_a_bug_while_a_caller_is_introduced_ends_its_connection_with_a_word(tmp_path: Path) -> None:
    with Running(tmp_path / "s.sock") as running:
        running.server.authenticate = cast(Any, lambda message, peer: 1 / 0)
        with Client(running.path) as client:
            client.send(command="echo")
            reply = client.read()
            assert reply is not None
            assert reply["code"] == "internal"
            assert client.read() is None


def test_six_hundred_connections_are_not_more_than_the_limit_and_the_rest_are_told_why(
    running: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "MAX_CONNECTIONS_OF_A_PROCESS", 1_000)
    files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(files[1], 4_096), files[1]))
    clients: list[Client] = []
    try:
        clients += (Client(running.path) for _ in range(600))
        assert clients[511].call(command="echo", value=1)["data"] == 1
        for refused in clients[512:]:
            reply = refused.read()
            assert reply is not None
            assert "this engine has 512 connections, its limit" in reply["message"]
            assert refused.read() is None
        clients.pop(0).__exit__()
        assert running.closed.get(timeout=10) is not None
        with Client(running.path) as one_more:
            assert one_more.call(command="echo", value=2)["data"] == 2
    finally:
        for client in clients:
            client.__exit__()
        resource.setrlimit(resource.RLIMIT_NOFILE, files)


def test_a_process_of_another_user_is_refused(running: Counting) -> None:
    """The folder keeps it out; if somebody opens the folder, the kernel tells who it is."""
    if os.geteuid() != 0:
        pytest.fail("this test needs root, as the container of make test has it")
    running.path.parent.chmod(0o755)
    for folder in running.path.parents:
        if folder.stat().st_uid == 0 and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o011)
    running.path.chmod(0o666)
    server = running.server
    asyncio.run_coroutine_threadsafe(asyncio.sleep(0), running.loop).result(10)
    assert isinstance(server, Server)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgid(65_534)
            os.setuid(65_534)
            with socket.socket(socket.AF_UNIX) as mine:
                mine.settimeout(10)
                mine.connect(str(running.path))
                os.write(writer, mine.recv(65_536))
        except BaseException as error:
            os.write(writer, repr(error).encode())
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader, "rb") as file:
        (reply,) = framing.Framer().feed(file.read())
    assert reply["code"] == "unauthorized"
    assert "65534" in reply["message"]
