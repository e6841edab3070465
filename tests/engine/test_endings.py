"""How attempts and runs end."""

from __future__ import annotations

import json

import pytest

from tako.engine import runs
from tako.engine.events import Changed, Ended, Later, Ready
from tako.errors import LeaseLost, RunNotFound
from tests.support.engine import BOOM, NO_JITTER, Rig


def test_a_handler_that_returns_makes_its_run_succeeded(engine: Rig) -> None:
    run_id = engine.start()
    engine.clock.advance(ms=40)

    assert engine.succeed(run_id, '{"paid":true}') == runs.Finished("succeeded", None)

    info = engine.info(run_id, "result", "attempts")
    assert (info["status"], info["result_json"], info["ended_ms"]) == ("succeeded", '{"paid":true}', engine.now_ms)
    assert [(a["attempt"], a["outcome"], a["worker_id"], a["release"]) for a in info["attempts"]] == [
        (1, "succeeded", "w1", "r1")
    ]
    assert engine.events == [Ended(run_id, "charge", "succeeded", 40)]


@pytest.mark.parametrize("result", [None, "null"])
def test_a_result_of_nothing_is_null(engine: Rig, result: str | None) -> None:
    run_id = engine.start()
    engine.succeed(run_id, result)

    assert engine.info(run_id, "result")["result_json"] == "null"


def test_a_failed_attempt_is_tried_again_with_backoff(engine: Rig) -> None:
    run_id = engine.start()

    assert engine.fail(run_id) == runs.Finished("pending", engine.now_ms + 1_000)
    assert engine.events == [Changed(run_id, "charge", "pending"), Later(engine.now_ms + 1_000)]
    assert engine.info(run_id)["error"] == "ValueError: boom"

    engine.clock.advance(ms=1_000)
    engine.promote()
    engine.claim()
    assert engine.fail(run_id) == runs.Finished("pending", engine.now_ms + 2_000)


def test_a_run_is_dead_when_its_attempts_are_used_up(engine: Rig) -> None:
    run_id = engine.start()
    for _ in range(2):
        engine.fail(run_id)
        engine.clock.advance(s=10)
        engine.promote()
        engine.claim()

    assert engine.fail(run_id) == runs.Finished("dead", None)

    info = engine.info(run_id, "attempts")
    assert (info["status"], info["error"], info["reason"], info["traceback"]) == (
        "dead", "ValueError: boom", "ValueError: boom", "Traceback: boom",
    )  # fmt: skip
    assert [(a["attempt"], a["outcome"]) for a in info["attempts"]] == [(1, "failed"), (2, "failed"), (3, "failed")]
    assert engine.events == [Ended(run_id, "charge", "dead", 20_000)]
    assert engine.store.count("charge", "unseen") == 1


def test_retries_of_the_run_come_before_those_of_its_workflow(engine: Rig) -> None:
    run_id = engine.start(retries=0)

    assert engine.fail(run_id).status == "dead"


def test_without_a_policy_the_default_holds(engine: Rig) -> None:
    run_id = engine.start()

    finished = engine.fail(run_id, retry=None)

    assert finished.status == "pending"
    assert finished.run_at_ms is not None
    assert 800 <= finished.run_at_ms - engine.now_ms <= 1_200


def test_a_backoff_of_nothing_puts_the_run_into_line_at_once(engine: Rig) -> None:
    run_id = engine.start()
    engine.fail(run_id, retry=NO_JITTER | {"first_ms": 0})

    assert engine.row(run_id)["lane"] == "ready"
    assert Ready("charge", "ready") in engine.events


def test_a_fatal_end_has_the_reason_that_its_worker_gives(engine: Rig) -> None:
    run_id = engine.start()

    engine.finish(run_id, "fatal", error=BOOM, reason="the stored payload does not fit: missing 'title'")

    assert engine.info(run_id)["error"] == "the stored payload does not fit: missing 'title'"


def test_a_fatal_error_makes_the_run_dead_whatever_retries_are_left(engine: Rig) -> None:
    run_id = engine.start(retries=9)

    assert engine.finish(run_id, "fatal", error=BOOM) == runs.Finished("dead", None)


def test_a_handler_that_stops_itself_cancels_its_run(engine: Rig) -> None:
    run_id = engine.start()

    assert engine.finish(run_id, "stopped", reason="out of stock") == runs.Finished("cancelled", None)
    info = engine.info(run_id)
    assert (info["status"], info["reason"], info["error"]) == ("cancelled", "out of stock", None)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (None, "the handler failed and gave no reason"),
        ({"type": "KeyError", "message": "", "traceback": ""}, "KeyError"),
    ],
)
def test_a_dead_run_always_has_a_reason(engine: Rig, error: dict[str, str] | None, words: str) -> None:
    run_id = engine.start()
    engine.finish(run_id, "fatal", error=error)

    assert engine.info(run_id)["reason"] == words


def test_a_stopped_run_always_has_a_reason(engine: Rig) -> None:
    run_id = engine.start()
    engine.finish(run_id, "stopped", reason="")

    assert engine.info(run_id)["reason"] == "stopped by its handler"


@pytest.mark.parametrize("outcome", ["succeeded", "failed", "fatal", "stopped"])
def test_repeating_a_finish_after_a_lost_reply_returns_the_first_outcome(engine: Rig, outcome: str) -> None:
    run_id = engine.start()
    fields = {"error": BOOM, "retry": NO_JITTER, "reason": "r"}
    first = engine.finish(run_id, outcome, **fields)
    before = engine.row(run_id)
    engine.clock.advance(ms=500)

    assert engine.finish(run_id, outcome, **fields) == first
    assert engine.finish(run_id, "succeeded", result_json="1") == first
    assert engine.row(run_id) == before


