"""Ended runs are deleted after their retention."""

from __future__ import annotations

from tako.engine import retention, runs
from tests.support.engine import Rig

HOUR_MS = 3_600_000


def sweep(engine: Rig, **options: object) -> retention.Swept:
    engine.seen.acknowledged.clear()
    return engine.do(retention.sweep, **({"now_ms": engine.now_ms, "retention_ms": HOUR_MS} | options))


def left(engine: Rig) -> set[str]:
    return {row["id"] for row in engine.store.all("all_epochs")}


def test_ended_runs_are_deleted_after_their_retention_with_all_that_is_known_of_them(engine: Rig) -> None:
    run_id = engine.start()
    engine.save(run_id)
    engine.signal(run_id, "a", 1)
    engine.wait(run_id, "a")
    engine.succeed(run_id, '"result"')
    engine.retry(run_id)
    engine.claim()
    engine.succeed(run_id, '"result"')

    engine.clock.advance(ms=HOUR_MS - 1)
    assert sweep(engine).deleted == 0
    engine.clock.advance(ms=1)
    assert sweep(engine) == retention.Swept(1, None)

    for table in ("runs", "payloads", "results", "steps", "attempts", "signals", "interventions"):
        assert engine.store.connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] == 0, table
    assert engine.store.counts["charge", "succeeded"] == 0


def test_what_has_not_ended_is_kept_however_old(engine: Rig) -> None:
    waiting, running, ended = engine.enqueue(delay_ms=99 * HOUR_MS), engine.start(), engine.start()
    engine.clock.advance(ms=50 * HOUR_MS)
    engine.succeed(ended)

    assert sweep(engine).deleted == 0
    engine.clock.advance(ms=HOUR_MS)
    assert sweep(engine).deleted == 1
    assert left(engine) == {waiting, running}


def test_dead_runs_are_deleted_too_and_are_unseen_no_more(engine: Rig) -> None:
    engine.fail(engine.start(retries=0))
    seen = engine.start(retries=0)
    engine.fail(seen)
    engine.do(runs.ack, [seen], now_ms=engine.now_ms)
    engine.clock.advance(ms=HOUR_MS)

    assert sweep(engine).deleted == 2
    assert engine.store.counts["charge", "unseen"] == 0


def test_a_sweep_goes_in_batches_and_tells_where_it_goes_on(engine: Rig) -> None:
    for _ in range(5):
        engine.succeed(engine.start())
    engine.clock.advance(ms=HOUR_MS)

    first = sweep(engine, limit=2)
    assert first == retention.Swept(2, 2)
    second = sweep(engine, limit=2, after=first.after)
    assert second.deleted == 2
    assert sweep(engine, limit=2, after=second.after) == retention.Swept(1, None)


def test_a_sweep_ends_at_the_first_run_that_is_too_young(engine: Rig) -> None:
    for _ in range(3):
        engine.succeed(engine.start())
    engine.clock.advance(ms=HOUR_MS)
    for _ in range(3):
        engine.succeed(engine.start())

    assert sweep(engine, limit=4) == retention.Swept(3, None)


def test_a_workflow_may_have_a_retention_of_its_own(engine: Rig) -> None:
    engine.succeed(engine.start("charge"))
    engine.succeed(engine.start("audit"))
    engine.succeed(engine.start("ping"))
    engine.clock.advance(ms=HOUR_MS)

    assert sweep(engine, of_workflow={"audit": 99 * HOUR_MS, "ping": HOUR_MS // 2}).deleted == 2
    assert [row["workflow"] for row in engine.store.connection.execute("SELECT workflow FROM runs")] == ["audit"]


def test_a_child_is_kept_while_its_parent_may_ask_for_its_result(engine: Rig) -> None:
    parent = engine.start()
    child = engine.start("refund", parent_id=parent)
    engine.succeed(child)
    engine.clock.advance(ms=HOUR_MS)

    assert sweep(engine).deleted == 0
    engine.succeed(parent)
    assert sweep(engine).deleted == 1
    assert left(engine) == {parent}


def test_a_key_of_a_deleted_run_is_as_if_it_had_never_been(engine: Rig) -> None:
    engine.succeed(engine.start(key="k"))
    engine.clock.advance(ms=HOUR_MS)
    sweep(engine)

    assert engine.enqueue(key="k")
