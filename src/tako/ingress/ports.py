"""Listen on loopback, and tell who holds a port that is taken."""

from __future__ import annotations

import errno
import os
import re
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tako.errors import TakoError

FIRST_PORT = 8000
PORTS = 100
BACKLOG = 1024
_LISTENS = "0A"  # TCP_LISTEN in /proc/net/tcp


@dataclass(frozen=True, slots=True)
class Holder:
    """Who listens on a port. `pid` None: a process of another user, which we may not look at."""

    pid: int | None
    command: str

    def __str__(self) -> str:
        return f"{self.command} (pid {self.pid})" if self.pid is not None else self.command


class PortTaken(TakoError):
    """Somebody else listens on the port; says who."""

    code = "port_taken"


def listen(port: int) -> list[socket.socket]:
    """Listen on a port of 127.0.0.1, and of ::1 where there is one: `localhost` means both, and browsers try ::1 first.

    Raises:
        PortTaken: somebody listens there.
        TakoError: the port may not be used.
    """
    first = _bind(socket.AF_INET, "127.0.0.1", port)
    sockets = [first]
    try:
        sockets.append(_bind(socket.AF_INET6, "::1", first.getsockname()[1]))
    except PortTaken:
        # A browser would reach that program under our URL.
        first.close()
        raise
    except TakoError:
        pass  # no IPv6 here
    return sockets


def listen_on_free(first: int = FIRST_PORT, *, count: int = PORTS) -> list[socket.socket]:
    """Listen on the next free port from `first` on. Raises PortTaken when `count` of them are taken."""
    for port in range(first, first + count - 1):
        try:
            return listen(port)
        except PortTaken:
            continue
    return listen(first + count - 1)


def _bind(family: socket.AddressFamily, host: str, port: int) -> socket.socket:
    if not 0 <= port <= 65535:
        raise TakoError(f"{port} is not a port.", cure="Ports are numbers up to 65535.")
    try:
        sock = socket.socket(family)
    except OSError as error:
        raise TakoError(f"{host} cannot be used: {error.strerror}.") from error
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, port))
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise _taken(port) from None
        if error.errno == errno.EACCES:
            raise TakoError(f"Port {port} needs root.", cure="Choose one above 1023.") from None
        raise TakoError(f"Port {port} of {host} cannot be used: {error.strerror}.") from error
    return sock


def _taken(port: int) -> PortTaken:
    holder = holder_of(port)
    by = f" by {holder}" if holder else ""
    cure = f"Stop it (kill {holder.pid})" if holder and holder.pid else "Stop what listens there"
    return PortTaken(f"Port {port} is taken{by}.", cure=f"{cure}, or choose another port.")


def holder_of(port: int) -> Holder | None:
    """Who listens on this port of this machine; None when that cannot be found out."""
    if not Path("/proc/net/tcp").exists():
        return _ask_lsof(port)
    inodes: dict[str, int] = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        inodes.update(_listening(table, port))
    if not inodes:
        return None
    for pid in _pids():
        if any(inode in inodes for inode in _socket_inodes(pid)):
            return Holder(pid, _command(pid))
    return Holder(None, f"a process of another user (uid {next(iter(inodes.values()))})")


def _listening(table: str, port: int) -> dict[str, int]:
    """The inodes of the sockets that listen on the port, and the users who own them."""
    try:
        lines = Path(table).read_text().splitlines()[1:]
    except OSError:
        return {}
    found = {}
    for line in lines:
        fields = line.split()
        if fields[3] == _LISTENS and int(fields[1].rpartition(":")[2], 16) == port:
            found[fields[9]] = int(fields[7])
    return found


def _pids() -> list[int]:
    return sorted((int(name) for name in os.listdir("/proc") if name.isdecimal()), reverse=True)  # noqa: PTH208


def _socket_inodes(pid: int) -> list[str]:
    found = []
    try:
        for fd in os.listdir(f"/proc/{pid}/fd"):  # noqa: PTH208
            target = os.readlink(f"/proc/{pid}/fd/{fd}")  # noqa: PTH115
            if match := re.fullmatch(r"socket:\[(\d+)\]", target):
                found.append(match[1])
    except OSError:
        pass  # gone meanwhile, or another user's
    return found


def _command(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").replace(b"\0", b" ")
    except OSError:
        return "a process"
    text = "".join(char if char.isprintable() else "?" for char in words.decode("utf-8", "replace"))
    return f"`{text[:80]}…`" if len(text) > 80 else f"`{text}`" if text else "a process"


def _ask_lsof(port: int) -> Holder | None:
    command = ["lsof", "-nP", f"-iTCP:{port}", "-sTCP:LISTEN", "-Fpc"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    pid = re.search(r"^p(\d+)$", answer, re.MULTILINE)
    name = re.search(r"^c(.+)$", answer, re.MULTILINE)
    return Holder(int(pid[1]), f"`{name[1]}`" if name else "a process") if pid else None
