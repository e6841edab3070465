"""The blocking client: a command and its fields go to the engine, the reply's data comes back or its error is raised.

One connection for all threads of a process (`link.py`), made by the first call, made anew when the engine has gone
and come back, and by a child after a fork: a child never touches its parent's. What can go wrong between sending and
reply, and what the caller is told of it, is in `request.py`.
"""

import atexit
import time
from _socket import AF_UNIX, SO_RCVTIMEO, SO_SNDTIMEO, SOCK_STREAM, SOL_SOCKET, socket
from _thread import allocate_lock
from itertools import count
from os import getpid

from tako.errors import TakoError
from tako.protocol.framing import Framer
from tako.rpc import request as requests
from tako.rpc.link import Call, Link, timeval

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    Message = dict[str, Any]


class Client:
    """A process's way to the engine. Any thread may call it at any time, also after a fork.

    `token` is what came in the envelope; None for tools, which the engine knows by their user.
    """

    def __init__(self, path: str, app: str, token: str | None = None) -> None:
        self._path = path
        self._introduction = requests.introduction(app, token)
        self._numbers = count(1)
        self._pid = 0
        self._link: Link | None = None
        self._linking = allocate_lock()

    def call(self, command: str, fields: "Mapping[str, Any]", *, deadline_s: float) -> "Any":
        """Do a command and return its data.

        `enqueue_runs` is asked again until the deadline when its reply was lost, which is harmless: a run's id makes
        it one run. The engine stores nothing after the deadline.

        Raises:
            TakoError: the engine refused; which kind says why.
            StoreUnavailable: the engine is not there or takes nothing. Nothing was stored, unless the message says
                that nobody knows (commands that change something and whose reply was lost).
            EnqueueUnknown: an enqueue was sent, and no answer came.
        """
        started = time.monotonic()
        deadline = started + deadline_s
        number = next(self._numbers)
        line = requests.frame(number, command, fields, deadline=deadline, reserve=len(self._introduction))
        if command == requests.ENQUEUE:
            deadline += requests.GRACE_S
        call = Call(number, line, deadline)
        self._exchange(call, command, fields, waited_s=deadline_s)
        if call.reply is None:
            raise AssertionError("a call ends with a reply or an error")
        return requests.data_of(call.reply)

    def lines(self, command: str, fields: "Mapping[str, Any]", *, deadline_s: float = 15.0) -> "Lines":
        """Do a command that is followed by lines (`subscribe`); iterate over those until either side closes.

        On a connection of its own: close it, whether or not it was read. The engine's answer is
        awaited before this returns; the lines for as long as they come.

        Raises:
            TakoError, StoreUnavailable: as `call`.
        """
        line = requests.frame(next(self._numbers), command, fields, deadline=time.monotonic() + deadline_s, reserve=0)
        return Lines(self._path, command, self._introduction + line[1:], deadline_s=deadline_s)

    def close(self) -> None:
        """Close the connection; calls in flight fail. A later call makes a new one. Twice is harmless."""
        atexit.unregister(self.close)
        link, self._link = self._link, None
        if link is not None and self._pid == getpid():
            link.close()

    # --- one call over as many connections as it takes ---

    def _exchange(self, call: Call, command: str, fields: "Mapping[str, Any]", *, waited_s: float) -> None:
        is_known = False  # whether an engine may have acted on it
        attempts = 0
        while True:
            attempts += 1
            link = self._connected(call.deadline)
            if link is not None:
                call.may_be_known = False
                link.exchange(call)
                if call.reply is not None:
                    return
                if refusal := _own_refusal(link):
                    if is_known:
                        raise requests.no_reply(command, fields, f"was lost, then refused ({refusal.message})")
                    raise refusal
                is_known = is_known or call.may_be_known
            if time.monotonic() >= call.deadline:
                if is_known:
                    raise requests.no_reply(command, fields, f"did not answer within {waited_s:g} s:")
                raise requests.not_sent(command, waited_s)
            if is_known and not requests.is_repeatable(command, fields):
                raise requests.no_reply(command, fields, "went away before it answered")
            if not is_known and attempts > 1:
                raise requests.not_listening(command, self._path)
            if attempts > 1:
                time.sleep(min(requests.DIAL_AGAIN_S, max(0.0, call.deadline - time.monotonic())))

    def _connected(self, deadline: float) -> Link | None:
        """The link, made if there is none; None when nobody listens."""
        pid = getpid()
        if self._pid != pid:
            self._become(pid)
        link = self._link
        if link is not None and not link.is_broken:
            return link
        if not self._linking.acquire(timeout=max(0.0, deadline - time.monotonic())):
            return None
        try:
            link = self._link
            if link is None or link.is_broken:
                self._link = None
                self._link = link = Link(self._path, self._introduction)
                atexit.unregister(self.close)
                atexit.register(self.close)
            return link
        except OSError:
            return None
        finally:
            self._linking.release()

    def _become(self, pid: int) -> None:
        """A child after a fork: its parent's threads hold locks here that nobody will release, and its socket."""
        link, self._link = self._link, None
        self._linking = allocate_lock()
        self._pid = pid
        if link is not None:
            link.abandon()


def _own_refusal(link: Link) -> TakoError | None:
    """The error that ended the link, if it is certain that the engine has acted on nothing of this call."""
    refusal = link.refusal
    if refusal is None or not (link.was_alone or requests.refuses_connection(refusal)):
        return None
    return requests.error_of(refusal)


class Lines:
    """A connection that is read from only: an iterator over the messages after the reply, ended by either side."""

    def __init__(self, path: str, command: str, line: bytes, *, deadline_s: float) -> None:
        self._framer = Framer(max_bytes=None)
        self._messages: list[Message] = []
        self._socket = socket(AF_UNIX, SOCK_STREAM)
        is_open = False
        try:
            self._socket.setsockopt(SOL_SOCKET, SO_SNDTIMEO, timeval(deadline_s))
            self._socket.setsockopt(SOL_SOCKET, SO_RCVTIMEO, timeval(deadline_s))
            try:
                self._socket.connect(path)
                self._socket.sendall(line)
            except BlockingIOError:
                raise requests.not_sent(command, deadline_s) from None
            except OSError:
                raise requests.not_listening(command, path) from None
            reply = self._next()
            if reply is None:
                raise requests.no_reply(command, {}, "went away before it answered")
            requests.data_of(reply)
            self._socket.setsockopt(SOL_SOCKET, SO_RCVTIMEO, timeval(0))
            is_open = True
        finally:
            if not is_open:
                self._socket.close()

    def __iter__(self) -> "Lines":
        return self

    def __next__(self) -> "Message":
        message = self._next()
        if message is None:
            self.close()
            raise StopIteration
        return message

    def close(self) -> None:
        """Stop listening. Twice is harmless."""
        self._socket.close()

    def _next(self) -> "Message | None":
        """The next message; None at the end, or when none came in time."""
        while not self._messages:
            try:
                data = self._socket.recv(65_536)
            except OSError:
                return None
            if not data:
                return None
            self._messages = [requests.read_line(line) for line in self._framer.lines(data)]
        return self._messages.pop(0)
