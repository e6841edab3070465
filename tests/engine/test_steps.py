"""Step results: saved once, given back ever after."""

from __future__ import annotations

import pytest

from tako.engine import runs, steps
from tako.errors import LeaseLost, RunNotFound
from tests.support.engine import Rig


def test_a_saved_step_is_given_back_at_the_next_claim(engine: Rig) -> None:
    run_id = engine.start()
    engine.save(run_id, "charge-card", {"id": "ch_1"})
    engine.drain()

    (claimed,) = engine.claim("w2")

    assert claimed["steps"] == {"charge-card": '{"id": "ch_1"}'}


def test_the_first_result_of_a_step_is_kept(engine: Rig) -> None:
    run_id = engine.start()

    assert engine.save(run_id, "load", 1) == "1"
    assert engine.save(run_id, "load", 2) == "1"
    assert engine.info(run_id, "steps")["steps"][0]["result_json"] == "1"


def test_a_stored_result_is_never_replaced_by_null(engine: Rig) -> None:
    run_id = engine.start()
    engine.save(run_id, "load", {"rows": 3})

    assert engine.save(run_id, "load", None) == '{"rows": 3}'


def test_a_worker_that_lost_its_run_saves_nothing(engine: Rig) -> None:
    run_id = engine.start(worker_id="w1")
    engine.die("w1")
    engine.claim("w2")

    with pytest.raises(LeaseLost):
        engine.save(run_id, "load", 1, worker_id="w1", epoch=1)
    assert engine.info(run_id, "steps")["steps"] == []


def test_two_holders_of_one_step_cannot_both_be_told_yes(engine: Rig) -> None:
    run_id = engine.start(worker_id="w1")
    engine.die("w1")
    engine.claim("w2")
    engine.save(run_id, "load", "w2's")

    with pytest.raises(LeaseLost):
        engine.save(run_id, "load", "w1's", worker_id="w1", epoch=1)


def test_repeating_a_save_after_the_run_moved_on_returns_what_was_saved(engine: Rig) -> None:
    run_id = engine.start()
    engine.save(run_id, "load", 1)
    engine.succeed(run_id)

    assert engine.save(run_id, "load", 1) == "1"
    with pytest.raises(LeaseLost):
        engine.save(run_id, "other", 1)


def test_a_step_of_a_run_that_nobody_knows_is_not_saved(engine: Rig) -> None:
    with pytest.raises(RunNotFound):
        engine.do(
            steps.save, run_id="nobody", worker_id="w1", epoch=1, name="load", result_json="1", started_ms=1, now_ms=1
        )  # fmt: skip


def test_a_cancelled_run_saves_no_step(engine: Rig) -> None:
    run_id = engine.start()
    engine.cancel(run_id)

    with pytest.raises(LeaseLost):
        engine.save(run_id, "load", 1)


def test_a_new_step_forgives_crashes_and_a_repeated_one_does_not(engine: Rig) -> None:
    run_id = engine.start()
    engine.save(run_id, "load", 1)
    engine.die()
    engine.claim()

    engine.save(run_id, "load", 1)
    assert engine.row(run_id)["crashes"] == 1
    engine.save(run_id, "next", 1)
    assert (engine.row(run_id)["crashes"], engine.row(run_id)["lifetime_crashes"]) == (0, 1)


def test_a_v0_worker_saves_by_its_name(engine: Rig) -> None:
    run_id = engine.start()

    assert engine.save(run_id, "load", 1, epoch=None) == "1"
    with pytest.raises(LeaseLost):
        engine.save(run_id, "load", 1, epoch=None, worker_id="w2")


def test_only_the_holder_loads_further_steps(engine: Rig) -> None:
    run_id = engine.start()
    engine.save(run_id, "load", 1)

    assert runs.load_steps(engine.store, **engine.holder(run_id), after="0") == ({"load": "1"}, None)
    with pytest.raises(LeaseLost):
        runs.load_steps(engine.store, run_id=run_id, worker_id="w2", epoch=1, after="0")


def test_steps_are_shown_in_the_order_of_saving_with_their_times(engine: Rig) -> None:
    run_id = engine.start()
    engine.save(run_id, "b", 1)
    engine.clock.advance(ms=5)
    engine.save(run_id, "a", 2)

    steps = engine.info(run_id, "steps")["steps"]
    assert [(step["name"], step["status"], step["attempt"], step["ended_ms"]) for step in steps] == [
        ("b", "succeeded", 1, engine.now_ms - 5),
        ("a", "succeeded", 1, engine.now_ms),
    ]
