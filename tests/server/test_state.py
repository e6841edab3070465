"""The server's own store."""

from __future__ import annotations

import asyncio
import sqlite3
from functools import partial
from pathlib import Path

import pytest

from tako.errors import StoreDamaged, StoreUnavailable, VersionMismatch
from tako.server import state as states
from tako.server.state import State


def add_job(state: State, job: str, **other: object) -> None:
    values = {
        "app": "shop", "env": "production", "kind": "deploy", "release": "r1", "previous": None, "by": "ann",
        "message": None, "options": "{}", "phase": "upload", "now_ms": 1, **other,
    }  # fmt: skip
    state.run("add_job", job=job, **values)


def test_one_job_at_a_time_for_an_app_and_environment(tmp_path: Path) -> None:
    state = State(tmp_path / "state.db")
    add_job(state, "d1")

    with pytest.raises(sqlite3.IntegrityError):
        add_job(state, "d2")

    add_job(state, "d3", env="staging")
    state.run("finish_job", job="d1", outcome="live", error=None, now_ms=2)
    add_job(state, "d4")
    state.close()


def test_a_job_that_is_finished_stays_as_it_ended(tmp_path: Path) -> None:
    state = State(tmp_path / "state.db")
    add_job(state, "d1")
    state.run("finish_job", job="d1", outcome="failed", error="x", now_ms=2)

    assert state.run("finish_job", job="d1", outcome="live", error=None, now_ms=3) == 0
    assert state.run("set_phase", job="d1", phase="switch", now_ms=3) == 0
    state.close()


def test_numbers_are_given_out_once_also_by_the_next_daemon(tmp_path: Path) -> None:
    state = State(tmp_path / "state.db")
    first = [state.number("job"), state.number("job")]
    state.close()

    again = State(tmp_path / "state.db")
    assert [*first, again.number("job")] == [1, 2, 3]
    again.close()


def test_what_fails_in_a_transaction_leaves_nothing(tmp_path: Path) -> None:
    state = State(tmp_path / "state.db")

    with pytest.raises(RuntimeError), state.transaction():
        add_job(state, "d1")
        raise RuntimeError

    assert state.one("job", job="d1") is None
    state.close()


def test_a_damaged_file_is_refused_and_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    path.write_bytes(b"no database" * 1000)

    with pytest.raises(StoreDamaged, match=r"state\.db is damaged"):
        State(path)

    assert path.read_bytes().startswith(b"no database")


def test_the_file_of_a_newer_server_is_refused_by_name(tmp_path: Path) -> None:
    State(tmp_path / "state.db").close()
    with sqlite3.connect(tmp_path / "state.db") as newer:
        newer.execute(f"PRAGMA user_version = {states.SCHEMA + 1}")
    newer.close()

    with pytest.raises(VersionMismatch, match="newer tako-server"):
        State(tmp_path / "state.db")


def test_a_file_that_another_process_holds_refuses_writes_with_a_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(states, "BUSY_MS", 10)
    state = State(tmp_path / "state.db")
    holder = sqlite3.connect(tmp_path / "state.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")

    with pytest.raises(StoreUnavailable, match="takes no writes"):
        add_job(state, "d1")

    holder.close()
    state.close()


def test_every_statement_compiles(tmp_path: Path) -> None:
    state = State(tmp_path / "state.db")
    for name, statement in states.STATEMENTS.items():
        try:
            state._connection.execute(f"EXPLAIN {statement}", _Anything()).fetchall()
        except sqlite3.Error as error:
            raise AssertionError(f"{name}: {error}") from None
    state.close()


class _Anything(dict[str, object]):
    def __missing__(self, key: str) -> object:
        return None


def test_what_has_happened_already_is_written_in_its_order_as_soon_as_the_file_takes_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(states, "AGAIN_S", 0.01)
    written: list[str] = []
    is_full = True

    async def owe() -> None:
        state = State(tmp_path / "state.db")
        done = asyncio.Event()
        nonlocal is_full

        def write(what: str) -> None:
            if is_full:
                raise StoreUnavailable("no room")
            written.append(what)
            if what == "second":
                done.set()

        state.at_last(partial(write, "first"))
        state.at_last(partial(write, "second"))
        assert written == []
        is_full = False
        async with asyncio.timeout(10):
            await done.wait()
        state.at_last(partial(write, "third"))
        state.close()

    asyncio.run(owe())
    assert written == ["first", "second", "third"]
