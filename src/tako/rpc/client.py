"""The blocking client: a command and its fields go to the engine, the reply's data comes back or its error is raised.

One connection for all threads of a process (`link.py`), made by the first call, made anew when the engine has gone
and come back, and by a child after a fork: a child never touches its parent's. What can go wrong between sending and
reply, and what the caller is told of it, is in `request.py`.
"""

import atexit
import time
from _thread import allocate_lock
from itertools import count
from os import getpid

from tako.rpc.link import Call, Link
from tako.rpc.request import Request, introduction

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Callable, Mapping
    from typing import Any

    from tako.rpc.stream import Stream

    Message = dict[str, Any]


class Client:
    """A process's way to the engine. Any thread may call it at any time, also after a fork.

    `token` is what came in the envelope; None for tools, which the engine knows by their user. `dial` makes a
    connection in another way than to the socket at `path`, which then is only its name.
    """

    def __init__(
        self, path: str, app: str, token: str | None = None, *, dial: "Callable[[], socket] | None" = None
    ) -> None:
        self._path = path
        self._dial = dial
        self._introduction = introduction(app, token)
        self._is_patient = token is not None  # an engine has started us, so if it is away it is coming back
        self._numbers = count(1)
        self._own: dict[int, _Own] = {}  # by process id; all but one entry are a parent's

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
        request = Request(
            next(self._numbers),
            command,
            fields,
            path=self._path,
            now=time.monotonic(),
            deadline_s=deadline_s,
            reserve=len(self._introduction),
            is_patient=self._is_patient,
        )
        while True:
            try:
                link = self._connected(request.deadline)
            except OSError as error:
                delay_s = request.after_dial(error, now=time.monotonic())
            else:
                call = Call(request)
                link.exchange(call)
                if call.reply is not None:
                    return request.answer(call.reply)
                delay_s = request.after_link(
                    link.refusal, may_be_known=call.may_be_known, was_alone=link.was_alone, now=time.monotonic()
                )
            if delay_s:
                time.sleep(delay_s)

    def lines(self, command: str, fields: "Mapping[str, Any]", *, deadline_s: float = 15.0) -> "Stream":
        """Do a command that is followed by lines (`subscribe`). The answer is awaited; the lines are yours to iterate.

        On a connection of its own: close it, or use it in a `with`.

        Raises:
            TakoError, StoreUnavailable: as `call`.
        """
        from tako.rpc.stream import Stream

        return Stream(self._path, self._introduction, command, fields, deadline_s=deadline_s, dial=self._dial)

    def close(self) -> None:
        """Close the connection; calls in flight fail. A later call makes a new one. Twice is harmless."""
        atexit.unregister(self.close)
        pid = getpid()
        for owner in list(self._own):
            own = self._own.pop(owner, None)
            if own is not None:
                own.end(is_ours=owner == pid)

    def _connected(self, deadline: float) -> Link:
        """The link, made if there is none. Raises OSError."""
        own = self._own.get(getpid()) or self._begin(getpid())
        link = own.link
        if link is not None and not link.is_broken:
            return link
        if not own.linking.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise TimeoutError("another thread is still connecting")
        try:
            if own.link is None or own.link.is_broken:
                own.link = Link(self._path, self._introduction, self._dial)
            return own.link
        finally:
            own.linking.release()

    def _begin(self, pid: int) -> "_Own":
        """The first call of a process. In a child, threads that exist no more may hold its parent's locks for ever."""
        own = self._own.setdefault(pid, _Own())
        for parent in list(self._own):
            if parent != pid and (theirs := self._own.pop(parent, None)) is not None:
                theirs.end(is_ours=False)
        atexit.unregister(self.close)
        atexit.register(self.close)
        return own


class _Own:
    """What one process has of a client; a fork copies it, and the copy is of no use."""

    __slots__ = ("link", "linking")

    def __init__(self) -> None:
        self.link: Link | None = None
        self.linking = allocate_lock()

    def end(self, *, is_ours: bool) -> None:
        """Close the link, or only this process's copy of its descriptor."""
        if self.link is not None:
            if is_ours:
                self.link.close()
            else:
                self.link.abandon()
