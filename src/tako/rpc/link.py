"""One socket to the engine, shared by all threads of a process: many requests in flight, no thread of its own.

A caller puts its frame into the outbox. Then it fills whatever role is free, else it waits to be woken:

- sending: one thread sends all that lies in the outbox in one call;
- reading: one thread receives, hands each reply to the call it names, and lets go of the role with its own reply.

So a lone caller makes one `send` and one `recv` and never waits for another thread, and of 32 callers most only wait,
while their frames and replies travel together. Who leaves a role free wakes one of those that wait.

Who is interrupted in a role (Ctrl-C) breaks the link: bytes may have been lost half-way. The others ask anew.
"""

import _socket
import time
from _socket import AF_UNIX, SHUT_RDWR, SO_RCVTIMEO, SO_SNDTIMEO, SOCK_STREAM, SOL_SOCKET, socket
from _struct import pack
from _thread import RLock, allocate_lock

from tako.protocol.framing import Framer
from tako.rpc import request as requests

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _thread import LockType
    from collections.abc import Callable, Sequence
    from typing import Any, Protocol

    class Sent(Protocol):
        """What `unmark` needs of a call."""

        line: bytes
        may_be_known: bool

    Message = dict[str, Any]

# A program that has set SIGPIPE back to its default, as filters do, must not be killed by an engine that has gone.
NO_SIGNAL = getattr(_socket, "MSG_NOSIGNAL", 0)  # not everywhere on macOS
_READ_BYTES = 65_536
# How long a send blocks before its deadline is looked at again.
_SEND_TICK_S = 0.25
_WAIT, _SEND, _READ, _DONE = 0, 1, 2, 3


class Call:
    """A request on this link. `may_be_known`: its line may be complete at the other end."""

    __slots__ = ("deadline", "line", "may_be_known", "number", "reply", "role", "wake")

    def __init__(self, request: "requests.Request") -> None:
        self.number = request.number
        self.line = request.line
        self.deadline = request.deadline
        self.may_be_known = False
        self.role = _WAIT
        self.reply: Message | None = None
        self.wake: LockType = allocate_lock()
        self.wake.acquire()


