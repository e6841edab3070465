"""HTTP/1 message heads and where bodies end: as much as a relay must know to keep requests apart. Pure, no I/O.

Strict on purpose. Two parsers that read one stream differently are how requests are smuggled past a relay, so
whatever could be read in two ways is refused: bare newlines, folded lines, spaces before a colon, two lengths, a length
beside chunks, two hosts, absolute targets.
"""

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_HEAD_BYTES = 65_536
MAX_CHUNK_LINE_BYTES = 4_096

END = b"\r\n\r\n"

_REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}) ([!-~\x80-\xff]+) HTTP/1\.([01])")
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9]{2})(?: [^\r\n\0]*)?")
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n\0]*)?")
# Fields that speak of one connection only, and so are not relayed.
HOP_BY_HOP = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"upgrade", b"http2-settings", b"te"})

CHUNKED = -1
UNTIL_CLOSE = -2


class BadMessage(ValueError):
    """The bytes are no HTTP/1 message that can be relayed; the text says why."""


class Request:
    """The head of a request. `length` is that of the body: a number of bytes, or CHUNKED. `host` is in lowercase."""

    __slots__ = ("fields", "host", "is_websocket", "keeps_alive", "length", "method", "target", "version")

    def __init__(self, head: bytes) -> None:
        """Read a head: everything before its empty line. Raises BadMessage."""
        first, fields = _split(head)
        found = _REQUEST_LINE.fullmatch(first)
        if found is None:
            raise BadMessage("the first line is not that of an HTTP/1 request")
        self.method, self.target, self.version = found.groups()
        if not self.target.startswith(b"/") and not (self.target == b"*" and self.method == b"OPTIONS"):
            raise BadMessage("the target does not begin with /: this is no forward proxy")
        self.fields = fields
        named = _by_name(fields)
        hosts = named.get(b"host", [])
        if len(hosts) != 1:
            raise BadMessage("there must be one Host")
        self.host = hosts[0].lower()
        tokens = _tokens(named.get(b"connection", []))
        self.length = _length(named, version=self.version) or 0
        self.is_websocket = b"upgrade" in tokens and named.get(b"upgrade", [b""])[0].lower() == b"websocket"
        self.keeps_alive = b"close" not in tokens and (self.version == b"1" or b"keep-alive" in tokens)

    def render(self, *, without: "Iterable[bytes]" = (), add: bytes = b"") -> bytes:
        """The head again, with its empty line, without some fields (by lowercase name), and with the lines `add`."""
        dropped = frozenset(without)
        lines = [b"%s %s HTTP/1.%s\r\n" % (self.method, self.target, self.version)]
        lines += [b"%s: %s\r\n" % field for field in self.fields if field[0].lower() not in dropped]
        return b"".join((*lines, add, b"\r\n"))


class Response:
    """The head of a response. `length` is that of the body: a number of bytes, CHUNKED, or UNTIL_CLOSE."""

    __slots__ = ("keeps_alive", "length", "status")

    def __init__(self, head: bytes, *, method: bytes) -> None:
        """Read a head: everything before its empty line. `method` is that of the request. Raises BadMessage."""
        first, fields = _split(head)
        found = _STATUS_LINE.fullmatch(first)
        if found is None:
            raise BadMessage("the first line is not that of an HTTP/1 response")
        self.status = int(found[2])
        named = _by_name(fields)
        tokens = _tokens(named.get(b"connection", []))
        self.keeps_alive = b"close" not in tokens and (found[1] == b"1" or b"keep-alive" in tokens)
        length = _length(named, version=found[1])
        if method == b"HEAD" or self.status < 200 or self.status in (204, 304):
            self.length = 0
        else:
            self.length = UNTIL_CLOSE if length is None else length
        if self.length == UNTIL_CLOSE:
            self.keeps_alive = False


class Body:
    """Where a body ends in a stream. `length` as Request and Response have it."""

    __slots__ = ("_awaited", "_left", "_length", "_line", "is_done")

    def __init__(self, length: int) -> None:
        self._length = length
        self._left = max(length, 0)
        self._line = b""
        self._awaited = _SIZE
        self.is_done = length == 0

    def take(self, data: bytes) -> int:
        """How many of these bytes belong to the body; after that many it `is_done`, or all of them do.

        Raises:
            BadMessage: chunks that are none.
        """
        if self._length == UNTIL_CLOSE:
            return len(data)
        if self._length == CHUNKED:
            return self._take_chunks(data)
        taken = min(self._left, len(data))
        self._left -= taken
        self.is_done = self._left == 0
        return taken

    def _take_chunks(self, data: bytes) -> int:
        at = 0
        while at < len(data) and not self.is_done:
            if self._left:
                skipped = min(self._left, len(data) - at)
                self._left -= skipped
                at += skipped
                continue
            end = data.find(b"\n", at)
            stop = len(data) if end < 0 else end + 1
            self._line += data[at:stop]
            at = stop
            if len(self._line) > MAX_CHUNK_LINE_BYTES:
                raise BadMessage("a chunk's line is too long")
            if end >= 0:
                self._end_line()
        return at

    def _end_line(self) -> None:
        line, self._line = self._line, b""
        if not line.endswith(b"\r\n") or b"\r" in line[:-2]:
            raise BadMessage("a chunk's line ends wrongly")
        line = line[:-2]
        if self._awaited == _TRAILER:
            self.is_done = not line
        elif self._awaited == _DATA_END:
            if line:
                raise BadMessage("a chunk is longer than its size")
            self._awaited = _SIZE
        else:
            found = _CHUNK_LINE.fullmatch(line)
            if found is None:
                raise BadMessage("a chunk's size is no hexadecimal number")
            self._left = int(found[1], 16)
            self._awaited = _DATA_END if self._left else _TRAILER


_SIZE, _DATA_END, _TRAILER = 0, 1, 2


def _split(head: bytes) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    if len(head) > MAX_HEAD_BYTES:
        raise BadMessage("the head is too long")
    first, *lines = head.split(b"\r\n")
    fields = []
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or _NAME.fullmatch(name) is None or _CONTROL.search(value) is not None:
            raise BadMessage("a line of the head is no field")
        fields.append((name, value.strip(b" \t")))
    return first, fields


def _by_name(fields: list[tuple[bytes, bytes]]) -> dict[bytes, list[bytes]]:
    named: dict[bytes, list[bytes]] = {}
    for name, value in fields:
        named.setdefault(name.lower(), []).append(value)
    return named


def _tokens(values: list[bytes]) -> list[bytes]:
    return [token.strip().lower() for value in values for token in value.split(b",")] if values else []


def _length(named: dict[bytes, list[bytes]], *, version: bytes) -> int | None:
    """The length that a head declares: None when it declares none."""
    lengths = named.get(b"content-length", [])
    codings = named.get(b"transfer-encoding", [])
    if codings:
        if lengths or version == b"0":
            raise BadMessage("a length beside chunks")
        if [coding.lower() for coding in codings] != [b"chunked"]:
            raise BadMessage("a transfer coding that is not chunked")
        return CHUNKED
    if not lengths:
        return None
    if len(lengths) > 1 or not re.fullmatch(rb"[0-9]{1,18}", lengths[0]):
        raise BadMessage("a length that is no number, or two")
    return int(lengths[0])
