"""Commands that are many requests in one line."""

from __future__ import annotations

from typing import Any

import pytest

from tako.engine.answer import Answer
from tako.errors import InvalidRequest, LeaseLost
from tako.host.each import each
from tako.rpc.connection import Message

LOST = LeaseLost("stale worker")


class Story:
    """A handler that refuses `bad`, breaks at `bug`, and answers all others later."""

    def __init__(self) -> None:
        self.waiting: dict[str, Answer[Any]] = {}

    def handle(self, message: Message) -> Answer[Any]:
        if message["id"] == "bad":
            raise InvalidRequest("invalid request: `id` is a text")
        if message["id"] == "bug":
            raise ZeroDivisionError
        return self.waiting.setdefault(message["id"], Answer())

    def ask(self, *names: str, requests: object = None) -> Answer[Any]:
        numbers = list(range(len(names))) if requests is None else requests
        return each({"requests": numbers, "runs": [{"id": name} for name in names]}, "runs", self.handle)


def test_the_answer_is_there_when_the_last_outcome_is() -> None:
    story = Story()
    answer = story.ask("a", "b")

    story.waiting["b"].set_result("done")
    assert not answer.done()
    story.waiting["a"].set_result("done")

    assert answer.result().outcomes == [None, None]


def test_what_is_refused_does_not_stop_the_others() -> None:
    story = Story()
    answer = story.ask("a", "bad", "b", "bug")

    story.waiting["a"].set_exception(LOST)
    story.waiting["b"].set_result("done")

    refused, invalid, done, bug = answer.result().outcomes
    assert refused is LOST
    assert isinstance(invalid, InvalidRequest)
    assert done is None
    assert isinstance(bug, ZeroDivisionError)


def test_if_all_are_refused_the_answer_is_there_at_once() -> None:
    assert [type(one) for one in Story().ask("bad", "bad").result().outcomes] == [InvalidRequest, InvalidRequest]


@pytest.mark.parametrize(("names", "requests"), [(("a", "b"), [1]), (("a",), [1, 2]), ((), [1]), ((), [])])
def test_each_has_a_number(names: tuple[str, ...], requests: list[int]) -> None:
    story = Story()

    with pytest.raises(InvalidRequest, match="a number for each"):
        story.ask(*names, requests=requests)
    assert story.waiting == {}
