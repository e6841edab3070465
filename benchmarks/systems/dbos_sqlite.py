"""DBOS on SQLite, tuned: WAL mode and synchronous=NORMAL, which it does not set itself, and a poll every 10 ms.

NORMAL is not synced at each commit, so it is faster here than a durable DBOS would be.
"""

import importlib.metadata
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common import CONCURRENCY, STORE, System, main, mark, payload
from dbos import DBOS, DBOSClient
from sqlalchemy import event
from sqlalchemy.engine import Engine

URL = f"sqlite:///{STORE}/dbos.sqlite"
QUEUE = {"queue_name": "bench"}


@event.listens_for(Engine, "connect")
def tune(connection: Any, record: Any) -> None:
    before, connection.isolation_level = connection.isolation_level, None
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.isolation_level = before


@DBOS.step()
def value(number: int) -> int:
    return number


@DBOS.workflow(name="steps_1")
def steps_1(content: dict[str, Any]) -> None:
    value(1)
    mark(content["number"])


@DBOS.workflow(name="steps_3")
def steps_3(content: dict[str, Any]) -> None:
    for number in range(3):
        value(number)
    mark(content["number"])


class DbosOnSqlite(System):
    def info(self) -> dict[str, Any]:
        return {
            "version": importlib.metadata.version("dbos"),
            "store": f"SQLite {sqlite3.sqlite_version}",
            "durability": "journal_mode=wal synchronous=normal: a power cut may lose commits",
            "settings": f"polling_interval_sec=0.01 worker_concurrency={CONCURRENCY}",
        }

    def reset(self) -> None:
        for path in Path(STORE).glob("dbos.sqlite*"):
            path.unlink()
        launch()

    def caller(self) -> Callable[[int], object]:
        client = DBOSClient(system_database_url=URL, system_database_pool_size=32, application_name="bench")
        options: Any = {**QUEUE, "workflow_name": "steps_1"}
        return lambda number: client.enqueue(options, payload(number))

    def fill(self, count: int, kind: str) -> None:
        client = DBOSClient(system_database_url=URL, system_database_pool_size=32, application_name="bench")
        options: Any = {**QUEUE, "workflow_name": kind}
        for number in range(1, count + 1):
            client.enqueue(options, payload(number))

    def worker(self) -> None:
        launch()
        threading.Event().wait()


def launch() -> None:
    DBOS(
        config={
            "name": "bench", "system_database_url": URL, "log_level": "ERROR", "application_version": "1",
            "executor_id": "bench", "run_migrations": True,
        }
    )  # fmt: skip
    DBOS.launch()
    DBOS.register_queue("bench", polling_interval_sec=0.01, worker_concurrency=CONCURRENCY, on_conflict="always_update")


if __name__ == "__main__":
    main(DbosOnSqlite())
