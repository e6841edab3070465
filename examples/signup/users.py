"""The app's users, in a SQLite file of its own: `tako.current.data_dir` is a folder that survives releases."""

import hashlib
import secrets
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import tako

TOKEN_LIFETIME_S = 3600

SCHEMA = """
CREATE TABLE IF NOT EXISTS users (email TEXT PRIMARY KEY, salt BLOB NOT NULL, password BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS tokens (hash TEXT PRIMARY KEY, email TEXT NOT NULL, expires_s INTEGER NOT NULL) STRICT;
"""


class AlreadyThere(Exception):
    """Somebody has signed up with this address."""


@contextmanager
def transaction() -> Iterator[sqlite3.Connection]:
    """A transaction on the users' database: committed at the end of the block, undone when the block raises."""
    connection = sqlite3.connect(Path(tako.current.data_dir) / "users.db", isolation_level=None, timeout=10)
    try:
        connection.executescript(SCHEMA)
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")
    finally:
        connection.close()


def add(connection: sqlite3.Connection, email: str, password: str) -> None:
    salt = secrets.token_bytes(16)
    try:
        connection.execute("INSERT INTO users VALUES (?, ?, ?)", (email, salt, _hash_password(password, salt)))
    except sqlite3.IntegrityError:
        raise AlreadyThere(email) from None


def exists(email: str) -> bool:
    with transaction() as connection:
        return connection.execute("SELECT 1 FROM users WHERE email = ?", (email,)).fetchone() is not None


def make_token(email: str) -> str:
    """A token that sets one new password within the hour. The file keeps its hash only."""
    token = secrets.token_urlsafe(24)
    with transaction() as connection:
        connection.execute(
            "INSERT INTO tokens VALUES (?, ?, ?)", (_hash_token(token), email, int(time.time()) + TOKEN_LIFETIME_S)
        )
    return token


def is_valid(token: str) -> bool:
    with transaction() as connection:
        return _owner(connection, token) is not None


def set_password(token: str, password: str) -> bool:
    """Use the token up. False when it was used before, is too old, or never existed."""
    salt = secrets.token_bytes(16)
    hashed = _hash_password(password, salt)
    with transaction() as connection:
        email = _owner(connection, token)
        if email is None:
            return False
        connection.execute("UPDATE users SET salt = ?, password = ? WHERE email = ?", (salt, hashed, email))
        connection.execute("DELETE FROM tokens WHERE email = ?", (email,))
    return True


def _owner(connection: sqlite3.Connection, token: str) -> str | None:
    row = connection.execute(
        "SELECT email FROM tokens WHERE hash = ? AND expires_s > ?", (_hash_token(token), int(time.time()))
    ).fetchone()
    return row[0] if row else None


def _hash_token(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _hash_password(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, n=2**14, r=8, p=1)
