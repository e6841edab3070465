"""Places, the claims that fill them, and the runs that are claimed ahead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest

from tako.worker import claims as claims_module
from tako.worker.claims import Claims

Message = dict[str, Any]


class Attempt:
    began = 0.0

    def __init__(self, name: str) -> None:
        self.name = name


class Story:
    """Claims of a worker with three places, on a clock of the test's."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(claims_module, "monotonic", lambda: self.now)
        self.asked: list[int] = []
        self.answers: list[Callable[[Message], None]] = []
        self.sent = 0
        self.started: list[Attempt] = []
        self.given_back: list[str] = []
        self.claims = Claims(
            worker_id="w1",
            places=3,
            connection=cast(Any, self),
            begin=lambda claimed: self.claims.place(cast(Any, Attempt(claimed["id"]))),
            start=lambda attempt: self.started.append(cast(Any, attempt)),
            give_back=lambda ahead: self.given_back.extend(cast(Any, one).name for one in ahead),
            on_empty=lambda: None,
            later=lambda delay_s, call: None,
            log=lambda *words, **fields: None,
        )
        self.claims.resume()

    # --- what stands for the connection ---

    def ask(self, fields: Message, on_reply: Callable[[Message], None]) -> None:
        assert fields["command"] == "claim_runs"
        self.asked.append(fields["max"])
        self.answers.append(on_reply)

    def flush(self) -> None:
        self.sent += 1

    # --- what happens ---

    def answer(self, *names: str) -> None:
        self.answers.pop(0)({"status": "ok", "data": {"runs": [{"id": name} for name in names]}})

    def end_first(self, *, after_s: float = 0.001) -> None:
        self.now += after_s
        self.claims.freed(cast(Any, self.started.pop(0)))

    def be_quick(self) -> None:
        """Enough handlers return at once."""
        for n in range(100):
            self.answer(f"warm-{n}")
            self.end_first(after_s=0.0)
            self.claims.flush()
        assert self.asked[-1] == 3, "nothing runs, so nothing is claimed ahead"
        self.asked.clear()

    @property
    def names(self) -> list[str]:
        return [attempt.name for attempt in self.started]


@pytest.fixture
def story(monkeypatch: pytest.MonkeyPatch) -> Story:
    return Story(monkeypatch)


def test_a_claim_is_for_all_free_places(story: Story) -> None:
    assert story.asked == [3]


def test_what_ended_until_something_is_sent_makes_up_one_claim(story: Story) -> None:
    story.answer("a", "b", "c")
    story.end_first()
    story.end_first()
    assert story.asked == [3]

    story.claims.flush()

    assert story.asked == [3, 2]


def test_slow_handlers_claim_nothing_ahead(story: Story) -> None:
    story.answer("a", "b", "c")
    for _ in range(2):
        story.end_first(after_s=1.0)
    story.claims.flush()

    assert story.asked == [3, 2]


def test_quick_ones_claim_as_many_ahead_as_there_are_places(story: Story) -> None:
    story.be_quick()
    story.answer("a", "b", "c")
    story.claims.flush()

    assert story.asked == [3]
    story.answer("d", "e", "f")
    assert story.names == ["a", "b", "c"]
    story.claims.flush()
    assert story.asked == [3], "and no more than that"


def test_a_run_ahead_begins_when_a_place_gets_free(story: Story) -> None:
    for name in "abcde":
        story.claims.place(cast(Any, Attempt(name)))
    assert story.names == ["a", "b", "c"]

    story.end_first()

    assert story.names == ["b", "c", "d"]
    assert story.given_back == []


def test_what_has_ended_is_sent_while_runs_ahead_go_on(story: Story) -> None:
    for name in "abcdefgh":
        story.claims.place(cast(Any, Attempt(name)))
    sent = story.sent

    for _ in range(3):
        story.end_first()

    assert story.sent == sent + 1, "once for each three, as many as there are places"


def test_runs_ahead_are_given_back_when_no_place_gets_free(story: Story) -> None:
    for name in "abcde":
        story.claims.place(cast(Any, Attempt(name)))
    story.end_first()
    assert story.claims.look(), "it is looked after"

    story.now += 0.004
    assert story.claims.look()
    story.now += 0.002
    assert not story.claims.look()

    assert story.given_back == ["e"]
    assert story.names == ["b", "c", "d"]


def test_whoever_pauses_holds_nothing_that_has_not_begun(story: Story) -> None:
    for name in "abcde":
        story.claims.place(cast(Any, Attempt(name)))

    story.claims.pause()

    assert story.given_back == ["d", "e"]
    assert story.names == ["a", "b", "c"]


def test_after_runs_were_given_back_none_are_claimed_ahead_until_handlers_are_quick_again(story: Story) -> None:
    story.be_quick()
    story.answer("a", "b", "c")
    story.claims.flush()
    story.answer("d", "e")
    story.now += 1.0
    assert not story.claims.look()
    assert story.given_back == ["d", "e"]

    story.claims.flush()

    assert story.asked == [3], "that of before"
