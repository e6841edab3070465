"""Absurd on PostgreSQL: durable steps in a database that one has. It polls; 10 ms here, 250 ms as it ships."""

import importlib.metadata
import json
from collections.abc import Awaitable, Callable
from typing import Any

import absurdctl
import postgres
import psycopg
from absurd_sdk import Absurd, AsyncAbsurd
from common import CALLERS, CONCURRENCY, POSTGRES, System, main, mark, payload, run_async

POLL_S = 0.01


class AbsurdOnPostgres(System):
    def info(self) -> dict[str, Any]:
        found = {"version": importlib.metadata.version("absurd-sdk"), **postgres.described()}
        return {**found, "settings": f"poll_interval={POLL_S}"}

    def reset(self) -> None:
        postgres.recreate()
        with psycopg.connect(POSTGRES, autocommit=True) as connection:
            connection.execute(absurdctl.BUNDLED_SCHEMA_SQL)
        Absurd(POSTGRES, queue_name="bench").create_queue("bench")

    async def async_caller(self) -> Callable[[int], Awaitable[object]] | None:
        free = [await connected() for _ in range(CALLERS)]

        async def call(number: int) -> None:
            client = free.pop()
            try:
                await client.spawn("steps_1", payload(number))
            finally:
                free.append(client)

        return call

    def fill(self, count: int, kind: str) -> None:
        spawn = (
            "SELECT count(*) FROM generate_series(1, %s::int) AS number, LATERAL absurd.spawn_task("
            "'bench', %s, jsonb_set(%s::jsonb, '{number}', to_jsonb(number)), '{\"max_attempts\": 5}'::jsonb)"
        )
        with psycopg.connect(POSTGRES, autocommit=True) as connection:
            connection.execute(spawn, (count, kind, json.dumps(payload(0))))

    def worker(self) -> None:
        async def serve() -> None:
            await (await connected()).start_worker(concurrency=CONCURRENCY, poll_interval=POLL_S)

        run_async(serve())


async def connected() -> AsyncAbsurd:
    client = AsyncAbsurd(await psycopg.AsyncConnection.connect(POSTGRES, autocommit=True), queue_name="bench")

    async def value() -> int:
        return 1

    @client.register_task("steps_1")
    async def steps_1(content: dict[str, Any], context: Any) -> None:
        await context.step("a", value)
        mark(content["number"])

    @client.register_task("steps_3")
    async def steps_3(content: dict[str, Any], context: Any) -> None:
        for name in "abc":
            await context.step(name, value)
        mark(content["number"])

    return client


if __name__ == "__main__":
    main(AbsurdOnPostgres())