def test_a_finish_repeated_after_the_next_claim_still_returns_the_first_outcome(engine: Rig) -> None:
    run_id = engine.start()
    first = engine.fail(run_id)
    engine.clock.advance(s=1)
    engine.promote()
    engine.claim("w2")

    assert engine.fail(run_id, worker_id="w1", epoch=1) == first
    assert engine.row(run_id)["worker_id"] == "w2"


def test_a_worker_that_lost_its_run_changes_nothing(engine: Rig) -> None:
    run_id = engine.start(worker_id="w1")
    engine.die("w1")
    engine.claim("w2")
    before = engine.row(run_id)

    for outcome in ("succeeded", "failed", "fatal", "stopped"):
        with pytest.raises(LeaseLost):
            engine.finish(run_id, outcome, worker_id="w1", epoch=1, result_json="1")

    assert engine.row(run_id) == before


def test_a_worker_with_the_right_epoch_and_the_wrong_name_changes_nothing(engine: Rig) -> None:
    run_id = engine.start(worker_id="w1")

    with pytest.raises(LeaseLost):
        engine.succeed(run_id, worker_id="w2", epoch=1)


def test_the_same_worker_at_an_older_epoch_changes_nothing(engine: Rig) -> None:
    run_id = engine.start(worker_id="w1")
    engine.die("w1")
    engine.claim("w1")

    with pytest.raises(LeaseLost):
        engine.succeed(run_id, worker_id="w1", epoch=1)


def test_a_run_that_nobody_knows_cannot_be_finished(engine: Rig) -> None:
    with pytest.raises(RunNotFound):
        engine.do(
            runs.finish, run_id="x", worker_id="w1", epoch=1, outcome="succeeded", now_ms=1, rng=engine.rng
        )  # fmt: skip


def test_warnings_of_an_attempt_stay_on_the_run(engine: Rig) -> None:
    run_id = engine.start()
    engine.succeed(run_id, warnings=["step added in front"])

    assert engine.info(run_id)["warnings"] == ["step added in front"]


def test_a_run_that_ends_with_unconsumed_signals_gets_a_warning(engine: Rig) -> None:
    run_id = engine.start()
    engine.signal(run_id, "shipped", 1)
    engine.signal(run_id, "approved", 2)
    engine.succeed(run_id, warnings=["first"])

    assert engine.info(run_id)["warnings"] == [
        "first",
        "it ended with signals that no wait_for has taken: approved, shipped",
    ]


# --- v0: no epoch ---------------------------------------------------------------------------------------------------


def test_a_v0_worker_is_known_by_its_name_and_the_status(engine: Rig) -> None:
    run_id = engine.start(worker_id="w1")

    with pytest.raises(LeaseLost):
        engine.succeed(run_id, worker_id="w2", epoch=None)
    assert engine.succeed(run_id, epoch=None).status == "succeeded"
    assert engine.succeed(run_id, epoch=None).status == "succeeded"


def test_a_v0_worker_counts_its_attempts_itself(engine: Rig) -> None:
    run_id = engine.start(retries=0)

    assert engine.fail(run_id, epoch=None, retry=None, retry_at_ms=engine.now_ms + 77) == runs.Finished(
        "pending", engine.now_ms + 77
    )
    engine.clock.advance(ms=77)
    engine.promote()
    engine.claim()
    assert engine.fail(run_id, epoch=None, retry=None).status == "pending"


# --- who is told of a death -----------------------------------------------------------------------------------------


def test_a_death_enqueues_the_workflow_that_mourns_in_the_same_transaction(engine: Rig) -> None:
    engine.obey(on_dead="page_us")
    run_id = engine.start(retries=0)

    engine.fail(run_id)

    (told,) = engine.claim(names=("page_us",))
    assert json.loads(told["payload_json"]) == {"run_id": run_id, "error": "ValueError: boom"}


def test_a_death_by_crashes_is_told_too(engine: Rig) -> None:
    engine.obey(on_dead="page_us")
    engine.start()
    for _ in range(3):
        engine.die()
        engine.claim()

    assert engine.store.count("page_us", "ready") == 1


def test_a_full_queue_does_not_keep_a_death_from_being_told(engine: Rig) -> None:
    engine.obey(on_dead="page_us")
    engine.obey("page_us", max_pending=0)
    run_id = engine.start(retries=0)

    assert engine.fail(run_id).status == "dead"
    assert engine.store.count("page_us", "ready") == 1


def test_who_is_told_of_a_death_gets_the_keys_of_its_templates_and_is_told_once_per_key(engine: Rig) -> None:
    engine.obey("page_us", key="{error}", concurrency=1, concurrency_key="{channel}", defaults={"channel": "ops"})
    engine.obey(on_dead="page_us")
    for _ in range(2):
        engine.finish(engine.start(), "fatal", error=BOOM)

    (told,) = engine.claim(names=("page_us",), n=9)
    assert told["key"] == "ValueError: boom"
    assert engine.row(told["id"])["concurrency_key"] == "ops"


def test_a_template_that_does_not_fit_keeps_nobody_from_being_told_of_a_death(engine: Rig) -> None:
    engine.obey("page_us", key="{nothing}")
    engine.obey(on_dead="page_us")
    engine.finish(engine.start(), "fatal", error=BOOM)

    (told,) = engine.claim(names=("page_us",))
    assert told["key"] is None


def test_a_workflow_does_not_mourn_itself(engine: Rig) -> None:
    engine.obey("page_us", on_dead="page_us")
    run_id = engine.start("page_us", retries=0)
    engine.fail(run_id)

    assert engine.claim(names=("page_us",)) == []
