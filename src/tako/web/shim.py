"""Stand in front of any server that is started by a command, and keep an instance's contract for it.

The command listens on `$PORT` of `$HOST` (both are also replaced in its arguments), or, with `listen = "fd"`, on the
listening socket that systemd's LISTEN_FDS describes. Each connection that is accepted from the shared listener is
relayed to it, so that serving, pausing and counting what is in flight work as for an app of our own. `fd` is a
socket of this instance alone and not the shared one: a server would accept from that before it is let, and nobody
could pause it.
"""

from __future__ import annotations

import asyncio
import errno
import faulthandler
import fcntl
import json
import os
import re
import shutil
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tako.protocol import control, envelope
from tako.web.line import Line, Message, bind_private
from tako.web.relay import Client, Upstream

HOST = "127.0.0.1"
BACKLOG = 2048
GRACE_S = 0.3
_ABOVE = 64  # our copies lie above the numbers that a command is given
_FIRST_LISTEN_FD = 3  # systemd's SD_LISTEN_FDS_START
_LETTER_FD = 4
_PLACEHOLDER = re.compile(r"\$(?:\{(HOST|PORT)\}|(HOST|PORT)\b)")


def run(arguments: control.Arguments, *, letter: envelope.Envelope, began: float) -> int:
    """Run `arguments.command` until drained. The exit code: 0 drained, else the command's own, if it ended by itself.

    `letter` is the envelope, which the command finds on the fd that TAKO_ENVELOPE_FD names.
    """
    faulthandler.cancel_dump_traceback_later()  # where we wait is not where the command hangs
    return asyncio.run(Shim(arguments, letter=letter, began=began).run())


