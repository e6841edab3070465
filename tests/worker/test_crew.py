"""The threads of `def` handlers, and the turn that goes round among them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import pytest

from tako.worker import execute
from tako.worker.crew import Crew, Turn

WAIT_S = 20


class Attempt:
    """A run whose handler is the test's function."""

    def __init__(self, handler: Callable[[], object]) -> None:
        self.handler = handler
        self.thread_id = 0
        self.member: Any = None


class Story:
    """A crew, what it did in order, and an event for each thing."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done: list[str] = []
        self.changed = threading.Condition()
        self.errors: list[BaseException] = []
        monkeypatch.setattr(execute, "run", lambda attempt: attempt.handler())
        monkeypatch.setattr(execute, "rescue", lambda attempt, error: self.errors.append(error))
        self.crew = Crew(freed=lambda attempt: self.note("freed"), flush=lambda: self.note("sent"))

    def note(self, what: str) -> None:
        with self.changed:
            self.done.append(what)
            self.changed.notify_all()

    def until(self, *what: str) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: self.done == list(what), WAIT_S), self.done

    def until_in(self, what: str, count: int = 1) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: self.done.count(what) >= count, WAIT_S), self.done

    def add(self, handler: Callable[[], object]) -> Attempt:
        attempt = Attempt(handler)
        self.crew.add(cast(Any, attempt))
        return attempt

    def note_and_wait(self, what: str, gate: threading.Event) -> None:
        self.note(what)
        assert gate.wait(WAIT_S)

    def ask(self, name: str, turns: list[Turn]) -> None:
        """What a handler does that saves a step."""
        turn = self.crew.waiter()
        assert isinstance(turn, Turn)
        turns.append(turn)
        self.note(f"{name} asks")
        turn.wait(lambda: pytest.fail("it is the crew that sends"))
        self.note(f"{name} goes on")


@pytest.fixture
def story(monkeypatch: pytest.MonkeyPatch) -> Story:
    return Story(monkeypatch)


def test_a_single_run_is_begun_and_what_it_asks_leaves_at_once(story: Story) -> None:
    story.add(lambda: story.note("a"))

    assert not story.crew.go(), "nobody needs to look after it"

    story.until("a", "freed", "sent")


def test_quick_runs_go_one_after_the_other_in_one_thread_and_leave_in_one_piece(story: Story) -> None:
    attempts = [story.add(lambda: story.note("ran")) for _ in range(5)]

    story.crew.go()

    story.until(*["ran", "freed"] * 5, "sent")
    assert len({attempt.thread_id for attempt in attempts}) == 1


def test_who_waits_for_the_engine_hands_the_turn_on_and_the_last_one_sends(story: Story) -> None:
    turns: list[Turn] = []
    for name in ("a", "b", "c"):
        story.add(partial(story.ask, name, turns))
    story.crew.go()
    story.until("a asks", "b asks", "c asks", "sent")

    for turn in turns:
        turn({"status": "ok", "data": None})
    story.crew.go()

    story.until(
        "a asks", "b asks", "c asks", "sent",
        "a goes on", "freed", "b goes on", "freed", "c goes on", "freed", "sent",
    )  # fmt: skip


def test_a_run_that_takes_long_holds_the_others_up_until_the_reader_has_looked(story: Story) -> None:
    gate = threading.Event()
    story.add(partial(story.note_and_wait, "slow", gate))
    for name in ("b", "c"):
        story.add(partial(story.note_and_wait, name, gate))
    assert story.crew.go()
    story.until("slow")

    assert not story.crew.look()

    story.until_in("b")
    story.until_in("c")
    gate.set()
    story.until_in("freed", 3)


def test_after_a_batch_that_was_slow_the_next_ones_do_not_line_up(story: Story) -> None:
    gate = threading.Event()
    begun = threading.Barrier(4)
    for _ in range(2):
        story.add(lambda: gate.wait(WAIT_S))
    story.crew.go()
    story.crew.look()

    for _ in range(3):
        story.add(lambda: begun.wait(WAIT_S))
    assert not story.crew.go()

    begun.wait(WAIT_S)  # all three run at once
    gate.set()
    story.until_in("freed", 5)


def test_the_turn_is_tried_again_after_some_batches(story: Story) -> None:
    gate = threading.Event()
    for _ in range(2):
        story.add(lambda: gate.wait(WAIT_S))
    story.crew.go()
    story.crew.look()
    gate.set()
    story.until_in("freed", 2)
    story.add(lambda: None)
    story.crew.go()
    story.until_in("freed", 3)
    story.done.clear()

    for _ in range(3):
        story.add(lambda: story.note("ran"))
    story.crew.go()

    story.until("ran", "freed", "ran", "freed", "ran", "freed", "sent")


def test_many_quick_ones_keep_their_turn_however_long_all_of_them_take(story: Story) -> None:
    steps = [threading.Event() for _ in range(8)]
    for step in steps:
        story.add(partial(story.note_and_wait, "began", step))
    assert story.crew.go()
    for index in range(4):
        story.until_in("began", index + 1)
        steps[index].set()
    story.until_in("began", 5)

    assert story.crew.look(), "four have had the turn since the last look"

    assert story.done.count("began") == 5
    assert not story.crew.look(), "now it is one that waits for something"
    story.until_in("began", 8)
    for step in steps:
        step.set()
    story.until_in("freed", 8)


def test_a_thread_that_never_comes_back_holds_up_no_later_batch(story: Story) -> None:
    gate = threading.Event()
    for _ in range(2):
        story.add(lambda: gate.wait(WAIT_S))
    story.crew.go()
    story.crew.look()
    for _ in range(40):
        story.done.clear()
        for _ in range(2):
            story.add(lambda: story.note("ran"))
        story.crew.go()
        story.until_in("freed", 2)
    gate.set()


def test_a_bug_of_ours_ends_its_run_and_not_its_thread(story: Story) -> None:
    story.add(lambda: 1 // 0)
    story.add(lambda: story.note("next"))

    story.crew.go()

    story.until("freed", "next", "freed", "sent")
    assert [type(error) for error in story.errors] == [ZeroDivisionError]


def test_a_thread_that_is_not_of_the_crew_waits_for_itself(story: Story) -> None:
    waiter = story.crew.waiter()
    waiter({"status": "ok", "data": 7})

    assert waiter.wait(lambda: story.note("sent by itself")) == 7
    assert story.done == ["sent by itself"]
