"""Tell when a file grows, without looking at it again and again: inotify on Linux, a slow look elsewhere.

Python has no inotify of its own, and `watchfiles` brings a thread and a debounce per watch; two libc calls are all
that is needed. One instance serves a whole event loop, because a user may have only 128 of them.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import struct
import weakref
from collections.abc import Callable
from pathlib import Path

_IN_MODIFY = 0x02
_IN_NONBLOCK, _IN_CLOEXEC = os.O_NONBLOCK, os.O_CLOEXEC
_EVENT = struct.Struct("iIII")  # watch, mask, cookie, length of the name that follows
_POLL_S = 0.1

_instances: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Inotify] = weakref.WeakKeyDictionary()
_libc = ctypes.CDLL(None, use_errno=True)


def on_growth(path: Path, call: Callable[[], None]) -> Callable[[], None]:
    """Call `call` on the running loop whenever the file is written to. Returns what ends that.

    Several writes may make one call. A call may come without anything new.
    """
    loop = asyncio.get_running_loop()
    try:
        inotify = _instances.get(loop) or _Inotify(loop)
        return inotify.watch(path, call)
    except OSError:  # not Linux, or the user's watches are used up
        return _poll(loop, call)


class _Inotify:
    """One inotify instance: opened by the first watch of a loop, closed with the last."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        if not hasattr(_libc, "inotify_init1"):
            raise OSError("no inotify here")
        self._loop = loop
        self._calls: dict[int, Callable[[], None]] = {}
        self._fd = _checked(_libc.inotify_init1(_IN_NONBLOCK | _IN_CLOEXEC))
        loop.add_reader(self._fd, self._read)
        _instances[loop] = self

    def watch(self, path: Path, call: Callable[[], None]) -> Callable[[], None]:
        """Begin to watch one file. A file can be watched once at a time."""
        try:
            number = _checked(_libc.inotify_add_watch(self._fd, os.fsencode(path), _IN_MODIFY))
        except OSError:
            self._close_if_unused()
            raise
        self._calls[number] = call
        return lambda: self._unwatch(number)

    def _unwatch(self, number: int) -> None:
        if self._calls.pop(number, None) is not None:
            _libc.inotify_rm_watch(self._fd, number)
            self._close_if_unused()

    def _close_if_unused(self) -> None:
        if not self._calls:
            _instances.pop(self._loop, None)
            self._loop.remove_reader(self._fd)
            os.close(self._fd)

    def _read(self) -> None:
        try:
            events = os.read(self._fd, 65536)
        except BlockingIOError:
            return
        at, grown = 0, set()
        while at < len(events):
            number, _, _, length = _EVENT.unpack_from(events, at)
            grown.add(number)
            at += _EVENT.size + length
        # When events were lost (number -1: the queue was full), anybody may have grown.
        for number, call in list(self._calls.items()):
            if number in grown or -1 in grown:
                call()


def _poll(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> Callable[[], None]:
    timer: asyncio.TimerHandle | None = None

    def look() -> None:
        nonlocal timer
        timer = loop.call_later(_POLL_S, look)
        call()

    look()

    def stop() -> None:
        if timer is not None:
            timer.cancel()

    return stop


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
