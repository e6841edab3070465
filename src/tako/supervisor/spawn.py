"""Start a process: argument vector, environment, folder, fd 3 and further fds, spool, session of its own.

`posix_spawn` and not `subprocess`, because a child needs certain things on certain fd numbers, because what fails
must be told as an errno and a path, and because fork-and-exec from the daemon costs more the more memory it has.
`os.posix_spawn` cannot change the folder (and to change the daemon's own for a moment would move it under its other
threads), so libc's function is called directly: it has had `addchdir_np` in glibc since 2.29, in musl since
1.1.24 and in macOS since 10.15.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import shutil
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tako.protocol import envelope
from tako.supervisor.child import Child

# Our copies lie above all numbers that a child may ask for, so that no dup2 overwrites the source of a later one.
_LOWEST_OWN_FD = 64

# Values of <spawn.h>; the same in glibc, musl and macOS, but for the session flag.
_SETSIGDEF, _SETSIGMASK = 0x04, 0x08
_SETSID = 0x0400 if sys.platform == "darwin" else 0x80
_CLOEXEC_ALL = 0x4000 if sys.platform == "darwin" else 0  # keep open only what the file actions name
_OPAQUE_BYTES = 1024  # larger than posix_spawnattr_t, posix_spawn_file_actions_t and sigset_t anywhere


class SpawnFailed(Exception):
    """The process could not be started. `words` is errno's text and the path it is about."""

    def __init__(self, words: str, *, errno: int | None) -> None:
        super().__init__(words)
        self.words = words
        self.errno = errno


@dataclass(frozen=True, slots=True)
class SpawnRequest:
    """What to start. `argv[0]` is looked up in `cwd` when it has a slash, else in the PATH of `env`.

    `envelope` comes on fd 3, then end of file. `fds` maps further fd numbers of the child to fds of ours, which stay
    ours. stdin is empty; stdout and stderr are appended to `spool`. `memory_bytes` is a limit for who can set one.
    """

    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: Path
    envelope: bytes
    spool: Path
    fds: Mapping[int, int] = field(default_factory=dict)
    memory_bytes: int | None = None


def spawn(request: SpawnRequest) -> Child:
    """Start the process, in a session and process group of its own. Call it on the event loop's thread.

    Raises:
        SpawnFailed: nothing was started.
    """
    return Child.started(start(request))


def start(request: SpawnRequest) -> int:
    """Start the process as `spawn` does, but only return its pid: the caller must wait for it.

    Raises:
        SpawnFailed: nothing was started.
    """
    program = _find_program(request)
    with ExitStack() as ours:
        try:
            wanted = _child_fds(request, ours)
            child_fds = {number: _above(fd, ours) for number, fd in wanted.items()}
        except OSError as error:
            raise SpawnFailed(str(error), errno=error.errno) from error
        return _posix_spawn(program, request, child_fds)


def envelope_fd(content: bytes) -> int:
    """An fd from which `content` can be read to its end, written without waiting for any reader.

    A pipe, grown as needed, since what was read from a pipe is gone. What exceeds the largest pipe an ordinary user
    may have (1 MiB as Linux comes) goes into a sealed memfd; where there is none, into a socket pair.
    """
    fd = _filled_pipe(content)
    if fd is None:
        fd = _filled_memfd(content) if hasattr(os, "memfd_create") else _filled_socket(content)
    return fd


def _child_fds(request: SpawnRequest, ours: ExitStack) -> dict[int, int]:
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    spool = os.open(request.spool, flags, 0o600)
    ours.callback(os.close, spool)
    empty = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    ours.callback(os.close, empty)
    letter = envelope_fd(request.envelope)
    ours.callback(os.close, letter)
    return {0: empty, 1: spool, 2: spool, envelope.ENVELOPE_FD: letter, **request.fds}


def _above(fd: int, ours: ExitStack) -> int:
    copy = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _LOWEST_OWN_FD)
    ours.callback(os.close, copy)
    return copy


def _filled_pipe(content: bytes) -> int | None:
    reader, writer = os.pipe2(os.O_CLOEXEC) if hasattr(os, "pipe2") else os.pipe()
    try:
        os.set_blocking(writer, False)
        if len(content) > 65536 and hasattr(fcntl, "F_SETPIPE_SZ"):
            fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, len(content))
        if not content or os.write(writer, content) == len(content):
            return os.dup(reader)  # not inheritable, as all fds that Python makes
    except OSError:
        # Too large for this user (EPERM), or the user's pipe pages are used up (a pipe of one page, then EAGAIN).
        return None
    finally:
        os.close(reader)
        os.close(writer)
    return None


