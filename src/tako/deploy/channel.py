"""A conversation with a server's daemon, over SSH: commands and replies in JSON lines, one thread."""

import getpass
import json
import select
import socket
import time
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, Self

from tako import __version__
from tako.deploy import remote
from tako.deploy.ssh import Conversation, Ssh
from tako.deploy.unreachable import Unreachable
from tako.errors import TakoError, VersionMismatch
from tako.protocol import framing, management
from tako.rpc import request as requests

Message = dict[str, Any]
DEADLINE_S = 30.0
_READ_BYTES = 262_144


def who() -> str:
    """Who we are, as others see it in `tako releases` and in refusals: ann@macbook."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "somebody"
    return f"{user}@{socket.gethostname()}"


class Channel:
    """One `dial-stdio`. Use it in a `with`: entering says hello, and checks that both sides speak the same protocol.

    Not for two threads at once.
    """

    def __init__(self, ssh: Ssh) -> None:
        self.name = ssh.server.name
        self._ssh = ssh
        self._framer = framing.Framer(max_bytes=None)
        self._messages: deque[Message] = deque()
        self._next = 0
        self._is_closed = False
        self.hello: management.ServerHello

    def __enter__(self) -> Self:
        self._talk = self._ssh.talk(remote.dial())
        try:
            fields: management.HelloRequest = {
                "protocol": management.MANAGEMENT_PROTOCOL, "by": who(), "version": __version__,
            }  # fmt: skip
            self.hello = self.call("hello", fields)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def call(self, command: str, fields: Mapping[str, Any] | None = None, *, deadline_s: float = DEADLINE_S) -> Any:
        """Do a command; its data.

        Raises:
            TakoError: the daemon refused, and why.
            Unreachable: the connection broke, or no reply came; it may have been done.
        """
        return self.reply_to(self.send(command, fields or {}), deadline_s=deadline_s)

    def send(self, command: str, fields: Mapping[str, Any]) -> int:
        """Send a command and do not wait; the number for `reply_to`. Replies are taken in the order of sending."""
        self._next += 1
        line = framing.encode({"request": self._next, "command": command, **fields})
        try:
            self._send(line)
        except OSError:
            raise self._broken() from None
        return self._next

    def reply_to(self, number: int, *, deadline_s: float = DEADLINE_S) -> Any:
        """The data of a reply. Raises what `call` raises."""
        deadline = time.monotonic() + deadline_s
        while True:
            message = self._receive(deadline)
            if message is None:
                raise Unreachable(
                    f"{self.name} did not answer within {deadline_s:g} s.",
                    cure=f"See `tako servers status {self.name}`, then try again.",
                )
            if message.get("request") == number or ("request" not in message and "status" in message):
                return _data_of(message, self.name)

    def events(self, command: str, fields: Mapping[str, Any], *, push: str) -> tuple[Any, Iterator[Message]]:
        """Do a command that is followed by lines. What it answers, and the lines until the connection ends.

        The lines raise Unreachable when the connection broke before the daemon closed it.
        """
        return self.call(command, fields), self._pushed(push)

    def _pushed(self, push: str) -> Iterator[Message]:
        while (message := self._receive(None)) is not None:
            if message.get("push") == push:
                yield message

    def join(self, ref: Mapping[str, str]) -> Conversation:
        """Become a connection to an app's own socket. The channel is used up; close what is returned.

        Raises:
            TakoError: the server has no such app, or it does not run.
        """
        self.call("connect", ref)
        return self._given_away()

    def browse(self, ref: Mapping[str, str]) -> tuple[Conversation, str]:
        """Become a connection to the server's dashboard, in HTTP; and the path at which the app's pages begin.

        Raises:
            TakoError: the server has no such app, or it does not run.
        """
        path: str = self.call("dashboard", ref)["path"]
        return self._given_away(), path

    def _given_away(self) -> Conversation:
        assert not self._messages, "the other side spoke first"
        self._is_closed = True
        return self._talk

    def close(self) -> None:
        """End it. Twice is harmless."""
        if not self._is_closed:
            self._is_closed = True
            self._talk.close()

    # --- bytes ---

    def _send(self, line: bytes) -> None:
        """Send all of it, reading meanwhile: a daemon that waits for us to read would never read from us."""
        rest = memoryview(line)
        sock = self._talk.socket
        while rest:
            readable, writable, _ = select.select([sock], [sock], [], DEADLINE_S)
            if not readable and not writable:
                raise TimeoutError
            if writable:
                rest = rest[sock.send(rest[:65_536], socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL) :]
            if readable:
                self._take(sock.recv(_READ_BYTES))

    def _receive(self, deadline: float | None) -> Message | None:
        """The next message; None when there is none by then. Raises Unreachable at the end of the connection."""
        sock = self._talk.socket
        while not self._messages:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not select.select([sock], [], [], left)[0]:
                return None
            try:
                self._take(sock.recv(_READ_BYTES))
            except OSError:
                raise self._broken() from None
        return self._messages.popleft()

    def _take(self, data: bytes) -> None:
        if not data:
            raise self._broken()
        try:
            self._messages += [json.loads(line) for line in self._framer.lines(data)]
        except ValueError:
            said = data[:80].decode(errors="replace").strip()
            raise TakoError(
                f"{self.name} answers with something else than Tako: {said!r}",
                cure="Does a login script (.bashrc) of the server print it? It must be silent without a terminal.",
            ) from None

    def _broken(self) -> TakoError:
        self._is_closed = True
        return self._talk.failure()


def _data_of(message: Message, name: str) -> Any:
    try:
        return requests.data_of(message)
    except VersionMismatch as error:
        raise VersionMismatch(
            f"{name}: {error.message}", cure=f"Bring it to this version: tako servers upgrade {name}"
        ) from None
