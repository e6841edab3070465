"""The file: one connection that writes, one that reads, statements by name, and events after COMMIT. No policy.

Only the thread that owns a connection uses it. `writer.py` owns the writing one in the daemon; a test, or the
simulator, simply calls it.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Self

from tako.engine import faults, folders, options, schema, sql
from tako.engine.events import Event, Ready
from tako.engine.options import Options
from tako.engine.pauses import Pauses
from tako.errors import TakoError

Durability = Literal["full", "process"]

# How long a statement waits for another process that has locked the file (D10).
BUSY_TIMEOUT_MS = 2_000
_CACHE_KIB = 8_000
# Checkpoints are ours to make (writer.py), since SQLite hides the error of its own; this is the backstop, 64 MiB.
_WAL_BACKSTOP_PAGES = 16_000
# So many rows of runs are a stretch; the migration that made the table of them has this number, too.
STRETCH = 1_024
_OLDEST_SQLITE = (3, 37, 0)  # STRICT tables


class Reader:
    """Statements that read. Rows are `sqlite3.Row`: by name, or unpacked like tuples."""

    def __init__(self, connection: sqlite3.Connection, *, path: Path | None) -> None:
        self.connection = connection
        self.path = path
        connection.row_factory = sqlite3.Row

    def all(self, statement: str, /, **params: Any) -> list[sqlite3.Row]:
        """All rows of a named statement."""
        return self.connection.execute(sql.STATEMENTS[statement], params).fetchall()

    def one(self, statement: str, /, **params: Any) -> sqlite3.Row | None:
        """Its first row, None when there is none."""
        row: sqlite3.Row | None = self.connection.execute(sql.STATEMENTS[statement], params).fetchone()
        return row

    def get_meta(self, name: str) -> str | None:
        """A fact about the store, None when it was never set."""
        row = self.one("get_meta", name=name)
        return None if row is None else str(row["value"])

    @property
    def store_id(self) -> str:
        """Made with the file and never changed, so that a deleted or swapped file is noticed."""
        found = self.get_meta("store_id")
        assert found is not None, "a store has an id from its first transaction on"
        return found

    def close(self) -> None:
        """Close the connection; twice is harmless."""
        self.connection.close()


class Store(Reader):
    """The writing side. All writes happen inside `transaction()`; what it emits is handed out after COMMIT."""

    def __init__(self, connection: sqlite3.Connection, *, path: Path | None, durability: Durability = "full") -> None:
        super().__init__(connection, path=path)
        self.durability = durability
        # A rough account of what went into the log since the last checkpoint; writer.py decides by it.
        self.bytes_written = 0
        self.is_committing = False  # or its COMMIT has failed
        self._events: list[Event] = []
        self._ready: set[Ready] = set()
        # Numbers of runs by (workflow, lane or status), as of the last COMMIT; any thread may read them.
        self.counts: dict[tuple[str, str], int] = {}
        self._working: dict[tuple[str, str], int] = {}
        self._last_seq = 0
        # The stretch in which a workflow was noted last, so that most runs find theirs noted already.
        self._noted: dict[str, int] = {}
        # What workflows declare and the rules keep, by name. `obey` replaces it; see registry.py.
        self.options: dict[str, Options] = {}
        # What people have paused; see pausing.py.
        self.pauses = Pauses()
        self._pauses_before: Pauses | None = None
        self._options_before: dict[str, Options] | None = None
        # The release whose workers may claim, None for whoever asks; see releases.py.
        self.active_release: str | None = None
        self._active_before: tuple[str | None] | None = None

    @classmethod
    def open(cls, path: str | Path, *, durability: Durability = "full") -> Self:
        """Open the file, made if it is not there, at the schema of this engine.

        Raises:
            StoreDamaged: it is damaged or not a store of ours. Nothing was changed.
            VersionMismatch: a newer engine wrote it.
            StoreUnavailable: the disk is full, or another process holds the file.
        """
        if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
            raise TakoError(
                f"SQLite {sqlite3.sqlite_version} is too old: Tako needs 3.37 or newer.",
                cure="Use a Python that is linked to a newer one, such as those that uv installs.",
            )
        path = Path(path)
        # Made by us before SQLite sees it: its -wal and -shm take over the mode, so none is ever wider than 0600.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=256)
        try:
            store = cls(connection, path=path, durability=durability)
            schema.prepare(connection, path=path)
            store._configure()
            schema.migrate(connection, path=path)
            store._load()
            store._relax()
            # SQLite syncs the folder too, but goes on when that fails: a power cut could then take the log away.
            folders.sync(path.parent)
        except (sqlite3.Error, OSError) as error:
            known = faults.explain(error, path=path)
            connection.close()
            if known is None:
                raise
            raise known from error
        except BaseException:
            connection.close()
            raise
        return store

    @classmethod
    def memory(cls) -> Self:
        """A store that dies with the process, for tests and simulations."""
        connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False, cached_statements=256)
        store = cls(connection, path=None, durability="process")
        connection.execute("PRAGMA foreign_keys = OFF")
        schema.migrate(connection, path=None)
        store._load()
        return store

    def reader(self) -> Reader:
        """A second connection that cannot write and never checkpoints. In memory it is the store itself."""
        if self.path is None:
            return self
        uri = f"file:{self.path.resolve().as_posix().replace('?', '%3f').replace('#', '%23')}?mode=ro"
        connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
        connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        connection.execute("PRAGMA query_only = ON")
        return Reader(connection, path=self.path)

    # --- transactions -----------------------------------------------------------------------------------------------

    @contextmanager
    def transaction(self) -> Iterator[Self]:
        """One transaction; `take_events()` has what it emitted. An exception leaves the file as it was."""
        self.begin()
        try:
            yield self
            self.commit()
        except BaseException:
            self.rollback()
            raise

    def begin(self) -> None:
        """Begin, as the one writer: the lock is taken now, not in the middle."""
        self.is_committing = False
        self.connection.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """Make everything since `begin` durable."""
        if self._working:
            self.many("set_count", [(workflow, state, n) for (workflow, state), n in self._working.items()])
        self.is_committing = True
        self.connection.execute("COMMIT")
        self.is_committing = False
        self.counts.update(self._working)
        self._working.clear()
        self._options_before = self._pauses_before = self._active_before = None

    def rollback(self) -> None:
        """Undo everything since `begin`. SQLite may have done so itself, after a full disk for example."""
        self._working.clear()
        self._noted.clear()
        self._events.clear()
        self._ready.clear()
        if self._options_before is not None:
            self.options, self._options_before = self._options_before, None
        if self._pauses_before is not None:
            self.pauses, self._pauses_before = self._pauses_before, None
        if self._active_before is not None:
            (self.active_release,), self._active_before = self._active_before, None
        if self.connection.in_transaction:
            self.connection.execute("ROLLBACK")

    def emit(self, event: Event) -> None:
        """Tell the house, if this transaction commits. A workflow becomes ready once, however many runs it got."""
        if type(event) is Ready:
            self._ready.add(event)
        else:
            self._events.append(event)

    def emit_all(self, events: Iterable[Event]) -> None:
        """`emit` for many that are no Ready."""
        self._events.extend(events)

    def take_events(self) -> list[Event]:
        """What was emitted since the last call, in order, the Ready ones last."""
        events: list[Event] = [*self._events, *sorted(self._ready)]
        self._events.clear()
        self._ready.clear()
        return events

    # --- statements that write --------------------------------------------------------------------------------------

    def run(self, statement: str, /, **params: Any) -> int:
        """Run a named statement; the number of rows it changed."""
        return self.connection.execute(sql.STATEMENTS[statement], params).rowcount

    def many(self, statement: str, params: Iterable[dict[str, Any] | tuple[Any, ...]]) -> int:
        """Run a named statement for each; the number of rows changed in all."""
        return self.connection.executemany(sql.STATEMENTS[statement], params).rowcount

    def set_meta(self, name: str, value: str) -> None:
        """Set a fact about the store."""
        self.run("set_meta", name=name, value=value)

    def obey(self, found: dict[str, Options]) -> None:
        """Keep these options from now on, also after a restart; the ones before, if the transaction fails."""
        self.set_meta("options", options.dump(found))
        if self._options_before is None:
            self._options_before = self.options
        self.options = found

    def keep_pauses(self, found: Pauses) -> None:
        """Go by these from now on; by the ones before, if the transaction fails."""
        if self._pauses_before is None:
            self._pauses_before = self.pauses
        self.pauses = found

    def activate(self, release: str) -> None:
        """Let this release's workers claim from now on; those of before, if the transaction fails."""
        self.set_meta("active_release", release)
        if self._active_before is None:
            self._active_before = (self.active_release,)
        self.active_release = release

    def names_of(self, workflow: str) -> tuple[str, ...]:
        """All names that runs of this workflow may be stored under, whichever of them is asked about."""
        found = self.options.get(workflow)
        return (workflow,) if found is None else found.names

    # --- numbers kept in memory -------------------------------------------------------------------------------------

    def take_seqs(self, n: int) -> int:
        """The first of `n` new row numbers. A rollback leaves a gap, which harms nobody."""
        first = self._last_seq + 1
        self._last_seq += n
        return first

    def note_stretches(self, workflows: Iterable[str], first: int, last: int) -> None:
        """Note that these have runs among the rows from `first` to `last`; more than is true does no harm."""
        for stretch in range(first // STRETCH, last // STRETCH + 1):
            for workflow in workflows:
                if self._noted.get(workflow) != stretch:
                    self.run("note_stretch", workflow=workflow, stretch=stretch)
                    self._noted[workflow] = stretch

    def count(self, workflow: str, state: str) -> int:
        """How many runs of a workflow are in a lane or status, as this transaction sees it."""
        key = (workflow, state)
        found = self._working.get(key)
        return self.counts.get(key, 0) if found is None else found

    def workflows_in(self, state: str) -> list[str]:
        """The workflows that have runs in a lane or status, as this transaction sees it."""
        known = {name for name, its_state in (*self.counts, *self._working) if its_state == state}
        return sorted(name for name in known if self.count(name, state))

    def move(self, workflow: str, before: str | None, after: str | None, n: int = 1) -> None:
        """Account for `n` runs that went from one lane or status to another. None: they were made, or deleted."""
        working = self._working
        if before is not None:
            key = (workflow, before)
            working[key] = (working[key] if key in working else self.counts.get(key, 0)) - n
        if after is not None:
            key = (workflow, after)
            working[key] = (working[key] if key in working else self.counts.get(key, 0)) + n

    # --- opening ----------------------------------------------------------------------------------------------------

    def _relax(self) -> None:
        """From here on a power cut may cost what was acknowledged, but not the schema, nor which store this is."""
        if self.durability == "process":
            self.connection.execute("PRAGMA synchronous = NORMAL").fetchall()

    def _configure(self) -> None:
        for pragma in (
            f"busy_timeout = {BUSY_TIMEOUT_MS}",
            "journal_mode = WAL",
            "synchronous = FULL",
            "fullfsync = ON",  # macOS, where fsync alone does not reach the platter; elsewhere without effect
            "checkpoint_fullfsync = ON",
            f"wal_autocheckpoint = {_WAL_BACKSTOP_PAGES}",
            f"cache_size = -{_CACHE_KIB}",
            "secure_delete = FAST",
            "temp_store = MEMORY",
        ):
            self.connection.execute(f"PRAGMA {pragma}").fetchall()

    def _load(self) -> None:
        if self.get_meta("store_id") is None:
            with self.transaction():
                self.set_meta("store_id", os.urandom(16).hex())
        self.counts = {(row["workflow"], row["state"]): row["n"] for row in self.all("all_counts")}
        self.options = options.parse(self.get_meta("options"))
        self.pauses = Pauses.of(self.all("all_pauses"))
        self.active_release = self.get_meta("active_release")
        row = self.one("last_seq")
        assert row is not None
        self._last_seq = row["seq"]
