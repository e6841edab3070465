"""Procrastinate on PostgreSQL: a queue without durable steps, with LISTEN/NOTIFY."""

import importlib.metadata
from collections.abc import Awaitable, Callable
from typing import Any

import postgres
import procrastinate
from common import CONCURRENCY, POSTGRES, System, main, mark, payload, run_async

app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=POSTGRES, min_size=4, max_size=16))


@app.task(name="steps_0", queue="bench")
async def steps_0(content: dict[str, Any]) -> None:
    mark(content["number"])


class Procrastinate(System):
    def info(self) -> dict[str, Any]:
        return {"version": importlib.metadata.version("procrastinate"), **postgres.described()}

    def reset(self) -> None:
        async def anew() -> None:
            async with app.open_async():
                await app.schema_manager.apply_schema_async()

        postgres.recreate()
        run_async(anew())

    async def async_caller(self) -> Callable[[int], Awaitable[object]] | None:
        await app.open_async()
        task = steps_0.configure()
        return lambda number: task.defer_async(content=payload(number))

    def fill(self, count: int, kind: str) -> None:
        async def enqueue() -> None:
            async with app.open_async():
                await steps_0.batch_defer_async(*({"content": payload(number)} for number in range(1, count + 1)))

        run_async(enqueue())

    def worker(self) -> None:
        async def serve() -> None:
            async with app.open_async():
                await app.run_worker_async(concurrency=CONCURRENCY, queues=["bench"])

        run_async(serve())


if __name__ == "__main__":
    main(Procrastinate())
