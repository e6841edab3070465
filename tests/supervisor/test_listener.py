"""The app's listening socket is there before, between and after the processes that accept from it."""

import asyncio
import os
import socket
import stat
from pathlib import Path

import pytest

from tako.errors import TakoError
from tako.supervisor.listener import Listener


def connect(path: Path) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(5)
    client.connect(str(path))
    return client


def test_it_is_closed_to_others_and_nothing_else_lies_beside_it(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with Listener.bind(tmp_path / "app.sock") as listener:
            assert stat.S_IMODE(listener.path.stat().st_mode) == 0o600
            assert [entry.name for entry in tmp_path.iterdir()] == ["app.sock"]
            assert os.umask(0) == 0
    finally:
        os.umask(before)


def test_it_takes_the_place_of_what_an_earlier_daemon_left(tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(path))
    stale.close()

    with Listener.bind(path) as listener, connect(path) as client, listener.copy() as copy:
        copy.accept()[0].close()
        assert client.recv(1) == b""


def test_closed_it_removes_its_path_but_not_that_of_its_successor(tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    old = Listener.bind(path)
    new = Listener.bind(path)

    old.close()
    old.close()
    assert path.exists()

    new.close()
    assert not path.exists()


def test_a_path_that_is_too_long_for_a_socket_is_an_error_with_a_cure(tmp_path: Path) -> None:
    with pytest.raises(TakoError, match=r"(?s)may have 103 bytes.*XDG_RUNTIME_DIR"):
        Listener.bind(tmp_path / ("x" * 100))


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TakoError, match="No such file or directory"):
        Listener.bind(tmp_path / "gone" / "app.sock")


def test_it_tells_when_somebody_waits_and_loses_nobody(tmp_path: Path) -> None:
    async def main() -> None:
        with Listener.bind(tmp_path / "app.sock") as listener:
            wanted = asyncio.ensure_future(listener.when_wanted())
            await asyncio.sleep(0)
            assert not wanted.done()

            clients = [connect(listener.path) for _ in range(300)]

            await asyncio.wait_for(wanted, 5)
            await asyncio.wait_for(listener.when_wanted(), 5)
            with listener.copy() as copy:
                for client in clients:
                    copy.accept()[0].close()
                    client.close()

    asyncio.run(main())


def test_waiting_for_somebody_can_be_given_up(tmp_path: Path) -> None:
    async def main() -> None:
        with Listener.bind(tmp_path / "app.sock") as listener:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(listener.when_wanted(), 0.01)
            with connect(listener.path):
                await asyncio.wait_for(listener.when_wanted(), 5)

    asyncio.run(main())
