"""The worker's connection: many requests in flight on one socket, shared by all threads, kept across a new daemon.

Threads put frames into an outbox; whoever finds nobody sending sends all that is there in one call, so frames of many
threads travel together. One reader thread hands each reply to what waits for it.

What must reach the engine (a step's result, how a run ended) stays in memory until it is acknowledged: it is sent
again while the store takes no writes (contract.md D8), and after the daemon was away, when `hello` has told it which
runs are in flight here. The engine answers a repeated write with its first outcome (E5), so sending twice is harmless.
"""

from __future__ import annotations

import time
from _socket import AF_UNIX, SOCK_STREAM, socket  # `socket` wraps it in enums and selectors, 3 ms of a cold start
from _thread import allocate_lock
from itertools import count

from tako import errors
from tako.protocol import PROTOCOL_VERSION, framing, json_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _thread import LockType
    from collections.abc import Callable, Sequence
    from typing import Any

    from tako.protocol.messages import HelloData

    Message = dict[str, Any]
    OnReply = Callable[[Message], None]

RECONNECT_S = 15.0
_DIAL_AGAIN_S = 0.05
_READ_BYTES = 65_536  # from twice as much on, each read maps and unmaps memory of its own
# While the store takes no writes, each write asks again this often: at first soon, then once a second.
_AGAIN_AFTER_S = (0.05, 0.1, 0.25, 0.5, 1.0)

# What may yet be stored: by this daemon, once its disk has room, or by the next one, since one whose disk fails ends.
_NOT_STORED = (errors.StoreUnavailable.code, errors.StoreDamaged.code)

# How a request outlives what can happen to it.
ONCE = 0  # lost with the connection; the asker is told
KEPT = 1  # sent again until acknowledged, unless its run is no longer ours
FINAL = 2  # sent again until acknowledged, whatever `hello` says of its run: the engine knows how it ended

LOST: Message = {"status": "error", "code": "connection_lost", "message": "the connection to the engine was lost"}


class TooLarge(Exception):
    """A frame is longer than the engine reads. `size` is how long it is, in bytes."""

    def __init__(self, size: int) -> None:
        super().__init__(f"{size} bytes")
        self.size = size


class _Request:
    """A request that has no reply yet."""

    __slots__ = ("frame", "keep", "on_reply", "refusals", "run_id")

    def __init__(self, frame: bytes, on_reply: OnReply, keep: int, run_id: str) -> None:
        self.frame = frame
        self.on_reply = on_reply
        self.keep = keep
        self.run_id = run_id
        self.refusals = 0


