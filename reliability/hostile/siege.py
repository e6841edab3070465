"""Sends hostile messages to a live engine, and watches what they do: to the reply, to the process, to the others.

For every message: a reply within a second, an object with a status and, if refused, with a code that is not
`internal`; no traceback in the log. Meanwhile another client asks for `health` all the time, and is not kept waiting.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from random import Random
from types import TracebackType
from typing import Any, Self

from reliability.hostile import messages
from reliability.hostile.engine import APP, Engine
from tako.host.handlers import WORKER_COMMANDS
from tako.protocol import ids

REPLY_S = 1.0
PATIENCE_S = 20.0


class Broken(AssertionError):
    """A property does not hold; the text has the message that broke it."""


class Client:
    """A blocking connection."""

    def __init__(self, path: str, *, timeout_s: float = PATIENCE_S) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(timeout_s)
        self.socket.connect(path)
        self.file = self.socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        self.file.close()
        self.socket.close()

    def raw(self, data: bytes) -> None:
        """Send bytes."""
        self.socket.sendall(data)

    def read(self) -> dict[str, Any] | None:
        """The next line that is a reply; None when the engine has closed the connection."""
        try:
            line = self.file.readline()
        except ConnectionResetError:
            return None
        found = json.loads(line) if line else None
        assert found is None or isinstance(found, dict), found
        return found

    def call(self, command: str, **fields: Any) -> Any:
        """Ask, and give the data back; raises what was refused."""
        self.raw(messages.line({"command": command, **fields}, app=APP, token=None))
        reply = self.read()
        assert reply is not None and reply["status"] == "ok", reply
        return reply["data"]


@dataclass
class Others:
    """An honest client beside the hostile ones: how long it waits for each answer."""

    path: str
    waits_s: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _ask(self) -> None:
        with Client(self.path) as client:
            while not self._stop.wait(0.005):
                began = time.monotonic()
                try:
                    client.call("health")
                except Exception as error:
                    self.failures.append(f"{type(error).__name__}: {error}")
                    return
                self.waits_s.append(time.monotonic() - began)

    def percentile_ms(self, part: float) -> float:
        """The wait that this part of them did not exceed."""
        return sorted(self.waits_s)[min(len(self.waits_s) - 1, int(len(self.waits_s) * part))] * 1000


@dataclass
class Report:
    """What was sent and answered."""

    sent: int = 0
    codes: Counter[str] = field(default_factory=Counter)
    commands: Counter[str] = field(default_factory=Counter)
    slowest_s: float = 0.0
    slowest: str = ""
    slow: int = 0


def prepare(engine: Engine, *, count: int = 20) -> list[str]:
    """Some runs to talk about. What was attacked before may have paused what they need, as anybody may."""
    made = [ids.uuid7() for _ in range(count)]
    with Client(engine.socket) as client:
        for paused in ({"group": "default"}, {"workflow": "greet"}, {"workflow": "wait"}):
            client.call("resume", **paused)
        for number, run_id in enumerate(made):
            workflow = ("greet", "wait")[number % 2]
            new = {"id": run_id, "workflow": workflow, "payload_json": json.dumps({"n": number})}
            client.call("enqueue_runs", runs=[new])
    return made


def fire(engine: Engine, *, seed: int, count: int = 0, until: float = 0.0) -> Report:
    """Send `count` messages, or as many as there is time for until this instant of the monotonic clock.

    Raises:
        Broken: one of them broke a property.
    """
    rng = Random(seed)
    made = prepare(engine)
    engine.impersonate()
    report = Report()
    clients: dict[str | None, Client] = {}
    maker = messages.Messages(rng, runs=made, workers=[engine.worker_id, "w0"], workflows=["greet", "wait", "nope"])
    try:
        while report.sent < count or time.monotonic() < until:
            message = maker.message()
            is_worker = message["command"] in WORKER_COMMANDS
            token = engine.token if rng.random() < (0.95 if is_worker else 0.2) else None
            client = clients.get(token)
            if client is None:
                client = clients[token] = Client(engine.socket)
            if message["command"] == "backup" and str(message.get("path", "")).startswith("/"):
                continue  # it would be made
            is_closed = _one(engine, client, message, token, report)
            if is_closed or message["command"] == "subscribe":
                client.close()
                del clients[token]
    finally:
        for client in clients.values():
            client.close()
    return report


def _one(engine: Engine, client: Client, message: dict[str, Any], token: str | None, report: Report) -> bool:
    """Send one message and look at the answer; True when the engine closed the connection after it."""
    line = messages.line(message, app=APP, token=token)
    began = time.monotonic()
    try:
        client.raw(line)
        reply = client.read()
    except TimeoutError:
        raise Broken(f"no reply within {PATIENCE_S} s to {line[:2000]!r}") from None
    except BrokenPipeError:
        reply = client.read()
    took_s = time.monotonic() - began
    report.sent += 1
    report.commands[str(message["command"])] += 1
    if not engine.is_alive:
        raise Broken(f"the engine died of {line[:2000]!r}")
    if reply is None and token is not None:
        report.codes["superseded"] += 1  # the worker whose id we took has come back: one of the two is closed
        return True
    if reply is None:
        raise Broken(f"closed without a word after {line[:2000]!r}")
    if took_s > report.slowest_s:
        report.slowest_s, report.slowest = took_s, repr(line[:300])
    report.slow += took_s > REPLY_S
    if reply.get("status") not in ("ok", "error"):
        raise Broken(f"a reply without a status: {reply!r} to {line[:2000]!r}")
    code = str(reply.get("code", "ok"))
    report.codes[code] += 1
    if reply["status"] == "error" and not (reply.get("code") and reply.get("message")):
        raise Broken(f"a refusal without code or message: {reply!r} to {line[:2000]!r}")
    if code == "internal":
        raise Broken(f"{reply['message']} to {line[:2000]!r}")
    return reply["status"] == "error" and _is_over(client)


def _is_over(client: Client) -> bool:
    """Whether the engine has closed the connection with its refusal."""
    client.socket.setblocking(False)
    try:
        return client.socket.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
    finally:
        client.socket.settimeout(PATIENCE_S)


def traces(engine: Engine) -> list[str]:
    """Lines of the engine's log that should not be there."""
    return [line for line in engine.said().splitlines() if "Traceback" in line or "internal error" in line]
