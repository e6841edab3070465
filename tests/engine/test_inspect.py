"""Runs as people and programs see them."""

from __future__ import annotations

import re

import pytest

from tako.engine import inspect, runs
from tests.support.engine import BOOM, Rig


def ids(engine: Rig, **filters: object) -> list[str]:
    return [info["id"] for info in inspect.list_runs(engine.store, **filters).runs]  # type: ignore[arg-type]


def test_a_new_run_is_shown_with_everything_that_is_known(engine: Rig) -> None:
    run_id = engine.enqueue(key="k", priority=2, payload_json='{"a":1}', retries=4)

    assert engine.info(run_id, "payload", "result", "steps", "attempts") == {
        "id": run_id,
        "workflow": "charge",
        "status": "pending",
        "attempt": 0,
        "retries": 4,
        "created_ms": engine.now_ms,
        "run_at_ms": engine.now_ms,
        "started_ms": None,
        "ended_ms": None,
        "key": "k",
        "priority": 2,
        "group": None,
        "scheduled_for_ms": None,
        "parent_id": None,
        "error": None,
        "reason": None,
        "traceback": None,
        "warnings": [],
        "blocked": None,
        "acknowledged": False,
        "payload_json": '{"a":1}',
        "result_json": None,
        "steps": [],
        "attempts": [],
        "attempt_ms": None,
        "claimed_ms": None,
    }


def test_an_id_that_nobody_has_is_none_and_never_pending(engine: Rig) -> None:
    assert inspect.get_run(engine.store, "nobody") is None
    assert inspect.find_run(engine.store, workflows=["charge"], key="k") is None


def test_the_newest_run_of_a_key_is_found_ended_ones_too(engine: Rig) -> None:
    engine.succeed(engine.start(key="k"))
    newest = engine.start(key="k")
    engine.succeed(newest)
    engine.enqueue("refund", key="k")

    found = inspect.find_run(engine.store, workflows=["charge"], key="k")
    assert found is not None
    assert (found["id"], found["status"]) == (newest, "succeeded")


def test_a_run_between_attempts_shows_its_last_error_and_no_reason(engine: Rig) -> None:
    run_id = engine.start()
    engine.fail(run_id)

    info = engine.info(run_id)
    assert (info["status"], info["error"], info["reason"], info["traceback"]) == (
        "pending", "ValueError: boom", None, "Traceback: boom",
    )  # fmt: skip


def test_an_error_is_gone_when_the_run_succeeds(engine: Rig) -> None:
    run_id = engine.start()
    engine.fail(run_id)
    engine.clock.advance(s=1)
    engine.promote()
    engine.claim()
    engine.succeed(run_id)

    assert engine.info(run_id)["error"] is None


def test_steps_show_what_they_were_and_a_child_by_its_id(engine: Rig) -> None:
    run_id = engine.start()
    child = engine.start_child(run_id, "refund")
    engine.sleep(run_id, ms=0, step_name="nap")
    engine.signal(run_id, "go", 1)
    engine.wait(run_id, "go")
    engine.wait(run_id, "stop", timeout_ms=0)

    steps = engine.info(run_id, "steps")["steps"]
    assert [(step["name"], step["status"], step.get("result_json"), step.get("child_id")) for step in steps] == [
        ("refund", "started", None, child),
        ("nap", "slept", "null", None),
        ("wait go", "received", "1", None),
        ("wait stop", "timed_out", None, None),
    ]


# --- lists ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def many(engine: Rig) -> dict[str, str]:
    """One run of each kind, oldest first."""
    found = {"succeeded": engine.start(), "dead": "", "cancelled": ""}
    engine.succeed(found["succeeded"])
    engine.clock.advance(ms=10)
    found["dead"] = engine.start(retries=0)
    engine.fail(found["dead"])
    found["cancelled"] = engine.enqueue("refund")
    engine.cancel(found["cancelled"])
    found["sleeping"] = engine.start()
    engine.sleep(found["sleeping"], ms=1_000)
    found["waiting"] = engine.start("refund")
    engine.wait(found["waiting"])
    found["running"] = engine.start("refund")
    engine.clock.advance(ms=10)
    found["later"] = engine.enqueue(delay_ms=5, key="k")
    found["ready"] = engine.enqueue()
    return found


