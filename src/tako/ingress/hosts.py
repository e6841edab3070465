"""Which names in a Host are ours. Pure."""

import re

SUFFIX = "localhost"
LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})

_HOST = re.compile(r"(\[[0-9a-f:.]{2,45}\]|[a-z0-9_.-]{1,253}?)\.?(?::[0-9]{1,5})?")
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


def name_in(host: bytes) -> str | None:
    """The name in a Host, in lowercase, without its port and the dot of the root; None when it is no name."""
    found = _HOST.fullmatch(host.decode("latin-1").lower())
    return found[1] if found else None


def candidates(name: str) -> list[str]:
    """The apps that `BRANCH.NAME.localhost` can mean, the most exact one first; none when it is not of `.localhost`.

    `a.b.shop.localhost` may be `a.b.shop`, `b.shop` or `shop`: so an app has all names below its own.
    """
    labels = name.split(".")
    if len(labels) < 2 or labels.pop() != SUFFIX or not all(map(_LABEL.fullmatch, labels)):
        return []
    return [".".join(labels[start:]) for start in range(len(labels))]


def is_of(name: str, app: str) -> bool:
    """Whether a name may be used at the plain port of an app: loopback itself, the app's name, or one below it."""
    return name in LOOPBACK or app in candidates(name)
