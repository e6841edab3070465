"""Contexts check what they are given and hand it to a Runner; `run_inline` is the smallest Runner."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tako import AsyncContext, Context, Retry, Run, RunFailed, Signal, SignalTimeout, StepError, workflow
from tako.sdk.context import Stop
from tako.sdk.runner import NO_OPTIONS, StepOptions


class Recorder:
    """A Runner that writes down what it is asked for."""

    log = None

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Callable[..., str]:
        def note(*args: Any, **kwargs: Any) -> str:
            self.asked.append((name, *args, kwargs))
            return "answer"

        return note


@pytest.fixture
def runner() -> Recorder:
    return Recorder()


@pytest.fixture(params=[Context, AsyncContext])
def ctx(request: pytest.FixtureRequest, runner: Recorder) -> Any:
    return request.param(runner, run_id="r1", workflow="charge", attempt=2, key="k")


def add(a: int, b: int = 0) -> int:
    return a + b


def slow(timeout: int) -> int:
    return timeout


def test_a_context_tells_which_run_it_is_of(ctx: Any) -> None:
    assert (ctx.run_id, ctx.workflow, ctx.attempt, ctx.key, ctx.scheduled_for) == ("r1", "charge", 2, "k", None)
    assert repr(ctx) == f"<{type(ctx).__name__} of charge r1, attempt 2>"


def test_the_scheduled_time_is_told_in_the_zone_of_the_schedule() -> None:
    ctx = Context(
        Recorder(), run_id="r", workflow="w", attempt=1, scheduled_for_ms=1_767_225_600_000, zone="Asia/Tokyo"
    )

    assert str(ctx.scheduled_for) == "2026-01-01 09:00:00+09:00"


def test_a_step_is_handed_on_as_it_came(ctx: Any, runner: Recorder) -> None:
    assert ctx.step("add", add, 1, 2) == "answer"

    assert runner.asked == [("step", "add", add, (1, 2), NO_OPTIONS, {})]


def test_options_of_a_step_are_checked_and_told_in_milliseconds(ctx: Any, runner: Recorder) -> None:
    ctx.step("add", add, 1, retries=3, timeout="30s", returns=float)
    ctx.step("add", add, 1, retries=Retry(1, first="5s"))

    first, second = (asked[4] for asked in runner.asked)
    assert (first.retry, first.timeout_ms(None), first.returns) == (Retry(3), 30_000, float)
    assert second.retry == Retry(1, first="5s")


def test_a_step_without_a_timeout_has_that_of_its_workflow() -> None:
    class Attempt:
        class workflow:
            step_timeout_ms = 3_600_000

    assert StepOptions().timeout_ms(Attempt) == 3_600_000


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda ctx: ctx.step("", add), "expected a step's name"),
        (lambda ctx: ctx.step(add, "add"), "expected a step's name"),
        (lambda ctx: ctx.step("a\nb", add), "printable characters"),
        (lambda ctx: ctx.step("x" * 201, add), "1 to 200"),
        (lambda ctx: ctx.step("add", add(1)), "expected a function to call, found int"),
        (lambda ctx: ctx.step("add", add, retries=-1), "retries: expected"),
        (lambda ctx: ctx.step("add", add, timeout="x"), "timeout: expected"),
        (lambda ctx: ctx.step("slow", slow, timeout=5), "timeout= could be meant for the step or for slow"),
        (lambda ctx: ctx.map("m", add, [1], limit=0), "limit: expected"),
        (lambda ctx: ctx.wait_for("shipped", timeout=1), "expected a Signal"),
        (lambda ctx: ctx.wait_for(Signal("s"), timeout="x"), "wait_for 's': expected a duration"),
    ],
)
def test_what_cannot_be_a_step_is_an_error_at_once(ctx: Any, runner: Recorder, call: Any, error: str) -> None:
    with pytest.raises(StepError, match=error):
        call(ctx)
    assert not runner.asked


def test_partial_says_that_a_keyword_is_the_functions(ctx: Any, runner: Recorder) -> None:
    ctx.step("slow", functools.partial(slow, timeout=3), timeout="30s")

    assert runner.asked[0][4].timeout_ms(None) == 30_000


def test_map_sleep_and_wait_are_handed_on_in_milliseconds(ctx: Any, runner: Recorder) -> None:
    ctx.map("m", add, [1, 2], limit=3, return_exceptions=True)
    ctx.sleep("nap", "10m")
    ctx.sleep_until("noon", datetime(2026, 1, 1, tzinfo=UTC))
    ctx.wait_for(Signal("s", int), timeout=timedelta(days=1), default=None)
    ctx.wait_for(Signal("s", int), timeout=None)

    asked = runner.asked
    assert asked[0] == ("map", "m", add, [1, 2], NO_OPTIONS, {"limit": 3, "return_exceptions": True})
    assert asked[1] == ("sleep", "nap", 600_000, {})
    assert asked[2] == ("sleep_until", "noon", 1_767_225_600_000, {})
    assert asked[3][:3] == ("wait_for", "s", 86_400_000)
    assert asked[4][:3] == ("wait_for", "s", None)


def test_a_wait_decodes_its_signal_and_knows_what_a_timeout_means(ctx: Any, runner: Recorder) -> None:
    ctx.wait_for(Signal("s", datetime), timeout=1, default="late")
    ctx.wait_for(Signal("s", datetime), timeout=1)

    with_default, without = (asked[3] for asked in runner.asked)
    assert with_default('"2026-01-01T00:00:00+00:00"') == datetime(2026, 1, 1, tzinfo=UTC)
    assert with_default(None) == "late"
    with pytest.raises(SignalTimeout, match="no signal 's' came"):
        without(None)


def test_stop_is_an_exception_to_raise(ctx: Any) -> None:
    error = ctx.stop("withdrawn")

    assert isinstance(error, Stop)
    assert error.reason == "withdrawn"


# --- run_inline -----------------------------------------------------------------------------------------------------


@workflow
def total(ctx: Context, prices: list[int]) -> int:
    ctx.sleep("a while", "7d")
    doubled = ctx.map("double", lambda price: price * 2, prices)
    return ctx.step("sum", sum, doubled)


@workflow
async def atotal(ctx: AsyncContext, prices: list[int]) -> int:
    await ctx.sleep("a while", "7d")

    async def double(price: int) -> int:
        return price * 2

    doubled = await ctx.map("double", double, prices)
    child = await ctx.start("child", total, prices)
    return await ctx.step("sum", sum, doubled) + sum(await ctx.gather(child))


def test_run_inline_runs_steps_and_does_not_wait() -> None:
    assert total.run_inline([1, 2]) == 6
    assert total.run_inline(prices=[1]) == 2


def test_run_inline_of_an_async_handler_makes_its_own_loop_or_is_awaited() -> None:
    async def main() -> int:
        with pytest.raises(RuntimeError, match=r"await atotal\.arun_inline"):
            atotal.run_inline([1])
        return await atotal.arun_inline([1])

    assert atotal.run_inline([1, 2]) == 12
    assert asyncio.run(main()) == 4


def test_run_inline_of_children_gathers_their_results_and_their_errors() -> None:
    @workflow
    def odd(ctx: Context, n: int) -> int:
        if n == 0:
            raise ctx.stop("nothing to do")
        if n % 2 == 0:
            raise ValueError(f"{n} is even")
        return n

    @workflow
    def parent(ctx: Context, numbers: list[int], return_exceptions: bool = False) -> list[str]:
        runs = [ctx.start(f"child {n}", odd.using(priority=n), n) for n in numbers]
        assert runs[0].status() == "succeeded"
        return [str(end) for end in ctx.gather(*runs, return_exceptions=return_exceptions)]

    assert parent.run_inline([1, 3]) == ["1", "3"]
    with pytest.raises(RunFailed, match="2 is even") as raised:
        parent.run_inline([1, 2, 4])
    assert "4 is even" in raised.value.__notes__[0]
    assert "was cancelled: nothing to do" in parent.run_inline([1, 0], return_exceptions=True)[1]


def test_run_inline_takes_values_through_json() -> None:
    @workflow
    def pair(ctx: Context) -> list[int]:
        found: Any = ctx.step("pair", lambda: (1, 2))
        assert found == [1, 2]
        return [*found]

    @workflow
    def bad(ctx: Context) -> Any:
        return ctx.step("bad", object)

    assert pair.run_inline() == [1, 2]
    with pytest.raises(Exception, match="step 'bad'"):
        bad.run_inline()


def test_run_inline_refuses_a_name_twice() -> None:
    @workflow
    def twice(ctx: Context) -> None:
        ctx.step("a", add, 1)
        ctx.step("a", add, 1)

    with pytest.raises(StepError, match="'a' is used twice"):
        twice.run_inline()


def test_run_inline_of_a_wait_needs_a_default() -> None:
    signal = Signal("s", int)

    @workflow(signals=[signal])
    def waits(ctx: Context, default: bool) -> int | None:
        return ctx.wait_for(signal, timeout="1d", default=None) if default else ctx.wait_for(signal, timeout="1d")

    assert waits.run_inline(True) is None
    with pytest.raises(SignalTimeout):
        waits.run_inline(False)


def test_a_subscripted_run_is_a_run() -> None:
    assert Run[int] is Run
