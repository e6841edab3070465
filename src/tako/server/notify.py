"""systemd: that we are ready and alive, what it is to keep for us, and what it has kept. Nothing happens without it."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from contextlib import suppress

FIRST_FD = 3
_OURS = frozenset({"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"})


def notify(message: str, fds: Sequence[int] = ()) -> None:
    """Tell systemd; what it cannot be told is no reason to stop."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock, suppress(OSError):
        sock.connect(address)
        if fds:
            socket.send_fds(sock, [message.encode()], list(fds))
        else:
            sock.send(message.encode())


def keep(name: str, fd: int) -> None:
    """Have a descriptor kept over our end, under a name."""
    notify(f"FDSTORE=1\nFDNAME={name}", [fd])


def forget(name: str) -> None:
    """Have it kept no more."""
    notify(f"FDSTOREREMOVE=1\nFDNAME={name}")


def kept() -> dict[str, int]:
    """What was kept for us, by name; each of them is ours to close. The variables are taken out: children get none."""
    pid, count, names = (os.environ.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"))
    if pid != str(os.getpid()) or not count.isdecimal():
        return {}
    found = {}
    for number, name in enumerate(names.split(":")[: int(count)]):
        os.set_inheritable(FIRST_FD + number, False)
        found[name] = FIRST_FD + number
    return found


def for_children() -> dict[str, str]:
    """Our environment for a program that we run: without what would let it speak to systemd in our name."""
    return {name: value for name, value in os.environ.items() if name not in _OURS}


def watchdog_s() -> float | None:
    """How often we must say that we live, None when nobody wants to know."""
    usec = os.environ.get("WATCHDOG_USEC", "")
    return int(usec) / 2_000_000 if usec.isdecimal() and usec != "0" else None
