"""The set of schedules in the store."""

from __future__ import annotations

from typing import Any

import pytest

from tako.cron import schedules
from tako.engine import inspect
from tako.errors import DefinitionError, RunNotFound
from tests.support.engine import Rig

HOUR_MS = 3_600_000


def replace(engine: Rig, *wanted: dict[str, Any]) -> schedules.Replaced:
    return engine.do(schedules.replace, list(wanted), now_ms=engine.now_ms)


def shown(engine: Rig) -> dict[tuple[str, str], dict[str, Any]]:
    return {(row["workflow"], row["spec"]): row for row in inspect.schedules(engine.store)}


HOURLY = {"workflow": "report", "kind": "cron", "expression": "0 * * * *"}
QUARTERLY = {"workflow": "report", "kind": "every", "interval_ms": 900_000}


def test_a_new_schedule_never_fires_for_the_past(engine: Rig) -> None:
    assert replace(engine, HOURLY) == schedules.Replaced([("report", "0 * * * *")], [], 1)

    next_ms = engine.now_ms // HOUR_MS * HOUR_MS + HOUR_MS
    assert shown(engine)["report", "0 * * * *"]["next_ms"] == next_ms
    assert schedules.next_due_ms(engine.store) == next_ms


def test_replacing_the_set_removes_what_is_not_in_it(engine: Rig) -> None:
    replace(engine, HOURLY, QUARTERLY)

    assert replace(engine, QUARTERLY) == schedules.Replaced([], [("report", "0 * * * *")], 1)
    assert replace(engine) == schedules.Replaced([], [("report", "every 15m")], 0)
    assert schedules.next_due_ms(engine.store) is None


def test_an_unchanged_schedule_keeps_its_place_when_code_changes(engine: Rig) -> None:
    replace(engine, HOURLY)
    before = shown(engine)["report", "0 * * * *"]
    engine.clock.advance(ms=HOUR_MS + 60_000)

    replace(engine, HOURLY | {"grace_ms": 1_000})

    after = shown(engine)["report", "0 * * * *"]
    assert after["next_ms"] == before["next_ms"]
    assert after["options"]["grace_ms"] == 1_000


def test_a_changed_line_is_another_schedule_and_begins_now(engine: Rig) -> None:
    replace(engine, HOURLY)
    engine.clock.advance(ms=HOUR_MS + 60_000)

    replace(engine, HOURLY | {"expression": "30 * * * *"})

    assert shown(engine)["report", "30 * * * *"]["next_ms"] > engine.now_ms


def test_a_bad_line_names_the_workflow_and_changes_nothing(engine: Rig) -> None:
    replace(engine, HOURLY)

    with pytest.raises(DefinitionError) as raised:
        replace(engine, QUARTERLY, schedules.cron("mail", "61 * * * *"))

    assert raised.value.message == "invalid cron '61 * * * *' for 'mail': bad minute"
    assert list(shown(engine)) == [("report", "0 * * * *")]


def test_a_schedule_that_was_not_due_for_longer_than_its_grace_is_late(engine: Rig) -> None:
    replace(engine, HOURLY | {"grace_ms": 60_000})
    due_ms = schedules.next_due_ms(engine.store)
    assert due_ms is not None

    assert inspect.overview(engine.store, now_ms=due_ms + 60_000).late_schedules == []
    (late,) = inspect.overview(engine.store, now_ms=due_ms + 60_001).late_schedules
    assert (late["workflow"], late["spec"], late["late_ms"]) == ("report", "0 * * * *", 1)


def test_what_was_missed_in_a_pause_does_not_fire(engine: Rig) -> None:
    replace(engine, HOURLY)
    assert engine.do(schedules.pause, "report", paused=True, now_ms=engine.now_ms) == 1
    assert schedules.next_due_ms(engine.store) is None
    engine.clock.advance(ms=5 * HOUR_MS)

    engine.do(schedules.pause, "report", paused=False, now_ms=engine.now_ms)

    next_ms = schedules.next_due_ms(engine.store)
    assert next_ms is not None
    assert next_ms > engine.now_ms


def test_a_paused_schedule_that_is_reworded_stays_paused(engine: Rig) -> None:
    replace(engine, HOURLY)
    engine.do(schedules.pause, "report", paused=True, now_ms=engine.now_ms)

    replace(engine, QUARTERLY, {**HOURLY, "workflow": "sync"})

    paused = {workflow: row["paused"] for (workflow, _), row in shown(engine).items()}
    assert paused == {"report": True, "sync": False}


def test_a_schedule_that_joins_one_that_fires_is_not_paused(engine: Rig) -> None:
    replace(engine, HOURLY)

    replace(engine, HOURLY, QUARTERLY)

    assert [row["paused"] for row in shown(engine).values()] == [False, False]


def test_a_workflow_without_a_schedule_cannot_be_paused(engine: Rig) -> None:
    with pytest.raises(RunNotFound):
        engine.do(schedules.pause, "report", paused=True, now_ms=engine.now_ms)
