"""The table of transitions, walked against the database: what it allows happens, what it does not changes no row."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from tako.engine import leases, runs, states
from tako.engine.states import CANCELLED, DEAD, NEXT, PENDING, SUCCEEDED, RunStatus
from tako.errors import IllegalMove, TakoError
from tests.support.engine import BOOM, Rig

EVENTS = sorted({event for moves in NEXT.values() for event in moves})


def bring_to(engine: Rig, status: RunStatus) -> str:
    """A run in this state, whose last holder was w1 at epoch 1 (nobody, if it is pending)."""
    if status is PENDING:
        return engine.enqueue(expires_at_ms=engine.now_ms + 1_000)
    run_id = engine.start(retries=0)
    if status is SUCCEEDED:
        engine.succeed(run_id)
    elif status is CANCELLED:
        engine.cancel(run_id)
    elif status is DEAD:
        engine.fail(run_id)
    return run_id


def fire(engine: Rig, run_id: str, event: str) -> None:
    """Let the event happen as the house would: by the rule that fires it, at epoch 1."""
    holder: dict[str, Any] = {"worker_id": "w1", "epoch": 1}
    fires: dict[str, Callable[[], object]] = {
        "claim": lambda: engine.claim(),
        "cancel": lambda: engine.cancel(run_id),
        "expire": lambda: engine.do(runs.promote_due, now_ms=engine.now_ms + 1_000),
        "succeed": lambda: engine.succeed(run_id, **holder),
        "fail": lambda: engine.fail(run_id, retry_at_ms=engine.now_ms + 1, **holder),
        "bury": lambda: engine.finish(run_id, "fatal", error=BOOM, **holder),
        "stop": lambda: engine.finish(run_id, "stopped", reason="r", **holder),
        "park": lambda: engine.sleep(run_id, ms=5_000, **holder),
        "release": lambda: engine.do(
            leases.hand_back, worker_id="w1", runs=[(run_id, 1)], now_ms=engine.now_ms
        ),
        "retry": lambda: engine.retry(run_id),
    }  # fmt: skip
    fires[event]()


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("status", list(RunStatus))
def test_the_database_moves_as_the_table_says_and_no_other_way(engine: Rig, status: RunStatus, event: str) -> None:
    run_id = bring_to(engine, status)
    assert engine.status(run_id) == status
    before = engine.row(run_id)

    if event in NEXT[status]:
        fire(engine, run_id, event)
        assert engine.status(run_id) == states.fire(status, event)
    else:
        with suppress(TakoError):  # or it is nothing to do, or the first answer again
            fire(engine, run_id, event)
        assert engine.row(run_id) == before


@pytest.mark.parametrize("status", list(RunStatus))
def test_a_move_that_the_table_does_not_know_names_those_it_does(status: RunStatus) -> None:
    with pytest.raises(IllegalMove) as raised:
        states.fire(status, "explode")

    assert raised.value.detail == {"status": status.value, "event": "explode", "legal": sorted(NEXT[status])}


def test_every_state_can_be_left_and_every_end_only_by_an_operator() -> None:
    assert all(NEXT[status] for status in RunStatus)
    assert all(set(NEXT[status]) == {"retry"} for status in states.TERMINAL)


@pytest.mark.parametrize(
    "damage",
    [
        "status = 'paused'",  # I2
        "lane = NULL",
        "lane = 'somewhere'",
        "status = 'running', lane = NULL, run_at_ms = NULL",  # I3: nobody holds it
        "run_at_ms = NULL",  # I4
        "lane = 'later', run_at_ms = NULL, parked = 'sleep'",  # I4
        "lane = 'later', run_at_ms = NULL",  # I4
        "lane = 'later', parked = 'nap'",
        "lane = 'solo'",
        "parked = 'sleep'",
        "ended_ms = 1",
        "status = 'succeeded', ended_ms = 1",  # I6: still in a lane
        "status = 'dead', ended_ms = 1, lane = NULL, run_at_ms = NULL",  # I9: no reason
        "status = 'cancelled', ended_ms = 1, lane = NULL, run_at_ms = NULL, reason = ''",  # I9
        "crashes = 3",  # I7
        "crashes = 4",
        "lifetime_crashes = 20",
        "attempt = 1",
        "failures = 1",
        "epoch = 'x'",  # STRICT
    ],
)
def test_the_schema_refuses_a_row_that_breaks_an_invariant(engine: Rig, damage: str) -> None:
    run_id = engine.enqueue()

    with pytest.raises(sqlite3.IntegrityError):
        engine.store.connection.execute(f"UPDATE runs SET {damage} WHERE id = ?", (run_id,))


def test_a_step_s_row_is_written_once(engine: Rig) -> None:
    run_id = engine.start()
    engine.save(run_id)

    with pytest.raises(sqlite3.IntegrityError):
        engine.store.connection.execute(
            "INSERT INTO steps (run, generation, name, kind, attempt, epoch, ended_ms, result)"
            " SELECT run, generation, name, kind, attempt, epoch, ended_ms, 'other' FROM steps"
        )


def test_all_rules_have_one_door() -> None:
    assert set(runs.__all__) <= set(dir(runs))
