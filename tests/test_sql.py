"""Every named statement is used and compiles, says why it is as it is, and the hot ones read an index and no table."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tako.engine import sql
from tako.engine.store import Store

SOURCES = Path(sql.__file__).parents[1]
QUERIES = Path(sql.__file__).parent / "queries"

# Run for every enqueue, claim, step, park or end, or by the clock: each names the index it must go by.
HOT = {
    "live_key": "runs_live_key",
    "held_run": "sqlite_autoindex_runs_1",
    "held_runs": "sqlite_autoindex_runs_1",
    "succeed_held": "INTEGER PRIMARY KEY",
    "anything_left_behind": "signals_waiting",
    "ready_heads": "runs_ready",
    "solo_heads": "runs_solo",
    "succeed_run": "sqlite_autoindex_runs_1",
    "claim_run": "INTEGER PRIMARY KEY",
    "fail_run": "INTEGER PRIMARY KEY",
    "end_run": "INTEGER PRIMARY KEY",
    "park_run": "INTEGER PRIMARY KEY",
    "wake_run": "INTEGER PRIMARY KEY",
    "release_run": "INTEGER PRIMARY KEY",
    "promote_run": "INTEGER PRIMARY KEY",
    "payloads": "INTEGER PRIMARY KEY",
    "run_seqs": "sqlite_autoindex_runs_1",
    "due_runs": "runs_later",
    "next_due": "runs_later",
    "expired_runs": "runs_expiry",
    "runs_of_worker": "runs_running",
    "workers_with_runs": "runs_running",
    "running_runs": "runs_running",
    "cleared_suspects": "runs_running",
    "ended_attempt": "PRIMARY KEY (run=? AND epoch=?)",
    "find_step": "steps_name",
    "step_positions": "COVERING INDEX steps_name",
    "step": "INTEGER PRIMARY KEY",
    "waiter": "INTEGER PRIMARY KEY",
    "waiting_for": "waiters_event",
    "first_signal": "signals_waiting",
    "first_v0_signal": "signals_waiting",
    "find_signal": "signals_once",
    "left_behind": "signals_waiting",
    "take_wakers": "PRIMARY KEY (event=?)",
    "branch_left": "wakers_branch",
    "failed_runs": "runs_parent",
    "woken_by": "PRIMARY KEY (event=?)",
    "waker": "PRIMARY KEY (event=? AND run=?)",
    "delete_wakers": "wakers_branch",
    "gathered_runs": "wakers_branch",
    "waits_for": "wakers_branch",
    "unfinished_runs": "sqlite_autoindex_runs_1",
    "outcome": "sqlite_autoindex_runs_1",
    "started_children": "steps_name",
    "delete_unconsumed_signals": "signals_waiting",
    "old_signals": "signals_sent",
    "oldest_runs": "INTEGER PRIMARY KEY",
    "unfinished_descendants": "runs_parent",
    "unseen_runs": "runs_dead",
    "newest_with_key": "runs_key",
    "runs_with_key": "runs_key",
    "seqs_by_id": "sqlite_autoindex_runs_1",
    "seqs_by_key": "runs_key",
    "children_by_id": "runs_parent",
    "oldest_ready": "runs_ready",
    "stretches_of": "PRIMARY KEY (workflow=? AND stretch<?)",
    "forget_stretches": "PRIMARY KEY (workflow=? AND stretch<?)",
    "list_runs": "INTEGER PRIMARY KEY (rowid>? AND rowid<?)",
    "created_from": "INTEGER PRIMARY KEY (rowid>?)",
    "pending_seqs": "runs_later",
    "running_seqs": "runs_running",
    "dead_seqs": "runs_dead",
    "waiting_payloads": "runs_ready",
    "still_pending": "sqlite_autoindex_runs_1",
    "due_schedules": "schedules_due",
    "next_schedule": "schedules_due",
    "marks_ahead": "schedules_mark",
    "queued_schedules": "schedules_queued",
    "permits_out": "PRIMARY KEY (workflow=? AND kind=? AND key=?)",
    "limited_by_concurrency": "runs_limited",
    "limited_by_rate": "runs_rate",
    "due_with_key": "runs_ready",
    "paused_runs": "runs_paused",
    "thawed": "cooling_free",
    "last_cooling": "cooling_free",
    "delete_steps": "steps_name",
    "delete_remembered_signals": "signals_once",
    "delete_interventions": "interventions_run",
    "delete_attempts": "PRIMARY KEY (run=?)",
}
# Tables that have a handful of rows, lists from json_each, and results of inner queries may be walked.
SMALL = re.compile(
    r"SCAN (counts|workers|group_health|registries|schedules|meta|pauses|json_each|family|levels|awaited|\(sub)"
)
# Bound so often that finding names would show.
POSITIONAL = {
    "insert_run",
    "insert_plain_run",
    "insert_payload",
    "insert_traced_payload",
    "insert_step",
    "insert_result",
    "insert_success",
    "succeed_held",
    "claim_run",
    "set_count",
}
# These read everything, on purpose: they are for tests and doctors, or end at a page.
WALKS = {"broken_invariants", "wrong_counts", "wrong_permits", "due_runs_of_all", "all_epochs", "all_steps"}
WALKS |= {"seqs_by_end_of_id"}
# And these, when code or the clock changes, or a release is refused.
WALKS |= {"count_rate_permits", "recool", "unfinished_of"}


@pytest.fixture(scope="module")
def plans() -> Iterator[dict[str, list[str]]]:
    store = Store.memory()
    found = {}
    for name, statement in sql.STATEMENTS.items():
        numbers = [int(number) for number in re.findall(r"\?(\d+)", statement)]
        params: Any = [None] * max(numbers, default=statement.count("?")) or dict.fromkeys(
            re.findall(r":(\w+)", statement)
        )
        rows = store.connection.execute(f"EXPLAIN QUERY PLAN {statement}", params).fetchall()
        found[name] = [row["detail"] for row in rows]
    yield found
    store.close()


def test_every_statement_compiles(plans: dict[str, list[str]]) -> None:
    assert plans.keys() == sql.STATEMENTS.keys()


def test_every_statement_is_used() -> None:
    source = "\n".join(path.read_text() for path in SOURCES.rglob("*.py"))

    unused = [name for name in sql.STATEMENTS if f'"{name}"' not in source]

    assert unused == []


def test_no_sql_is_written_in_python_but_pragmas_and_transactions() -> None:
    allowed = re.compile(r"^(PRAGMA|BEGIN|COMMIT|ROLLBACK|VACUUM)\b")
    literal = re.compile(r"execute(?:many|script)?\(\s*f?\"([^\"]*)")

    for path in [*(SOURCES / "engine").rglob("*.py"), *(SOURCES / "cron").rglob("*.py")]:
        for text in literal.findall(path.read_text()):
            assert allowed.match(text), f"{path.name}: {text}"


@pytest.mark.parametrize("name", HOT)
def test_a_hot_statement_goes_by_its_index(plans: dict[str, list[str]], name: str) -> None:
    plan = plans[name]

    assert any(HOT[name] in step for step in plan), plan
    # A scan is a walk over an index from its beginning: fine where it ends early or has only what is wanted.
    assert not [step for step in plan if re.match(r"SCAN (?!.*USING)", step) and not SMALL.match(step)], plan


def test_no_statement_walks_a_table_that_grows(plans: dict[str, list[str]]) -> None:
    walks = {
        name: step
        for name, plan in plans.items()
        for step in plan
        if re.match(r"SCAN (?!CONSTANT)(?!.*USING)", step) and not SMALL.match(step)
    }

    assert walks.keys() - WALKS == set(), walks


@pytest.mark.parametrize("name", ["ready_heads", "solo_heads", "due_runs", "expired_runs", "first_signal"])
def test_what_is_wanted_first_is_first_in_the_index_and_nothing_is_sorted(
    plans: dict[str, list[str]], name: str
) -> None:
    assert not any("TEMP B-TREE" in step for step in plans[name]), plans[name]


@pytest.mark.parametrize("path", sorted(QUERIES.glob("*.sql")), ids=lambda path: path.name)
def test_a_file_of_statements_is_named_for_what_it_holds_and_written_alike(path: Path) -> None:
    text = path.read_text()

    assert text.startswith("-- name: ")
    assert not re.search(r"[ \t]+$", text, re.MULTILINE)
    assert max(map(len, text.splitlines())) <= 120
    for name, statement in sql.parse(text).items():
        assert ";" not in statement, f"{name} is more than one statement"


def test_parameters_are_named_and_time_is_one_of_them() -> None:
    for name, statement in sql.STATEMENTS.items():
        assert "?" not in statement or name in POSITIONAL, name
        assert not re.search(
            r"\b(datetime|strftime|julianday|unixepoch|current_timestamp|random)\b", statement, re.IGNORECASE
        ), name
