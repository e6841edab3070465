"""Redis for the systems that use it: an empty one, and what it says of its durability."""

from typing import Any

import redis
from common import REDIS


def connected() -> "redis.Redis":
    """A client of the server that the runner has started."""
    return redis.Redis(unix_socket_path=REDIS)


def described() -> dict[str, Any]:
    """The server's version and its durability."""
    client = connected()
    settings: Any = client.config_get("append*")
    server: Any = client.info()
    return {
        "store": f"Redis {server['redis_version']}",
        "durability": f"appendonly={settings['appendonly']} appendfsync={settings['appendfsync']}",
    }
