"""Ports for programs that must be told theirs. Each process of tests begins elsewhere, and gives none out twice."""

from __future__ import annotations

import os

from tako.ingress.ports import listen_on_free

# Below those from which systems take the near end of a connection: no call of somebody else can be on it meanwhile.
_FIRST, _LAST = 20_000, 32_000
_given = _FIRST + os.getpid() * 211 % (_LAST - _FIRST)


def free_port() -> int:
    """A port that nobody holds now."""
    global _given
    sockets = listen_on_free(_given + 1, count=500)
    port: int = sockets[0].getsockname()[1]
    for sock in sockets:
        sock.close()
    _given = port if port < _LAST else _FIRST
    return port
