"""Pauses of workflows, groups and keys."""

from __future__ import annotations

from typing import Any

import pytest

from tako.engine import invariants, pausing, runs
from tako.engine.events import Ready
from tako.engine.pauses import GROUP, KEY, WORKFLOW, Target
from tests.support.engine import NO_JITTER, Rig


def claimed(engine: Rig, worker_id: str = "w1", **options: Any) -> list[str]:
    return [run["id"] for run in engine.claim(worker_id, n=100, **options)]


def pause(engine: Rig, kind: str, name: str, key: str = "") -> bool:
    return engine.do(pausing.pause, Target(kind, name, key), now_ms=engine.now_ms)


def resume(engine: Rig, kind: str, name: str, key: str = "") -> bool:
    return engine.do(pausing.resume, Target(kind, name, key))


# --- workflows and groups -------------------------------------------------------------------------------------------


def test_runs_of_a_paused_workflow_wait_in_their_order_until_it_is_resumed(engine: Rig) -> None:
    ids = [engine.enqueue(), engine.enqueue()]
    assert pause(engine, WORKFLOW, "charge")
    ids.append(engine.enqueue())
    other = engine.enqueue("refund")

    assert claimed(engine, names=("charge", "refund")) == [other]

    assert resume(engine, WORKFLOW, "charge")
    assert Ready("charge", "ready") in engine.events
    assert claimed(engine) == ids


def test_what_runs_when_its_workflow_is_paused_goes_on_and_ends(engine: Rig) -> None:
    running = engine.start()
    pause(engine, WORKFLOW, "charge")

    engine.save(running)
    assert engine.succeed(running).status == "succeeded"


def test_a_pause_holds_for_retries_wakes_and_suspects(engine: Rig) -> None:
    failed, asleep, suspect, suspect_2 = (engine.enqueue() for _ in range(4))
    claimed(engine)
    engine.fail(failed)
    engine.sleep(asleep, ms=1_000)
    engine.die()
    pause(engine, WORKFLOW, "charge")
    engine.clock.advance(s=60)
    engine.promote()

    assert claimed(engine) == []
    assert claimed(engine, solo=True) == []

    resume(engine, WORKFLOW, "charge")
    assert Ready("charge", "solo") in engine.events
    assert sorted(claimed(engine)) == sorted([failed, asleep])
    assert claimed(engine, "solo", solo=True) == [suspect]
    assert engine.row(suspect_2)["lane"] == "solo"


def test_a_workflow_is_paused_under_all_its_names(engine: Rig) -> None:
    engine.obey("charge", aliases=("old_charge",))
    engine.enqueue("old_charge")
    engine.enqueue("charge")
    pause(engine, WORKFLOW, "charge")

    assert claimed(engine, names=("charge", "old_charge")) == []
    assert resume(engine, WORKFLOW, "old_charge")
    assert len(claimed(engine, names=("charge", "old_charge"))) == 2


def test_a_paused_workflow_stays_paused_when_it_is_renamed(engine: Rig) -> None:
    pause(engine, WORKFLOW, "old_charge")
    engine.obey("charge", aliases=("old_charge",))
    engine.enqueue("charge")

    assert claimed(engine, names=("charge", "old_charge")) == []
    assert resume(engine, WORKFLOW, "charge")
    assert len(claimed(engine, names=("charge", "old_charge"))) == 1


def test_workers_of_a_paused_group_get_nothing(engine: Rig) -> None:
    run_id = engine.enqueue()
    pause(engine, GROUP, "mail")

    claim = {"worker_id": "w1", "names": ["charge"], "max_runs": 1, "release": "r1"}
    assert engine.do(runs.claim, **claim, now_ms=engine.now_ms, group="mail") == []
    (other,) = engine.do(runs.claim, **claim, now_ms=engine.now_ms, group="default")
    assert other["id"] == run_id


