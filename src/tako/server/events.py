"""What a job tells while it runs: rows, so that who attaches later hears all of it, and lines to listeners."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable
from typing import Any, cast

from tako.protocol.management import DeployEvent
from tako.rpc.connection import Connection
from tako.server.state import State

MAX_OUTPUT = 2_000  # lines of output kept of one job


class JobEvents:
    """The events of one job. `redact` takes secrets out of what a release prints."""

    def __init__(self, state: State, job: str, *, now_ms: Callable[[], int], redact: Callable[[str], str]) -> None:
        self._state = state
        self._job = job
        self._now_ms = now_ms
        self._redact = redact
        row = state.one("last_seq", job=job)
        self._seq = int(row["seq"]) if row is not None else 0
        self._outputs = 0
        self._listeners: list[_Listener] = []
        self._unkept: deque[DeployEvent] = deque()

    def tell(self, event: str, phase: str, message: str, **more: Any) -> None:
        """Keep the event, then hand it out."""
        self._seq += 1
        found: dict[str, Any] = {
            "push": "deploy", "job": self._job, "seq": self._seq, "ts_ms": self._now_ms(), "event": event,
            "phase": phase, "message": self._redact(message), **more,
        }  # fmt: skip
        self._unkept.append(cast(DeployEvent, found))
        self._state.at_last(self._keep)  # what is told changes nothing: a full disk must not end a deploy here
        for listener in list(self._listeners):
            listener.pump()

    def _keep(self) -> None:
        event = self._unkept[0]
        self._state.run("add_event", job=self._job, seq=event["seq"], event=json.dumps(event))
        self._unkept.popleft()

    def after(self, seq: int) -> list[DeployEvent]:
        """The events after this one, in order; also those that a full disk has not taken yet."""
        return [
            *stored(self._state, self._job, after=seq), *(event for event in self._unkept if event["seq"] > seq)
        ]  # fmt: skip

    def output(self, phase: str, line: str) -> None:
        """A line that a process of the release printed."""
        self._outputs += 1
        if self._outputs == MAX_OUTPUT:
            line = "… (more output is in the log)"
        if self._outputs <= MAX_OUTPUT:
            self.tell("output", phase, line[:4096])

    def attach(self, connection: Connection, *, after: int) -> None:
        """Send this connection what comes after `after`, now and from now on. The reply to its request goes first."""
        listener = _Listener(self, connection, after)
        self._listeners.append(listener)
        asyncio.get_running_loop().call_soon(listener.begin)

    def forget(self, connection: Connection) -> None:
        """A connection is gone."""
        self._listeners = [each for each in self._listeners if each.connection is not connection]


class _Listener:
    def __init__(self, events: JobEvents, connection: Connection, after: int) -> None:
        self._events = events
        self._after = after
        self._has_begun = False
        self.connection = connection

    def begin(self) -> None:
        self._has_begun = True
        self.pump()

    def pump(self) -> None:
        if not self._has_begun:
            return
        for event in self._events.after(self._after):
            self._after = event["seq"]
            self.connection.push(dict(event))


def stored(state: State, job: str, *, after: int = 0) -> list[DeployEvent]:
    """The events of a job that are kept."""
    return [json.loads(row["event"]) for row in state.all("events_of", job=job, after=after)]
