from __future__ import annotations

import asyncio

import pytest

import tako
from tako import AsyncContext, Context, Retry, workflow
from tako.testing import Engine, NeverReached


class Provider:
    """Charges once a key, as payment providers do."""

    def __init__(self) -> None:
        self.calls = 0
        self.keys: set[str] = set()

    def charge(self, key: str) -> str:
        self.calls += 1
        self.keys.add(key)
        return f"receipt {len(self.keys)}"

    @property
    def charges(self) -> int:
        return len(self.keys)


@pytest.fixture
def provider() -> Provider:
    return Provider()


# --- crash ---


def test_a_crash_repeats_the_body_with_the_same_key_and_happens_once(engine: Engine, provider: Provider) -> None:
    @workflow
    def fulfil(ctx: Context, order_id: int) -> str:
        return ctx.step("charge", provider.charge, f"{ctx.run_id}:charge")

    with engine.crash(after="charge") as crash:
        run = fulfil.enqueue(order_id=1)
        engine.drain()
        assert (provider.calls, run.status(), run.steps()) == (1, "pending", [])
    engine.drain()

    assert run.result() == "receipt 1"
    assert (provider.calls, provider.charges, crash.reached) == (2, 1, 1)


def test_a_crash_takes_an_async_handler_too(engine: Engine, provider: Provider) -> None:
    async def charge(key: str) -> str:
        return provider.charge(key)

    @workflow
    async def fulfil(ctx: AsyncContext) -> str:
        return await ctx.step("charge", charge, f"{ctx.run_id}:charge")

    async def story() -> str:
        with engine.crash(after="charge"):
            run = await fulfil.aenqueue()
            await engine.adrain()
            assert provider.calls == 1
        await engine.adrain()
        return await run.aresult()

    assert asyncio.run(story()) == "receipt 1"
    assert (provider.calls, provider.charges) == (2, 1)


def test_steps_before_the_crash_are_not_repeated(engine: Engine) -> None:
    seen: list[str] = []

    @workflow
    def three(ctx: Context) -> None:
        for name in "abc":
            ctx.step(name, seen.append, name)

    with engine.crash(after="b"):
        run = three.enqueue()
        run.result()  # a result drains until there is nothing to do, crash or not

    assert seen == ["a", "b", "b", "c"]


def test_three_crashes_at_one_place_are_the_end_of_a_run(engine: Engine) -> None:
    @workflow
    def poison(ctx: Context) -> None:
        ctx.step("drink", lambda: None)

    run = poison.enqueue()
    for _ in range(3):
        with engine.crash(after="drink"):
            engine.drain()

    assert run.status() == "dead"
    assert run.error == "worker died 3 times running it (killed behind step 'drink' by engine.crash)"


def test_a_crash_spends_no_retry_and_takes_no_other_run_with_it(engine: Engine) -> None:
    seen: list[str] = []

    @workflow(retries=0)
    def inner(ctx: Context) -> str:
        seen.append("inner")
        return ctx.step("work", lambda: "done")

    @workflow(retries=0)
    def outer(ctx: Context) -> str:
        seen.append("outer")
        return ctx.step("wait", lambda: inner.enqueue().result())

    with engine.crash(after="work"):
        assert outer.enqueue().result() == "done"

    assert seen == ["outer", "inner", "inner"]


def test_a_crash_may_be_planned_for_one_workflow(engine: Engine) -> None:
    @workflow
    def first(ctx: Context) -> str:
        return ctx.step("work", lambda: "first")

    @workflow
    def second(ctx: Context) -> str:
        return ctx.step("work", lambda: "second")

    with engine.crash(after="work", workflow=second):
        runs = [first.enqueue(), second.enqueue()]
        engine.drain()
        assert [run.status() for run in runs] == ["succeeded", "pending"]
    engine.drain()

    assert runs[1].status() == "succeeded"


def test_an_item_of_a_map_crashes_by_the_name_of_the_map_or_by_its_own(engine: Engine) -> None:
    seen: list[int] = []

    @workflow
    def all_of_them(ctx: Context) -> None:
        ctx.map("item", seen.append, [1, 2, 3])

    with engine.crash(after="item[1]"):
        all_of_them.enqueue()
        engine.drain()
    engine.drain()
    assert seen == [1, 2, 2, 3]

    with engine.crash(after="item"):
        all_of_them.enqueue()
        engine.drain()
    engine.drain()
    assert seen == [1, 2, 2, 3, 1, 1, 2, 3]


# --- fail ---


def test_a_step_fails_as_often_as_planned_with_the_planned_error(engine: Engine) -> None:
    calls: list[int] = []

    def send() -> str:
        calls.append(1)
        return "sent"

    @workflow
    def mail(ctx: Context) -> str:
        return ctx.step("send", send, retries=2)

    with engine.fail(step="send", times=2, error=TimeoutError("no answer")) as fail:
        assert mail.enqueue().result() == "sent"

    assert (len(calls), fail.reached) == (1, 2)