class Connection:
    """A worker's connection to the engine.

    `hello` makes the fields of `hello`, each time anew. `on_push` gets lines that answer nothing; `after_batch` is
    called when all replies of one read have been handed out; if it says so, `look` is called a millisecond later unless
    more has come, and again as long as it says so. `on_stale` gets the ids that `hello` was told are not ours any more;
    `on_lost` is called once, when the daemon has not come back. All of them are called by the reader's thread. `waiter`
    makes what a thread waits for a reply with. `later(delay_s, fn)` calls `fn` after a while, from any thread.
    """

    def __init__(
        self,
        *,
        path: str,
        app: str,
        token: str,
        hello: Callable[[], Message],
        on_push: Callable[[Message], None],
        on_stale: Callable[[Sequence[str]], None],
        on_lost: Callable[[], None],
        after_batch: Callable[[], bool],
        look: Callable[[], bool],
        waiter: Callable[[], Waiter],
        later: Callable[[float, Callable[[], None]], None],
        log: Callable[..., None],
    ) -> None:
        self._path = path
        self._greeting = {"command": "hello", "app": app, "token": token, "protocol": PROTOCOL_VERSION}
        self._hello = hello
        self._on_push = on_push
        self._on_stale = on_stale
        self._on_lost = on_lost
        self._after_batch = after_batch
        self._look = look
        self._waiter = waiter
        self._later = later
        self._log = log
        self._socket: socket | None = None
        self._framer = framing.Framer(max_bytes=None)
        self._outbox: list[bytes] = []
        self._sending = allocate_lock()
        self._numbers = count(1)
        self._table = allocate_lock()  # over _requests, _outbox, _socket and _is_up
        self._requests: dict[int, _Request] = {}
        self._is_up = False
        self._is_closed = False
        self._when_answered: LockType | None = None
        self.losses = 0  # how often the daemon has gone away

    # --- opening and closing ---

    def open(self) -> HelloData:
        """Connect and say HELLO; tries for RECONNECT_S.

        Raises:
            OSError: no daemon answered in time.
            TakoError: the engine refused HELLO.
        """
        deadline = time.monotonic() + RECONNECT_S
        while True:
            try:
                return self._greet()
            except OSError:
                if self._is_closed or time.monotonic() >= deadline:
                    raise
            time.sleep(_DIAL_AGAIN_S)  # there is no event for "a socket file appeared"; this is bounded by the deadline

    def close(self) -> None:
        """Close the socket; the reader ends. Twice is harmless."""
        self._is_closed = True
        self._hang_up()

    def _greet(self) -> HelloData:
        connection = socket(AF_UNIX, SOCK_STREAM)
        try:
            # Who does not answer HELLO is as good as gone; afterwards a reply may take as long as a claim waits.
            connection.settimeout(RECONNECT_S)
            connection.connect(self._path)
            connection.sendall(framing.encode({**self._greeting, "request": 0, **self._hello()}))
            framer = framing.Framer(max_bytes=None)
            lines: list[bytes] = []
            while not lines:
                data = connection.recv(_READ_BYTES)
                if not data:
                    raise ConnectionResetError("the engine closed the connection during HELLO")
                lines = framer.lines(data)
            reply = json_text.scan(str(lines[0], "utf-8"), 0)[0]
            if reply["status"] != "ok":
                raise errors.from_reply(reply)
        except BaseException:
            connection.close()
            raise
        connection.settimeout(None)
        self._framer = framer
        self._take_up(connection, stale=reply["data"].get("stale", ()))
        for line in lines[1:]:
            self._hand_out(json_text.scan(str(line, "utf-8"), 0)[0])
        found: HelloData = reply["data"]
        return found

    def _take_up(self, connection: socket, *, stale: Sequence[str]) -> None:
        """Use a greeted socket: send again all that waits for a reply, in its old order, before anything new."""
        gone = set(stale)
        if gone:
            self._on_stale(stale)
        with self._table:
            refused = [
                number for number, request in self._requests.items() if request.keep == KEPT and request.run_id in gone
            ]
            dropped = [self._requests.pop(number) for number in refused]
            self._outbox = [request.frame for request in self._requests.values()]
            self._socket = connection
            self._is_up = True
        for request in dropped:
            request.on_reply({"status": "error", "code": errors.LeaseLost.code, "message": "the run is not held here"})
        self.flush()

    def _hang_up(self) -> None:
        with self._table:
            self._is_up = False
            connection, self._socket = self._socket, None
        if connection is not None:
            try:  # noqa: SIM105 - contextlib is not loaded in a cold process
                connection.shutdown(2)  # wakes the reader, which would sleep on through a mere close
            except OSError:
                pass  # the other side was first
            connection.close()

    # --- asking ---

    def ask(self, body: Message | str, on_reply: OnReply, *, keep: int = ONCE, run_id: str = "") -> None:
        """Put a request into the outbox; `flush` sends it. `on_reply` gets the whole reply, in the reader's thread.

        `body` is the request's fields, or their text without braces (what is asked for each step is written by hand).

        A request that is kept may be asked while the daemon is away; another one is then answered with LOST at once.

        Raises:
            TooLarge: the frame would be refused; nothing was asked.
        """
        number = next(self._numbers)
        frame = frame_of(number, body)
        with self._table:
            if self._is_up or keep:
                self._requests[number] = _Request(frame, on_reply, keep, run_id)
                if self._is_up:
                    self._outbox.append(frame)
                return
        on_reply(LOST)

    def flush(self) -> None:
        """Send what is in the outbox. If another thread is sending, it takes ours along."""
        while self._outbox:
            if not self._sending.acquire(False):
                return  # whoever holds it looks again after letting go
            try:
                with self._table:
                    frames, self._outbox = self._outbox, []
                    connection = self._socket
                if connection is not None and frames:
                    connection.sendall(b"".join(frames))
            except OSError:
                return  # the reader sees the end of the connection, and all that is kept is sent again
            finally:
                self._sending.release()

    def call(self, body: Message | str, *, keep: int = ONCE, run_id: str = "") -> Any:
        """Ask, and wait for the reply's data. Not to be called by the reader's thread.

        Raises:
            TakoError: the error that the reply stands for.
            TooLarge: the frame would be refused; nothing was asked.
        """
        waiter = self._waiter()
        self.ask(body, waiter, keep=keep, run_id=run_id)
        return waiter.wait(self.flush)

    def wait_until_answered(self, *, timeout_s: float) -> bool:
        """Wait until all that must reach the engine has been acknowledged; False when it was not, or nobody answers."""
        self.flush()
        if not self._is_up:
            return False
        waiting = self._when_answered = allocate_lock()
        waiting.acquire()
        return not self._has_kept() or waiting.acquire(timeout=timeout_s)

    def owes(self, count: int) -> bool:
        """Whether the engine has not answered so many requests of handlers."""
        with self._table:
            return sum(request.keep == KEPT for request in self._requests.values()) >= count

    def _has_kept(self) -> bool:
        with self._table:
            return any(request.keep for request in self._requests.values())

    # --- the reader's thread ---

    def read_for_ever(self) -> None:
        """Hand out replies until closed or until the daemon has been away for too long. The reader thread's body."""
        while True:
            self._read()
            if self._is_closed:
                return
            self.losses += 1
            self._hang_up()
            self._tell_lost()
            self._after_batch()
            self._log("warning", "connection to the engine lost; trying to reconnect")
            try:
                self.open()
            except (OSError, errors.TakoError) as error:
                if not self._is_closed:
                    self._log("error", f"the engine did not come back: {error}")
                    self._on_lost()
                return
            self._log("info", "reconnected to the engine")
            self._after_batch()

    def _read(self) -> None:
        connection = self._socket
        if connection is None:
            return
        receive = connection.recv
        is_watching = False
        while True:
            if is_watching and not _has_come(connection):
                is_watching = self._look()
                continue
            try:
                data = receive(_READ_BYTES)
            except OSError:
                return
            if not data:
                return
            lines = self._framer.lines(data)
            for line in lines:
                self._hand_out(json_text.scan(str(line, "utf-8"), 0)[0])
            is_watching = self._after_batch()
            waiting = self._when_answered
            if waiting is not None and waiting.locked() and not self._has_kept():
                waiting.release()

    def _hand_out(self, message: Message) -> None:
        number = message.get("request")
        if number is None:
            self._on_push(message)
            return
        with self._table:
            request = self._requests.get(number)
            if request is None:
                return  # answered twice: sent again after a reconnect, and both replies came
            if request.keep and message.get("code") in _NOT_STORED:
                again = True
            else:
                again = False
                del self._requests[number]
        if again:
            self._send_again(number, request, message)
        else:
            request.on_reply(message)

    def _send_again(self, number: int, request: _Request, message: Message) -> None:
        delay_s = _AGAIN_AFTER_S[min(request.refusals, len(_AGAIN_AFTER_S) - 1)]
        if request.refusals in (0, 60):
            self._log("error", f"the store takes no writes, results wait in memory: {message.get('message', '')}")
        request.refusals += 1

        def resend() -> None:
            with self._table:
                # After a reconnect in between it has been sent already.
                if number in self._requests and self._is_up:
                    self._outbox.append(request.frame)
            self.flush()

        self._later(delay_s, resend)

    def _tell_lost(self) -> None:
        with self._table:
            lost = [number for number, request in self._requests.items() if not request.keep]
            requests = [self._requests.pop(number) for number in lost]
            self._outbox = []
        for request in requests:
            request.on_reply(LOST)


