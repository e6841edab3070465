"""Celery on Redis: a queue without durable steps. What a killed worker had taken is lost."""

import importlib.metadata
from collections.abc import Callable
from typing import Any

import redis_server
from celery import Celery
from common import REDIS, System, main, mark, payload

app = Celery("celery_redis", broker=f"redis+socket://{REDIS}")
app.conf.update(
    task_ignore_result=True, worker_prefetch_multiplier=20, worker_hijack_root_logger=False, broker_pool_limit=32
)


@app.task(name="steps_0", ignore_result=True)
def steps_0(content: dict[str, Any]) -> None:
    mark(content["number"])


class CeleryOnRedis(System):
    def info(self) -> dict[str, Any]:
        return {"version": importlib.metadata.version("celery"), **redis_server.described()}

    def reset(self) -> None:
        redis_server.connected().flushall()

    def caller(self) -> Callable[[int], object]:
        return lambda number: steps_0.delay(payload(number))

    def fill(self, count: int, kind: str) -> None:
        for number in range(1, count + 1):
            steps_0.delay(payload(number))


if __name__ == "__main__":
    main(CeleryOnRedis())
