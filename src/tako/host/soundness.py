"""Whether a store is sound: what SQLite finds wrong with its file, and which invariants its rows break."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from tako.engine import invariants, schema
from tako.engine.store import Reader

_PATIENCE_S = 2.0  # for the lock of another program


def problems(reader: Reader) -> list[str]:
    """Everything that is wrong, in words; empty when all is well. Rows are asked only if the file can be trusted."""
    return schema.check(reader.connection) or invariants.check(reader)


def problems_of_file(path: Path) -> list[str]:
    """As `problems`, of a store that no engine has open; who calls holds the engine's lock. Nothing is changed.

    The rows of another schema than ours are not asked: the engine that starts on them brings them to it first.

    Raises:
        sqlite3.Error: it cannot be read at all.
    """
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=_PATIENCE_S)
    try:
        if connection.execute("PRAGMA user_version").fetchone()[0] != schema.CURRENT:
            return schema.check(connection)
        return problems(Reader(connection, path=path))
    finally:
        connection.close()