class Link:
    """A connected socket. `is_broken` never becomes false again; `refusal` is the error that ended it, if one came."""

    __slots__ = (
        "_calls", "_framer", "_introduction", "_is_reading", "_is_sending", "_outbox", "_receive_timeout",
        "_socket", "_table", "_waiting", "is_broken", "refusal", "was_alone",
    )  # fmt: skip

    def __init__(self, path: str, introduction: bytes, dial: "Callable[[], socket] | None" = None) -> None:
        """Connect. Raises OSError: nobody listens, or (BlockingIOError) too many are waiting to be let in.

        `dial` connects in another way than to `path`, and may raise what it likes.
        """
        self._introduction = introduction
        self._framer = Framer(max_bytes=None)
        # Over all that follows. A thread may hold it twice: a signal's handler can interrupt it here, and enqueue too.
        self._table = RLock()
        self._outbox: list[Call] = []
        self._calls: dict[int, Call] = {}
        self._waiting: dict[int, Call] = {}
        self._is_sending = False
        self._is_reading = False
        self._receive_timeout = 0.0
        self.is_broken = False
        self.refusal: Message | None = None
        self.was_alone = False  # when `refusal` came, one request was in flight: it is the one that was refused
        # Kernel timeouts, not settimeout: that one asks poll() before each recv(), a call more for every enqueue.
        self._socket = socket(AF_UNIX, SOCK_STREAM) if dial is None else dial()
        try:
            self._socket.setsockopt(SOL_SOCKET, SO_SNDTIMEO, timeval(_SEND_TICK_S))
            if dial is None:
                self._socket.connect(path)
        except BaseException:
            self._socket.close()
            raise

    def exchange(self, call: Call) -> None:
        """Send the request and wait. Returns with its reply, at its deadline, or when the link is broken."""
        try:
            role = self._enter(call)
            while role != _DONE:
                if role == _SEND:
                    self._send(call)
                elif role == _READ:
                    self._read(call)
                else:
                    self._wait(call)
                    if call.role == _DONE:
                        break
                role = self._next_role(call)
        finally:
            if call.role != _DONE:
                self._leave(call)

    def close(self) -> None:
        """Close it; calls in flight find it broken. Twice is harmless."""
        with self._table:
            self._break()

    def abandon(self) -> None:
        """Close this process's copy of the descriptor and nothing else: the parent goes on using the connection."""
        self._socket.close()

    # --- roles ---

    def _enter(self, call: Call) -> int:
        with self._table:
            if self.is_broken:
                return _DONE
            self._calls[call.number] = call
            self._outbox.append(call)
            return self._next_role(call)

    def _next_role(self, call: Call) -> int:
        with self._table:
            is_over = call.reply is not None or time.monotonic() >= call.deadline
            if self.is_broken or (is_over and not self._is_left_unsent()):
                return _DONE
            if self._outbox and not self._is_sending:
                call.role = _SEND
                self._is_sending = True
            elif not self._is_reading:
                call.role = _READ
                self._is_reading = True
            else:
                self._waiting[call.number] = call
            self._fill_roles()
            return call.role

    def _is_left_unsent(self) -> bool:
        """Whether the reader's own frame lies in the outbox, since another was sending when it began to read, and
        nobody waits who could send it. It would wait for a reply to what never left; so who leaves sends it first."""
        return bool(self._outbox) and self._is_reading and not self._is_sending and not self._waiting

    def _fill_roles(self) -> None:
        """Wake one that waits for each role that is free and needed. Called with the table held."""
        if self._waiting and self._outbox and not self._is_sending:
            self._waiting.popitem()[1].wake.release()
        if self._waiting and not self._is_reading:
            self._waiting.popitem()[1].wake.release()

    def _end_role(self, call: Call, *, is_well: bool) -> None:
        """Let go of the role. Called with the table held."""
        if call.role == _SEND:
            self._is_sending = False
        elif call.role == _READ:
            self._is_reading = False
        call.role = _WAIT
        if self.is_broken or not is_well:
            self._break()

    def _leave(self, call: Call) -> None:
        with self._table:
            if call.role != _WAIT:
                self._end_role(call, is_well=False)  # interrupted
            self._calls.pop(call.number, None)
            self._waiting.pop(call.number, None)
            if call in self._outbox:
                self._outbox.remove(call)
            self._fill_roles()

    def _wait(self, call: Call) -> None:
        if call.wake.acquire(timeout=max(0.0, call.deadline - time.monotonic())):
            return
        with self._table:
            if self._waiting.pop(call.number, None) is None:
                call.wake.acquire()  # woken just now; whoever did has released it

    # --- sending ---

    def _send(self, sender: Call) -> None:
        with self._table:
            batch, self._outbox = self._outbox, []
            head, self._introduction = self._introduction, b""
            for call in batch:
                call.may_be_known = True
        data = batch[0].line if len(batch) == 1 else b"".join([call.line for call in batch])
        if head:
            data = head + data[1:]
        sent, is_stuck = self._send_all(data, sender.deadline)
        if sent < len(data):
            unmark(batch, sent - max(0, len(head) - 1))
        with self._table:
            # If the other end is gone, the reader finds it out, and what it said before.
            self._end_role(sender, is_well=not is_stuck)

    def _send_all(self, data: bytes, deadline: float) -> tuple[int, bool]:
        """How many bytes the other end has taken; then whether it took no more until the deadline."""
        sent = 0
        rest = memoryview(data)
        while rest:
            try:
                count = self._socket.send(rest, NO_SIGNAL)
            except BlockingIOError:
                if self.is_broken or time.monotonic() >= deadline:
                    return sent, True
                with self._table:
                    self._fill_roles()  # it may be stuck because nobody reads what it sends
                continue
            except OSError:
                break
            sent += count
            rest = rest[count:]
        return sent, False

    # --- reading ---

    def _read(self, reader: Call) -> None:
        is_well = True
        self._limit(reader.deadline - time.monotonic())
        data: bytes | None = None
        try:
            data = self._socket.recv(_READ_BYTES)
        except BlockingIOError:
            pass  # the deadline; nothing is lost by reading on later
        except OSError:
            is_well = False
        with self._table:
            if data is not None:
                is_well = self._hand_out(data)
            self._end_role(reader, is_well=is_well)

    def _limit(self, left_s: float) -> None:
        """Let `recv` block until about the deadline. In steps, so that calls of equal deadlines rarely set it anew."""
        step = 4 if left_s > 1 else 50
        timeout = max(1, int(left_s * step) + 1) / step
        if timeout != self._receive_timeout:
            self._socket.setsockopt(SOL_SOCKET, SO_RCVTIMEO, timeval(timeout))
            self._receive_timeout = timeout

    def _hand_out(self, data: bytes) -> bool:
        """Give each reply to its call. False at the end of the connection, also if what listens there is no engine."""
        for line in self._framer.lines(data):
            try:
                reply = requests.read_reply(line)
            except ValueError:
                return False
            number = reply.get("request")
            if number is None:
                self.refusal = reply
                self.was_alone = len(self._calls) == 1
                return False
            call = self._calls.pop(number, None)
            if call is None:
                continue  # its caller has given up
            call.reply = reply
            if self._waiting.pop(number, None):
                call.role = _DONE  # it has no role to pass on, and is in no table any more: it need not come back here
                call.wake.release()
        return bool(data)

    # --- the end ---

    def _break(self) -> None:
        """Wake everybody. The descriptor is closed by the last who uses it: its number must not mean another file."""
        if not self.is_broken:
            self.is_broken = True
            try:  # noqa: SIM105 - contextlib is not loaded in a cold process
                self._socket.shutdown(SHUT_RDWR)
            except OSError:
                pass  # the other side was first
            while self._waiting:
                self._waiting.popitem()[1].wake.release()
        if not self._is_sending and not self._is_reading:
            self._socket.close()


def unmark(batch: "Sequence[Sent]", sent: int) -> None:
    """Of the first `sent` bytes of a batch: what was not sent to its newline cannot have been acted on."""
    for call in batch:
        sent -= len(call.line)
        if sent < 0:
            call.may_be_known = False


def timeval(seconds: float) -> bytes:
    """What SO_RCVTIMEO and SO_SNDTIMEO are given; 0 means without end."""
    return pack("@ll", int(seconds), int(seconds % 1 * 1_000_000))
