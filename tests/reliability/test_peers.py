"""The judge of the comparison with others: what it makes of a ledger. `scripts/gate peers` has real ones."""

from __future__ import annotations

import json
from pathlib import Path

from reliability.peers import judge
from reliability.peers.__main__ import details, table
from reliability.peers.judge import Grade, Line, Verdict
from reliability.peers.managed import Told
from reliability.peers.stacks import CeleryRedis, Tako

YES, NO, NOTHING = Told(0.01), Told(0.2, "RuntimeError: no room"), Told(None)


def ledger(*words: str, key: str = "long") -> list[Line]:
    """A line each, a second apart, of "begin 0" and the like."""
    split = [word.split() for word in words]
    return [Line(float(at), 1, what, key, int(number)) for at, (what, number) in enumerate(split)]


def ran(*keys: str) -> list[Line]:
    """Tasks that were done once."""
    return [Line(1.0, 1, what, key, 0) for key in keys for what in ("begin", "end")]


def killed(lines: list[Line], *, at: float) -> Verdict:
    return judge.killed(lines, "long", at=at, state="STARTED", waited_s=60)


def test_a_task_that_goes_on_where_it_was_is_kept() -> None:
    lines = ledger("begin 0", "end 0", "begin 1", "begin 1", "end 1", "begin 2", "end 2")

    found = killed(lines, at=2.5)

    assert found == Verdict(Grade.KEPT, "goes on 0.5 s later; no finished step is done again")


def test_a_finished_step_that_is_done_again_is_told_and_counted_once() -> None:
    lines = ledger("begin 0", "end 0", "begin 1", "begin 0", "end 0", "begin 1", "end 1", "begin 2", "end 2")

    found = killed(lines, at=2.5)

    assert found.grade is Grade.TOLD
    assert found.words.endswith("1 step that had finished is done again")


def test_a_task_that_does_not_end_is_lost_with_its_state() -> None:
    found = killed(ledger("begin 0", "end 0", "begin 1"), at=2.5)

    assert found == Verdict(Grade.LOST, "not finished 60 s later; its state: STARTED")


def test_poison_that_is_given_up_with_a_reason_is_kept_and_poison_without_end_is_lost() -> None:
    lines = ledger("begin 0", "begin 0", "begin 0", key="poison")

    dead = judge.poisoned(lines, state="dead: its worker died 3 times", waited_s=60, neighbour_s=0.4)
    endless = judge.poisoned(lines, state="STARTED", waited_s=60, neighbour_s=0.4)
    alone = judge.poisoned(lines, state="failed", waited_s=60, neighbour_s=None)

    assert (dead.grade, endless.grade, alone.grade) == (Grade.KEPT, Grade.LOST, Grade.LOST)
    assert "started 3 times in 2 s" in endless.words


def test_code_that_cannot_start_is_kept_only_if_callers_are_told() -> None:
    assert judge.cannot_start([YES, NO, NO], ran_when_mended=1, state="").grade is Grade.KEPT
    silent = judge.cannot_start([YES, YES, YES], ran_when_mended=3, state="")
    gone = judge.cannot_start([YES, YES, YES], ran_when_mended=1, state="failed")

    assert (silent.grade, gone.grade) == (Grade.LOST, Grade.LOST)
    assert silent.words.endswith("nobody was told")


def test_what_was_acknowledged_before_the_broker_was_killed_and_is_not_done_is_lost() -> None:
    told = {"a": YES, "b": YES, "c": NO}

    assert judge.broker_killed(ran("a", "b"), told, waited_s=60).grade is Grade.KEPT
    assert judge.broker_killed(ran("a"), told, waited_s=60).grade is Grade.LOST
    assert judge.broker_killed(ran("a", "b", "c"), told, waited_s=60).grade is Grade.TOLD
    assert judge.broker_killed([*ran("a", "b"), *ran("a")], told, waited_s=60).grade is Grade.TOLD


def test_a_caller_who_hangs_is_told_nothing() -> None:
    assert judge.does_not_answer(NOTHING, ran=False).grade is Grade.LOST
    assert judge.does_not_answer(NO, ran=False).grade is Grade.KEPT
    assert judge.does_not_answer(NO, ran=True).grade is Grade.TOLD


def test_a_full_disk_is_kept_if_all_that_was_taken_is_done_and_work_is_taken_again() -> None:
    told = {"a": YES, "b": NO}

    assert judge.disk_full(ran("a"), told, after=YES, waited_s=60).grade is Grade.KEPT
    assert judge.disk_full(ran("a"), told, after=NO, waited_s=60).grade is Grade.LOST
    assert judge.disk_full([], told, after=YES, waited_s=60).grade is Grade.LOST
    assert judge.disk_full(ran("a"), {"a": YES, "b": NOTHING}, after=YES, waited_s=60).grade is Grade.TOLD


def test_an_end_that_nobody_can_see_is_lost() -> None:
    lines = ran("unstorable")

    assert judge.unstorable(lines, state="dead: not serializable").grade is Grade.KEPT
    assert judge.unstorable(lines * 4, state="FAILURE").grade is Grade.TOLD
    assert judge.unstorable(lines, state="no result").grade is Grade.LOST


def test_an_unknown_name_is_best_told_to_who_says_it() -> None:
    assert judge.unknown_name(NO, state="").grade is Grade.KEPT
    assert judge.unknown_name(YES, state="failed: no such task").grade is Grade.TOLD
    assert judge.unknown_name(YES, state="PENDING").grade is Grade.LOST


def test_a_schedule_that_makes_up_for_nothing_is_lost() -> None:
    before = [Line(1.0, 1, "begin", "tick", 0)]
    after = [*before, Line(50.0, 1, "begin", "tick", 0)]

    assert judge.schedule_missed(before, since=40.0, missed=2, ticks_before=1).grade is Grade.LOST
    assert judge.schedule_missed(after, since=40.0, missed=2, ticks_before=1).grade is Grade.KEPT


def test_a_ledger_is_read_line_by_line_and_what_is_half_written_is_left(tmp_path: Path) -> None:
    (tmp_path / "ledger").write_text(json.dumps([1.5, 7, "begin", "a", 0]) + "\n" + '[2.5, 7, "en')

    assert judge.read(tmp_path / "ledger") == [Line(1.5, 7, "begin", "a", 0)]


def test_a_cell_that_could_not_be_filled_says_so() -> None:
    fault = "a task kills its worker, always"
    found: dict[tuple[str, str], Verdict | None] = {("Tako", fault): Verdict(Grade.KEPT, "dead")}

    assert table([Tako, CeleryRedis], [fault], found)[-1] == f"| {fault} | ✔ | ? |"
    assert details([Tako, CeleryRedis], [fault], found)[-2:] == ["- Tako: ✔ dead", "- Celery, Redis: not measured"]
