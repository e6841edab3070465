"""Who gets the newsletter: a database that belongs to the app context."""

import sqlite3
from pathlib import Path

from flask import g

import tako


def addresses() -> list[str]:
    return [address for (address,) in _database().execute("SELECT address FROM subscribers ORDER BY address")]


def add(address: str) -> None:
    with _database() as database:
        database.execute("INSERT OR IGNORE INTO subscribers VALUES (?)", (address,))


def _database() -> sqlite3.Connection:
    if "database" not in g:
        g.database = sqlite3.connect(Path(tako.current.data_dir) / "newsletter.sqlite3")
        g.database.execute("CREATE TABLE IF NOT EXISTS subscribers (address TEXT PRIMARY KEY)")
    found: sqlite3.Connection = g.database
    return found


def close(error: BaseException | None = None) -> None:
    database = g.pop("database", None)
    if database is not None:
        database.close()
