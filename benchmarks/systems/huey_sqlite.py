"""Huey on SQLite: a queue without durable steps. As it ships, SQLite is in WAL mode with synchronous=FULL."""

import importlib.metadata
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common import STORE, System, main, mark, payload
from huey import SqliteHuey

huey = SqliteHuey("bench", filename=f"{STORE}/huey.db", results=False)


@huey.task()
def steps_0(content: dict[str, Any]) -> None:
    mark(content["number"])


class Huey(System):
    def info(self) -> dict[str, Any]:
        read = huey.storage.conn.execute
        modes = [read(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]
        return {
            "version": importlib.metadata.version("huey"),
            "store": f"SQLite {sqlite3.sqlite_version}",
            "durability": f"journal_mode={modes[0]} synchronous={modes[1]}",
        }

    def reset(self) -> None:
        huey.storage.close()
        for path in Path(STORE).glob("huey.db*"):
            path.unlink()
        SqliteHuey("bench", filename=f"{STORE}/huey.db")

    def caller(self) -> Callable[[int], object]:
        return lambda number: steps_0(payload(number))

    def fill(self, count: int, kind: str) -> None:
        from huey_sqlite import huey as named  # tasks are stored under the name of their module, which is not __main__
        from huey_sqlite import steps_0 as task

        with named.storage.db(commit=True) as connection:
            connection.executemany(
                "INSERT INTO task (queue, data, priority) VALUES (?, ?, 0)",
                ((named.storage.name, named.serialize_task(task.s(payload(number)))) for number in range(1, count + 1)),
            )


if __name__ == "__main__":
    import huey_sqlite

    main(huey_sqlite.Huey())
