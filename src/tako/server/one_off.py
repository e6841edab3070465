"""One-off commands: any command as a process of a deployed app, on the terminal of whoever typed it.

`tako run --env NAME -- COMMAND` starts `tako-server run` on the server, over SSH. That asks the daemon, which opens a
socket for this one command, and lends it its own stdin, stdout and stderr: so the command has the very terminal or
pipe that SSH has made, and nobody relays what it says. The process is the daemon's child, in a scope and under the
app's user as all others. On the socket go signals up, a number a line, and at last how it ended down. Whoever lets go
of the socket ends the command; so does the end of the daemon.
"""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tako.errors import TakoError

if TYPE_CHECKING:
    from tako.server.site import Site
    from tako.supervisor.child import Child

LENT_WITHIN_S = 10.0
END_WITHIN_S = 10.0  # after SIGHUP
FORWARDED = (
    signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH,
)  # fmt: skip
NOT_STARTED = 127  # as shells say it
HUNG_UP = 128 + signal.SIGHUP


# --- the daemon's part ----------------------------------------------------------------------------------------------


class OneOff:
    """One command of a site's current release. `offer`, then `serve` until it has ended."""

    def __init__(self, site: Site, *, argv: Sequence[str], by: str, terminal: str) -> None:
        self._site = site
        self._argv = list(argv)
        self._by = by
        self._terminal = terminal
        self._name = f"c{site.daemon.state.number('one_off')}"
        self.path = site.daemon.layout.run / "one-off" / f"{self._name}.sock"

    def offer(self) -> None:
        """Open the socket, for those who may manage the server."""
        self.path.parent.mkdir(mode=0o755, exist_ok=True)
        self.path.unlink(missing_ok=True)
        self._door = socket.socket(socket.AF_UNIX)
        self._door.setblocking(False)
        self._door.bind(str(self.path))
        if self._site.daemon.options.group is not None:
            os.chown(self.path, -1, self._site.daemon.options.group)
        self.path.chmod(0o660)
        self._door.listen(1)

    async def serve(self) -> None:
        """Wait for what is lent, run the command with it, and tell how it ended."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(LENT_WITHIN_S):
                line, _ = await loop.sock_accept(self._door)
        except TimeoutError:
            return
        finally:
            self._door.close()
            self.path.unlink(missing_ok=True)
        with line:
            line.settimeout(LENT_WITHIN_S)
            try:
                lent = await asyncio.to_thread(_receive, line)
            except OSError:
                return
            line.setblocking(False)
            try:
                told = await self._run(line, lent)
            except TakoError as error:
                told = {"code": 1, "words": str(error)}
            finally:
                for fd in lent:
                    with suppress(OSError):
                        os.close(fd)
            with suppress(OSError):
                line.send(json.dumps(told).encode() + b"\n")

    async def _run(self, line: socket.socket, lent: list[int]) -> dict[str, Any]:
        from tako.rpc.auth import token_hash
        from tako.supervisor import spawn

        site = self._site
        assert site.host is not None
        assert site.current is not None
        launch = site.launch(site.current)
        token = site.host.tokens.issue()
        request = launch.command(self._argv, name=self._name, token=token, fds=dict(enumerate(lent)))
        if self._terminal:
            request = replace(request, env={**request.env, "TERM": self._terminal})
        program = self._argv[0]  # and not its arguments: people put passwords there
        site.say("info", f"{self._by} runs {program}", scope="command")
        try:
            child = spawn.spawn(request)
        except spawn.SpawnFailed as error:
            site.say("warning", f"{program} cannot be run: {error.words}", scope="command")
            return {"code": NOT_STARTED, "words": f"{program} cannot be run: {error.words}"}
        finally:
            request.spool.unlink(missing_ok=True)  # what it says goes to whoever typed it
        try:
            await self._until_ended(line, child)
        finally:
            child.kill()
            site.daemon.spawner.end_scope(self._name, app=site.app, env=site.env)
            site.host.tokens.revoke(token_hash(token))
        exit_ = await child.wait()
        site.say("info", exit_.words(subject=f"{program} of {self._by}"), scope="command")
        return {"code": exit_.code if exit_.signal is None else 128 + signal.Signals[exit_.signal]}

    async def _until_ended(self, line: socket.socket, child: Child) -> None:
        loop = asyncio.get_running_loop()

        def heard() -> None:
            try:
                found = line.recv(256)
            except OSError:
                found = b""
            if not found:
                loop.remove_reader(line)
                child.send(signal.SIGHUP)
                loop.call_later(END_WITHIN_S, child.kill)
            for number in found.split():
                if number.isdigit() and int(number) in FORWARDED:
                    child.send(int(number))

        loop.add_reader(line, heard)
        try:
            await child.wait()
        finally:
            loop.remove_reader(line)


def _receive(line: socket.socket) -> list[int]:
    _, lent, _, _ = socket.recv_fds(line, 1, 3, socket.MSG_CMSG_CLOEXEC)
    if len(lent) != 3:
        for fd in lent:
            os.close(fd)
        raise OSError("stdin, stdout and stderr are wanted")
    return lent


# --- the part of `tako-server run` ----------------------------------------------------------------------------------


def run_here(path: Path, wanted: str) -> int:
    """Have the daemon at this socket run a command with our stdin, stdout and stderr; its exit code.

    `wanted` is JSON: `app`, `env`, `argv`, `by`.
    """
    fields = {**json.loads(wanted), "terminal": os.environ.get("TERM", "") if os.isatty(0) else ""}
    try:
        answered = _ask(path, {"command": "one_off", **fields})
    except OSError as error:
        return _complain(f"tako-server does not answer at {path}: {error.strerror}.", 1)
    except TakoError as error:
        return _complain(str(error), 1)
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(answered["socket"])
        socket.send_fds(line, [b"."], [0, 1, 2])

        def forward(number: int, _: object) -> None:
            with suppress(OSError):
                line.send(b"%d\n" % number)

        for number in FORWARDED:
            signal.signal(number, forward)
        return _until_told(line)


def _ask(path: Path, message: dict[str, Any]) -> Any:
    from tako.protocol import framing
    from tako.rpc import request

    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(path))
        sock.sendall(framing.encode(message))
        framer = framing.Framer(max_bytes=None)
        while data := sock.recv(65_536):
            for found in framer.feed(data):
                return request.data_of(found)
    raise ConnectionResetError(0, "it closed the connection")


def _until_told(line: socket.socket) -> int:
    """Until the daemon tells the end, or nobody reads any more what the command says."""
    waiting = select.poll()
    waiting.register(line, select.POLLIN)
    waiting.register(1, 0)  # its end alone
    told = b""
    while not told.endswith(b"\n"):
        events = dict(waiting.poll())
        if line.fileno() in events:
            found = line.recv(65_536)
            if not found:
                return _complain("tako-server was stopped or started anew, and the command was ended.", 1)
            told += found
        elif 1 in events:
            return HUNG_UP
    ended = json.loads(told)
    return _complain(ended["words"], ended["code"]) if "words" in ended else int(ended["code"])


def _complain(words: str, code: int) -> int:
    print(f"✘ {words}", file=sys.stderr)  # noqa: T201
    return code
