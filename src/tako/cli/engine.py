"""How a command reaches the engine: `.tako/engine.json` says where, `Engine` calls and listens.

The file stays when an engine dies, so its pid is checked and a socket that nobody answers on means the same: no engine.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tako.config import files
from tako.errors import NoEngine, StoreUnavailable
from tako.logs.render import clean

CALL_DEADLINE_S = 15.0
MAX_BYTES = 65_536  # of engine.json
START_IT = "Start it with `tako dev`."


class Place:
    """What `engine.json` says, and the app's folder."""

    __slots__ = ("app", "dashboard", "folder", "pid", "socket", "started_ms", "store_id", "url")

    def __init__(self, folder: Path, content: dict[str, Any]) -> None:
        self.folder = folder
        self.socket = str(content["socket"])
        self.pid = int(content["pid"])
        self.app = clean(str(content["app"]))  # the file may have come with a cloned repository
        self.store_id = str(content.get("store_id", ""))
        self.url = clean(str(content.get("url", "")))
        dashboard = clean(str(content.get("dashboard", "")))
        # Holds the key: not for argv or logs. A browser is not sent to any other place that such a file names.
        self.dashboard = dashboard if dashboard.startswith("http://127.0.0.1:") else ""
        self.started_ms = int(content.get("started_ms", 0))


def find(folder: Path) -> Place:
    """The engine of `folder` or of the nearest parent that has one.

    Raises:
        NoEngine: none is there, or it has died.
    """
    for candidate in (folder, *folder.parents):
        path = candidate / ".tako" / "engine.json"
        try:
            place = Place(candidate, json.loads(files.read(path, most=MAX_BYTES)))
        except FileNotFoundError:
            continue
        except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
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
        self._client = Client(place.socket, place.app)

    def call(self, command: str, fields: dict[str, Any] | None = None, *, deadline_s: float = CALL_DEADLINE_S) -> Any:
        """One command; what its reply carries. Fields that are None are not sent.

        Raises:
            TakoError: the engine refused, and why.
            NoEngine: it is gone.
        """
        with self._or_gone():
            return self._client.call(command, _given(fields or {}), deadline_s=deadline_s)

    @contextlib.contextmanager
    def stream(self, topics: list[str], **filters: Any) -> Iterator[Iterator[dict[str, Any]]]:
        """Events (objects with `event`), from the moment the `with` is entered until either side closes.

        Raises what `call` raises.
        """
        with self._or_gone():
            lines = self._client.lines("subscribe", {"topics": topics, **_given(filters)})
        with contextlib.closing(lines):
            yield lines

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    @contextlib.contextmanager
    def _or_gone(self) -> Iterator[None]:
        try:
            yield
        except StoreUnavailable as error:
            if error.detail.get("reason") == "NO_ENGINE":
                raise _none(self.place.folder, self.place.folder) from None
            raise


def _given(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _none(found: Path, asked: Path) -> NoEngine:
    where = "this folder" if found == asked else str(found)
    return NoEngine(f"No engine runs in {where}.", cure=START_IT)


def _lives(pid: int) -> bool:
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
