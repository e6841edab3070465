"""PostgreSQL for the systems that bring psycopg: an empty database, and what it says of its durability."""

from typing import Any

import psycopg
from common import POSTGRES_ADMIN


def recreate() -> None:
    """An empty database `bench`."""
    with psycopg.connect(POSTGRES_ADMIN, autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS bench WITH (FORCE)")
        connection.execute("CREATE DATABASE bench")


def described() -> dict[str, Any]:
    """The server's version and its durability."""
    with psycopg.connect(POSTGRES_ADMIN) as connection:

        def show(name: str) -> str:
            row = connection.execute(f"SHOW {name}").fetchone()
            assert row is not None
            return str(row[0])

        return {
            "store": f"PostgreSQL {show('server_version')}",
            "durability": f"fsync={show('fsync')} synchronous_commit={show('synchronous_commit')}",
        }