def test_pausing_and_resuming_twice_changes_nothing(engine: Rig) -> None:
    assert pause(engine, GROUP, "mail")
    since_ms = dict(engine.store.pauses.since_ms)
    engine.clock.advance(s=9)

    assert not pause(engine, GROUP, "mail")
    assert engine.store.pauses.since_ms == since_ms
    assert resume(engine, GROUP, "mail")
    assert not resume(engine, GROUP, "mail")
    assert not resume(engine, KEY, "charge", "a")


def test_pauses_are_those_of_the_file_when_it_is_opened_again_and_of_the_transaction_when_it_fails(engine: Rig) -> None:
    pause(engine, WORKFLOW, "charge")
    pause(engine, KEY, "refund", "a")
    before = engine.store.pauses
    with pytest.raises(ZeroDivisionError), engine.store.transaction():
        pausing.resume(engine.store, Target(WORKFLOW, "charge"))
        raise ZeroDivisionError

    assert engine.store.pauses == before
    engine.store._load()
    assert engine.store.pauses == before


# --- keys -----------------------------------------------------------------------------------------------------------


def test_runs_of_a_paused_key_wait_and_nobody_waits_behind_them(engine: Rig) -> None:
    a, b = engine.enqueue(key="a", priority=9), engine.enqueue(key="b")
    pause(engine, KEY, "charge", "a")

    assert engine.info(a)["status"] == "blocked"
    assert claimed(engine) == [b]

    resume(engine, KEY, "charge", "a")
    assert Ready("charge", "ready") in engine.events
    assert claimed(engine) == [a]


@pytest.mark.parametrize("field", ["key", "concurrency_key", "rate_key"])
def test_a_run_has_the_key_it_is_known_by_and_those_that_its_limits_count_by(engine: Rig, field: str) -> None:
    before = engine.enqueue(**{field: "tenant"})
    pause(engine, KEY, "charge", "tenant")
    after = engine.enqueue(**{field: "tenant"}) if field != "key" else before
    engine.enqueue("refund", **{field: "tenant"})

    assert claimed(engine) == []
    assert engine.info(after)["blocked"] == (
        "paused: `tako workflows resume charge --key tenant` lets it go on"
    )  # fmt: skip
    resume(engine, KEY, "charge", "tenant")
    assert claimed(engine) == sorted({before, after})


def test_a_paused_key_holds_no_permits(engine: Rig) -> None:
    engine.obey(concurrency=1, rate={"count": 1, "per_ms": 60_000})
    a, b = engine.enqueue(key="a"), engine.enqueue(key="b")

    pause(engine, KEY, "charge", "a")
    assert claimed(engine) == [b]
    engine.succeed(b)
    resume(engine, KEY, "charge", "a")
    assert engine.info(a)["status"] == "limited"


def test_a_run_of_a_paused_key_that_waits_for_a_permit_does_not_get_the_one_that_another_gives_back(
    engine: Rig,
) -> None:
    engine.obey(concurrency=1)
    first, second = engine.enqueue(rate_key="a"), engine.enqueue(rate_key="a")
    third = engine.enqueue(rate_key="b")

    pause(engine, KEY, "charge", "a")

    assert claimed(engine) == [third]
    assert [engine.row(run_id)["lane"] for run_id in (first, second)] == ["paused", "paused"]


@pytest.mark.parametrize("way", ["retry", "retry at once", "wake", "due", "hand back", "crash", "operator"])
def test_whatever_becomes_due_while_its_key_is_paused_waits(engine: Rig, way: str) -> None:
    engine.obey(concurrency=1)
    run_id = engine.enqueue(key="a", delay_ms=1_000) if way == "due" else engine.start(key="a")
    if way == "wake":
        engine.wait(run_id, "go")
    if way == "operator":
        engine.succeed(run_id)
    pause(engine, KEY, "charge", "a")

    if way.startswith("retry"):
        engine.fail(run_id, retry=NO_JITTER | {"first_ms": 0 if way == "retry at once" else 500})
    elif way == "wake":
        engine.signal(run_id, "go")
    elif way == "hand back":
        engine.drain()
    elif way == "crash":
        engine.die()
    elif way == "operator":
        engine.retry(run_id)
    engine.clock.advance(s=1)
    engine.promote()

    assert engine.row(run_id)["lane"] == "paused"
    assert claimed(engine) == []
    assert claimed(engine) == claimed(engine, names=("charge",), solo=True) == []
    other = engine.start(key="b")
    engine.succeed(other)
    resume(engine, KEY, "charge", "a")
    assert claimed(engine) == [run_id]


