"""The file: transactions, events after COMMIT, numbers that are kept, and refusals at the door."""

from __future__ import annotations

import sqlite3
import stat
from pathlib import Path

import pytest

from tako.engine import invariants, runs
from tako.engine.events import Changed, Later, Ready
from tako.engine.store import Store
from tests.support.engine import Rig


def enqueue(store: Store, *ids: str) -> None:
    with store.transaction():
        runs.enqueue(store, [{"id": name, "workflow": "w", "payload_json": "{}"} for name in ids], now_ms=1)


def test_what_was_committed_is_there_after_the_store_was_opened_again(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "runs.db")
    enqueue(store, "a", "b")
    store_id = store.store_id
    store.close()

    store = Store.open(tmp_path / "runs.db")

    assert store.store_id == store_id
    assert store.counts["w", "ready"] == 2
    assert invariants.check(store) == []
    store.close()


def test_each_store_has_an_id_of_its_own(tmp_path: Path) -> None:
    stores = [Store.open(tmp_path / name) for name in ("a.db", "b.db")]

    assert len({store.store_id for store in stores}) == 2
    for store in stores:
        store.close()


def test_the_files_are_their_owner_s_alone(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "runs.db")
    enqueue(store, "a")

    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["runs.db", "runs.db-shm", "runs.db-wal"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    store.close()


@pytest.mark.parametrize(("durability", "expected"), [("full", 2), ("process", 1)])
def test_synchronous_is_full_unless_asked_otherwise(tmp_path: Path, durability: str, expected: int) -> None:
    store = Store.open(tmp_path / "runs.db", durability=durability)  # type: ignore[arg-type]

    assert store.connection.execute("PRAGMA synchronous").fetchone()[0] == expected
    assert store.connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    assert store.durability == durability
    for pragma in ("fullfsync", "checkpoint_fullfsync"):  # obeyed on macOS only, whose fsync does not reach the platter
        assert store.connection.execute(f"PRAGMA {pragma}").fetchone()[0] == 1
    store.close()


def test_an_exception_leaves_the_store_as_it_was(store: Store) -> None:
    enqueue(store, "a")
    store.take_events()

    with pytest.raises(ZeroDivisionError), store.transaction():
        runs.enqueue(store, [{"id": "b", "workflow": "w", "payload_json": "{}"}], now_ms=1)
        assert store.count("w", "ready") == 2
        raise ZeroDivisionError

    assert store.take_events() == []
    assert store.counts["w", "ready"] == store.count("w", "ready") == 1
    assert invariants.check(store) == []
    enqueue(store, "c")
    assert invariants.check(store) == []


def test_others_see_numbers_only_after_the_commit(store: Store) -> None:
    with store.transaction():
        runs.enqueue(store, [{"id": "a", "workflow": "w", "payload_json": "{}"}], now_ms=1)
        assert store.count("w", "ready") == 1
        assert ("w", "ready") not in store.counts
    assert store.counts["w", "ready"] == 1


def test_events_are_handed_out_once_and_a_workflow_becomes_ready_once(store: Store) -> None:
    with store.transaction():
        store.emit(Ready("w", "ready"))
        store.emit(Changed("a", "w", "pending"))
        store.emit(Ready("w", "ready"))
        store.emit(Later(5))

    assert store.take_events() == [Changed("a", "w", "pending"), Later(5), Ready("w", "ready")]
    assert store.take_events() == []


def test_the_reader_sees_commits_and_cannot_write(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "it's? a #1 file.db")
    reader = store.reader()
    enqueue(store, "a")

    assert reader.one("held_run", id="a") is not None
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader.connection.execute("DELETE FROM runs")
    reader.close()
    reader.close()
    store.close()


def test_the_reader_of_a_store_in_memory_is_the_store(store: Store) -> None:
    assert store.reader() is store


def test_facts_about_the_store_are_kept(store: Store) -> None:
    assert store.get_meta("boot_id") is None
    with store.transaction():
        store.set_meta("boot_id", "1")
        store.set_meta("boot_id", "2")

    assert store.get_meta("boot_id") == "2"


def test_a_store_that_is_full_of_ended_runs_counts_nothing_at_open(engine: Rig) -> None:
    for _ in range(3):
        engine.succeed(engine.start())

    assert engine.store.counts["charge", "succeeded"] == 3
    assert engine.store.counts["charge", "running"] == 0