def test_a_failed_step_fails_the_attempt_and_the_next_one_obeys_the_clock(engine: Engine) -> None:
    @workflow(retries=Retry(1, first="1m", jitter=0))
    def mail(ctx: Context) -> str:
        return ctx.step("send", lambda: "sent")

    engine.fail(step="send", error=TimeoutError("no answer"))
    run = mail.enqueue()
    engine.drain()
    assert (run.status(), run.error) == ("pending", "TimeoutError: no answer")

    engine.advance("1m")

    assert run.result() == "sent"


def test_a_step_may_fail_always_and_an_error_may_be_a_class_or_none_at_all(engine: Engine) -> None:
    @workflow(retries=0)
    def mail(ctx: Context) -> None:
        ctx.step("send", lambda: None)

    with engine.fail(step="send", times=None):
        runs = mail.enqueue_many([{}, {}])
        engine.drain()
    with engine.fail(step="send", error=tako.Fatal):
        runs.append(mail.enqueue())
        engine.drain()

    assert [run.error for run in runs] == [*["RuntimeError: engine.fail(step='send')"] * 2, "tako.errors.Fatal"]
    with pytest.raises(ValueError, match="times"):
        engine.fail(step="send", times=0)


def test_an_async_step_fails_too(engine: Engine) -> None:
    async def send() -> str:
        return "sent"

    @workflow
    async def mail(ctx: AsyncContext) -> str:
        return await ctx.step("send", send, retries=1)

    with engine.fail(step="send", error=ConnectionError) as fail:
        assert mail.enqueue().result() == "sent"

    assert fail.reached == 1


def test_a_handler_can_meet_the_planned_error(engine: Engine) -> None:
    @workflow
    def mail(ctx: Context) -> str:
        try:
            return ctx.step("send", lambda: "sent")
        except ConnectionError:
            return "not sent"

    with engine.fail(step="send", error=ConnectionError("cut"), workflow="mail"):
        assert mail.enqueue().result() == "not sent"


# --- never reached ---


def test_a_fault_that_is_never_reached_is_an_error_that_names_the_steps_there_were(engine: Engine) -> None:
    @workflow
    def mail(ctx: Context) -> None:
        ctx.step("send", lambda: None)
        ctx.step("note", lambda: None)

    with (
        pytest.raises(NeverReached, match=r"engine\.crash\(after='sent'\) was never reached.*: 'send', 'note'\."),
        engine.crash(after="sent"),
    ):
        mail.enqueue()
        engine.drain()
    with pytest.raises(NeverReached, match="none"), engine.fail(step="send", workflow="post"):
        mail.enqueue()
        engine.drain()


def test_the_error_of_the_block_is_not_hidden_by_a_fault_that_was_never_reached(engine: Engine) -> None:
    with pytest.raises(ValueError, match="mine"), engine.crash(after="send"):
        raise ValueError("mine")


def test_without_pytest_the_end_of_the_block_asks_for_faults_that_never_came() -> None:
    with pytest.raises(NeverReached, match="send"), Engine() as engine:
        engine.fail(step="send")


# --- unhealthy ---


def test_an_unhealthy_group_refuses_with_the_promised_sentence_and_stores_nothing(engine: Engine) -> None:
    @workflow(group="mail")
    def mail(ctx: Context) -> None: ...

    @workflow
    def other(ctx: Context) -> str:
        return "done"

    with engine.unhealthy("mail"):
        with pytest.raises(tako.WorkerUnhealthy) as refused:
            mail.enqueue()
        assert other.enqueue().result() == "done"

    assert str(refused.value).startswith(
        "worker unhealthy: worker exited with status 1 after 84ms without claiming any runs\n"
    )
    assert (refused.value.group, refused.value.exit_code, refused.value.retry_after) == ("mail", 1, 1.0)
    assert list(tako.runs(workflow=mail)) == []
    assert mail.enqueue().result() is None


def test_a_held_run_is_blocked_until_the_group_is_mended(engine: Engine) -> None:
    @workflow
    def mail(ctx: Context) -> str:
        return "sent"

    outage = engine.unhealthy()
    run = mail.using(if_unhealthy="hold").enqueue()
    engine.drain()
    assert run.status() == "blocked"
    with pytest.raises(TimeoutError, match="it is blocked"):
        run.result()
    outage.end()

    assert run.result() == "sent"


def test_what_is_asked_for_by_retry_is_stored_while_unhealthy(engine: Engine) -> None:
    @workflow(retries=0)
    def mail(ctx: Context) -> None:
        raise ValueError

    run = mail.enqueue()
    engine.drain()
    with engine.unhealthy():
        run.retry()
        assert run.status() == "blocked"
