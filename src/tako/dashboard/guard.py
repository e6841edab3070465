"""Who may ask: the host's names, the origin of what changes something, the key in the address, the page's token. Pure.

Each of them is for an attacker of its own:

- *the key* is for other users of this machine, and for pages that guess addresses;
- *the host's names* are for DNS rebinding: a page of `evil.example` whose name has come to mean 127.0.0.1 sends its
  own name, and its browser would take our answers for its own;
- *origin* and *token* are for cross-site requests: a form of another page that posts to an address which it has
  somehow learnt.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


class Refused(Exception):
    """The request is not answered. `status` and the words are what is said instead."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status
        self.words = words


def check_host(headers: Mapping[str, str]) -> None:
    """The browser must believe that it talks to loopback, at whichever port (a tunnel has one of its own)."""
    host = headers.get("host", "")
    name, colon, port = host.rpartition(":")
    if not colon or (host.startswith("[") and host.endswith("]")):
        name, port = host, "0"
    if name.lower() not in LOOPBACK or not (port.isascii() and port.isdigit()):
        raise Refused(421, "The dashboard answers at 127.0.0.1 and localhost only.")


def check_key(given: str, key: str) -> None:
    """Compare in a time that tells nothing."""
    if not hmac.compare_digest(given.encode("utf-8", "replace"), key.encode()):
        raise Refused(403, "This is Tako's dashboard, and this address does not hold its key. `tako open` opens it.")


def check_origin(headers: Mapping[str, str]) -> None:
    """What changes something must come from a page of ours. A program that is no browser sends neither header."""
    origin, site = headers.get("origin"), headers.get("sec-fetch-site")
    if origin is not None and origin != f"http://{headers.get('host', '')}":
        raise Refused(403, "This request came from another site; nothing was done.")
    if site is not None and site != "same-origin":
        raise Refused(403, "This request came from another site; nothing was done.")


def check_token(given: str, token: str) -> None:
    """The page that the button stood on must be one of this engine, since its start."""
    if not hmac.compare_digest(given.encode("utf-8", "replace"), token.encode()):
        raise Refused(403, "The engine was started again after this page was made; nothing was done. Load it anew.")
