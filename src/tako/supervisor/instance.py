"""One web instance as the daemon sees it: booted, told to serve, to pause and to drain, and gone in the end."""

from __future__ import annotations

import asyncio
import dataclasses
import re
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tako.clock import Clock
from tako.errors import InvalidRequest, TakoError
from tako.protocol import control, framing
from tako.supervisor import exits, output, process, tracebacks
from tako.supervisor.exits import Exit
from tako.supervisor.spawn import SpawnFailed, SpawnRequest

SUBJECT = "web app"
ACK_S = 5.0  # for an order over the line; an instance whose loop stands still that long is killed
KILL_AFTER_S = 5.0  # beyond the drain timeout
SHOWN_LINES = 60
MAX_LINE_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Failure:
    """Why the web app cannot be served: one sentence, and what a person needs to mend it.

    `traceback` is what Python printed last, whole; `short` its error and place in two lines. Either may be None.
    `lines` are the last lines of output. `count` tells how many starts failed in a row.
    """

    reason: str
    short: str | None = None
    traceback: str | None = None
    lines: Sequence[str] = field(default=())
    exit_code: int | None = None
    signal: str | None = None
    count: int = 1

    def is_like(self, other: Failure | None) -> bool:
        """Whether a person who has read the other one learns nothing new: times and pids aside, it is the same."""
        return other is not None and (self.short or self.traceback or self.reason) == (
            other.short or other.traceback or other.reason
        )


