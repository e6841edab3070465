"""What a process prints: its spool file, followed line by line.

stdout and stderr of a process are appended to a file and not to a pipe, so that it never waits for us, that its last
words outlive it, and that it can go on printing when the daemon is restarted. What has been read is punched out of
the file, and where reading stands is kept in a file beside it, so that the next daemon goes on there.

A line is cut at 64 KiB, and control characters are made visible (X6): a log line can neither forge a second one nor
move the cursor of the terminal that shows it. What a process prints faster than it can be read is skipped, and said to
be, before it fills the disk.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import re
import sys
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tako.supervisor import inotify

KEPT_LINES = 200
MAX_LINE_BYTES = 65_536
# Read at a time, so that a loud process does not hold up the loop: it is the lines that take the time.
SLICE_BYTES = 131_072
SLICE_LINES = 200
PAUSE_S = 0.01  # between two reads: chatter makes a hundred wakes a second, not a hundred thousand
PUNCH_BYTES = 1 << 20
MAX_BACKLOG_BYTES = 64 << 20
# Of a process that has ended: its exit is told when they have been read, and somebody waits for that.
MAX_LAST_BYTES, MAX_LAST_LINES = 4 << 20, 10_000

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_UNSAFE = (*range(9), *range(10, 32), *range(127, 160), *range(0x2028, 0x202F), *range(0x2066, 0x206A))
_VISIBLE = {code: ascii(chr(code))[1:-1] for code in _UNSAFE}
_CONTROL = re.compile(f"[{''.join(re.escape(chr(code)) for code in _UNSAFE)}]")


class Reading:
    """Where the line that is being handed over ends: in which spool, at which byte. For whoever keeps lines on disk: a
    daemon that dies right after may find there what it need not read again (`go_on_at`)."""

    spool = ""
    at = 0


# One loop reads all spools, and a line is handed over without a wait; so there is one of these.
reading = Reading()


def go_on_at(spool: Path, at: int) -> None:
    """Have the next follower of a spool begin there, if its cursor lies before it."""
    fd = os.open(_cursor_of(spool), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        if _read_cursor(fd) < at:
            os.pwrite(fd, b"%020d" % at, 0)
    finally:
        os.close(fd)


def keep(text: str) -> str:
    """The redaction of a process without secrets."""
    return text


def follow(spool: Path, on_line: Callable[[str], None], *, redact: Callable[[str], str] = keep) -> Follower:
    """Hand each line of the spool to `on_line`, from where it was read to last, until `finish` or `detach`.

    Lines are cleaned and go through `redact` first; `Follower.tail` keeps the last of them. Call it on the loop.
    """
    return Follower(spool, on_line, redact=redact)


# All that are open, for `catch_up`.
_open: set[Follower] = set()


def catch_up() -> None:
    """Read what processes have printed by now, a slice of each: it is to be told before what happened after it.

    Call it on the loop.
    """
    loop = asyncio.get_running_loop()
    for follower in [one for one in _open if one.loop is loop]:
        follower.catch_up()


class Follower:
    """Reads one spool. `tail` has the last 200 lines."""

    def __init__(self, spool: Path, on_line: Callable[[str], None], *, redact: Callable[[str], str]) -> None:
        self.tail: deque[str] = deque(maxlen=KEPT_LINES)
        self._redact = redact
        self._on_line = on_line
        self.loop = asyncio.get_running_loop()
        self._path = spool
        self._file = os.open(spool, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        self._cursor = os.open(_cursor_of(spool), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        self._offset = _read_cursor(self._cursor)
        self._punched = self._offset
        self._rest = b""  # the beginning of a line whose end has not come yet
        self._has_secrets = False  # what has been read since the last hole held one
        self._cutting = False  # that line was too long and has been handed over; its end is dropped
        self._next: asyncio.TimerHandle | None = None
        self._is_open = True
        _open.add(self)
        self._unwatch = inotify.on_growth(spool, self._wake)
        self._wake()  # for what was written before the watch began

    async def finish(self) -> None:
        """Read what is left, an unfinished line too, and remove the spool: its process is gone."""
        self._keep_last_words()
        more = True
        while more:
            if not self._is_open:
                return
            more = self._read_slice()
            await asyncio.sleep(0)  # a loud process's last words are read in turns with everybody else
        if self._rest and not self._cutting:
            self._hand_over(self._rest, at=self._offset)
        self.discard()

    def discard(self) -> None:
        """Stop reading and remove the spool, read or not."""
        if not self._is_open:
            return
        self._close()
        for path in (self._path, _cursor_of(self._path)):
            with suppress(OSError):
                path.unlink()

    def detach(self) -> None:
        """Stop reading; the process lives on, and the next daemon goes on here."""
        self._close()

    def catch_up(self) -> None:
        """Read now what would be read in a moment; of a loud process, a slice of it."""
        if self._is_open:
            self._read_slice()

    # --- reading ----------------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        if self._next is None and self._is_open:
            self._next = self.loop.call_later(PAUSE_S, self._read)

    def _read(self) -> None:
        self._next = None
        if self._read_slice():
            self._wake()

    def _read_slice(self) -> bool:
        """Read once; False at the end of the file."""
        self._skip_backlog(MAX_BACKLOG_BYTES)
        chunk = os.pread(self._file, SLICE_BYTES, self._offset)
        if not chunk:
            return False
        self._offset += self._cut_into_lines(chunk)
        self._note_cursor()
        self._punch()
        return True

    def _note_cursor(self) -> None:
        # Where the next daemon is to go on: at the beginning of the line that is not complete.
        with suppress(OSError):  # a full disk: some lines may be read twice
            os.pwrite(self._cursor, b"%020d" % (self._offset - len(self._rest)), 0)

    def _keep_last_words(self) -> None:
        if not self._is_open:
            return
        self._skip_backlog(min(MAX_LAST_BYTES, MAX_BACKLOG_BYTES))
        chunk = os.pread(self._file, MAX_LAST_BYTES, self._offset)
        lines = chunk.count(b"\n")
        if lines > MAX_LAST_LINES:
            self._offset += len(chunk) - len(b"\n".join(chunk.split(b"\n")[-MAX_LAST_LINES:]))
            self._rest, self._cutting = b"", False
            self._say(f"… {lines - MAX_LAST_LINES:,} lines of output skipped: its last {MAX_LAST_LINES:,} follow")

    def _skip_backlog(self, most: int) -> None:
        size = os.fstat(self._file).st_size
        if size < self._offset:  # somebody has truncated it
            self._offset = self._punched = 0
        skipped = size - self._offset - most
        if skipped > 0:
            self._offset += skipped
            self._rest, self._cutting = b"", True  # it begins in the middle of a line
            self._say(f"… {skipped / (1 << 20):.1f} MiB of output skipped: it was printed faster than it could be read")

    def _cut_into_lines(self, chunk: bytes) -> int:
        """Hand over the lines that end in the chunk; how many of its bytes were taken. The others are read again."""
        at = self._offset - len(self._rest)
        *lines, after = chunk.split(b"\n", SLICE_LINES)
        taken = len(chunk) - len(after) if len(lines) == SLICE_LINES else len(chunk)
        if lines:
            lines[0] = self._rest + lines[0]
            self._rest = b""
        if taken == len(chunk):
            self._rest += after
        if self._cutting and lines:
            at += len(lines.pop(0)) + 1
            self._cutting = False
        for line in lines:
            at += len(line) + 1
            self._hand_over(line, at=at)
        if self._cutting:
            self._rest = b""
        elif len(self._rest) > MAX_LINE_BYTES:
            self._hand_over(self._rest, at=self._offset + taken)
            self._rest, self._cutting = b"", True
        return taken

    def _hand_over(self, line: bytes, *, at: int) -> None:
        said = line[:MAX_LINE_BYTES].decode(errors="replace")
        redacted = self._redact(said)
        self._has_secrets = self._has_secrets or redacted != said
        text = clean(redacted)
        if len(line) > MAX_LINE_BYTES:
            text += " … (cut: a line may have 64 KiB)"
        reading.spool, reading.at = self._path.name, at
        try:
            self._say(text)
        finally:
            reading.spool = ""

    def _say(self, text: str) -> None:
        self.tail.append(text)
        self._on_line(text)

    # --- the disk ---------------------------------------------------------------------------------------------------

    def _punch(self) -> None:
        """Give what has been read back to the disk; a secret that was printed at once, and to the byte."""
        if self._offset - self._punched < PUNCH_BYTES and not self._has_secrets:
            return
        end = self._offset - len(self._rest)
        if _punch_hole(self._file, end if self._has_secrets else end & ~4095):
            self._punched = self._offset
            self._has_secrets = False
        elif os.fstat(self._file).st_size == self._offset and not self._rest:
            # A line that is appended between these two calls is lost; better than a full disk.
            os.ftruncate(self._file, 0)
            self._offset = self._punched = 0
            self._note_cursor()

    def _close(self) -> None:
        if not self._is_open:
            return
        self._is_open = False
        _open.discard(self)
        self._unwatch()
        if self._next is not None:
            self._next.cancel()
            self._next = None
        os.close(self._file)
        os.close(self._cursor)


def clean(text: str) -> str:
    """The text without colours, and with all other control characters made visible."""
    text = _COLOUR.sub("", text.removesuffix("\r"))
    return text.translate(_VISIBLE) if _CONTROL.search(text) else text


def plain(line: str) -> str:
    """The text of a structured line, `{"msg": …}`; any other line as it is. For people who are shown the last lines."""
    if line.startswith('{"msg"'):
        with suppress(ValueError, RecursionError, KeyError):
            return clean(str(json.loads(line)["msg"]))
    return line


def _cursor_of(spool: Path) -> Path:
    return spool.with_name(spool.name + ".cursor")


def _read_cursor(fd: int) -> int:
    try:
        return int(os.pread(fd, 20, 0) or b"0")
    except ValueError:
        return 0


def _punch_hole(fd: int, end: int) -> bool:
    """Free the file's blocks before `end`; its size stays. False where the file system cannot."""
    if not sys.platform.startswith("linux"):
        return False
    keep_size, punch_hole = 1, 2
    libc = ctypes.CDLL(None, use_errno=True)
    result: int = libc.fallocate(fd, keep_size | punch_hole, ctypes.c_int64(0), ctypes.c_int64(end))
    return end == 0 or result == 0
