"""A connection that is read from only: the lines that follow the answer to `subscribe`."""

import time
from _socket import AF_UNIX, SO_RCVTIMEO, SO_SNDTIMEO, SOCK_STREAM, SOL_SOCKET, socket

from tako.protocol.framing import Framer
from tako.rpc.link import timeval
from tako.rpc.request import Request, error_of, read_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    Message = dict[str, Any]


class Stream:
    """The lines, as an iterator that ends when either side closes. Close it, or use it in a `with`.

    `deadline_s` is for the command's own answer; lines are awaited for as long as it takes.

    Raises:
        TakoError: the engine refused.
        StoreUnavailable: it is not there, or does not answer.
    """

    __slots__ = ("_framer", "_lines", "_socket")

    def __init__(
        self,
        path: str,
        introduction: bytes,
        command: str,
        fields: "Mapping[str, Any]",
        *,
        deadline_s: float,
        dial: "Callable[[], socket] | None" = None,
    ) -> None:
        request = Request(
            0, command, fields, path=path, now=time.monotonic(), deadline_s=deadline_s, reserve=len(introduction)
        )
        self._framer = Framer(max_bytes=None)
        self._lines: list[bytes] = []
        self._socket = socket(AF_UNIX, SOCK_STREAM) if dial is None else dial()
        is_open = False
        try:
            self._socket.setsockopt(SOL_SOCKET, SO_SNDTIMEO, timeval(deadline_s))
            self._socket.setsockopt(SOL_SOCKET, SO_RCVTIMEO, timeval(deadline_s))
            self._open(request, introduction + request.line[1:], is_dialled=dial is not None)
            self._socket.setsockopt(SOL_SOCKET, SO_RCVTIMEO, timeval(0))
            is_open = True
        finally:
            if not is_open:
                self._socket.close()

    def _open(self, request: Request, line: bytes, *, is_dialled: bool) -> None:
        try:
            if not is_dialled:
                self._socket.connect(request.path)
            self._socket.sendall(line)
        except OSError as error:
            # Whatever it was, asking once is enough here: nobody has been promised a line yet.
            request.after_dial(error, now=time.monotonic())
            raise error_of({"code": "store_unavailable", "message": f"the engine takes no requests: {error}"}) from None
        reply = self._next()
        if reply is None:
            request.after_link(None, may_be_known=True, was_alone=True, now=time.monotonic())
            raise AssertionError("a subscription is not asked for twice")
        if "request" not in reply:
            request.after_link(reply, may_be_known=True, was_alone=True, now=time.monotonic())
        request.answer(reply)

    def __iter__(self) -> "Stream":
        return self

    def __next__(self) -> "Message":
        message = self._next()
        if message is None:
            self.close()
            raise StopIteration
        return message

    def _next(self) -> "Message | None":
        """The next message; None at the end, when none came in time, or when what came is none."""
        while not self._lines:
            try:
                data = self._socket.recv(65_536)
            except OSError:
                return None
            if not data:
                return None
            self._lines = self._framer.lines(data)
            self._lines.reverse()
        try:
            return read_line(self._lines.pop())
        except ValueError:
            return None

    def close(self) -> None:
        """Stop listening. Twice is harmless."""
        self._socket.close()

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
