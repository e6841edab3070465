"""pgqueuer on PostgreSQL: a queue without durable steps, with LISTEN/NOTIFY."""

import importlib.metadata
import json
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import asyncpg
from common import POSTGRES_SOCKETS, System, main, mark, payload, run_async
from pgqueuer import PgQueuer, Queries
from pgqueuer.db import AsyncpgPoolDriver

WHERE = {"host": POSTGRES_SOCKETS, "user": "postgres"}


class PgQueuerOnPostgres(System):
    def info(self) -> dict[str, Any]:
        async def ask() -> dict[str, Any]:
            connection = await asyncpg.connect(**WHERE, database="postgres")
            found = {name: await connection.fetchval(f"SHOW {name}") for name in ("fsync", "synchronous_commit")}
            server = await connection.fetchval("SHOW server_version")
            return {
                "version": importlib.metadata.version("pgqueuer"),
                "store": f"PostgreSQL {server}",
                "durability": " ".join(f"{name}={value}" for name, value in found.items()),
            }

        return dict(run_async(ask()))

    def reset(self) -> None:
        async def anew() -> None:
            connection = await asyncpg.connect(**WHERE, database="postgres")
            await connection.execute("DROP DATABASE IF EXISTS bench WITH (FORCE)")
            await connection.execute("CREATE DATABASE bench")
            await (await queries()).install()

        run_async(anew())

    async def async_caller(self) -> Callable[[int], Awaitable[object]] | None:
        store = await queries()
        return lambda number: store.enqueue("steps_0", json.dumps(payload(number)).encode())

    def fill(self, count: int, kind: str) -> None:
        async def enqueue() -> None:
            bodies = [json.dumps(payload(number)).encode() for number in range(1, count + 1)]
            await (await queries()).enqueue(["steps_0"] * count, bodies, [0] * count)

        run_async(enqueue())

    def worker(self) -> None:
        async def serve() -> None:
            queuer = PgQueuer(await driver())

            @queuer.entrypoint("steps_0")
            async def steps_0(job: Any) -> None:
                mark(json.loads(job.payload)["number"])

            await queuer.run(batch_size=10, dequeue_timeout=timedelta(seconds=30))

        run_async(serve())


async def driver() -> AsyncpgPoolDriver:
    return AsyncpgPoolDriver(await asyncpg.create_pool(**WHERE, database="bench", min_size=4, max_size=16))


async def queries() -> Queries:
    return Queries(await driver())


if __name__ == "__main__":
    main(PgQueuerOnPostgres())
