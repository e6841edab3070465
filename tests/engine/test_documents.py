"""The engine's own JSON in the store: what cannot be read is a damaged file, and is said when it is opened."""

from __future__ import annotations

from pathlib import Path

import pytest

from tako.engine import documents, inspect, runs
from tako.engine.store import Store
from tako.errors import StoreDamaged

BAD = ["{not json", "[]", "null", "\0", "", "[" * 100_000]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "runs.db")


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize(
    ("insert", "named"),
    [
        ("INSERT INTO group_health VALUES ('mail', ?)", "the health of group 'mail'"),
        ("INSERT INTO workers (worker_id, record) VALUES ('w1', ?)", "worker 'w1'"),
        ("INSERT INTO registries (release, name, registry, saved_ms) VALUES ('dev', 'mail', ?, 1)", "group 'mail'"),
        (
            "INSERT INTO schedules (workflow, spec, options, mark_ms, next_ms) VALUES ('tick', '* * * * *', ?, 1, 2)",
            "schedule 'tick",
        ),
    ],
)
def test_a_row_of_the_engines_own_that_cannot_be_read_is_a_damaged_file(
    store: Store, insert: str, named: str, bad: str
) -> None:
    documents.check(store)
    store.connection.execute(insert, (bad,))

    with pytest.raises(StoreDamaged, match=r"runs\.db is damaged") as caught:
        documents.check(store)
    assert named in caught.value.message
    store.close()


@pytest.mark.parametrize("bad", ["{not json", "1", "[1]", "[" * 100_000])
def test_warnings_that_cannot_be_read_are_a_warning_and_hide_no_run(store: Store, bad: str) -> None:
    with store.transaction():
        runs.enqueue(store, [{"id": "r1", "workflow": "greet", "payload_json": "{}"}], now_ms=1)
        store.connection.execute("UPDATE runs SET warnings = ?", (bad,))

    (found,) = inspect.list_runs(store).runs

    assert found["warnings"] == ["what was stored as the warnings of this run cannot be read"]
    store.close()
