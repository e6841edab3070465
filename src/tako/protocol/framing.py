"""JSON lines: bytes in any split go in, whole messages come out; a broken rule is fatal for the connection.

Pure: no I/O, no clock. SPEC.md section 2 has the rules.
"""

from tako.errors import InvalidRequest
from tako.protocol import json_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Message = dict[str, Any]

MAX_FRAME_BYTES = 1_048_576
MAX_DEPTH = 64


class Framer:
    """Cut a byte stream into messages.

    After a fatal error nothing more is delivered: `feed` raises the same error again. Memory held is at most
    `max_bytes` and one read. `max_bytes=None` is for replies, which have no limit.
    """

    __slots__ = ("_buffer", "_max_bytes", "error")

    def __init__(self, *, max_bytes: int | None = MAX_FRAME_BYTES) -> None:
        self._buffer = bytearray()
        self._max_bytes = max_bytes
        self.error: InvalidRequest | None = None

    def feed(self, data: bytes) -> "list[Message]":
        """The messages that `data` completes, in order.

        Raises:
            InvalidRequest: a line broke a rule. Messages before it are lost with it only if they came in the same
                call: use `lines` where those must still be answered.
        """
        return [decode(line) for line in self.lines(data)]

    def lines(self, data: bytes) -> list[bytes]:
        """The lines that `data` completes, without their newlines and not yet decoded; empty lines are skipped.

        Lines before one that is too long are returned, however the stream was cut: look at `error` after them.

        Raises:
            InvalidRequest: the first line is longer than the limit, or one was before. Close the connection.
        """
        if self.error is not None:
            raise self.error
        if not self._buffer and data.endswith(b"\n"):
            lines = data[:-1].split(b"\n")
        else:
            head, newline, tail = data.rpartition(b"\n")
            if newline:
                lines = (bytes(self._buffer) + head).split(b"\n")
                self._buffer[:] = tail
            else:
                self._buffer += data
                lines = []
        found = self._within_limit(lines)
        error: InvalidRequest | None = self.error  # found just now
        if error is not None and not found:
            raise error
        return found

    def _within_limit(self, lines: list[bytes]) -> list[bytes]:
        limit = self._max_bytes
        if limit is None:
            return [line for line in lines if line]
        fine = []
        for line in lines:
            if len(line) > limit:
                break
            fine.append(line)
        if len(fine) < len(lines) or len(self._buffer) > limit:
            self._buffer.clear()
            self.error = InvalidRequest(f"invalid request: a line is longer than {limit} bytes")
        return [line for line in fine if line]

    @property
    def buffered(self) -> int:
        """Bytes of an unfinished line."""
        return len(self._buffer)


def encode(message: "Message") -> bytes:
    """One line, newline included. Raises ValueError for NaN and Infinity, TypeError for what is not JSON.

    Half of a surrogate pair, which UTF-8 cannot say, goes out as the escape that JSON has for it.
    """
    return json_text.encode(message).encode("utf-8", "backslashreplace") + b"\n"


def decode(line: bytes) -> "Message":
    """The message in a line, strictly: an object, UTF-8, no key twice, no NaN, at most MAX_DEPTH deep.

    Raises:
        InvalidRequest: says which rule was broken.
    """
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"invalid request: not UTF-8 at byte {error.start}") from error
    try:
        message = json_text.decode_with(_scan, text)
    except InvalidRequest:
        raise
    except RecursionError as error:
        raise _too_deep() from error
    except ValueError as error:
        raise InvalidRequest(f"invalid request: not JSON: {error}") from error
    # What was read is walked, and not the text: a payload is a text in it, and may be a megabyte of brackets.
    if line.count(b"{") + line.count(b"[") > MAX_DEPTH and is_deeper(message, MAX_DEPTH):
        raise _too_deep()
    if type(message) is not dict:
        raise InvalidRequest("invalid request: a request is a JSON object")
    return message


def is_deeper(value: "Any", levels: int) -> bool:
    """Whether arrays and objects are nested in a value by more than so many levels."""
    within = [value]
    for _ in range(levels + 1):
        within = [each for each in within if type(each) is dict or type(each) is list]
        if not within:
            return False
        within = [inner for each in within for inner in (each.values() if type(each) is dict else each)]
    return True


def _too_deep() -> InvalidRequest:
    return InvalidRequest(f"invalid request: nested deeper than {MAX_DEPTH}")


def _object(pairs: "list[tuple[str, Any]]") -> "Message":
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise InvalidRequest(f"invalid request: key {key[:64]!r} stands twice in one object")
            seen.add(key)
    return found


def _constant(name: str) -> None:
    raise InvalidRequest(f"invalid request: {name} is not JSON")


def _float(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise InvalidRequest(f"invalid request: number {text[:32]} is out of range")
    return value


_scan = json_text.scanner(object_pairs_hook=_object, parse_constant=_constant, parse_float=_float)
