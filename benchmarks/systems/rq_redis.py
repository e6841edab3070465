"""RQ on Redis with its SimpleWorker, which does not fork for each job: a queue without durable steps."""

import importlib.metadata
import logging
from collections.abc import Callable
from typing import Any

import redis_server
from common import System, main, payload
from rq import Queue, SimpleWorker
from rq_jobs import steps_0


class RqOnRedis(System):
    def info(self) -> dict[str, Any]:
        return {"version": importlib.metadata.version("rq"), **redis_server.described(), "settings": "SimpleWorker"}

    def reset(self) -> None:
        redis_server.connected().flushall()

    def caller(self) -> Callable[[int], object]:
        queue = Queue("bench", connection=redis_server.connected())
        return lambda number: queue.enqueue(steps_0, payload(number), result_ttl=0, failure_ttl=60)

    def fill(self, count: int, kind: str) -> None:
        queue = Queue("bench", connection=redis_server.connected())
        queue.enqueue_many(
            [Queue.prepare_data(steps_0, (payload(number),), result_ttl=0) for number in range(1, count + 1)]
        )

    def worker(self) -> None:
        logging.disable(logging.INFO)
        connection = redis_server.connected()
        SimpleWorker([Queue("bench", connection=connection)], connection=connection).work(logging_level="ERROR")


if __name__ == "__main__":
    main(RqOnRedis())
