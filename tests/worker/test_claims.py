"""Places, the claims that fill them, and the runs that are claimed ahead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest

from tako.worker import claims as claims_module
from tako.worker.claims import Claims

Message = dict[str, Any]


class Attempt:
    began = waited_s = 0.0

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
        self.owed = 0  # to handlers, by the engine
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

    def owes(self, count: int) -> bool:
        return self.owed >= count

    # --- what happens ---

    def answer(self, *names: str) -> None:
        self.answers.pop(0)({"status": "ok", "data": {"runs": [{"id": name} for name in names]}})

    def end_first(self, *, after_s: float = 0.001) -> None:
        self.now += after_s
        self.claims.freed(cast(Any, self.started.pop(0)))

    def be_quick(self) -> None:
        """Enough handlers return at once; then a claim for the three places waits, as in an idle worker."""
        for n in range(100):
            self.claims.place(cast(Any, Attempt(f"warm-{n}")))
            self.end_first(after_s=0.0)
            self.claims.took()
        self.now += 1.0
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


def test_quick_ones_claim_three_times_as_many_ahead_as_there_are_places(story: Story) -> None:
    story.be_quick()
    story.answer("a", "b", "c")
    story.claims.flush()

    assert story.asked == [9]
    story.answer(*"defghijkl")
    assert story.names == ["a", "b", "c"]
    story.claims.flush()
    assert story.asked == [9], "and no more than that"


def test_fewer_are_claimed_ahead_the_longer_handlers_take(story: Story) -> None:
    story.answer("a", "b", "c")
    for n in range(100):
        story.end_first(after_s=0.001)  # each has been running for three times as long
        story.claims.place(cast(Any, Attempt(f"next-{n}")))
        story.claims.took()
    story.claims.flush()

    assert story.asked == [3, 3]


def test_what_a_handler_waits_for_the_engine_does_not_make_it_slow(story: Story) -> None:
    story.be_quick()
    story.answer("a", "b", "c")
    for _ in range(50):
        waiting = story.started[0]
        waiting.waited_s = 0.06
        story.end_first(after_s=0.02)
        story.claims.place(cast(Any, waiting))
        story.claims.took()
    story.claims.flush()

    assert story.asked == [9]


def test_who_has_had_nothing_to_do_claims_for_its_places_alone(story: Story) -> None:
    story.be_quick()
    story.answer()

    story.claims.flush()

    assert story.asked == [3]


def test_beside_a_claim_that_is_under_way_only_one_for_half_of_all_is_made(story: Story) -> None:
    story.be_quick()
    story.answer("a", "b", "c")
    story.claims.flush()
    story.end_first(after_s=0.0)
    story.claims.flush()
    assert story.asked == [9]

    story.answer(*"defghijkl")
    for _ in range(5):
        story.end_first(after_s=0.0)
    story.claims.flush()

    assert story.asked == [9, 6]


def test_a_run_ahead_begins_when_a_place_gets_free(story: Story) -> None:
    for name in "abcde":
        story.claims.place(cast(Any, Attempt(name)))
    assert story.names == ["a", "b", "c"]

    story.end_first()

    assert story.names == ["b", "c", "d"]
    assert story.given_back == []


def test_what_has_ended_is_sent_while_runs_ahead_go_on(story: Story) -> None:
    for n in range(12):
        story.claims.place(cast(Any, Attempt(str(n))))
    sent = story.sent

    for _ in range(6):
        story.end_first()

    assert story.sent == sent + 1, "once for half of what is held at most"


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


def test_runs_ahead_are_kept_while_all_that_run_wait_for_the_engine(story: Story) -> None:
    for name in "abcde":
        story.claims.place(cast(Any, Attempt(name)))
    story.owed = 3
    story.now += 1.0
    assert story.claims.look(), "another worker would wait for it too"

    story.owed = 2

    assert not story.claims.look()
    assert story.given_back == ["d", "e"]


def test_a_handler_with_many_steps_does_not_keep_runs_ahead_from_those_who_have_a_place(story: Story) -> None:
    for name in "abcd":
        story.claims.place(cast(Any, Attempt(name)))
    for _ in range(12):
        story.now += 0.004
        assert story.claims.answered()

    story.now += 0.004

    assert not story.claims.answered()
    assert story.given_back == ["d"]


def test_a_batch_that_comes_after_a_long_wait_is_not_given_back_at_once(story: Story) -> None:
    story.be_quick()
    story.now += 60.0

    story.answer("a", "b", "c", "d")

    assert story.claims.answered()
    assert story.given_back == []


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

    assert story.asked == [9], "that of before"
