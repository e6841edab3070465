"""When a cause is told."""

from __future__ import annotations

from tako.alerts.alert import Alert, Notice
from tako.alerts.grouping import MAX_CAUSES, Grouper

START_MS = 1_700_000_000_000


class Minutes:
    """A grouper with a clock that a test moves."""

    def __init__(self) -> None:
        self.grouper = Grouper()
        self.now = 0.0

    def strike(self, cause: str = "TimeoutError", *, kind: str = "dead_run", what: str = "it is dead") -> Notice | None:
        alert = Alert(kind=kind, cause=cause, what=what)
        return self.grouper.add(alert, now=self.now, now_ms=START_MS + round(self.now * 1000))

    def after(self, seconds: float) -> list[Notice]:
        self.now += seconds
        return self.grouper.due(now=self.now)


def test_the_first_alert_of_a_cause_is_told_at_once() -> None:
    minutes = Minutes()

    notice = minutes.strike()

    assert notice is not None
    assert notice.count == 1


def test_500_alerts_of_one_cause_in_a_minute_are_the_first_and_one_message_that_says_500() -> None:
    minutes = Minutes()
    told = [minutes.strike(what=f"number {number}") for number in range(500)]

    (summary,) = minutes.after(60)

    assert len([notice for notice in told if notice is not None]) == 1
    assert summary.count == 500
    assert summary.alert.what == "number 499"
    assert summary.first_ms == START_MS


def test_a_cause_that_goes_on_is_told_once_a_minute_with_its_whole_count() -> None:
    minutes = Minutes()
    minutes.strike()
    counts = []
    for _ in range(3):
        minutes.strike()
        minutes.strike()
        counts += [notice.count for notice in minutes.after(60)]

    assert counts == [3, 5, 7]


def test_a_minute_of_silence_ends_a_series_and_the_next_alert_is_told_at_once() -> None:
    minutes = Minutes()
    minutes.strike()

    assert minutes.after(60) == []
    notice = minutes.strike()

    assert notice is not None
    assert notice.count == 1
    assert notice.first_ms == START_MS + 60_000


def test_other_causes_and_other_kinds_are_told_apart() -> None:
    minutes = Minutes()

    told = [minutes.strike("TimeoutError"), minutes.strike("KeyError"), minutes.strike("KeyError", kind="other")]

    assert None not in told


def test_what_was_not_told_yet_is_told_at_the_end() -> None:
    minutes = Minutes()
    minutes.strike("told")
    for _ in range(3):
        minutes.strike("twice")

    assert [(notice.alert.cause, notice.count) for notice in minutes.grouper.flush()] == [("twice", 3)]
    assert minutes.grouper.next_due() is None


def test_causes_that_somebody_makes_up_do_not_fill_our_memory() -> None:
    minutes = Minutes()

    told = [minutes.strike(f"cause {number}") for number in range(MAX_CAUSES + 10)]

    assert None not in told
    assert len(minutes.after(60)) == 0