class BootFailed(Exception):
    """The instance did not become ready. It is gone, or about to be."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.reason)
        self.failure = failure


class Instance:
    """A process that serves the web app. `generation` is that of the code it was started with."""

    def __init__(
        self,
        instance_id: str,
        *,
        generation: int,
        clock: Clock,
        on_line: Callable[[int, str], None],
        on_change: Callable[[], None],
        redact: Callable[[str], str],
    ) -> None:
        self.id = instance_id
        self.generation = generation
        self.release = self.roll = ""  # whose code it runs; which change brought it here
        self.control_socket = Path()
        self.private_socket = Path()
        self.is_serving = False
        self.is_draining = False
        self.boot_ms = 0
        self.root = Path()
        self.inflight = 0
        self.done = 0
        self._clock = clock
        self._changed = on_change
        self._hears = process.Listener(on_line=on_line, on_exit=self._on_exit, redact=redact)
        self._process: process.Process | None = None
        self._began = self.active_at = clock.monotonic()
        self._writer: asyncio.StreamWriter | None = None
        self._listening: asyncio.Task[None] | None = None
        self._acks: dict[str, asyncio.Future[dict[str, Any]]] = {}
        loop = asyncio.get_running_loop()
        self._gone: asyncio.Future[tuple[Exit, list[str]]] = loop.create_future()

    @property
    def pid(self) -> int | None:
        """Its pid; None before it was started."""
        return self._process.pid if self._process else None

    @property
    def is_alive(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and not self._gone.done()

    # --- boot -------------------------------------------------------------------------------------------------------

    async def boot(self, request: Callable[[], SpawnRequest], listener_fd: int, *, timeout_s: float) -> None:
        """Start it and wait until it says that it is ready.

        Raises:
            BootFailed: it could not be started, ended, or was not ready in time; then it has been killed.
        """
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                fds = {control.CONTROL_FD: theirs.fileno(), control.LISTENER_FD: listener_fd}
                found = dataclasses.replace(request(), fds=fds)
                self.root = found.cwd
                self.private_socket = Path(found.env.get(control.PRIVATE_SOCKET, ""))
                self.control_socket = Path(found.env.get(control.CONTROL_SOCKET, ""))
                self._process = process.Process.start(found, self._hears)
            await self._take(ours)
        except BaseException as error:
            ours.close()
            if not isinstance(error, SpawnFailed | TakoError | OSError):
                raise
            words = error.words if isinstance(error, SpawnFailed) else str(error)
            raise BootFailed(Failure(exits.spawn_error_words(words, subject=SUBJECT))) from error
        ready = self._ack("ready")
        await asyncio.wait((ready, self._gone), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if ready.done():
            self.boot_ms = round((self._clock.monotonic() - self._began) * 1000)
            return
        raise BootFailed(await self._why_not_ready(timeout_s))

    async def _why_not_ready(self, timeout_s: float) -> Failure:
        has_ended = self._gone.done()
        if not has_ended:
            self.kill()
        exit_, lines = await asyncio.shield(self._gone)
        if has_ended:
            return failure_of(exit_, lines, root=self.root, before_ready=True)
        frame = tracebacks.hang_frame(lines, root=self.root)
        return Failure(exits.hang_words(timeout_s=timeout_s, frame=frame, subject=SUBJECT), lines=shown(lines))

    # --- adoption ---------------------------------------------------------------------------------------------------

    def record(self) -> dict[str, Any]:
        """What `adopt` wants to find, as JSON."""
        assert self._process is not None
        return {
            **self._process.record(),
            "id": self.id,
            "release": self.release,
            "roll": self.roll,
            "control": str(self.control_socket),
            "private": str(self.private_socket),
            "boot_ms": self.boot_ms,
        }

    async def adopt(self, record: Mapping[str, Any]) -> socket.socket | None:
        """Take over a process that an earlier daemon started: its line, its output, and the listener that it holds.

        Returns that listener, which is the caller's; None when the process is gone, does not answer, or holds none:
        then `is_alive` tells which.
        """
        ours = process.Process.adopt(record, self._hears, ran_ms=0)
        if ours is None:
            return None
        self._process = ours
        self.release, self.roll, self.root = record["release"], record["roll"], Path(record["root"])
        self.control_socket, self.private_socket = Path(record["control"]), Path(record["private"])
        self.boot_ms = record.get("boot_ms", 0)
        loop = asyncio.get_running_loop()
        line = socket.socket(socket.AF_UNIX)
        try:
            line.setblocking(False)
            async with asyncio.timeout(ACK_S):
                await loop.sock_connect(line, str(self.control_socket))
                await loop.sock_sendall(line, framing.encode({"do": "adopt"}))
                answer, fds = await _receive_with_fds(line)
            status = framing.decode(answer)
            await self._take(line)
        except (OSError, TimeoutError, ValueError, InvalidRequest):
            line.close()
            return None
        self.is_serving = bool(status.get("serving"))
        self.inflight, self.done = int(status.get("inflight", 0)), int(status.get("done", 0))
        self.active_at = self._clock.monotonic()
        return socket.socket(fileno=fds[0]) if fds else None

    async def answers(self, *, timeout_s: float) -> bool:
        """Whether its event loop turns: it tells its status on its control socket."""
        try:
            async with asyncio.timeout(timeout_s):
                reader, writer = await asyncio.open_unix_connection(str(self.control_socket))
                try:
                    writer.write(framing.encode({"do": "status"}))
                    return bool(await reader.readline())
                finally:
                    writer.close()
        except (OSError, TimeoutError):
            return False

    def detach(self) -> None:
        """Let go of it; it lives on, for the next daemon to adopt."""
        if self._listening is not None:
            self._listening.cancel()
        if self._writer is not None:
            self._writer.close()
        if self._process is not None and not self._gone.done():
            self._process.detach()

    # --- orders -----------------------------------------------------------------------------------------------------

    async def serve(self) -> bool:
        """Have it accept. False: it has ended, or does not hear and was killed."""
        self.is_serving = await self._order("serve", "serving")
        return self.is_serving

    async def pause(self) -> None:
        """Have it accept nothing new. One that does not hear is killed: it must not take what is the next one's."""
        await self._order("pause", "paused")
        self.is_serving = False

    async def drain(self, timeout_s: float) -> None:
        """Have it finish and end; kill it when it takes longer than it may. Returns when it is gone."""
        self.is_draining = True
        self.is_serving = False
        self._tell(do="drain", timeout_s=timeout_s)
        await self._wait_gone(timeout_s + KILL_AFTER_S)
        self.kill()
        await asyncio.shield(self._gone)
        await self._hang_up()

    def kill(self) -> None:
        """SIGKILL, to the whole process group."""
        if self._process is not None:
            self._process.child.kill()

    async def kill_and_wait(self) -> None:
        """Kill it and return when it is gone."""
        self.is_draining = True
        if self._process is not None:
            self.kill()
            await asyncio.shield(self._gone)
        await self._hang_up()

    async def exit(self) -> tuple[Exit, list[str]]:
        """How it ended, and its last lines."""
        found = await asyncio.shield(self._gone)
        await self._hang_up()
        return found

    async def is_healthy(
        self, path: str, private_socket: Path, *, timeout_s: float, host: str = "localhost"
    ) -> str | None:
        """Ask it for `path` on its private socket. None: it answered 2xx or 3xx. Else what it answered, in words."""
        try:
            status = await asyncio.wait_for(_get_status(path, private_socket, host=host), timeout=timeout_s)
        except TimeoutError:
            return f"did not answer {path} within {timeout_s:g}s"
        except (OSError, ValueError) as error:
            return f"could not be asked for {path}: {error}"
        return None if 200 <= status < 400 else f"answered {path} with {status}"

    # --- the line ---------------------------------------------------------------------------------------------------

    async def _take(self, ours: socket.socket) -> None:
        reader, self._writer = await asyncio.open_unix_connection(sock=ours, limit=MAX_LINE_BYTES)
        self._listening = asyncio.get_running_loop().create_task(self._listen(reader))

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        with suppress(OSError, ValueError, InvalidRequest):
            while line := await reader.readline():
                self._hear(framing.decode(line))

    def _hear(self, message: dict[str, Any]) -> None:
        event = str(message.get("ev"))
        if event == "stat":
            done, inflight = int(message.get("done", 0)), int(message.get("inflight", 0))
            if done != self.done or inflight or self.inflight:
                self.active_at = self._clock.monotonic()
            self.done, self.inflight = done, inflight
            self._changed()
        elif (waiting := self._acks.pop(event, None)) and not waiting.done():
            waiting.set_result(message)

    def _ack(self, event: str) -> asyncio.Future[dict[str, Any]]:
        future = self._acks[event] = asyncio.get_running_loop().create_future()
        return future

    async def _order(self, order: str, event: str) -> bool:
        if self._gone.done():
            return False
        acked = self._ack(event)
        self._tell(do=order)
        await asyncio.wait((acked, self._gone), timeout=ACK_S, return_when=asyncio.FIRST_COMPLETED)
        if not acked.done():
            acked.cancel()
            self.kill()
            return False
        self.active_at = self._clock.monotonic()
        return not self._gone.done()

    def _tell(self, **message: object) -> None:
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(framing.encode(message))

    async def _hang_up(self) -> None:
        writer, self._writer = self._writer, None
        listening, self._listening = self._listening, None
        if listening is not None:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
        if writer is not None:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    # --- the end ----------------------------------------------------------------------------------------------------

    def _on_exit(self, exit_: Exit, lines: list[str]) -> None:
        self.is_serving = False
        if not self._gone.done():
            self._gone.set_result((exit_, lines))
        self._changed()

    async def _wait_gone(self, timeout_s: float) -> None:
        await asyncio.wait((self._gone,), timeout=timeout_s)