class Shim:
    """The instance of a command."""

    def __init__(self, arguments: control.Arguments, *, letter: envelope.Envelope, began: float) -> None:
        self._arguments = arguments
        self._letter = letter
        self._began = began
        self._line = Line(self, orphan_timeout_s=arguments.orphan_timeout_ms / 1000)
        self._shared: socket.socket | None = None
        self._serving: asyncio.Server | None = None
        self._upstream: tuple[str, int] | str = ""
        self._drain = asyncio.Event()
        self._drain_timeout_s = arguments.drain_timeout_ms / 1000
        self.relays: set[Client] = set()
        self.silent: set[Client] = set()  # accepted, and no request has come yet
        self.done = 0

    async def run(self) -> int:
        """Start the command, say when it answers, relay when told, and return the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.drain, None)
        with suppress(OSError):
            self._shared = socket.socket(fileno=control.LISTENER_FD)
        try:
            process = await self._start()
        except OSError as error:
            print(f"The command could not be started: {error}", file=sys.stderr, flush=True)  # noqa: T201
            return 1
        ended = asyncio.ensure_future(process.wait())
        try:
            if not await self._is_up(ended):
                if ended.done():
                    return _exit_code(process) or 1
                await self._end(process, ended)
                return 0
            await self._listen_privately()
            await self._line.start()
            boot_ms = round((time.monotonic() - self._began) * 1000)
            self._line.tell(ev="ready", pid=os.getpid(), boot_ms=boot_ms)
            draining = asyncio.ensure_future(self._drain.wait())
            await asyncio.wait((draining, ended), return_when=asyncio.FIRST_COMPLETED)
            draining.cancel()
            if ended.done() and not self._drain.is_set():
                return _exit_code(process) or 1  # a server that ends by itself has failed, whatever it says
            await self._end(process, ended)
            return 0
        finally:
            ended.cancel()
            await self._line.stop()

    # --- what the daemon asks ---------------------------------------------------------------------------------------

    async def serve(self) -> None:
        """Accept from the shared listener."""
        if self._serving is None and self._shared is not None and not self._drain.is_set():
            loop = asyncio.get_running_loop()
            self._serving = await loop.create_server(
                lambda: Client(self, is_counted=True), sock=self._shared.dup(), backlog=BACKLOG
            )

    async def pause(self) -> None:
        """Stop accepting. Relayed connections go on: only the command knows which of them are idle."""
        serving, self._serving = self._serving, None
        if serving is not None:
            serving.close()

    def drain(self, timeout_s: float | None) -> None:
        """Begin to drain; `timeout_s` None is as long as configured."""
        if timeout_s is not None:
            self._drain_timeout_s = timeout_s
        self._drain.set()

    def status(self) -> Message:
        """What a daemon wants to know of an instance. A connection counts as a request."""
        return {
            "pid": os.getpid(),
            "serving": self._serving is not None,
            "inflight": len(self.relays),
            "done": self.done,
        }

    # --- the command ------------------------------------------------------------------------------------------------

    async def _start(self) -> asyncio.subprocess.Process:
        environment = {name: value for name, value in os.environ.items() if name not in _OURS}
        fds: dict[int, int] = {}
        letter = _letter_fd(json.dumps(self._letter).encode())
        if self._arguments.listen == "fd":
            path = _private_path(".l")
            # Some servers (gunicorn) remove the name that a socket was bound under when they end, or anew begin.
            listener = bind_private(f"{path}~")
            os.rename(f"{path}~", path)  # noqa: PTH104
            listener.setblocking(True)  # as systemd hands it out
            self._upstream = path
            fds = {_FIRST_LISTEN_FD: listener.fileno()}
            environment["LISTEN_FDS"] = "1"
        else:
            listener = None
            port = _free_port()
            self._upstream = (HOST, port)
            environment.update(PORT=str(port), HOST=HOST)
        fds[_LETTER_FD] = letter
        environment[envelope.ENVELOPE_FD_VARIABLE] = str(_LETTER_FD)
        try:
            return await _spawn(_filled(self._arguments.command, environment), environment, fds)
        finally:
            os.close(letter)
            if listener is not None:
                listener.close()

    async def _is_up(self, ended: asyncio.Future[int]) -> bool:
        """Wait until the command answers. False: it ended, or was told to."""
        answers = asyncio.ensure_future(self._answers())
        draining = asyncio.ensure_future(self._drain.wait())
        late = 0.5 * self._arguments.start_timeout_ms / 1000
        waiting: set[asyncio.Future[Any]] = {answers, draining, ended}
        try:
            done, _ = await asyncio.wait(waiting, timeout=late, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                print(f"The command does not answer yet. {self._where()}", file=sys.stderr, flush=True)  # noqa: T201
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            return answers.done() and not ended.done()
        finally:
            answers.cancel()
            draining.cancel()

    def _where(self) -> str:
        if isinstance(self._upstream, tuple):
            host, port = self._upstream
            return f"It must listen on {host}:{port} ($HOST and $PORT, in its environment and its arguments)."
        return "It must take the socket that LISTEN_FDS describes (fd 3)."

    async def _answers(self) -> None:
        """Return when the command accepts connections."""
        while True:
            with suppress(OSError):
                await self._probe()
                return
            # Nothing tells when a port is listened on. Twenty milliseconds are felt by nobody and cost nothing.
            await asyncio.sleep(0.02)

    async def _probe(self) -> None:
        """Raise OSError while the command does not answer."""
        if isinstance(self._upstream, tuple):
            _, writer = await asyncio.open_connection(*self._upstream)
            writer.close()
            return
        # We listen on the socket ourselves from the start: only an answer tells that somebody accepts from it.
        reader, writer = await asyncio.open_unix_connection(self._upstream)
        try:
            writer.write(b"HEAD / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            if not await reader.read(1):
                raise ConnectionError("the command closed the connection")
        finally:
            writer.close()

    async def _listen_privately(self) -> None:
        if path := os.environ.get(control.PRIVATE_SOCKET):
            loop = asyncio.get_running_loop()
            await loop.create_server(lambda: Client(self, is_counted=False), sock=bind_private(path))

    async def _end(self, process: asyncio.subprocess.Process, ended: asyncio.Future[int]) -> None:
        """1 accept no more; 2 let what was accepted end; 3 SIGTERM, and SIGKILL when that is not heard."""
        await self.pause()
        deadline = time.monotonic() + self._drain_timeout_s
        await asyncio.sleep(GRACE_S)
        for client in list(self.silent):
            client.transport.close()
        while self.relays and not ended.done() and (left := deadline - time.monotonic()) > 0:
            waiting: set[asyncio.Future[Any]] = {ended, *(relay.closed for relay in self.relays)}
            await asyncio.wait(waiting, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        await asyncio.wait((ended,), timeout=5.0)
        if not ended.done():
            print("The command did not end within 5s of SIGTERM and was killed.", file=sys.stderr, flush=True)  # noqa: T201
            with suppress(ProcessLookupError):
                process.kill()
            await asyncio.wait((ended,))

    # --- relaying ---------------------------------------------------------------------------------------------------

    async def dial(self, protocol: Upstream) -> asyncio.Transport:
        """Connect to the command. Raises OSError."""
        loop = asyncio.get_running_loop()
        if isinstance(self._upstream, tuple):
            transport, _ = await loop.create_connection(lambda: protocol, *self._upstream)
            return transport
        unix, _ = await loop.create_unix_connection(lambda: protocol, self._upstream)
        return unix

    def changed(self) -> None:
        """A connection began or ended."""
        self._line.changed()


# What a command is not given: it has no use for them, and must not take them for its own.
_OURS = frozenset({control.CONTROL_SOCKET, control.PRIVATE_SOCKET, "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"})


async def _spawn(
    command: Sequence[str], environment: dict[str, str], fds: Mapping[int, int]
) -> asyncio.subprocess.Process:
    """Start the command with these fds on these numbers, in our process group, which the daemon signals.

    Raises:
        OSError: there is no such program, or it cannot be run.
    """
    program = shutil.which(command[0], path=environment.get("PATH"))
    if program is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), command[0])
    high = {number: fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _ABOVE) for number, fd in fds.items()}

    def become() -> None:
        # LISTEN_PID must be the command's own pid, which is known only here, so it is here that it is executed. We
        # have no threads, so what the child of a fork may do is not limited.
        for number, fd in high.items():
            os.dup2(fd, number, inheritable=True)
        if "LISTEN_FDS" in environment:
            environment["LISTEN_PID"] = str(os.getpid())
        _die_with_parent()
        os.execve(program, list(command), environment)

    try:
        return await asyncio.create_subprocess_exec(
            program, stdin=asyncio.subprocess.DEVNULL, preexec_fn=become, close_fds=False
        )
    finally:
        for fd in high.values():
            os.close(fd)


def _die_with_parent() -> None:
    """Linux: a shim that is killed takes its command with it; nobody else would know of it."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _filled(command: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    def value(found: re.Match[str]) -> str:
        return environment.get(found[1] or found[2], found[0])

    return [_PLACEHOLDER.sub(value, part) for part in command]


def _letter_fd(letter: bytes) -> int:
    """An fd from which every process of the command can read the envelope, each from its beginning (by pread).

    Where there is no memfd it is a pipe, which one of them can read.
    """
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("envelope", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.pwrite(fd, letter, 0)
        seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
        return fd
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with suppress(BlockingIOError):
        os.write(writer, letter)
    os.close(writer)
    return reader


def _private_path(suffix: str) -> str:
    base = os.environ.get(control.PRIVATE_SOCKET)
    if base is None:
        raise RuntimeError(f"{control.PRIVATE_SOCKET} is not set")
    return str(Path(base).with_suffix(suffix))


def _free_port() -> int:
    with socket.socket() as found:
        found.bind((HOST, 0))
        return int(found.getsockname()[1])


def _exit_code(process: asyncio.subprocess.Process) -> int:
    """The command's, as a shell would say it."""
    code = process.returncode or 0
    return code if code >= 0 else 128 - code
