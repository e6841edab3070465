"""How runs come in."""

from __future__ import annotations

import pytest

from tako.engine import intake, runs
from tako.engine.events import Came, Later, Ready
from tako.engine.store import Store
from tako.errors import DuplicateRun, QueueFull, RunFinished, RunNotFound
from tests.support.engine import Rig


def test_an_enqueued_run_is_pending_and_ready(engine: Rig) -> None:
    run_id = engine.enqueue("charge", payload_json='{"order":7}', priority=3)

    row = engine.row(run_id)
    assert (row["status"], row["lane"], row["priority"], row["epoch"]) == ("pending", "ready", 3, 0)
    assert engine.info(run_id, "payload")["payload_json"] == '{"order":7}'
    assert engine.events == [Came("charge", (run_id,)), Ready("charge", "ready")]


def test_answers_come_in_the_order_of_the_runs(engine: Rig) -> None:
    answers = engine.do(runs.enqueue, [engine.new(id=name) for name in "cab"], now_ms=engine.now_ms)

    assert answers == [{"id": name, "is_new": True} for name in "cab"]


def test_many_runs_of_a_workflow_make_it_ready_once(engine: Rig) -> None:
    engine.do(runs.enqueue, [engine.new() for _ in range(50)], now_ms=engine.now_ms)

    assert [event for event in engine.events if isinstance(event, Ready)] == [Ready("charge", "ready")]


def test_enqueueing_nothing_does_nothing(engine: Rig) -> None:
    assert engine.do(runs.enqueue, [], now_ms=engine.now_ms) == []


def test_repeating_an_enqueue_after_a_lost_reply_yields_the_same_single_run(engine: Rig) -> None:
    new = engine.new()

    first = engine.do(runs.enqueue, [new], now_ms=engine.now_ms)
    again = engine.do(runs.enqueue, [new], now_ms=engine.now_ms)

    assert first == [{"id": new["id"], "is_new": True}]
    assert again == [{"id": new["id"], "is_new": False}]
    assert engine.store.count("charge", "ready") == 1


def test_a_repeated_enqueue_of_many_stores_only_what_was_lost(engine: Rig) -> None:
    news = [engine.new(id=name) for name in "abcd"]
    engine.do(runs.enqueue, news[1:3], now_ms=engine.now_ms)

    answers = engine.do(runs.enqueue, news, now_ms=engine.now_ms)

    assert [(answer["id"], answer["is_new"]) for answer in answers] == [
        ("a", True), ("b", False), ("c", False), ("d", True),
    ]  # fmt: skip
    assert engine.store.count("charge", "ready") == 4


def test_the_same_id_twice_in_one_call_is_one_run(engine: Rig) -> None:
    answers = engine.do(runs.enqueue, [engine.new(id="a"), engine.new(id="a")], now_ms=engine.now_ms)

    assert answers == [{"id": "a", "is_new": True}, {"id": "a", "is_new": False}]


def test_one_live_run_per_key(engine: Rig) -> None:
    first = engine.enqueue(key="order:7")

    second = engine.enqueue(key="order:7")

    assert second == first
    assert engine.enqueue(key="order:8") != first
    assert engine.enqueue("refund", key="order:7") != first


def test_two_runs_of_one_key_in_one_call_are_one_run(engine: Rig) -> None:
    answers = engine.do(runs.enqueue, [engine.new(id="a", key="k"), engine.new(id="b", key="k")], now_ms=engine.now_ms)

    assert answers == [{"id": "a", "is_new": True}, {"id": "a", "is_new": False}]


def test_on_duplicate_raise_names_the_run_and_stores_nothing(engine: Rig) -> None:
    holder = engine.enqueue(key="order:7")

    with pytest.raises(DuplicateRun) as raised:
        engine.do(runs.enqueue, [engine.new(), engine.new(key="order:7", on_duplicate="raise")], now_ms=engine.now_ms)

    assert raised.value.detail == {"id": holder}
    assert engine.store.count("charge", "ready") == 1


def test_repeating_an_enqueue_with_on_duplicate_raise_is_no_duplicate(engine: Rig) -> None:
    new = engine.new(key="order:7", on_duplicate="raise")
    engine.do(runs.enqueue, [new], now_ms=engine.now_ms)

    assert engine.do(runs.enqueue, [new], now_ms=engine.now_ms) == [{"id": new["id"], "is_new": False}]


def test_a_key_is_free_again_when_its_run_ends(engine: Rig) -> None:
    first = engine.start(key="order:7")
    engine.succeed(first)

    assert engine.enqueue(key="order:7") != first


def test_a_repeated_enqueue_is_given_its_own_run_even_when_another_has_the_key_now(engine: Rig) -> None:
    new = engine.new(id="a", key="k")
    engine.do(runs.enqueue, [new], now_ms=engine.now_ms)
    engine.claim()
    engine.succeed("a")
    engine.enqueue(id="b", key="k")

    assert engine.do(runs.enqueue, [new], now_ms=engine.now_ms) == [{"id": "a", "is_new": False}]