# What Python says of `-m tako.web` when there is no `tako`.
_WITHOUT_TAKO = re.compile(
    r"(\S.*): (?:No module named tako(?:\.web)?$|Error while finding module specification for 'tako\.web')"
)


def failure_of(exit_: Exit, lines: Sequence[str], *, root: Path, before_ready: bool) -> Failure:
    """What an exit means to whoever must mend it."""
    words = exit_.words(subject=SUBJECT)
    reason = f"{words}, before it was ready" if before_ready else words
    for found in filter(None, map(_WITHOUT_TAKO.match, lines)):
        reason = f"{words}: {found[1]} does not have Tako. Install tako-py there"
    return Failure(
        reason=reason,
        short=tracebacks.tail(list(lines), root=root),
        traceback=last_traceback(lines),
        lines=shown(lines),
        exit_code=exit_.code,
        signal=exit_.signal,
    )


def shown(lines: Sequence[str]) -> tuple[str, ...]:
    """The last lines of output, as people read them."""
    return tuple(output.plain(line) for line in lines[-SHOWN_LINES:])


def last_traceback(lines: Sequence[str]) -> str | None:
    """The last traceback with those that led to it, and all that was printed after it; None when there is none."""
    start = None
    for at, line in enumerate(lines):
        if line.startswith("Traceback (most recent call last):"):
            is_chained = any(words in before for before in lines[max(0, at - 3) : at] for words in _CHAINED)
            if start is None or not is_chained:
                start = at
    return None if start is None else "\n".join(output.plain(line) for line in lines[start:])


_CHAINED = ("During handling of the above exception", "The above exception was the direct cause")


async def drain_orphans(sockets: Path) -> int:
    """Have the instances that an earlier daemon left behind finish and end; how many there were.

    In development nobody adopts: the listener was lost with the daemon, so they only hold memory and old code.
    """
    count = 0
    for path in _control_sockets(sockets):
        with suppress(OSError, TimeoutError):
            reader, writer = await asyncio.wait_for(asyncio.open_unix_connection(str(path)), timeout=1.0)
            writer.write(framing.encode({"do": "drain", "timeout_s": 1.0}))
            with suppress(OSError, TimeoutError):
                await asyncio.wait_for(reader.readline(), timeout=2.0)
                count += 1
            writer.close()
        with suppress(OSError):
            path.unlink()
        with suppress(OSError):
            path.with_suffix(".p").unlink()
    return count


def _control_sockets(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.c"))


def _tell_once(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)


async def _receive_with_fds(line: socket.socket) -> tuple[bytes, list[int]]:
    """The first line on a socket, and the fds that came with it."""
    loop = asyncio.get_running_loop()
    data, fds = b"", []
    while not data.endswith(b"\n"):
        readable: asyncio.Future[None] = loop.create_future()
        loop.add_reader(line, _tell_once, readable)
        try:
            await readable
        finally:
            loop.remove_reader(line)
        part, more, _, _ = socket.recv_fds(line, MAX_LINE_BYTES, 4, socket.MSG_CMSG_CLOEXEC)
        if not part:
            raise OSError("the line ended")
        data += part
        fds += more
    return data, fds


async def _get_status(path: str, private_socket: Path, *, host: str) -> int:
    reader, writer = await asyncio.open_unix_connection(str(private_socket))
    try:
        head = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nX-Forwarded-For: 127.0.0.1\r\nConnection: close\r\n\r\n"
        writer.write(head.encode())
        status_line = await reader.readline()
        return int(status_line.split(b" ", 2)[1])
    except IndexError:
        raise ValueError("it closed the connection") from None
    finally:
        writer.close()