def test_runs_are_listed_newest_first(engine: Rig, many: dict[str, str]) -> None:
    assert ids(engine) == list(many.values())[::-1]


@pytest.mark.parametrize("few", [2_000, 0])
def test_a_list_can_be_of_one_status_stored_or_shown(
    engine: Rig, many: dict[str, str], few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspect, "_FEW", few)

    for status in ("succeeded", "dead", "cancelled", "sleeping", "waiting", "running"):
        assert ids(engine, status=status) == [many[status]], status
    assert ids(engine, status="pending") == [many["ready"], many["later"]]
    assert ids(engine, status="nonsense") == []


def test_lists_can_be_filtered(engine: Rig, many: dict[str, str]) -> None:
    assert ids(engine, workflow="refund") == [many["running"], many["waiting"], many["cancelled"]]
    assert ids(engine, workflows=["refund", "x"]) == ids(engine, workflow="refund")
    assert ids(engine, workflow="nobody") == []
    assert ids(engine, workflows=[]) == []
    assert ids(engine, workflow="refund", status="running") == [many["running"]]
    assert ids(engine, workflow="charge", status="running") == []
    assert ids(engine, key="k") == ids(engine, key="k", workflow="charge") == [many["later"]]
    assert ids(engine, key="k", workflow="refund") == []
    assert ids(engine, since_ms=engine.now_ms) == [many["ready"], many["later"]]
    assert ids(engine, until_ms=engine.now_ms - 10) == [many["succeeded"]]


def test_children_are_listed_by_their_parent(engine: Rig) -> None:
    parent = engine.start()
    children = [engine.enqueue("refund", parent_id=parent) for _ in range(3)]
    engine.enqueue("refund")

    assert ids(engine, parent_id=parent) == children[::-1]
    assert ids(engine, parent_id=children[0]) == []
    assert ids(engine, parent_id="nobody") == []


@pytest.mark.parametrize("filters", [{}, {"status": "pending"}, {"workflow": "charge"}])
def test_pages_follow_each_other_without_a_gap(engine: Rig, filters: dict[str, str]) -> None:
    made = [engine.enqueue() for _ in range(7)]
    found: list[str] = []
    after: str | None = None
    pages = 0
    while True:
        page = inspect.list_runs(engine.store, limit=3, after=after, **filters)  # type: ignore[arg-type]
        found += [info["id"] for info in page.runs]
        pages += 1
        engine.enqueue()  # what arrives meanwhile is on no later page
        if page.next is None:
            break
        after = page.next

    assert (found, pages) == (made[::-1], 3)


def test_a_list_of_one_workflow_looks_only_where_its_runs_are(engine: Rig) -> None:
    rare = []
    for n in range(40):
        engine.store.take_seqs(700)  # others' runs, long deleted
        engine.enqueue("charge")
        if n % 13 == 0:
            rare += [engine.enqueue("refund"), engine.enqueue("refund")]
    asked: list[str] = []
    engine.store.connection.set_trace_callback(asked.append)

    pages = [inspect.list_runs(engine.store, workflow="refund", limit=3)]
    looks = sum("r.seq >=" in text for text in asked)
    while pages[-1].next is not None:
        pages.append(inspect.list_runs(engine.store, workflow="refund", limit=3, after=pages[-1].next))

    engine.store.connection.set_trace_callback(None)
    assert [run["id"] for page in pages for run in page.runs] == rare[::-1]
    assert looks == 2, "two stretches have the newest four"
    assert ids(engine, workflows=["charge", "refund"], limit=1000) == ids(engine, limit=1000)


DAY_MS = 24 * 3_600_000


@pytest.mark.parametrize("workflow", [None, "charge"])
def test_a_list_of_a_time_looks_only_where_its_runs_are(engine: Rig, workflow: str | None) -> None:
    made = []
    for _ in range(12):
        made += [(engine.enqueue(), engine.now_ms) for _ in range(20)]
        engine.store.take_seqs(700)  # others' runs, long deleted
        engine.clock.advance(ms=10 * DAY_MS)
    since_ms, until_ms = made[100][1], made[160][1]
    seen: list[str] = []
    engine.store.connection.set_trace_callback(seen.append)

    found = ids(engine, workflow=workflow, since_ms=since_ms, until_ms=until_ms, limit=1000)

    engine.store.connection.set_trace_callback(None)
    assert found == [run_id for run_id, at_ms in made if since_ms <= at_ms < until_ms][::-1]
    assert sum("created_ms FROM runs WHERE seq >=" in text for text in seen) < 40
    ranges = [re.search(r"r.seq >= (\d+) AND r.seq < (\d+)", text) for text in seen]
    rows = sum(int(one[2]) - int(one[1]) for one in ranges if one)
    assert 0 < rows < 5 * 720, "of twelve times as many rows, those of three"
    assert ids(engine, workflow=workflow, since_ms=engine.now_ms) == []
    assert ids(engine, workflow=workflow, until_ms=made[0][1]) == []


