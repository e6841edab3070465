"""How a command reaches the engine: `.tako/engine.json` says where, `Engine` calls and listens.

The file stays when an engine dies, so its pid is checked and a socket that nobody answers on means the same: no engine.
"""

from __future__ import annotations

import json
import os
import select
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tako.errors import NoEngine, StoreUnavailable, from_reply
from tako.protocol import PROTOCOL_VERSION, framing

CALL_DEADLINE_S = 15.0
START_IT = "Start it with `tako dev`."


class Place:
    """What `engine.json` says, and the app's folder."""

    __slots__ = ("app", "folder", "pid", "socket", "started_ms", "store_id", "url")

    def __init__(self, folder: Path, content: dict[str, Any]) -> None:
        self.folder = folder
        self.socket = str(content["socket"])
        self.pid = int(content["pid"])
        self.app = str(content["app"])
        self.store_id = str(content.get("store_id", ""))
        self.url = str(content.get("url", ""))
        self.started_ms = int(content.get("started_ms", 0))


def find(folder: Path) -> Place:
    """The engine of `folder` or of the nearest parent that has one.

    Raises:
        NoEngine: none is there, or it has died.
    """
    for candidate in (folder, *folder.parents):
        path = candidate / ".tako" / "engine.json"
        try:
            place = Place(candidate, json.loads(path.read_bytes()))
        except FileNotFoundError:
            continue
        except (OSError, ValueError, KeyError, TypeError):
            raise NoEngine(f"No engine runs in this folder: {path} cannot be read.", cure=START_IT) from None
        if _lives(place.pid):
            return place
        raise _none(candidate, folder)
    raise NoEngine("No engine runs in this folder.", cure=START_IT)


class Engine:
    """The engine's commands (SPEC.md section 3), for one command of ours."""

    def __init__(self, place: Place) -> None:
        from tako.rpc.client import Client

        self.place = place
        self._client = Client(place.socket, place.app, "")

    def call(self, command: str, fields: dict[str, Any] | None = None, *, deadline_s: float = CALL_DEADLINE_S) -> Any:
        """One command; what its reply carries. Fields that are None are not sent.

        Raises:
            TakoError: the engine refused, and why.
            NoEngine: it is gone.
        """
        sent = {name: value for name, value in (fields or {}).items() if value is not None}
        try:
            return self._client.call(command, sent, deadline_s=deadline_s)
        except StoreUnavailable:
            if _lives(self.place.pid):
                raise
            raise _none(self.place.folder, self.place.folder) from None

    def stream(self, topics: list[str], **filters: Any) -> Stream:
        """Listen from now on, on a connection of its own. Close it, or use it in a `with`."""
        return Stream(self.place, {"topics": topics, **{n: v for n, v in filters.items() if v is not None}})

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


class Stream:
    """The events of a `subscribe`: objects with `event`, in order."""

    def __init__(self, place: Place, fields: dict[str, Any]) -> None:
        self._framer = framing.Framer(max_bytes=None)
        self._messages: list[dict[str, Any]] = []
        self._socket = socket.socket(socket.AF_UNIX)
        request = {"command": "subscribe", "app": place.app, "protocol": PROTOCOL_VERSION, **fields}
        try:
            self._socket.connect(place.socket)
            self._socket.sendall(framing.encode(request))
            reply = self._next(deadline=time.monotonic() + CALL_DEADLINE_S)
        except (OSError, TimeoutError):
            self._socket.close()
            raise _none(place.folder, place.folder) from None
        except BaseException:
            self._socket.close()
            raise
        if reply is None or reply.get("status") != "ok":
            self._socket.close()
            raise from_reply(reply) if reply else _none(place.folder, place.folder)

    def events(self, *, timeout_s: float | None = None) -> Iterator[dict[str, Any]]:
        """Events as they come. Ends when the engine closes the stream, or when nothing came for `timeout_s`."""
        while True:
            deadline = None if timeout_s is None else time.monotonic() + timeout_s
            try:
                message = self._next(deadline=deadline)
            except (TimeoutError, ConnectionError):
                return
            if message is None:
                return
            yield message

    def _next(self, *, deadline: float | None) -> dict[str, Any] | None:
        """The next message; None at the end of the stream."""
        while not self._messages:
            left = None if deadline is None else max(deadline - time.monotonic(), 0.0)
            if not select.select([self._socket], [], [], left)[0]:
                raise TimeoutError
            data = self._socket.recv(65_536)
            if not data:
                return None
            self._messages = self._framer.feed(data)
        return self._messages.pop(0)

    def close(self) -> None:
        """Stop listening. Twice is harmless."""
        self._socket.close()

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _none(found: Path, asked: Path) -> NoEngine:
    where = "this folder" if found == asked else str(found)
    return NoEngine(f"No engine runs in {where}.", cure=START_IT)


def _lives(pid: int) -> bool:
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