def test_a_delayed_run_waits_for_its_time(engine: Rig) -> None:
    delayed = engine.enqueue(delay_ms=5_000)
    assert engine.events[-1] == Later(engine.now_ms + 5_000)
    timed = engine.enqueue(run_at_ms=engine.now_ms + 7_000)

    assert engine.row(delayed)["lane"] == engine.row(timed)["lane"] == "later"
    assert engine.claim(n=10) == []


def test_a_time_in_the_past_is_now(engine: Rig) -> None:
    assert engine.row(engine.enqueue(run_at_ms=engine.now_ms - 1))["lane"] == "ready"


def test_max_pending_refuses_the_run_too_many_and_stores_nothing(engine: Rig) -> None:
    engine.obey(max_pending=2)
    engine.enqueue()
    engine.claim()

    with pytest.raises(QueueFull) as raised:
        engine.do(runs.enqueue, [engine.new(), engine.new()], now_ms=engine.now_ms)

    assert raised.value.detail == {"workflow": "charge", "unfinished": 1, "max_pending": 2}
    assert intake.unfinished(engine.store, "charge") == 1
    engine.enqueue()
    engine.enqueue("refund")


def test_repeating_the_enqueue_that_filled_the_queue_is_not_refused(engine: Rig) -> None:
    engine.obey(max_pending=1)
    new = engine.new()
    engine.do(runs.enqueue, [new], now_ms=engine.now_ms)

    assert engine.do(runs.enqueue, [new], now_ms=engine.now_ms) == [{"id": new["id"], "is_new": False}]


def test_a_check_answers_and_refuses_as_an_enqueue_would_and_stores_nothing(engine: Rig) -> None:
    engine.obey(max_pending=2)
    first = engine.enqueue("charge", key="order:7")
    same_key = engine.new("charge", key="order:7")

    assert engine.do(runs.check, [engine.new("charge", id="a"), same_key]) == [
        {"id": "a", "is_new": True},
        {"id": first, "is_new": False},
    ]
    with pytest.raises(DuplicateRun):
        engine.do(runs.check, [{**same_key, "on_duplicate": "raise"}])
    with pytest.raises(QueueFull):
        engine.do(runs.check, [engine.new("charge"), engine.new("charge")])
    assert intake.unfinished(engine.store, "charge") == 1


def test_a_child_belongs_to_its_parent(engine: Rig) -> None:
    parent = engine.start()

    child = engine.enqueue("refund", parent_id=parent)

    assert engine.info(child)["parent_id"] == parent


def test_a_run_that_has_ended_starts_no_child(engine: Rig) -> None:
    parent = engine.start()
    engine.succeed(parent)

    with pytest.raises(RunFinished):
        engine.enqueue("refund", parent_id=parent)
    with pytest.raises(RunNotFound):
        engine.enqueue("refund", parent_id="nobody")


def test_an_unclaimed_run_can_be_withdrawn_as_if_it_had_never_come(engine: Rig) -> None:
    run_id = engine.enqueue()
    engine.seen.acknowledged.clear()

    assert engine.do(runs.withdraw, run_id, now_ms=engine.now_ms) is True

    with pytest.raises(RunNotFound):
        engine.do(runs.withdraw, run_id, now_ms=engine.now_ms)
    assert engine.store.count("charge", "ready") == 0


def test_a_claimed_run_is_not_withdrawn(engine: Rig) -> None:
    run_id = engine.start()

    assert engine.do(runs.withdraw, run_id, now_ms=engine.now_ms) is False
    engine.drain()
    assert engine.do(runs.withdraw, run_id, now_ms=engine.now_ms) is False


def test_a_derived_id_is_a_uuid7_that_follows_from_its_seed() -> None:
    first = intake.derived_id(1_800_000_000_000, "a")

    assert first == intake.derived_id(1_800_000_000_000, "a")
    assert first != intake.derived_id(1_800_000_000_000, "b")
    assert first[14] == "7"
    assert first[19] in "89ab"
    assert int(first.replace("-", "")[:12], 16) == 1_800_000_000_000


def test_row_numbers_go_on_after_the_store_was_opened_again(tmp_path) -> None:  # type: ignore[no-untyped-def]
    store = Store.open(tmp_path / "runs.db")
    with store.transaction():
        runs.enqueue(store, [{"id": "a", "workflow": "w", "payload_json": "{}"}], now_ms=1)
    store.close()

    store = Store.open(tmp_path / "runs.db")
    with store.transaction():
        runs.enqueue(store, [{"id": "b", "workflow": "w", "payload_json": "{}"}], now_ms=1)

    assert [row["seq"] for row in store.connection.execute("SELECT seq FROM runs ORDER BY id")] == [1, 2]
    assert store.counts["w", "ready"] == 2
    store.close()
