"""The system's ssh, and the one place that runs commands on a server.

One connection a server (ControlMaster), shared by everything that runs within a minute of each other: the first costs
a handshake (about 200 ms), the rest 8 ms each. The user's own ssh configuration counts, with three exceptions that
are not for it to decide: the host key is the pinned one, nothing is asked on the terminal, and the agent is not
forwarded.
"""

import contextlib
import hashlib
import os
import shlex
import socket
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tako.deploy import remote
from tako.deploy.servers import Server
from tako.deploy.unreachable import SSH_FAILED, Unreachable, alias_of, failure, no_root, no_ssh
from tako.errors import TakoError

CONNECT_S = 15
# A server that does not answer keep-alives for so long is gone: a pulled cable is seen, and not waited for for ever.
ALIVE_INTERVAL_S, ALIVE_COUNT = 5, 3
PERSIST_S = 60


@dataclass(frozen=True, slots=True)
class Done:
    """How a command on the server ended."""

    code: int
    out: bytes
    err: str


class Conversation:
    """A command that runs on the server, with one socket for its stdin and stdout."""

    def __init__(self, process: "subprocess.Popen[bytes]", ours: socket.socket, errors: Path, server: Server) -> None:
        self.socket = ours
        self._process = process
        self._errors = errors
        self._server = server

    def failure(self) -> TakoError:
        """Why it ended, when nobody here has ended it."""
        self.socket.close()
        try:
            code = self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        said = self._errors.read_text(errors="replace")
        return failure(self._server, code=code, said=said)

    def close(self) -> None:
        """End it. Twice is harmless."""
        self.socket.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=2)  # it ends by itself when its stdin does
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._errors.unlink(missing_ok=True)


