"""The roles of a link: what several threads do for each other."""

from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tako.protocol import framing
from tako.rpc.link import _SEND, Call, Link
from tako.rpc.request import Request, introduction
from tests.support.rpc import RealEngine

DEADLINE_S = 10.0


def test_who_leaves_sends_what_the_reader_itself_could_not(tmp_path: Path) -> None:
    # Seen under load: thread 1 is sending. Thread 2 finds that role taken, becomes the reader, and waits for the reply
    # to its own request, which is still in the outbox. Thread 1 has its reply and leaves; nobody else is there.
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        link = Link(str(path), introduction("shop", None))
        engine, _ = listener.accept()
        engine.settimeout(DEADLINE_S)
    sender, reader = a_call(1), a_call(2)
    link._is_sending, sender.role = True, _SEND
    reading = threading.Thread(target=link.exchange, args=(reader,))
    reading.start()
    wait_for_a_reader(link)

    with link._table:
        sender.reply = {"status": "ok"}
        link._end_role(sender, is_well=True)
    while link._next_role(sender) == _SEND:
        link._send(sender)

    with engine, engine.makefile("rb") as lines:
        assert framing.decode(lines.readline())["request"] == 2
        engine.sendall(framing.encode({"status": "ok", "data": {}, "request": 2}))
        reading.join(DEADLINE_S)
    link.close()
    assert reader.reply == {"status": "ok", "data": {}, "request": 2}


def test_when_all_have_their_replies_no_role_is_taken_and_nothing_of_them_is_left(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with RealEngine(path, {"echo": lambda connection, message: message["value"]}):
        link = Link(str(path), introduction("shop", None))

        def ask_often(thread: int) -> None:
            for number in range(thread * 1_000, thread * 1_000 + 100):
                call = a_call(number, "echo", value=number)
                link.exchange(call)
                assert call.reply is not None
                assert call.reply["data"] == number

        with ThreadPoolExecutor(16) as pool:
            list(pool.map(ask_often, range(16)))
        left = (link._calls, link._waiting, link._outbox, link._is_sending, link._is_reading, link.is_broken)
        link.close()
    assert left == ({}, {}, [], False, False, False)


def a_call(number: int, command: str = "status", **fields: Any) -> Call:
    request = Request(number, command, fields, path="", now=time.monotonic(), deadline_s=DEADLINE_S, reserve=0)
    return Call(request)


def wait_for_a_reader(link: Link) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not link._is_reading:
        assert time.monotonic() < deadline, "nobody reads"
