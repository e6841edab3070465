"""A run's life as bars."""

from __future__ import annotations

from typing import Any

from tako.dashboard.timeline import Bar, Timeline, timeline

T = 1_800_000_000_000


def run(**fields: Any) -> dict[str, Any]:
    return {
        "status": "succeeded", "created_ms": T, "started_ms": T, "ended_ms": T + 100, "scheduled_for_ms": None,
        "attempt": 1, "attempts": [], "steps": [], **fields,
    }  # fmt: skip


def step(name: str, start: int, end: int, status: str = "succeeded") -> dict[str, Any]:
    return {"name": name, "status": status, "attempt": 1, "started_ms": T + start, "ended_ms": T + end}


def attempt(number: int, start: int, end: int, outcome: str = "succeeded") -> dict[str, Any]:
    return {"attempt": number, "started_ms": T + start, "ended_ms": T + end, "outcome": outcome}


def bars(picture: Timeline) -> dict[str, Bar]:
    return {bar.label: bar for bar in picture.bars}


def test_bars_stand_where_and_as_long_as_things_happened() -> None:
    picture = timeline(run(attempts=[attempt(1, 0, 100)], steps=[step("a", 0, 25), step("b", 50, 100)]), now_ms=T + 999)

    found = bars(picture)
    assert (found["a"].left, found["a"].width, found["a"].took) == (0, 25, "25 ms")
    assert (found["b"].left, found["b"].width) == (50, 50)
    assert (found["attempt 1"].left, found["attempt 1"].width, found["attempt 1"].kind) == (0, 100, "attempt succeeded")
    assert [words for _, words in picture.marks] == ["0", "+25 ms", "+50 ms", "+75 ms"]
    assert picture.breaks == []


def test_marks_after_a_shortened_time_differ() -> None:
    picture = timeline(
        run(attempts=[attempt(1, 0, 30_000)], steps=[step("a", 0, 100), step("b", 29_000, 30_000)]), now_ms=T
    )

    words = [word for _, word in picture.marks]
    assert len(set(words)) == 4, words


def test_six_days_of_sleep_leave_room_for_the_steps() -> None:
    six_days = 6 * 86_400_000
    end = six_days + 100
    picture = timeline(
        run(
            ended_ms=T + end,
            attempts=[attempt(1, 0, end)],
            steps=[step("a", 0, 50), step("nap", 50, six_days + 50, "slept"), step("b", six_days + 50, end)],
        ),
        now_ms=T + end,
    )

    found = bars(picture)
    assert found["a"].width > 35
    assert found["b"].width > 35
    assert 15 < found["nap"].width < 30
    assert found["nap"].took == "6 d"
    assert [words for _, _, words in picture.breaks] == ["6 d"]


def test_what_is_under_way_reaches_to_now() -> None:
    picture = timeline(
        run(status="running", ended_ms=None, attempt=2, attempt_ms=T + 60, attempts=[attempt(1, 0, 50, "failed")]),
        now_ms=T + 100,
    )

    found = bars(picture)
    assert found["attempt 1"].kind == "attempt failed"
    assert found["attempt 2"].kind == "attempt running"
    assert round(found["attempt 2"].left + found["attempt 2"].width) == 100


def test_a_wait_is_shown_as_long_as_it_lasts() -> None:
    waiting = {"step": "signal:approved", "signal": "approved", "since_ms": T + 10, "until_ms": None}
    picture = timeline(
        run(status="waiting", ended_ms=None, attempt_ms=T, waiting=waiting, steps=[step("a", 0, 10)]), now_ms=T + 5_000
    )

    assert bars(picture)["signal:approved"].took == "5.0 s"
    assert bars(picture)["signal:approved"].kind == "step parked"


def test_a_run_that_nobody_has_claimed_is_one_bar() -> None:
    picture = timeline(run(status="pending", started_ms=None, ended_ms=None), now_ms=T + 2_000)

    assert [(bar.label, bar.took, bar.left, bar.width) for bar in picture.bars] == [("queued", "2.0 s", 0, 100)]


def child(name: str, end: int | None, status: str = "succeeded") -> dict[str, Any]:
    return {"id": name, "workflow": "pack", "status": status, "ended_ms": None if end is None else T + end}


def start(name: str, at: int) -> dict[str, Any]:
    return step(name, at, at, "started") | {"child_id": name}


def test_a_child_is_a_bar_from_its_start_to_its_end() -> None:
    picture = timeline(
        run(
            status="waiting", ended_ms=None, attempt_ms=T,
            steps=[step("a", 0, 10), start("b", 10), start("c", 20), start("d", 20)],
        ),
        now_ms=T + 80,
        children=[child("b", 40), child("c", None, "running")],
    )  # fmt: skip

    found = bars(picture)
    assert (found["b"].kind, found["b"].took, found["b"].child) == ("step child succeeded", "30 ms", "b")
    assert found["b"].title == "b: the child pack, succeeded, 30 ms, from +10 ms"
    assert (found["c"].kind, found["c"].took) == ("step child running", "60 ms")
    assert round(found["c"].left + found["c"].width) == 100
    assert (found["d"].kind, found["d"].took, found["d"].child) == ("step child", "0 ms", "d"), (
        "only its start is known"
    )
    assert found["a"].child is None


def test_children_of_six_days_leave_room_for_their_parents_steps() -> None:
    six_days = 6 * 86_400_000
    picture = timeline(
        run(
            ended_ms=T + six_days,
            attempts=[attempt(1, 0, six_days)],
            steps=[step("a", 0, 100), start("b", 100), start("c", 100)],
        ),
        now_ms=T + six_days,
        children=[child("b", six_days // 2), child("c", six_days)],
    )

    found = bars(picture)
    assert 9 < found["a"].width < 11
    assert 44 < found["b"].width < 46
    assert 89 < found["c"].width < 91
    assert [words for _, _, words in picture.breaks] == ["5 d 23 h"]


def test_names_of_steps_cannot_act_on_the_page() -> None:
    picture = timeline(run(steps=[step("a\x1b[2J\u202eb", 0, 10)]), now_ms=T + 10)

    assert bars(picture).keys() == {"queued", "a\\x1b[2J\\u202eb"}


def test_every_bar_is_inside_of_the_picture() -> None:
    picture = timeline(run(ended_ms=T, steps=[step("a", 0, 0), step("odd", 50, 10)]), now_ms=T)

    assert all(0 <= bar.left <= 100 and 0 < bar.width <= 100.5 for bar in picture.bars)
