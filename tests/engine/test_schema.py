"""From any file to the schema of this engine, or a refusal that names the file."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from tako.engine import leases, pausing, runs, schema, sql, store
from tako.engine.pauses import Target
from tako.engine.store import Store
from tako.errors import StoreDamaged, StoreUnavailable, TakoError, VersionMismatch
from tako.protocol.messages import ClaimedRun
from tests.support import old_store
from tests.support.clock import FakeClock
from tests.support.engine import Rig

STORES = Path(__file__).with_name("stores")  # one file for each version, written once by tests/support/old_store.py


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store with a hundred runs."""
    path = tmp_path / "runs.db"
    made = Store.open(path)
    with made.transaction():
        runs.enqueue(
            made,
            [{"id": f"run-{n}", "workflow": "w", "payload_json": "x" * 500} for n in range(100)],
            now_ms=1,
        )
    made.close()
    return path


@pytest.fixture
def next_migration(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine of the next version, which adds a column."""
    script = "ALTER TABLE runs ADD COLUMN note TEXT;\nCREATE INDEX runs_note ON runs (note) WHERE note IS NOT NULL;\n"
    known = sql.migrations()
    monkeypatch.setattr(sql, "migrations", lambda: [*known, (schema.CURRENT + 1, "note", script)])
    monkeypatch.setattr(schema, "CURRENT", schema.CURRENT + 1)


def test_a_new_file_gets_the_current_schema_and_no_copy(tmp_path: Path) -> None:
    made = Store.open(tmp_path / "runs.db")

    assert made.connection.execute("PRAGMA user_version").fetchone()[0] == schema.CURRENT
    made.close()
    assert [file.name for file in tmp_path.iterdir()] == ["runs.db"]


def test_a_migration_keeps_every_run_and_leaves_a_copy_of_the_file_before(path: Path, next_migration: None) -> None:
    opened = Store.open(path)

    assert opened.counts["w", "ready"] == 100
    assert opened.connection.execute("SELECT count(*) FROM runs WHERE note IS NULL").fetchone()[0] == 100
    opened.close()
    before = schema.CURRENT - 1
    copy = path.with_name(f"runs.db.schema-{before}")
    assert copy.stat().st_mode & 0o777 == 0o600
    with sqlite3.connect(copy) as connection:
        assert connection.execute("PRAGMA user_version").fetchone()[0] == before
        assert connection.execute("SELECT count(*) FROM runs").fetchone()[0] == 100
    connection.close()


@pytest.mark.parametrize("dump", sorted(STORES.glob("*.sql")), ids=lambda dump: dump.stem)
def test_what_a_released_version_has_left_behind_is_opened_and_every_run_of_it_is_finished(
    tmp_path: Path, clock: FakeClock, dump: Path
) -> None:
    old_store.restore(dump, tmp_path / "runs.db")

    engine = Rig(Store.open(tmp_path / "runs.db"), clock)
    unfinished = {
        row["id"]: row["status"]
        for row in engine.store.connection.execute("SELECT id, status FROM runs WHERE ended_ms IS NULL")
    }
    assert len(unfinished) >= 16
    engine.do(leases.recover, recorded=[], now_ms=engine.now_ms)
    engine.signal("waiting", value={"by": "UPS"})
    engine.do(pausing.resume, Target("workflow", "paused"))
    workflows = [row["workflow"] for row in engine.store.connection.execute("SELECT DISTINCT workflow FROM runs")]
    claimed: dict[str, ClaimedRun] = {}
    for _ in range(20):
        clock.advance(s=600)
        engine.promote()
        engine.do(leases.clear_suspects, now_ms=engine.now_ms)
        for solo in (False, True):
            for run in engine.claim("new", names=tuple(workflows), n=100, solo=solo):
                claimed[run["id"]] = run
                engine.succeed(run["id"], '"finished"')

    assert claimed.keys() == unfinished.keys()
    assert {engine.status(run_id) for run_id in unfinished} == {"succeeded"}
    assert claimed["running"]["steps"] == {"load": '{"price": "9.90"}'}
    assert claimed["waiting"]["steps"] != {}
    assert engine.info("succeeded", "result")["result_json"] == '"done"'
    assert schema.check(engine.store.connection) == []
    engine.store.close()


def test_a_migration_that_fails_leaves_the_file_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = sql.migrations()
    script = "ALTER TABLE runs ADD COLUMN note TEXT;\nCREATE TABLE runs (x);\n"
    with monkeypatch.context() as patched:
        number = schema.CURRENT + 1
        patched.setattr(sql, "migrations", lambda: [*known, (number, "broken", script)])
        patched.setattr(schema, "CURRENT", number)
        with pytest.raises(sqlite3.OperationalError, match="already exists"):
            Store.open(path)

    opened = Store.open(path)
    assert "note" not in {row["name"] for row in opened.connection.execute("PRAGMA table_info(runs)")}
    assert opened.counts["w", "ready"] == 100
    opened.close()


def test_an_older_engine_refuses_a_newer_schema_by_name(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    before = path.read_bytes()

    with pytest.raises(VersionMismatch, match=r"runs\.db was written by a newer Tako: its schema is 99") as raised:
        Store.open(path)

    assert raised.value.detail == {"schema": 99, "known": schema.CURRENT}
    assert path.read_bytes() == before


def test_a_stranger_s_database_is_refused_and_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE addresses (name TEXT)")
    connection.close()
    before = path.read_bytes()

    with pytest.raises(StoreDamaged, match="not a store of Tako"):
        Store.open(path)
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_refused_and_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    path.write_bytes(b"Dear diary, " * 1000)

    with pytest.raises(StoreDamaged, match=r"runs\.db"):
        Store.open(path)
    assert path.read_bytes() == b"Dear diary, " * 1000


@pytest.mark.parametrize("where", ["middle", "header", "cut"])
def test_a_damaged_file_is_refused_by_name_and_never_replaced(path: Path, where: str) -> None:
    content = bytearray(path.read_bytes())
    if where == "middle":
        for page in range(3, len(content) // 4096, 2):
            content[page * 4096 : page * 4096 + 200] = os.urandom(200)
    elif where == "header":
        content[:60] = os.urandom(60)
    else:
        content = content[: len(content) // 2]
    path.write_bytes(content)

    with pytest.raises(StoreDamaged, match=r"runs\.db") as raised:
        Store.open(path)

    assert raised.value.cure
    assert path.read_bytes() == bytes(content)


@pytest.mark.parametrize("content", ["nothing", "a header"])
def test_a_start_that_was_cut_short_is_simply_repeated(tmp_path: Path, content: str) -> None:
    path = tmp_path / "runs.db"
    path.touch()
    if content == "a header":
        with sqlite3.connect(path) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
        connection.close()
        assert path.stat().st_size > 0

    opened = Store.open(path)

    assert opened.connection.execute("PRAGMA user_version").fetchone()[0] == schema.CURRENT
    opened.close()


def test_a_file_that_another_process_holds_is_not_damaged(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "BUSY_TIMEOUT_MS", 20)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("PRAGMA locking_mode = EXCLUSIVE")
    other.execute("BEGIN EXCLUSIVE")

    with pytest.raises(StoreUnavailable) as raised:
        Store.open(path)

    assert raised.value.detail["reason"] == "DB_LOCKED"
    other.close()


def test_a_sqlite_that_is_too_old_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_OLDEST_SQLITE", (99, 0, 0))

    with pytest.raises(TakoError, match="too old"):
        Store.open(tmp_path / "runs.db")
    assert list(tmp_path.iterdir()) == []


def test_a_copy_that_a_crash_cut_short_does_not_pass_for_one(path: Path, next_migration: None) -> None:
    path.with_name(f"runs.db.schema-{schema.CURRENT - 1}.partial").write_bytes(b"half")

    Store.open(path).close()

    assert not path.with_name(f"runs.db.schema-{schema.CURRENT - 1}.partial").exists()
    assert path.with_name(f"runs.db.schema-{schema.CURRENT - 1}").stat().st_size > 4096