def test_a_clock_that_was_put_back_hides_no_run(engine: Rig) -> None:
    early = [engine.enqueue() for _ in range(3)]
    engine.clock.step_wall(ms=-3 * 3_600_000)
    late = [engine.enqueue() for _ in range(3)]
    at_ms = engine.now_ms
    engine.clock.advance(ms=2 * 3_600_000)

    assert ids(engine, since_ms=at_ms + 1) == early[::-1]
    assert ids(engine, until_ms=at_ms + 1) == late[::-1]


def test_a_transaction_that_failed_has_noted_nothing(engine: Rig) -> None:
    with pytest.raises(RuntimeError), engine.store.transaction():
        runs.enqueue(engine.store, [engine.new("refund")], now_ms=engine.now_ms)
        raise RuntimeError
    run_id = engine.enqueue("refund")

    assert ids(engine, workflow="refund") == [run_id]


# --- numbers --------------------------------------------------------------------------------------------------------


def test_numbers_are_by_workflow_and_lane_or_status(engine: Rig, many: dict[str, str]) -> None:
    assert inspect.counts(engine.store) == {
        "charge": {"dead": 1, "later": 2, "ready": 1, "succeeded": 1, "unseen": 1},
        "refund": {"cancelled": 1, "later": 1, "running": 1},
    }


def test_the_oldest_waiting_run_is_found_whatever_its_priority(engine: Rig) -> None:
    assert inspect.oldest_ready_ms(engine.store, "charge", now_ms=engine.now_ms) is None
    engine.enqueue(priority=5)
    engine.clock.advance(ms=100)
    engine.enqueue(priority=9)
    engine.enqueue(priority=-1, run_at_ms=engine.now_ms - 300)
    engine.enqueue(priority=-7)

    assert inspect.oldest_ready_ms(engine.store, "charge", now_ms=engine.now_ms) == 300


def test_an_overview_has_what_a_person_must_see(engine: Rig) -> None:
    engine.finish(engine.start(), "fatal", error=BOOM)
    engine.enqueue("refund")
    engine.clock.advance(ms=70)

    overview = inspect.overview(engine.store, now_ms=engine.now_ms)

    assert overview == inspect.Overview(unseen_dead={"charge": 1}, oldest_ready_ms={"refund": 70}, late_schedules=[])


def test_a_key_is_found_under_every_workflow_by_the_index(engine: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    both = [engine.enqueue(workflow, key="k:7") for workflow in ("charge", "refund")]
    engine.enqueue("charge", key="k:8")
    asked: list[str] = []
    engine.store.connection.set_trace_callback(asked.append)

    page = inspect.list_runs(engine.store, key="k:7")

    engine.store.connection.set_trace_callback(None)
    assert [run["id"] for run in page.runs] == both[::-1]
    assert not any("ORDER BY r.seq DESC" in text and "json_each('[" not in text for text in asked)


@pytest.mark.parametrize("text", ["run-1", "run-", "RUN-1", "r…1", "r...1", "n-1", " run-1 "])
def test_search_looks_at_both_ends_of_an_id(engine: Rig, text: str) -> None:
    run_id = engine.enqueue()

    assert run_id in [run["id"] for run in inspect.search(engine.store, text=text)]


def test_search_finds_keys_by_their_beginning_and_nothing_else(engine: Rig) -> None:
    found = engine.enqueue("charge", key="order:7")
    engine.enqueue("refund", key="my order:7")

    assert [run["id"] for run in inspect.search(engine.store, text="order:")] == [found]
    for nothing in ("rder", "…", "order:8", "x…y", "%", "_", "run-1…zzz"):
        assert inspect.search(engine.store, text=nothing) == [], nothing
