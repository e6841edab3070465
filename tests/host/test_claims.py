"""Claims that wait, and runs that become ready."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, cast

import pytest

from tako.engine.answer import Answer
from tako.host.claims import Claims, Want
from tako.protocol.messages import ClaimedRun


def run(name: str) -> ClaimedRun:
    return cast(ClaimedRun, {"id": name})


class Store:
    """Hands out what the test puts in; a claim is answered when the test says so."""

    def __init__(self) -> None:
        self.ready: list[ClaimedRun] = []
        self.asked: list[tuple[Answer[list[ClaimedRun]], int]] = []
        self.claimed: list[tuple[str, list[ClaimedRun]]] = []

    def claim(self, group: str, worker_id: str, max_runs: int, solo: bool) -> Answer[list[ClaimedRun]]:
        answer: Answer[list[ClaimedRun]] = Answer()
        self.asked.append((answer, max_runs))
        return answer

    def answer(self) -> None:
        answer, max_runs = self.asked.pop(0)
        taken, self.ready = self.ready[:max_runs], self.ready[max_runs:]
        answer.set_result(taken)

    def on_claimed(self, want: Want, claimed: list[ClaimedRun]) -> None:
        self.claimed.append((want.worker_id, claimed))


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def claims(store: Store) -> Claims:
    return Claims(claim=store.claim, on_claimed=store.on_claimed)


async def turns(count: int = 3) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def ask(claims: Claims, worker_id: str = "w1", **kwargs: Any) -> Answer[list[ClaimedRun]]:
    options: dict[str, Any] = {"max_runs": 1, "wait_s": 60.0, "solo": False, **kwargs}
    return claims.ask(group="default", worker_id=worker_id, **options)


def test_a_claim_that_finds_runs_is_answered_at_once(
    loop: asyncio.AbstractEventLoop, claims: Claims, store: Store
) -> None:
    async def story() -> None:
        store.ready = [run("a")]
        answer = ask(claims)
        store.answer()
        assert await answer == [run("a")]
        assert store.claimed == [("w1", [run("a")])]

    loop.run_until_complete(story())


def test_a_claim_that_finds_nothing_is_answered_by_what_becomes_ready_later(
    loop: asyncio.AbstractEventLoop, claims: Claims, store: Store
) -> None:
    async def story() -> None:
        answer = ask(claims)
        store.answer()
        await turns()
        assert claims.waiting("default") == 1

        store.ready = [run("a")]
        assert claims.ready("default", solo=False)
        store.answer()
        assert await answer == [run("a")]

    loop.run_until_complete(story())


def test_ready_without_a_waiting_claim_says_that_somebody_must_be_woken(
    loop: asyncio.AbstractEventLoop, claims: Claims
) -> None:
    async def story() -> None:
        assert not claims.ready("default", solo=False)

    loop.run_until_complete(story())


def test_what_became_ready_while_a_claim_was_with_the_writer_is_not_missed(
    loop: asyncio.AbstractEventLoop, claims: Claims, store: Store
) -> None:
    async def story() -> None:
        answer = ask(claims)
        assert not claims.ready("default", solo=False)
        store.answer()
        await turns()
        assert not answer.done()

        store.ready = [run("a")]
        store.answer()
        assert await answer == [run("a")]

    loop.run_until_complete(story())


def test_a_claim_that_took_all_it_could_lets_the_next_worker_look(
    loop: asyncio.AbstractEventLoop, claims: Claims, store: Store
) -> None:
    async def story() -> None:
        first, second = ask(claims, "w1"), ask(claims, "w2")
        store.answer()
        store.answer()
        await turns()

        store.ready = [run("a"), run("b")]
        claims.ready("default", solo=False)
        store.answer()
        assert await first == [run("a")]
        store.answer()
        assert await second == [run("b")]

    loop.run_until_complete(story())


def test_a_claim_that_is_under_way_when_its_worker_goes_does_not_claim_again(
    loop: asyncio.AbstractEventLoop, claims: Claims, store: Store
) -> None:
    async def story() -> None:
        answer = ask(claims)
        claims.dismiss("w1")  # its exit was seen; what it held is released by the next transaction
        store.ready = [run("a")]
        claims.ready("default", solo=False)
        store.asked[0][0].set_result([])  # decided before the run came back
        assert await answer == []
        await turns()

        assert len(store.asked) == 1
        assert claims.waiting("default") == 0

    loop.run_until_complete(story())


def test_a_claim_that_does_not_wait_is_answered_with_nothing(
    loop: asyncio.AbstractEventLoop, claims: Claims, store: Store
) -> None:
    async def story() -> None:
        answer = ask(claims, wait_s=0.0)
        store.answer()
        assert await answer == []

    loop.run_until_complete(story())


def test_a_dismissed_worker_waits_no_longer(loop: asyncio.AbstractEventLoop, claims: Claims, store: Store) -> None:
    async def story() -> None:
        answer = ask(claims)
        store.answer()
        await turns()
        claims.dismiss("w1")
        assert await answer == []
        assert not claims.ready("default", solo=False)

    loop.run_until_complete(story())


def test_solo_claims_and_ordinary_ones_do_not_meet(
    loop: asyncio.AbstractEventLoop, claims: Claims, store: Store
) -> None:
    async def story() -> None:
        ask(claims)
        store.answer()
        await turns()
        assert not claims.ready("default", solo=True)
        claims.stop()

    loop.run_until_complete(story())