class Ssh:
    """The connection to one server. `connect` first; `close` lets go of it, and it stays for PERSIST_S for the next."""

    def __init__(self, server: Server, *, folder: Path) -> None:
        """`folder` is for sockets: short, and only ours (`run_folder`)."""
        self.server = server
        self._folder = folder
        # By all that makes it this connection: a new host key must not be served by a connection to the old host.
        key = hashlib.sha256(repr((server.address, server.identity, server.host_key)).encode()).hexdigest()[:16]
        self._control = folder / key
        self._known_hosts = folder / f"{key}.known"

    def connect(self) -> None:
        """Make the connection, if it is not there already.

        Raises:
            Unreachable: the message says why, in words for who typed the command.
        """
        if self.is_connected():
            return
        self._known_hosts.write_text(f"{alias_of(self.server)} {self.server.host_key}\n")
        with tempfile.TemporaryFile() as errors:
            argv = [*self._ssh(), "-M", "-N", "-f", "-o", f"ControlPersist={PERSIST_S}", self.server.host]
            # Not a pipe: the connection stays in the background and would hold it open.
            try:
                code = subprocess.run(
                    argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors, check=False,
                    timeout=CONNECT_S * 2,
                ).returncode  # fmt: skip
            except FileNotFoundError:
                raise no_ssh() from None
            except subprocess.TimeoutExpired:
                raise failure(self.server, code=SSH_FAILED, said="Connection timed out") from None
            errors.seek(0)
            said = errors.read().decode(errors="replace")
        if code:
            raise failure(self.server, code=code, said=said)

    def is_connected(self) -> bool:
        """Whether the connection is there. It may break at any time."""
        if not self._control.exists():
            return False
        argv = ["ssh", "-S", str(self._control), "-O", "check", self.server.host]
        return subprocess.run(argv, capture_output=True, check=False, timeout=CONNECT_S).returncode == 0

    def run(self, argv: Sequence[str], *, stdin: bytes | None = None, timeout_s: float = 60) -> Done:
        """Run a command to its end. Its exit code is an ordinary answer.

        Raises:
            Unreachable: ssh itself failed, or the command took longer than `timeout_s`.
        """
        command = self._session(argv)
        try:
            done = subprocess.run(command, input=stdin or b"", capture_output=True, check=False, timeout=timeout_s)
        except FileNotFoundError:
            raise no_ssh() from None
        except subprocess.TimeoutExpired:
            raise Unreachable(
                f"{self.server.name} did not end `{shlex.join(argv)[:80]}` in {timeout_s:g} s.",
                cure="Is the server overloaded? Look with `ssh`, then try again.",
            ) from None
        said = done.stderr.decode(errors="replace")
        if done.returncode == SSH_FAILED:
            raise failure(self.server, code=SSH_FAILED, said=said)
        if done.returncode and (rootless := no_root(self.server, said=said)) is not None:
            raise rootless
        return Done(done.returncode, done.stdout, said)

    def attach(self, argv: Sequence[str]) -> int:
        """Run a command with our own stdin, stdout and stderr, on a terminal if we are on one; its exit code.

        Raises:
            Unreachable: the connection broke.
        """
        words = remote.as_root(argv, user=self.server.user)
        terminal = "-tt" if os.isatty(0) and os.isatty(1) else "-T"
        line = ["ssh", terminal, "-o", "EscapeChar=none", *self._ssh()[1:], self.server.host, "--", shlex.join(words)]
        code = subprocess.run(line, check=False).returncode
        if code == SSH_FAILED and not self.is_connected():
            raise Unreachable(
                f"The connection to {self.server.name} broke, and the command was ended there.",
                cure="See what it had done, then run it again.",
            )
        return code

    def fetch(self, argv: Sequence[str], path: Path) -> None:
        """Run a command and keep what it writes to stdout in a new file, readable by us alone; all of it, or none.

        Raises:
            TakoError: the command failed, or the file cannot be written.
        """
        partial = path.with_name(f".{path.name}.part")
        try:
            with open(partial, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as out:
                done = subprocess.run(
                    self._session(argv), stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.PIPE, check=False
                )
                os.fsync(out.fileno())
            if done.returncode:
                raise failure(self.server, code=done.returncode, said=done.stderr.decode(errors="replace"))
            partial.rename(path)
        except OSError as error:
            raise TakoError(f"{path} cannot be written: {error.strerror}.") from error
        finally:
            partial.unlink(missing_ok=True)

    def talk(self, argv: Sequence[str]) -> Conversation:
        """Start a command to talk with. That it could not be started is told by its end."""
        ours, theirs = socket.socketpair()
        fd, errors = tempfile.mkstemp(prefix="err-", dir=self._folder)
        try:
            process = subprocess.Popen(  # in a session of its own: the terminal's Ctrl-C is ours to act on
                self._session(argv), stdin=theirs.fileno(), stdout=theirs.fileno(), stderr=fd, start_new_session=True
            )
        except FileNotFoundError:
            ours.close()
            Path(errors).unlink()
            raise no_ssh() from None
        finally:
            theirs.close()
            os.close(fd)
        return Conversation(process, ours, Path(errors), self.server)

    def disconnect(self) -> None:
        """End the shared connection now, and whatever runs over it."""
        argv = ["ssh", "-S", str(self._control), "-O", "exit", self.server.host]
        subprocess.run(argv, capture_output=True, check=False, timeout=CONNECT_S)

    def _session(self, argv: Sequence[str]) -> list[str]:
        words = remote.as_root(argv, user=self.server.user)
        return [*self._ssh(), "-T", self.server.host, "--", shlex.join(words)]

    def _ssh(self) -> list[str]:
        server = self.server
        options = {
            "BatchMode": "yes",
            "ControlPath": str(self._control),
            "UserKnownHostsFile": str(self._known_hosts),
            "GlobalKnownHostsFile": "/dev/null",
            "HostKeyAlias": alias_of(server),
            "StrictHostKeyChecking": "yes",
            "UpdateHostKeys": "no",
            "ForwardAgent": "no",
            "RequestTTY": "no",
            "ConnectTimeout": str(CONNECT_S),
            "ServerAliveInterval": str(ALIVE_INTERVAL_S),
            "ServerAliveCountMax": str(ALIVE_COUNT),
            "LogLevel": "ERROR",
        }
        return ["ssh", *_options(options), *_login(server)]


def host_key_of(server: Server, *, folder: Path) -> str:
    """The key that a server shows now, whatever we expected. Nothing is logged in to.

    With ssh itself and not ssh-keyscan, so that jump hosts and aliases of the user's configuration count.

    Raises:
        Unreachable: it cannot be reached.
    """
    fd, name = tempfile.mkstemp(prefix="key-", dir=folder)
    os.close(fd)
    known = Path(name)
    try:
        options = {
            "BatchMode": "yes",
            "ControlPath": "none",
            "UserKnownHostsFile": str(known),
            "GlobalKnownHostsFile": "/dev/null",
            "HostKeyAlias": alias_of(server),
            "StrictHostKeyChecking": "accept-new",
            "HashKnownHosts": "no",
            "UpdateHostKeys": "no",
            "PreferredAuthentications": "none",
            "ConnectTimeout": str(CONNECT_S),
            "LogLevel": "ERROR",
        }
        argv = ["ssh", *_options(options), *_login(server), server.host, "--", "true"]
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=CONNECT_S * 3)
        for line in known.read_text().splitlines():
            name_shown, kind, key = line.split()[:3]
            if name_shown == alias_of(server):
                return f"{kind} {key}"
        raise failure(server, code=SSH_FAILED, said=done.stderr.decode(errors="replace"))
    except FileNotFoundError:
        raise no_ssh() from None
    except subprocess.TimeoutExpired:
        raise failure(server, code=SSH_FAILED, said="Connection timed out") from None
    finally:
        known.unlink(missing_ok=True)


def run_folder() -> Path:
    """A folder of this user for sockets, short enough for their paths. Raises TakoError when it is not only ours."""
    base = os.environ.get("XDG_RUNTIME_DIR", "")
    is_short = base.startswith("/") and len(base) < 40
    folder = Path(base) / "tako-ssh" if is_short else Path(f"/tmp/tako-ssh-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if folder.is_symlink() or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise TakoError(f"{folder} is not a folder that only you can use.", cure=f"Remove it: rm -r {folder}")
    return folder


def _options(options: Mapping[str, str]) -> list[str]:
    return [word for name, value in options.items() for word in ("-o", f"{name}={value}")]


def _login(server: Server) -> list[str]:
    given = (("-l", server.user), ("-p", server.port), ("-i", server.identity))
    return [word for flag, value in given if value is not None for word in (flag, str(value))]
