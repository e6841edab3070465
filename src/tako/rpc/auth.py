"""Who is at the other end of a connection: peer credentials from the kernel, and what a token stands for."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import socket
import struct
from dataclasses import dataclass
from enum import Enum

from tako.errors import Unauthorized


class Role(Enum):
    """What a connection may do."""

    CLIENT = "client"  # apps, the CLI, other tools of the same user: everything but worker commands
    WORKER = "worker"  # a worker we started: its own runs, and what a client may do


@dataclass(frozen=True, slots=True)
class Peer:
    """The process that connected, as the kernel tells it. `pid` is 0 where the kernel does not (macOS)."""

    pid: int
    uid: int


@dataclass(frozen=True, slots=True)
class Principal:
    """Who a connection acts as. `worker_id` is None for clients, and for v0 workers until their first claim."""

    app: str
    role: Role
    worker_id: str | None = None


def peer_of(connection: socket.socket) -> Peer:
    """The credentials of the process at the other end of a unix socket."""
    if hasattr(socket, "SO_PEERCRED"):
        pid, uid, _gid = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        return Peer(pid=pid, uid=uid)
    # LOCAL_PEERCRED of macOS: struct xucred {u_int version; uid_t uid; short ngroups; gid_t groups[16]}
    uid = struct.unpack_from("II", connection.getsockopt(0, 0x001, 76))[1]
    return Peer(pid=0, uid=uid)


def require_known_user(peer: Peer, *, owner: int | None = None, group: int | None = None) -> None:
    """Refuse a process of another user. The folder's mode should have kept it out; this is the second lock.

    `owner` may use the socket too. So may `group`: whoever could open it, since the kernel has looked at the mode.
    """
    if group is None and peer.uid not in (os.geteuid(), 0, owner):
        raise Unauthorized(f"this engine belongs to user {os.geteuid()}; the request came from user {peer.uid}")


def new_token() -> str:
    """A token for one process, 32 random bytes."""
    return secrets.token_urlsafe(32)


def token_hash(token: str) -> str:
    """What is stored of a token. A plain hash is enough for 256 random bits."""
    return hashlib.sha256(token.encode()).hexdigest()


def same(one: str, other: str) -> bool:
    """Compare without telling by the time taken how much of it was right."""
    return hmac.compare_digest(one.encode(), other.encode())
