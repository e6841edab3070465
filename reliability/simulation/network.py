"""Connections between the daemon and everybody else, and what can happen to a message on its way.

The server's half is the real `rpc.server.Connection`, from the decoded message on. A lost message takes its connection
with it, as on a stream; a client then connects again and repeats what it has no answer for. Doubled, late and
overtaking messages are more than a stream would do: the engine does not rely on it.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from reliability.simulation.counters import count
from tako.errors import TakoError
from tako.rpc.auth import Peer
from tako.rpc.connection import Connection
from tako.rpc.server import Server

if TYPE_CHECKING:
    from reliability.simulation.world import World

Message = dict[str, Any]


class ServerSide(Connection):
    """The daemon's half of a connection."""

    def __init__(self, server: Server, wire: Wire) -> None:
        super().__init__(server)
        self._wire = wire
        self.peer = Peer(pid=0, uid=0)
        self.asked: dict[int, Message] = {}
        server.opened(self)

    def receive(self, frame: str) -> None:
        """A message has come; also one that was late, on a connection that is gone by now."""
        message = json.loads(frame)  # the framer has tests of its own, and this is five times faster
        if self.closed:
            if self.principal is None:
                return
            self.closed = False
            try:
                self._wire.world.oracle.asked(self, message)
                self._receive(message)
            finally:
                self.closed = True
            return
        self._wire.world.oracle.asked(self, message)
        try:
            self._receive(message)
        except TakoError as error:
            self._fatal(error)

    def push(self, message: Message) -> None:
        """Send a line."""
        if not self.closed:
            self._wire.world.oracle.answered(self, message)
            self._wire.to_client(message)

    def close(self) -> None:
        """The daemon hangs up."""
        if not self.closed:
            self.closed = True
            self._wire.cut()


class Wire:
    """One connection, as long as it lasts. `on_message` and `on_cut` are the client's."""

    def __init__(
        self,
        world: World,
        *,
        kind: str,
        rng: random.Random,
        on_message: Callable[[Message], None],
        on_cut: Callable[[], None],
    ) -> None:
        daemon = world.daemon
        assert daemon is not None
        self.world = world
        self.kind = kind
        self._rng = rng
        self._on_message = on_message
        self._on_cut = on_cut
        self._loop = daemon.loop
        self._server = ServerSide(daemon.host.server, self)
        self.is_up = True

    def send(self, message: Message) -> None:
        """Send a message to the daemon."""
        if not self.is_up:
            return
        frame = json.dumps(message)
        fault = self.world.faults.take(self.kind, message.get("command"), is_reply=False)
        if fault == "lose":
            self.cut()
            return
        if fault == "double":
            self._deliver(frame, self._rng.uniform(0.001, self._rng.choice((0.4, 8.0))))
        delay_s = self._rng.uniform(0.000_1, 0.002)
        if fault is not None and fault.startswith("delay"):
            delay_s += float(fault.split()[1])
        self._deliver(frame, delay_s)

    def _deliver(self, frame: str, delay_s: float) -> None:
        self.world.timeline.later(delay_s, self._loop.enter, self._server.receive, frame)

    def to_client(self, message: Message) -> None:
        """The daemon sends a line."""
        if not self.is_up:
            return
        asked = self._server.asked.pop(message.get("request", -1), None)
        command = None if asked is None else asked.get("command")
        fault = self.world.faults.take(self.kind, command, is_reply=True)
        if fault == "lose":
            self.cut()
            return
        delay_s = self._rng.uniform(0.000_1, 0.002)
        if fault is not None and fault.startswith("delay"):
            delay_s += float(fault.split()[1])
        self.world.timeline.later(delay_s, self._arrive, message)
        if fault == "double":
            self.world.timeline.later(delay_s + 0.001, self._arrive, message)

    def _arrive(self, message: Message) -> None:
        if self.is_up:
            self._on_message(message)

    def cut(self) -> None:
        """The connection is gone. Twice is harmless."""
        if not self.is_up:
            return
        self.is_up = False
        timeline = self.world.timeline
        # What is on its way to the daemon arrives still, as from a socket whose other end is closed.
        timeline.later(0.003, self._loop.enter, self._server.connection_lost, None)
        timeline.later(0.001, self._on_cut)

    def hang_up(self) -> None:
        """The client's process is gone: it hears of nothing any more."""
        self._on_cut = _nothing
        self._on_message = _ignore
        self.cut()


class Faults:
    """Faults that wait for the next message they fit. Armed by the plan, so that each is an event of its own."""

    def __init__(self) -> None:
        self._armed: list[tuple[str, str, str | None, bool]] = []

    def arm(self, what: str, *, kind: str, command: str | None, is_reply: bool) -> None:
        """Let it happen to the next message of this command, from or to somebody of this kind."""
        self._armed.append((what, kind, command, is_reply))

    def take(self, kind: str, command: object, *, is_reply: bool) -> str | None:
        """What happens to this message."""
        if not self._armed:
            return None
        for at, (what, of_kind, of_command, of_reply) in enumerate(self._armed):
            if of_reply is is_reply and of_kind == kind and of_command in (None, command):
                del self._armed[at]
                count(f"fault: {what.split()[0]} {'reply' if is_reply else 'request'}")
                return what
        return None

    def heal(self) -> None:
        """No more of them."""
        self._armed.clear()


def _nothing() -> None:
    pass


def _ignore(message: Message) -> None:
    pass