def test_suspects_of_a_paused_key_are_suspects_when_it_is_resumed(engine: Rig) -> None:
    ids = [engine.enqueue(concurrency_key="a") for _ in range(2)]
    claimed(engine)
    engine.die()
    pause(engine, KEY, "charge", "a")
    assert claimed(engine, solo=True) == []

    resume(engine, KEY, "charge", "a")

    assert Ready("charge", "solo") in engine.events
    assert claimed(engine) == []
    assert claimed(engine, solo=True) == ids[:1]


def test_a_run_with_two_paused_keys_waits_for_both(engine: Rig) -> None:
    run_id = engine.enqueue(key="a", rate_key="b")
    pause(engine, KEY, "charge", "a")
    pause(engine, KEY, "charge", "b")

    resume(engine, KEY, "charge", "a")
    assert engine.row(run_id)["lane"] == "paused"
    resume(engine, KEY, "charge", "b")
    assert claimed(engine) == [run_id]


@pytest.mark.parametrize("way", ["cancel", "expire", "withdraw"])
def test_a_run_that_is_held_back_by_its_key_can_end(engine: Rig, way: str) -> None:
    pause(engine, KEY, "charge", "a")
    run_id = engine.enqueue(key="a", expires_at_ms=engine.now_ms + 10)

    if way == "cancel":
        engine.cancel(run_id)
    elif way == "withdraw":
        engine.seen.acknowledged.clear()
        assert engine.do(runs.withdraw, run_id, now_ms=engine.now_ms)
    else:
        engine.clock.advance(ms=10)
        engine.promote()

    assert engine.store.count("charge", "paused") == 0


def test_a_held_back_run_counts_towards_max_pending(engine: Rig) -> None:
    engine.obey(max_pending=1)
    pause(engine, KEY, "charge", "a")
    engine.enqueue(key="a")

    assert runs.unfinished(engine.store, "charge") == 1


def test_a_key_is_paused_under_all_names_of_its_workflow_also_those_it_gets_later(engine: Rig) -> None:
    pause(engine, KEY, "old_charge", "a")
    old = engine.enqueue("old_charge", key="a")
    engine.enqueue("charge", key="a")
    names = ("charge", "old_charge")

    engine.obey("charge", aliases=("old_charge",))
    assert claimed(engine, names=names) == []
    engine.obey("charge")
    assert claimed(engine, names=("charge",)) != []

    resume(engine, KEY, "old_charge", "a")
    assert claimed(engine, names=names) == [old]


def test_lists_tell_blocked_runs_from_those_that_are_only_pending(engine: Rig) -> None:
    from tako.engine import inspect

    pause(engine, KEY, "charge", "a")
    held, free = engine.enqueue(key="a"), engine.enqueue()
    sick, later = engine.enqueue("refund"), engine.enqueue("refund", delay_ms=9_000)

    def ids(status: str) -> list[str]:
        page = inspect.list_runs(engine.store, status=status, blocked=["refund"])
        return [run["id"] for run in page.runs]

    assert ids("blocked") == [sick, held]
    assert ids("pending") == [later, free]


def test_a_run_in_the_wrong_lane_is_named(engine: Rig) -> None:
    pause(engine, KEY, "charge", "a")
    engine.enqueue(key="a")
    engine.store.connection.execute("UPDATE runs SET lane = 'ready'")

    assert any(problem.startswith("pauses:") for problem in invariants.check(engine.store))