def _filled_memfd(content: bytes) -> int:
    fd = os.memfd_create("envelope", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    view, at = memoryview(content), 0
    while at < len(content):
        at += os.pwrite(fd, view[at:], at)  # pwrite: the child reads from offset 0
    seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


def _filled_socket(content: bytes) -> int:
    reader, writer = socket.socketpair()
    with reader, writer:
        writer.setblocking(False)
        writer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, len(content) + 4096)
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, len(content) + 4096)
        sent = 0
        while sent < len(content):
            sent += writer.send(content[sent:])
        return os.dup(reader.fileno())


def _find_program(request: SpawnRequest) -> str:
    name = request.argv[0]
    if "/" in name:
        return str(request.cwd / name)
    found = shutil.which(name, path=request.env.get("PATH", os.defpath))
    if found is None:
        raise SpawnFailed(_words(errno.ENOENT, name), errno=errno.ENOENT)
    return found


# --- libc -----------------------------------------------------------------------------------------------------------

_libc = ctypes.CDLL(None, use_errno=True)


def _posix_spawn(program: str, request: SpawnRequest, fds: Mapping[int, int]) -> int:
    pid = ctypes.c_int()
    actions, attributes = _buffer(), _buffer()
    _check(_libc.posix_spawn_file_actions_init(actions))
    _check(_libc.posix_spawnattr_init(attributes))
    try:
        for number, fd in fds.items():
            _check(_libc.posix_spawn_file_actions_adddup2(actions, fd, number))
        _close_the_rest(actions, fds)
        _check(_libc.posix_spawn_file_actions_addchdir_np(actions, os.fsencode(request.cwd)))
        _fresh_signals(attributes)
        argv = _strings(request.argv)
        env = _strings([f"{name}={value}" for name, value in request.env.items()])
        failed = _libc.posix_spawn(ctypes.byref(pid), os.fsencode(program), actions, attributes, argv, env)
    finally:
        _libc.posix_spawnattr_destroy(attributes)
        _libc.posix_spawn_file_actions_destroy(actions)
    if failed:
        raise SpawnFailed(_explain(failed, program=program, request=request), errno=failed)
    return pid.value


def _close_the_rest(actions: ctypes.Array[ctypes.c_char], fds: Mapping[int, int]) -> None:
    # What Python opens does not reach a child, but what we inherited ourselves would: a shell's, an older engine's.
    highest = max(fds)
    for number in range(highest):
        if number not in fds:
            _check(_libc.posix_spawn_file_actions_addclose(actions, number))
    if hasattr(_libc, "posix_spawn_file_actions_addclosefrom_np"):  # glibc since 2.34
        _check(_libc.posix_spawn_file_actions_addclosefrom_np(actions, highest + 1))


def _fresh_signals(attributes: ctypes.Array[ctypes.c_char]) -> None:
    # Python ignores SIGPIPE, and a daemon may block or ignore others; a child starts with none of that.
    everything, nothing = _buffer(), _buffer()
    _libc.sigfillset(everything)
    _libc.sigemptyset(nothing)
    _check(_libc.posix_spawnattr_setsigdefault(attributes, everything))
    _check(_libc.posix_spawnattr_setsigmask(attributes, nothing))
    _check(
        _libc.posix_spawnattr_setflags(attributes, ctypes.c_short(_SETSIGDEF | _SETSIGMASK | _SETSID | _CLOEXEC_ALL))
    )


def _buffer() -> ctypes.Array[ctypes.c_char]:
    return ctypes.create_string_buffer(_OPAQUE_BYTES)


def _strings(texts: Sequence[str]) -> ctypes.Array[ctypes.c_char_p]:
    return (ctypes.c_char_p * (len(texts) + 1))(*[os.fsencode(text) for text in texts], None)


def _check(failed: int) -> None:
    if failed:
        raise SpawnFailed(os.strerror(failed), errno=failed)


def _explain(failed: int, *, program: str, request: SpawnRequest) -> str:
    """The errno and what it is about. ENOENT has four causes that look alike; people lose hours to three of them."""
    name = request.argv[0]
    if not request.cwd.is_dir():
        return _words(errno.ENOTDIR if request.cwd.exists() else errno.ENOENT, str(request.cwd))
    if failed == errno.ENOENT and os.path.islink(program) and not os.path.exists(program):  # noqa: PTH114, PTH110
        return f"{_words(failed, name)} (it is a link to {os.path.realpath(program)!r}, which is gone)"
    if failed == errno.ENOENT and os.path.exists(program):  # noqa: PTH110
        return f"{_words(failed, name)} (the file is there, but the interpreter that its first line names is not)"
    return _words(failed, name)


def _words(number: int, path: str) -> str:
    return str(OSError(number, os.strerror(number), path))
