"""What the writer will say."""

from __future__ import annotations

import asyncio

import pytest

from tako.engine.answer import Answer


def test_who_waits_is_told_at_once_and_in_order() -> None:
    answer: Answer[int] = Answer()
    told: list[tuple[str, int]] = []
    answer.then(lambda found: told.append(("first", found.result())))
    answer.then(lambda found: told.append(("second", found.result())))
    assert not answer.done()

    answer.set_result(7)

    assert told == [("first", 7), ("second", 7)]
    answer.then(lambda found: told.append(("late", found.result())))
    assert told[-1] == ("late", 7)


def test_it_can_be_awaited_before_and_after_it_is_there() -> None:
    async def story() -> None:
        answer: Answer[str] = Answer()
        asyncio.get_running_loop().call_soon(answer.set_result, "here")
        assert await answer == "here"
        assert await answer == "here"

    asyncio.run(story())


def test_an_error_reaches_who_awaits_and_whoever_asked_for_it_in_another_shape() -> None:
    async def story() -> None:
        answer: Answer[int] = Answer()
        shaped = answer.shaped(lambda found: found + 1)
        answer.set_exception(ZeroDivisionError())
        for failed in (answer, shaped):
            with pytest.raises(ZeroDivisionError):
                await failed

    asyncio.run(story())


def test_a_shape_that_fails_is_the_error_of_the_shaped_answer_alone() -> None:
    answer: Answer[int] = Answer()
    shaped = answer.shaped(lambda found: 1 // found)

    answer.set_result(0)

    assert answer.result() == 0
    assert isinstance(shaped.error(), ZeroDivisionError)


def test_who_stops_waiting_does_not_disturb_the_others() -> None:
    async def story() -> None:
        answer: Answer[int] = Answer()

        async def wait() -> int:
            return await answer

        gone, stays = asyncio.ensure_future(wait()), asyncio.ensure_future(wait())
        await asyncio.sleep(0)
        gone.cancel()
        answer.set_result(3)
        assert await stays == 3

    asyncio.run(story())
