from __future__ import annotations

import contextvars
import os
import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import tako
from tako import Context, Cron, Retry, Signal, workflow
from tako.sdk import runtime
from tako.testing import Engine


@dataclass
class Approval:
    ok: bool
    by: str = "nobody"


approval = Signal("approval", Approval)


def add(ctx: Context, a: int, b: int) -> int:
    return ctx.step("add", lambda: a + b)


# --- drain and results ---


def test_nothing_runs_before_a_drain_and_everything_that_is_due_in_it(engine: Engine) -> None:
    seen: list[int] = []

    @workflow
    def note(ctx: Context, n: int) -> None:
        seen.append(n)

    runs = note.enqueue_many([{"n": n} for n in range(3)])
    assert [run.status() for run in runs] == ["pending"] * 3
    assert seen == []

    engine.drain()

    assert seen == [0, 1, 2]
    assert [run.status() for run in runs] == ["succeeded"] * 3


def test_result_drains(engine: Engine) -> None:
    adding = workflow(add)

    assert adding.enqueue(1, b=2).result() == 3


def test_runs_are_enqueued_by_name_and_from_handlers_too(engine: Engine) -> None:
    seen: list[str] = []

    @workflow
    def second(ctx: Context, who: str) -> None:
        seen.append(f"second {who}")

    @workflow
    def first(ctx: Context) -> str:
        return second.enqueue(who="first").id

    run = tako.enqueue("first")
    engine.drain()

    assert seen == ["second first"]
    assert tako.get_run(run.result()).status() == "succeeded"


def test_handlers_and_steps_run_on_the_tests_thread(engine: Engine) -> None:
    threads: list[int] = []

    def where(item: int = 0) -> None:
        threads.append(threading.get_ident())

    @workflow
    def many(ctx: Context) -> None:
        where()
        ctx.step("one", where)
        ctx.map("all", where, range(4), limit=4)

    many.enqueue()
    engine.drain()

    assert threads == [threading.get_ident()] * 6


def test_a_handler_sees_no_context_variable_of_the_test_as_in_production(engine: Engine) -> None:
    user = contextvars.ContextVar("user", default="nobody")
    user.set("the test's")

    @workflow
    def who(ctx: Context) -> str:
        return user.get()

    assert who.enqueue().result() == "nobody"


def test_a_handler_runs_again_from_its_first_line_and_its_saved_steps_do_not(engine: Engine) -> None:
    seen: list[str] = []

    @workflow
    def nap(ctx: Context) -> None:
        seen.append("handler")
        ctx.step("once", lambda: seen.append("step"))
        ctx.sleep("a while", "10m")

    run = nap.enqueue()
    engine.drain()
    engine.advance("10m")
    engine.drain()

    assert seen == ["handler", "step", "handler"]
    assert [(step.name, step.status) for step in run.steps()] == [("once", "succeeded"), ("a while", "slept")]


def test_the_first_pass_sees_what_was_stored_and_not_what_was_returned(engine: Engine) -> None:
    @workflow
    def pair(ctx: Context) -> bool:
        return isinstance(ctx.step("pair", lambda: (1, 2)), list)

    assert pair.enqueue().result() is True


def test_a_run_that_waits_for_another_one_lets_it_run(engine: Engine) -> None:
    adding = workflow(add)

    @workflow
    def outer(ctx: Context) -> int:
        return ctx.step("inner", lambda: adding.enqueue(20, 22).result())

    assert outer.enqueue().result() == 42