def frame_of(number: int, body: Message | str) -> bytes:
    """The line of a request. Raises TooLarge when the engine would not read it."""
    if type(body) is str:
        frame = f'{{"request":{number},{body}}}\n'.encode("utf-8", "backslashreplace")
    else:
        frame = framing.encode({"request": number, **body})  # type: ignore[dict-item]
    if len(frame) > framing.MAX_FRAME_BYTES:
        raise TooLarge(len(frame))
    return frame


def _has_come(connection: socket) -> bool:
    """Whether there is something to read within a millisecond."""
    from select import POLLIN, poll

    poller = poll()
    poller.register(connection.fileno(), POLLIN)
    return bool(poller.poll(1))


class Waiter:
    """A reply that a thread waits for."""

    __slots__ = ("_lock", "_reply")

    def __init__(self) -> None:
        self._lock: LockType = allocate_lock()
        self._lock.acquire()
        self._reply: Message = LOST

    def __call__(self, reply: Message) -> None:
        """Take the reply and wake who waits."""
        self._reply = reply
        self._lock.release()

    def wait(self, flush: Callable[[], None]) -> Any:
        """Have it asked, and wait. The reply's data, or the error that it stands for is raised."""
        flush()
        self._lock.acquire()
        return data_of(self._reply)


def data_of(reply: Message) -> Any:
    """The data of a reply; raises the TakoError that it stands for."""
    if reply["status"] == "ok":
        return reply.get("data")
    raise errors.from_reply(reply)
