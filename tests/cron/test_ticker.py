"""What is due makes a run."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tako.cron import schedules, ticker
from tako.engine.events import Event
from tako.engine.store import Store
from tako.engine.writer import Writer
from tests.support.clock import FakeClock
from tests.support.engine import Rig

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS


def schedule(engine: Rig, **options: Any) -> None:
    wanted = {"workflow": "report", "kind": "cron", "expression": "0 * * * *"} | options
    engine.do(schedules.replace, [wanted], now_ms=engine.now_ms)


def tick(engine: Rig) -> ticker.Ticked:
    return engine.do(ticker.tick, now_ms=engine.now_ms)


def to_next_hour(engine: Rig) -> int:
    """Move to the next full hour, and return it."""
    engine.clock.advance(ms=HOUR_MS - engine.now_ms % HOUR_MS)
    return engine.now_ms


def skipped(engine: Rig) -> int:
    row = engine.store.connection.execute("SELECT skipped FROM schedules").fetchone()
    return int(row["skipped"])


def test_a_due_schedule_makes_a_run_that_knows_its_time(engine: Rig) -> None:
    schedule(engine)
    assert tick(engine).fired == []

    boundary = to_next_hour(engine)
    (run_id,) = tick(engine).fired

    (claimed,) = engine.claim(names=("report",))
    assert (claimed["id"], claimed["scheduled_for_ms"], claimed["payload_json"]) == (run_id, boundary, "{}")


def test_a_boundary_makes_one_run_however_often_it_is_looked_at(engine: Rig) -> None:
    schedule(engine, overlap="allow")
    to_next_hour(engine)

    fired = [run_id for _ in range(5) for run_id in tick(engine).fired]

    assert len(fired) == 1


def test_the_run_and_its_bookkeeping_are_one_transaction(engine: Rig) -> None:
    schedule(engine)
    to_next_hour(engine)

    with pytest.raises(ZeroDivisionError), engine.store.transaction():
        ticker.tick(engine.store, now_ms=engine.now_ms)
        raise ZeroDivisionError
    assert engine.store.counts.get(("report", "ready"), 0) == 0

    assert len(tick(engine).fired) == 1


def test_the_id_of_a_run_follows_from_its_boundary(engine: Rig) -> None:
    schedule(engine)
    to_next_hour(engine)
    with pytest.raises(ZeroDivisionError), engine.store.transaction():
        lost = ticker.tick(engine.store, now_ms=engine.now_ms).fired
        raise ZeroDivisionError

    assert tick(engine).fired == lost


def test_after_downtime_only_the_newest_missed_boundary_fires_and_the_others_are_counted(engine: Rig) -> None:
    schedule(engine)
    to_next_hour(engine)
    engine.clock.advance(ms=5 * HOUR_MS + 7 * MINUTE_MS)

    ticked = tick(engine)

    assert len(ticked.fired) == 1
    (claimed,) = engine.claim(names=("report",))
    assert claimed["scheduled_for_ms"] == engine.now_ms - 7 * MINUTE_MS
    assert skipped(engine) == 5
    assert ticked.lines == [("WARNING", "schedule 0 * * * * of report: 5 missed times were skipped")]


def test_a_very_long_downtime_is_counted_only_so_far(engine: Rig) -> None:
    schedule(engine, expression="* * * * *")
    engine.clock.advance(ms=30 * DAY_MS)

    ticked = tick(engine)

    assert len(ticked.fired) == 1
    assert "1000 or more" in ticked.lines[0][1]


def test_what_is_too_old_to_be_caught_up_is_skipped(engine: Rig) -> None:
    schedule(engine, expression="0 9 * * *", catch_up_window_ms=HOUR_MS)
    engine.clock.advance(ms=HOUR_MS * 24 - engine.now_ms % DAY_MS + 11 * HOUR_MS)

    ticked = tick(engine)

    assert ticked.fired == []
    assert skipped(engine) >= 1
    assert "too long ago" in ticked.lines[-1][1]
    assert ticked.next_ms is not None
    assert ticked.next_ms > engine.now_ms


@pytest.mark.parametrize(("late_ms", "fires"), [(60_000, True), (60_001, False)])
def test_catch_up_none_fires_only_within_the_grace(engine: Rig, late_ms: int, fires: bool) -> None:
    schedule(engine, catch_up="none", grace_ms=60_000)
    to_next_hour(engine)
    engine.clock.advance(ms=late_ms)

    assert bool(tick(engine).fired) is fires


def test_overlap_skip_leaves_a_boundary_out_while_the_run_before_goes_on(engine: Rig) -> None:
    schedule(engine)
    to_next_hour(engine)
    (first,) = tick(engine).fired
    to_next_hour(engine)

    ticked = tick(engine)

    assert ticked.fired == []
    assert ticked.lines == [
        ("WARNING", f"schedule 0 * * * * of report: skipped, the run before ({first}) has not ended")
    ]
    assert skipped(engine) == 1
    engine.claim(names=("report",))
    engine.succeed(first)
    to_next_hour(engine)
    assert len(tick(engine).fired) == 1


def test_overlap_allow_runs_them_side_by_side(engine: Rig) -> None:
    schedule(engine, overlap="allow")
    fired = []
    for _ in range(3):
        to_next_hour(engine)
        fired += tick(engine).fired

    assert len(set(fired)) == 3


def test_overlap_replace_cancels_the_run_before(engine: Rig) -> None:
    schedule(engine, overlap="replace")
    to_next_hour(engine)
    (first,) = tick(engine).fired
    engine.claim(names=("report",))
    to_next_hour(engine)

    ticked = tick(engine)

    assert len(ticked.fired) == 1
    assert [held.id for held in ticked.told] == [first]
    assert engine.status(first) == "cancelled"


def test_overlap_queue_fires_when_the_run_before_has_ended(engine: Rig) -> None:
    schedule(engine, overlap="queue")
    to_next_hour(engine)
    (first,) = tick(engine).fired
    for _ in range(2):
        to_next_hour(engine)
        assert tick(engine).fired == []
    assert skipped(engine) == 1

    engine.claim(names=("report",))
    engine.succeed(first)
    engine.clock.advance(ms=MINUTE_MS)
    assert len(tick(engine).fired) == 1
    (claimed,) = engine.claim(names=("report",))
    assert claimed["scheduled_for_ms"] == engine.now_ms - MINUTE_MS
    assert tick(engine).fired == []


def test_a_full_queue_skips_the_boundary_and_says_so(engine: Rig) -> None:
    engine.obey("report", max_pending=1)
    schedule(engine, overlap="allow")
    engine.enqueue("report")
    to_next_hour(engine)

    ticked = tick(engine)

    assert ticked.fired == []
    assert ticked.lines[0][0] == "ERROR"
    assert skipped(engine) == 1


def test_a_key_that_is_taken_skips_the_boundary(engine: Rig) -> None:
    schedule(engine, key="all", retries=7)
    holder = engine.enqueue("report", key="all")
    to_next_hour(engine)

    assert holder in tick(engine).lines[0][1]
    engine.claim(names=("report",))
    engine.succeed(holder)
    to_next_hour(engine)
    (run_id,) = tick(engine).fired
    assert (engine.row(run_id)["key"], engine.row(run_id)["retries"]) == ("all", 7)


def test_runs_of_a_schedule_have_the_keys_that_templates_make_of_the_defaults(engine: Rig) -> None:
    rate = {"count": 5, "per_ms": 1_000, "key": "{region}"}
    engine.obey("report", key="all:{region}", concurrency=1, concurrency_key="c:{region}", rate=rate,
                defaults={"region": "eu"})  # fmt: skip
    schedule(engine)
    to_next_hour(engine)

    (run_id,) = tick(engine).fired

    row = engine.row(run_id)
    assert (row["key"], row["concurrency_key"], row["rate_key"]) == ("all:eu", "c:eu", "eu")


def test_a_boundary_whose_template_has_nothing_to_go_by_is_skipped_loudly(engine: Rig) -> None:
    engine.obey("report", key="all:{region}")
    schedule(engine)
    to_next_hour(engine)

    ticked = tick(engine)

    assert (ticked.fired, skipped(engine)) == ([], 1)
    assert ticked.lines[0][0] == "ERROR"
    assert "the arguments have no 'region'" in ticked.lines[0][1]


def test_a_run_knows_the_zone_of_the_schedule_that_made_it(engine: Rig) -> None:
    wanted = [
        {"workflow": "report", "kind": "cron", "expression": "0 * * * *", "tz": tz, "overlap": "allow"}
        for tz in ("Europe/Paris", "Asia/Tokyo")
    ]
    engine.do(schedules.replace, wanted, now_ms=engine.now_ms)
    to_next_hour(engine)
    tick(engine)

    zones = {run["scheduled_tz"] for run in engine.claim(names=("report",), n=2)}
    assert zones == {"Europe/Paris", "Asia/Tokyo"}


def test_a_boundary_that_waits_for_the_run_before_is_given_up_by_a_pause(engine: Rig) -> None:
    schedule(engine, overlap="queue")
    to_next_hour(engine)
    (first,) = tick(engine).fired
    to_next_hour(engine)
    tick(engine)
    engine.do(schedules.pause, "report", paused=True, now_ms=engine.now_ms)
    engine.claim(names=("report",))
    engine.succeed(first)

    assert tick(engine).fired == []
    assert skipped(engine) == 1


def test_jitter_shifts_a_run_and_never_its_boundary(engine: Rig) -> None:
    schedule(engine, kind="every", interval_ms=HOUR_MS, jitter_ms=30 * MINUTE_MS, overlap="allow")
    shifts = []
    for _ in range(5):
        boundary = to_next_hour(engine)
        (run_id,) = tick(engine).fired
        row = engine.row(run_id)
        assert row["scheduled_for_ms"] == boundary
        shifts.append(row["run_at_ms"] - boundary)

    assert all(0 <= shift <= 30 * MINUTE_MS for shift in shifts)
    assert len(set(shifts)) > 1


def test_a_paused_schedule_does_not_fire(engine: Rig) -> None:
    schedule(engine)
    engine.do(schedules.pause, "report", paused=True, now_ms=engine.now_ms)
    to_next_hour(engine)

    assert tick(engine).fired == []


def test_nothing_fires_twice_when_the_clock_is_put_back(engine: Rig) -> None:
    schedule(engine, overlap="allow")
    boundary = to_next_hour(engine)
    tick(engine)

    engine.clock.step_wall(ms=-30 * MINUTE_MS)
    assert tick(engine).fired == []
    engine.clock.advance(ms=30 * MINUTE_MS)
    assert engine.now_ms == boundary
    assert tick(engine).fired == []
    to_next_hour(engine)
    assert len(tick(engine).fired) == 1


def test_a_mark_more_than_an_interval_ahead_of_the_clock_is_reset_with_a_warning(engine: Rig) -> None:
    schedule(engine, overlap="allow")
    to_next_hour(engine)
    tick(engine)

    engine.clock.step_wall(ms=-400 * DAY_MS)
    ticked = tick(engine)

    assert "the clock was put back" in ticked.lines[0][1]
    to_next_hour(engine)
    assert len(tick(engine).fired) == 1


def test_due_schedules_fire_once_when_the_clock_is_put_forward(engine: Rig) -> None:
    schedule(engine, overlap="allow")
    engine.clock.step_wall(ms=3 * HOUR_MS)

    assert len(tick(engine).fired) == 1
    assert tick(engine).fired == []


# --- the service ----------------------------------------------------------------------------------------------------


def test_the_service_fires_what_is_due_and_knows_when_to_look_again(tmp_path: Path, clock: FakeClock) -> None:
    async def story() -> None:
        ticked: list[ticker.Ticked] = []
        heard = asyncio.Event()
        service: ticker.Ticker

        def on_commit(events: list[Event]) -> None:
            service.tell(events)

        def on_ticked(found: ticker.Ticked) -> None:
            ticked.append(found)
            heard.set()

        store = Store.open(tmp_path / "runs.db")
        writer = Writer(store, on_commit=on_commit, loop=asyncio.get_running_loop())
        service = ticker.Ticker(writer, clock=clock, on_ticked=on_ticked)
        await writer.do(schedules.replace, [schedules.cron("report", "* * * * *")], now_ms=clock.now_ms())
        service.start()
        service.start()
        await asyncio.wait_for(heard.wait(), 5)
        assert ticked[0].fired == []

        heard.clear()
        clock.advance(ms=MINUTE_MS)
        service.look()
        await asyncio.wait_for(heard.wait(), 5)
        assert len(ticked[-1].fired) == 1

        await service.stop()
        await service.stop()
        service.look()
        await writer.stop()
        store.close()

    asyncio.run(story())


def test_a_mistake_of_ours_in_one_round_is_told_and_the_next_one_comes(
    store: Store, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ticker, "_RETRY_S", 0.0)

    async def story() -> None:
        bugs: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: bugs.append(context))
        heard = asyncio.Event()
        writer = Writer(store, on_commit=lambda events: None, loop=asyncio.get_running_loop())
        service = ticker.Ticker(writer, clock=clock, on_ticked=lambda ticked: heard.set())
        real = service.run_once

        async def fails_once(now_ms: int) -> ticker.Ticked:
            if not bugs:
                raise ZeroDivisionError
            return await real(now_ms)

        monkeypatch.setattr(service, "run_once", fails_once)
        service.start()
        await asyncio.wait_for(heard.wait(), 20)
        await service.stop()
        await writer.stop()

        assert [type(bug["exception"]) for bug in bugs] == [ZeroDivisionError]
        assert "schedules could not fire, by a mistake of Tako's: ZeroDivisionError()" in caplog.text

    asyncio.run(story())
