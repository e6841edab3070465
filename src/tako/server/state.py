"""The server's own store: what should be. Small, and written in the daemon's loop: each write is on the disk when it
returns, before the thing that it tells of is done."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

from tako.engine import sql
from tako.errors import StoreDamaged, StoreUnavailable, VersionMismatch

SCHEMA = 1
APPLICATION_ID = 0x54414B53  # "TAKS"
BUSY_MS = 2_000
AGAIN_S = 0.5

STATEMENTS = sql.parse(files("tako.server").joinpath("queries", "state.sql").read_text())


class State:
    """The rows of `state.db`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._depth = 0
        self._owed: deque[Callable[[], object]] = deque()
        self._again: asyncio.TimerHandle | None = None
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.row_factory = sqlite3.Row
        try:
            self._prepare()
        except sqlite3.DatabaseError as error:
            self._connection.close()
            if isinstance(error, sqlite3.OperationalError):
                raise StoreUnavailable(f"{path} cannot be used: {error}.") from error
            raise StoreDamaged(
                f"{path} is damaged: {error}. Apps go on as they are; nothing was started or stopped.",
                cure="Restore it from a backup, or move it away: `tako deploy` registers each app anew.",
            ) from error
        except BaseException:
            self._connection.close()
            raise

    def _prepare(self) -> None:
        for pragma in (f"busy_timeout = {BUSY_MS}", "journal_mode = WAL", "synchronous = FULL"):
            self._connection.execute(f"PRAGMA {pragma}").fetchall()
        problems = [row[0] for row in self._connection.execute("PRAGMA quick_check(5)") if row[0] != "ok"]
        if problems:
            raise sqlite3.DatabaseError(problems[0])
        version = self._connection.execute("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA:
            raise VersionMismatch(
                f"{self.path} was written by a newer tako-server: its schema is {version}, this one knows {SCHEMA}.",
                cure="Start the newer one: `tako servers upgrade`.",
            )
        if version == 0:
            with self.transaction():
                # One by one: executescript would end our transaction.
                for statement in files("tako.server").joinpath("queries", "schema.sql").read_text().split(";\n"):
                    self._connection.execute(statement)
                self._connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                self._connection.execute(f"PRAGMA user_version = {SCHEMA}")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """What is written inside becomes durable together, or not at all. May be nested."""
        if self._depth:
            yield
            return
        with self._told():
            self._connection.execute("BEGIN IMMEDIATE")
        self._depth = 1
        try:
            yield
            with self._told():
                self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
        finally:
            self._depth = 0

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What SQLite says, in our words."""
        try:
            yield
        except sqlite3.OperationalError as error:
            raise StoreUnavailable(
                f"{self.path} takes no writes: {error}.", cure="Make room on the disk, and try again."
            ) from error

    def run(self, statement: str, /, **values: Any) -> int:
        """Run a named statement; how many rows it changed.

        Raises:
            StoreUnavailable: the disk is full, or another process holds the file.
        """
        with self._told():
            return self._connection.execute(STATEMENTS[statement], values).rowcount

    def all(self, statement: str, /, **values: Any) -> list[sqlite3.Row]:
        """The rows of a named statement."""
        with self._told():
            return self._connection.execute(STATEMENTS[statement], values).fetchall()

    def at_last(self, write: Callable[[], object]) -> None:
        """Write what must not be lost over a full disk: now, or, in this order, as soon as the file takes writes.

        For what has happened already, so that nobody can be told that it may not.
        """
        self._owed.append(write)
        if len(self._owed) == 1:
            self._pay()

    def _pay(self) -> None:
        self._again = None
        while self._owed:
            write = self._owed[0]
            try:
                write()
            except StoreUnavailable:
                self._again = asyncio.get_running_loop().call_later(AGAIN_S, self._pay)
                return
            except BaseException:
                self._owed.popleft()
                raise
            self._owed.popleft()

    def one(self, statement: str, /, **values: Any) -> sqlite3.Row | None:
        """The first row of a named statement."""
        rows = self.all(statement, **values)
        return rows[0] if rows else None

    def number(self, name: str) -> int:
        """The next number of this series."""
        row = self.one("next_number", name=name)
        assert row is not None
        return int(row["value"])

    def close(self) -> None:
        """Close the file. Twice is harmless. What is owed to it the next daemon finds out by itself."""
        if self._again is not None:
            self._again.cancel()
        self._connection.close()