def test_a_workflow_that_enqueues_itself_for_ever_is_an_error_and_no_hang(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tako.testing.worker.MOST_RUNS", 20)

    @workflow
    def hydra(ctx: Context) -> None:
        hydra.enqueue()

    hydra.enqueue()

    with pytest.raises(AssertionError, match="20 runs were due in one drain, with no end to it; the last was of hydra"):
        engine.drain()


def test_the_higher_priority_goes_first(engine: Engine) -> None:
    seen: list[int] = []

    @workflow
    def note(ctx: Context, n: int) -> None:
        seen.append(n)

    for n in (1, 3, 2):
        note.using(priority=n).enqueue(n)
    engine.drain()

    assert seen == [3, 2, 1]


# --- time ---


def test_drain_never_moves_the_clock_and_advance_does(engine: Engine) -> None:
    adding = workflow(add)
    run = adding.using(delay="6d").enqueue(1, 2)
    before = engine.now

    engine.drain()
    assert (run.status(), engine.now) == ("pending", before)
    engine.advance("6d")
    assert (run.status(), engine.now) == ("pending", before + timedelta(days=6))
    engine.drain()

    assert run.status() == "succeeded"


def test_the_clock_begins_at_the_machines(engine: Engine) -> None:
    assert abs(engine.now - datetime.now(UTC)) < timedelta(minutes=1)


@pytest.mark.parametrize("duration", ["1s", "3s", "1h", timedelta(days=3)])
def test_a_sleep_of_any_length_waits_for_the_clock(engine: Engine, duration: Any) -> None:
    @workflow
    def nap(ctx: Context) -> str:
        ctx.sleep("nap", duration)
        return "rested"

    run = nap.enqueue()
    engine.drain()
    assert run.status() == "sleeping"

    engine.advance(duration)

    assert run.result() == "rested"


def test_a_run_that_has_not_ended_says_what_it_waits_for(engine: Engine) -> None:
    @workflow(signals=[approval])
    def nap(ctx: Context, wait: bool) -> None:
        if wait:
            ctx.wait_for(approval, timeout="1d")
        ctx.sleep("nap", "1h")

    with pytest.raises(TimeoutError, match=r"it is sleeping, due at .*engine\.advance\(\.\.\.\)"):
        nap.enqueue(wait=False).result()
    with pytest.raises(TimeoutError, match=r"it is waiting, for the signal 'approval'\. Send it, or let its timeout"):
        nap.enqueue(wait=True).result()


def test_a_retry_waits_for_its_backoff_on_the_tests_clock(engine: Engine) -> None:
    attempts: list[int] = []

    @workflow(retries=Retry(2, first="1m", factor=2, jitter=0))
    def flaky(ctx: Context) -> str:
        attempts.append(ctx.attempt)
        if ctx.attempt < 3:
            raise ValueError("not yet")
        return "done"

    run = flaky.enqueue()
    engine.drain()
    engine.advance("59s")
    engine.drain()
    assert attempts == [1]
    engine.advance("1s")
    engine.drain()
    assert (attempts, run.error) == ([1, 2], "ValueError: not yet")
    engine.advance("2m")

    assert run.result() == "done"
    assert attempts == [1, 2, 3]


def test_a_steps_own_retries_follow_at_once(engine: Engine) -> None:
    tries: list[int] = []

    def send() -> str:
        tries.append(1)
        if len(tries) < 3:
            raise ConnectionError
        return "sent"

    @workflow
    def mail(ctx: Context) -> str:
        return ctx.step("send", send, retries=Retry(2, first="1h"))

    assert mail.enqueue().result() == "sent"


def test_what_expires_does_so_on_the_tests_clock(engine: Engine) -> None:
    adding = workflow(add)
    engine.advance("7d")

    fresh = adding.using(expires="1h").enqueue(1, 2)
    stale = adding.using(delay="2h", expires="3h").enqueue(1, 2)
    assert fresh.result() == 3
    engine.advance("3h")
    engine.drain()

    assert stale.status() == "cancelled"


# --- signals ---


@workflow(signals=[approval], key="order:{order_id}")
def fulfil(ctx: Context, order_id: int) -> str:
    answer = ctx.wait_for(approval, timeout="7d", default=None)
    return "expired" if answer is None else f"{'shipped' if answer.ok else 'refused'} by {answer.by}"


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tako.sdk.workflow._declared", {"fulfil": fulfil})


@pytest.mark.usefixtures("known")
def test_a_signal_reaches_the_wait_with_its_type(engine: Engine) -> None:
    run = fulfil.enqueue(order_id=1)
    engine.drain()
    assert run.status() == "waiting"

    engine.advance("6d")
    fulfil.signal(run, approval, Approval(ok=True, by="Ada"))
    engine.drain()

    assert run.result() == "shipped by Ada"


@pytest.mark.usefixtures("known")
def test_a_signal_is_sent_by_key_and_may_come_before_its_wait(engine: Engine) -> None:
    run = fulfil.enqueue(order_id=1)

    fulfil.signal("order:1", approval, Approval(ok=False))

    assert run.result() == "refused by nobody"


@pytest.mark.usefixtures("known")
def test_a_wait_times_out_on_the_tests_clock(engine: Engine) -> None:
    run = fulfil.enqueue(order_id=1)
    engine.drain()

    engine.advance("7d")

    assert run.result() == "expired"


@pytest.mark.usefixtures("known")
def test_a_key_has_one_unfinished_run(engine: Engine) -> None:
    run = fulfil.enqueue(order_id=1)
    again = fulfil.enqueue(order_id=1)

    assert (again.id, again.is_new) == (run.id, False)
    assert fulfil.find(key="order:1") == run
    assert [found.id for found in tako.runs(workflow=fulfil)] == [run.id]
    with pytest.raises(tako.DuplicateRun):
        fulfil.using(on_duplicate="raise").enqueue(order_id=1)


# --- runs that people act on ---


def test_a_cancelled_run_does_nothing_more(engine: Engine) -> None:
    seen: list[str] = []

    @workflow
    def two(ctx: Context) -> None:
        ctx.step("one", lambda: tako.get_run(ctx.run_id).cancel("enough"))
        ctx.step("two", lambda: seen.append("two"))

    run = two.enqueue()
    engine.drain()

    assert (run.status(), run.error, seen) == ("cancelled", "enough", [])
    with pytest.raises(tako.RunCancelled):
        run.result()


def test_a_dead_run_tells_its_traceback_and_can_be_retried_from_a_step(engine: Engine) -> None:
    broken = [True]

    def deliver() -> str:
        if broken:
            raise tako.Fatal("no such address")
        return "delivered"

    @workflow
    def letter(ctx: Context) -> str:
        ctx.step("write", lambda: None)
        return ctx.step("deliver", deliver)

    run = letter.enqueue()
    with pytest.raises(tako.RunFailed, match=r"no such address") as failed:
        run.result()
    assert "test_engine.py" in str(failed.value)
    assert "src/tako" not in str(failed.value)

    broken.clear()
    run.retry()

    assert run.result() == "delivered"


def test_a_limit_holds(engine: Engine) -> None:
    @workflow(max_pending=1)
    def few(ctx: Context) -> None: ...

    few.enqueue()
    with pytest.raises(tako.QueueFull):
        few.enqueue()
    engine.drain()
    few.enqueue()


def test_who_is_to_be_told_of_a_death_is(engine: Engine) -> None:
    told: list[str] = []

    @workflow
    def mourn(ctx: Context, run_id: str, error: str) -> None:
        told.append(error)

    @workflow(on_dead="mourn", retries=0)
    def doomed(ctx: Context) -> None:
        raise ValueError("gone")

    doomed.enqueue()
    engine.drain()

    assert told == ["ValueError: gone"]


# --- what is refused as in production (loud.md 34) ---


def test_arguments_that_do_not_fit_are_refused_before_anything_is_stored(engine: Engine) -> None:
    workflow(add)

    with pytest.raises(tako.PayloadError, match="b"):
        tako.enqueue("add", {"a": 1})
    with pytest.raises(tako.PayloadError, match="b: expected int, found object"):
        tako.enqueue("add", {"a": 1, "b": object()})
    with pytest.raises(tako.UnknownWorkflow, match="Did you mean add"):
        tako.enqueue("adds", {"a": 1, "b": 2})
    assert list(tako.runs()) == []


def test_a_payload_that_fits_in_no_request_fails_the_test(engine: Engine) -> None:
    @workflow
    def keep(ctx: Context, text: str) -> None: ...

    with pytest.raises(tako.PayloadError, match="at most 1,048,576"):
        keep.enqueue(text="x" * 1_048_570)
    with pytest.raises(tako.PayloadError, match="1,048,576"):
        keep.enqueue(text="x" * 2_000_000)
    with pytest.raises(tako.PayloadError, match="at most 1,048,576"):
        keep.enqueue_many([{"text": "x" * 600_000}] * 2)


def test_a_step_result_that_cannot_be_stored_ends_the_run_with_its_path(engine: Engine) -> None:
    @workflow
    def hoard(ctx: Context) -> None:
        ctx.step("thing", lambda: {"items": [1, object()]})

    run = hoard.enqueue()

    with pytest.raises(tako.RunFailed, match=r"items\[1\]"):
        run.result()


def test_a_step_result_that_fits_in_no_frame_ends_the_run(engine: Engine) -> None:
    @workflow
    def hoard(ctx: Context) -> None:
        ctx.step("thing", lambda: "x" * 1_048_570)

    with pytest.raises(tako.RunFailed, match="at most 1,048,576"):
        hoard.enqueue().result()


def test_a_result_that_cannot_be_stored_ends_the_run(engine: Engine) -> None:
    @workflow
    def hoard(ctx: Context) -> Any:
        return {1, 2}

    with pytest.raises(tako.RunFailed, match="result"):
        hoard.enqueue().result()


def test_a_workflow_with_a_type_that_cannot_be_stored_is_refused_as_at_a_workers_start(engine: Engine) -> None:
    @workflow
    def odd(ctx: Context, lock: threading.Event) -> None: ...

    with pytest.raises(tako.DefinitionError, match="lock"):
        engine.drain()


# --- schedules ---


def test_a_schedule_fires_only_when_it_is_fired(engine: Engine) -> None:
    seen: list[datetime | None] = []

    @workflow(schedule=Cron("0 9 * * *", tz="Europe/Paris"))
    def report(ctx: Context, kind: str = "daily") -> str:
        seen.append(ctx.scheduled_for)
        return kind

    engine.advance("30d")
    engine.drain()
    assert seen == []

    run = engine.fire(report)

    assert run.result() == "daily"
    assert seen[0] is not None
    assert (seen[0].hour, str(seen[0].tzinfo)) == (9, "Europe/Paris")
    assert timedelta() <= engine.now - seen[0] < timedelta(hours=25)


def test_a_schedule_fires_for_a_given_time_and_by_name(engine: Engine) -> None:
    @workflow(schedule="*/5 * * * *")
    def tick(ctx: Context) -> str:
        assert ctx.scheduled_for is not None
        return ctx.scheduled_for.isoformat()

    at = datetime(2030, 1, 2, 3, 5, tzinfo=UTC)

    assert engine.fire("tick", at=at).result() == at.isoformat()


def test_a_workflow_without_a_schedule_cannot_be_fired(engine: Engine) -> None:
    adding = workflow(add)

    with pytest.raises(ValueError, match="add has no schedule"):
        engine.fire(adding)
    with pytest.raises(tako.UnknownWorkflow, match="Did you mean add"):
        engine.fire("adds")


# --- surroundings ---


def test_secrets_and_a_data_folder_are_there(engine: Engine) -> None:
    engine.secrets["STRIPE_KEY"] = "sk_test_1"

    @workflow
    def pay(ctx: Context) -> str:
        Path(tako.current.data_dir, "paid").touch()
        return tako.secrets["STRIPE_KEY"]

    assert list(engine.data_dir.iterdir()) == []
    assert pay.enqueue().result() == "sk_test_1"
    assert [path.name for path in engine.data_dir.iterdir()] == ["paid"]
    assert (tako.current.env, os.environ["ENV"]) == ("test", "test")
    with pytest.raises(tako.MissingSecret, match="known are: STRIPE_KEY"):
        tako.secrets["PAYPAL_KEY"]


def test_a_secret_is_taken_out_of_what_is_logged_and_stored(engine: Engine) -> None:
    engine.secrets["STRIPE_KEY"] = "sk_test_1"

    @workflow(retries=0)
    def pay(ctx: Context) -> None:
        raise ValueError(f"refused {tako.secrets['STRIPE_KEY']}")

    run = pay.enqueue()
    engine.drain()

    assert run.error == "ValueError: refused [secret STRIPE_KEY]"


def test_what_a_handler_logs_is_kept_and_told_to_logging(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")

    @workflow
    def talk(ctx: Context) -> None:
        ctx.log.info("hello", to="Ada")

    run = talk.enqueue()
    engine.drain()

    assert engine.logs == [{"level": "info", "message": "hello", "to": "Ada", "run_id": run.id, "workflow": "talk"}]
    assert "hello to=Ada" in caplog.text


def test_start_hooks_run_once_before_the_first_handler(engine: Engine) -> None:
    seen: list[str] = []

    @tako.on_start
    def connect() -> None:
        seen.append("sync")

    @tako.on_start
    async def aconnect() -> None:
        seen.append("async")

    @workflow
    def note(ctx: Context) -> None:
        seen.append("handler")

    note.enqueue()
    engine.drain()
    note.enqueue()
    engine.drain()

    assert seen == ["sync", "async", "handler", "handler"]


def test_pytest_fail_in_a_step_fails_the_test_and_not_the_run(engine: Engine) -> None:
    @workflow
    def call(ctx: Context) -> None:
        ctx.step("call", lambda: pytest.fail("the provider must not be called"))

    call.enqueue()

    with pytest.raises(pytest.fail.Exception, match="must not be called"):
        engine.drain()


def test_ctrl_c_in_a_handler_ends_the_test(engine: Engine) -> None:
    @workflow
    def call(ctx: Context) -> None:
        raise KeyboardInterrupt

    call.enqueue()

    with pytest.raises(KeyboardInterrupt):
        engine.drain()


def test_without_pytest_it_is_a_with_block_that_leaves_nothing_behind() -> None:
    before = (runtime._engine, dict(os.environ))
    adding = workflow(add)

    with Engine(secrets={"A": "b"}) as engine:
        folder = engine.data_dir
        assert adding.enqueue(1, 2).result() == 3
        assert tako.secrets["A"] == "b"

    assert (runtime._engine, dict(os.environ)) == before
    assert not folder.exists()
    with pytest.raises(tako.NoEngine):
        adding.enqueue(1, 2)


def test_a_confirmed_run_is_withdrawn_when_nobody_could_claim_it_now(engine: Engine) -> None:
    adding = workflow(add)

    assert adding.using(confirm=True).enqueue(1, 2).result() == 3
    with pytest.raises(tako.EnqueueError, match="withdrawn"):
        adding.using(confirm=True, delay="1h").enqueue(1, 2)
    assert len(list(tako.runs())) == 1


def test_a_command_that_tests_do_not_know_is_refused_by_name(engine: Engine) -> None:
    with pytest.raises(tako.InvalidRequest, match="`backup` is not there in tests"):
        runtime.engine().call("backup", {}, deadline_s=1)
