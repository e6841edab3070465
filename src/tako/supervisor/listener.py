"""The app's listening socket: the daemon binds it and holds it, instances inherit it, and its queue outlives them all.

Because the queue of connections belongs to the socket and not to a process, no request is refused while instances
replace each other or none runs at all: it waits in the kernel. `when_wanted` is what makes scale to zero out of that.
"""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

from tako.errors import TakoError

BACKLOG = 2048
# sun_path of struct sockaddr_un, less its NUL; 108 on Linux, 104 on macOS.
MAX_PATH_BYTES = 103


class Listener:
    """A listening unix socket with a path. A `with` or `close` ends it; closing twice does no harm."""

    def __init__(self, sock: socket.socket, path: Path) -> None:
        self.path = path
        self._sock = sock
        self._bound = _identity(path)

    @classmethod
    def adopt(cls, sock: socket.socket, path: Path) -> Listener:
        """The listener that an earlier daemon had bound at `path`. The socket is ours from now on."""
        sock.setblocking(False)
        return cls(sock, path)

    def identity(self) -> list[int]:
        """Names this very socket at this very path; the same in another process that has inherited it."""
        return identity_of(self._sock, self.path)

    @classmethod
    def bind(cls, path: Path, *, group: int | None = None) -> Listener:
        """Listen at `path`, in place of whatever lies there; only this user can connect, from the first instant on, and
        `group`, if one is named.

        Bound under another name and renamed: nobody finds a socket that does not listen yet, and a program that removes
        the name it was bound to, as some servers do at exit, does not remove this one.

        Raises:
            TakoError: the path is too long for a socket, or its folder cannot be written.
        """
        temporary = path.with_name(f".{path.name[:20]}.{os.getpid()}")
        longest = max(len(os.fsencode(path)), len(os.fsencode(temporary)))
        if longest > MAX_PATH_BYTES:
            raise TakoError(
                f"The path of a socket may have {MAX_PATH_BYTES} bytes, and {path} has {longest}.",
                cure="Set XDG_RUNTIME_DIR to a folder with a shorter path.",
            )
        sock = socket.socket(socket.AF_UNIX)
        try:
            temporary.unlink(missing_ok=True)
            before = os.umask(0o177)
            try:
                sock.bind(str(temporary))
            finally:
                os.umask(before)
            if group is not None:
                os.chown(temporary, -1, group)
                temporary.chmod(0o660)
            sock.listen(BACKLOG)
            sock.setblocking(False)
            temporary.rename(path)
        except OSError as error:
            sock.close()
            raise TakoError(f"The app's socket cannot be made at {path}: {error.strerror}.") from error
        return cls(sock, path)

    def fileno(self) -> int:
        """The fd to lend to an instance."""
        return self._sock.fileno()

    def copy(self) -> socket.socket:
        """Another socket object on the same queue, for who accepts in this process. Closing it closes nothing else."""
        return self._sock.dup()

    async def when_wanted(self) -> None:
        """Return when a connection waits in the queue. Only while nobody accepts does that mean that nobody will."""
        loop = asyncio.get_running_loop()
        wanted = loop.create_future()
        # A copy, since a loop watches an fd for one reader only, and somebody may be accepting from ours.
        with self.copy() as watched:
            loop.add_reader(watched, lambda: None if wanted.done() else wanted.set_result(None))
            try:
                await wanted
            finally:
                loop.remove_reader(watched)

    def close(self) -> None:
        """Stop listening and remove the path, if it is still ours. Connections that wait in the queue are reset."""
        if self._sock.fileno() < 0:
            return
        if self._is_at_path():
            self.path.unlink(missing_ok=True)
        self._sock.close()

    def _is_at_path(self) -> bool:
        # A daemon that was started while we ended has bound the path anew.
        try:
            return _identity(self.path) == self._bound
        except FileNotFoundError:
            return False

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def identity_of(sock: socket.socket, path: Path) -> list[int]:
    """What `Listener.identity` was, if this is its socket and nobody has bound the path anew. Raises OSError."""
    return [os.fstat(sock.fileno()).st_ino, *_identity(path)]


def _identity(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_dev, found.st_ino
