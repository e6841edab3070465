"""From any file to the schema of this engine, or a refusal that names the file and the reason."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from tako.engine import folders, sql
from tako.errors import StoreDamaged, VersionMismatch

APPLICATION_ID = 0x54414B4F  # "TAKO", in the file's header: what `file` shows, and how a stranger's file is known
CURRENT = sql.migrations()[-1][0]

# Up to this size the whole file is read when it is opened, because a daemon that restarts must accept again within a
# second. Of a larger one a damaged page is noticed when it is read, or when `tako doctor` reads all of it.
_CHECKED_AT_OPEN_BYTES = 64 * 1024 * 1024


def prepare(connection: sqlite3.Connection, *, path: Path) -> None:
    """Refuse a file that is damaged, a stranger's, or a newer engine's, before anything is written to it.

    Raises:
        StoreDamaged: restore a backup.
        VersionMismatch: run the newer Tako that wrote it.
    """
    if path.stat().st_size == 0:
        return
    version = _pragma(connection, "user_version")
    if _pragma(connection, "application_id") != APPLICATION_ID:
        if _is_empty(connection):
            return  # a start that was cut short: the schema is one transaction, so it is there as a whole or not at all
        raise StoreDamaged(f"{path} is not a store of Tako.", cure="Move it away; a new one will be made.")
    if version > CURRENT:
        raise VersionMismatch(
            f"{path} was written by a newer Tako: its schema is {version}, this one knows up to {CURRENT}.",
            cure="Upgrade Tako, or restore the copy that the newer one left beside it.",
            detail={"schema": version, "known": CURRENT},
        )
    if path.stat().st_size <= _CHECKED_AT_OPEN_BYTES:
        problems = check(connection)
        if problems:
            raise StoreDamaged(
                f"{path} is damaged: {problems[0]}.",
                cure="Restore it from a backup (`tako backup` makes them), or move it away to begin anew.",
                detail={"problems": problems[:20]},
            )


def _is_empty(connection: sqlite3.Connection) -> bool:
    """Whether nobody has made anything in the file yet."""
    tables = [row[1] for row in connection.execute("PRAGMA table_list")]
    return all(name.startswith("sqlite_") for name in tables)


def check(connection: sqlite3.Connection) -> list[str]:
    """What SQLite finds wrong with the file; empty when nothing. Reads all of it."""
    return [str(row[0]) for row in connection.execute("PRAGMA quick_check(20)") if row[0] != "ok"]


def migrate(connection: sqlite3.Connection, *, path: Path | None) -> None:
    """Bring the file to CURRENT in one transaction, after a copy of it was put beside it. A new file gets no copy."""
    version = _pragma(connection, "user_version")
    pending = [migration for migration in sql.migrations() if migration[0] > version]
    if not pending:
        return
    if version > 0 and path is not None:
        _copy(connection, path.with_name(f"{path.name}.schema-{version}"))
    connection.execute("BEGIN IMMEDIATE")
    try:
        for number, _, script in pending:
            for statement in _statements(script):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number}")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _copy(connection: sqlite3.Connection, target: Path) -> None:
    # Under another name first: a copy that a crash cut short must not pass for one.
    partial = target.with_name(target.name + ".partial")
    partial.unlink(missing_ok=True)
    connection.execute("VACUUM INTO ?", (str(partial),))
    partial.chmod(0o600)
    folders.put(partial, target)


def _statements(script: str) -> list[str]:
    """The statements of a script. `executescript` would commit the transaction that they must share."""
    found, current = [], ""
    for line in script.splitlines():
        if not line.strip() or line.lstrip().startswith("--"):
            continue
        current += line + "\n"
        if sqlite3.complete_statement(current):
            found.append(current)
            current = ""
    assert not current.strip(), f"a migration ends in the middle of a statement: {current!r}"
    return found


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    value: int = connection.execute(f"PRAGMA {name}").fetchone()[0]
    return value
