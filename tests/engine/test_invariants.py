"""Each invariant is noticed when it is broken; the checks of the schema are switched off to break it."""

from __future__ import annotations

import pytest

from tako.engine import invariants
from tests.support.engine import Rig


@pytest.fixture
def run_id(engine: Rig) -> str:
    engine.store.connection.execute("PRAGMA ignore_check_constraints = ON")
    return engine.enqueue()


@pytest.mark.parametrize(
    ("rule", "damage"),
    [
        ("I2", "UPDATE runs SET status = 'paused'"),
        ("I3", "UPDATE runs SET status = 'running', lane = NULL"),
        ("I4", "UPDATE runs SET run_at_ms = NULL"),
        ("I4", "UPDATE runs SET lane = NULL"),
        ("I5", "INSERT INTO waiters (run, step, event, parked_ms) SELECT seq, 's', 'e', 1 FROM runs"),
        ("I5", "INSERT INTO waiters (run, step, event, parked_ms) VALUES (99, 's', 'e', 1)"),
        ("I5", "UPDATE runs SET lane = 'later', parked = 'wait'"),
        ("I6", "UPDATE runs SET status = 'succeeded', ended_ms = 1"),
        ("I6", "UPDATE runs SET status = 'succeeded', lane = NULL, run_at_ms = NULL"),
        ("I7", "UPDATE runs SET crashes = 3"),
        ("I7", "UPDATE runs SET lifetime_crashes = 21"),
        (
            "I8",
            "INSERT INTO steps (run, generation, name, kind, attempt, epoch, ended_ms, result)"
            " VALUES (1, 2, 's', 'step', 1, 1, 1, '1')",
        ),
        ("I9", "UPDATE runs SET status = 'dead', lane = NULL, run_at_ms = NULL, ended_ms = 1"),
        ("I1", "DELETE FROM payloads"),
        ("counts", "UPDATE counts SET n = n + 1"),
        ("counts", "DELETE FROM runs"),
    ],
)
def test_a_broken_invariant_is_named(engine: Rig, run_id: str, rule: str, damage: str) -> None:
    assert invariants.check(engine.store) == []

    engine.store.connection.execute(damage)

    assert any(problem.startswith(rule) for problem in invariants.check(engine.store))


def test_an_acknowledged_run_that_is_gone_is_named(engine: Rig, run_id: str) -> None:
    engine.seen.acknowledged.add("lost")

    problems = invariants.check(engine.store, seen=engine.seen)

    assert problems == ["I1: acknowledged run lost is gone"]


def test_a_step_that_changed_and_an_epoch_that_went_back_are_named(engine: Rig) -> None:
    run_id = engine.start()
    engine.save(run_id, "load", 1)
    engine.drain()
    engine.claim()

    engine.store.connection.execute("UPDATE steps SET result = '2'")
    engine.store.connection.execute("UPDATE runs SET epoch = 1")

    problems = invariants.check(engine.store, seen=engine.seen)
    assert [problem.partition(":")[0] for problem in problems] == ["E3", "I8"]


def test_two_live_runs_of_one_key_are_named(engine: Rig) -> None:
    engine.enqueue(key="k")
    engine.enqueue()
    engine.store.connection.execute("DROP INDEX runs_live_key")
    engine.store.connection.execute("UPDATE runs SET key = 'k'")

    assert any(problem.startswith("E10") for problem in invariants.check(engine.store))
