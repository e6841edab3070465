"""Dramatiq on Redis: a queue without durable steps."""

import importlib.metadata
from collections.abc import Callable
from typing import Any

import dramatiq
import redis_server
from common import REDIS, System, main, mark, payload
from dramatiq.brokers.redis import RedisBroker

dramatiq.set_broker(RedisBroker(url=f"unix://{REDIS}"))


@dramatiq.actor(max_retries=0)
def steps_0(content: dict[str, Any]) -> None:
    mark(content["number"])


class DramatiqOnRedis(System):
    def info(self) -> dict[str, Any]:
        return {"version": importlib.metadata.version("dramatiq"), **redis_server.described()}

    def reset(self) -> None:
        redis_server.connected().flushall()

    def caller(self) -> Callable[[int], object]:
        return lambda number: steps_0.send(payload(number))

    def fill(self, count: int, kind: str) -> None:
        for number in range(1, count + 1):
            steps_0.send(payload(number))


if __name__ == "__main__":
    main(DramatiqOnRedis())
