"""What callers and operators do to runs, with real workers: cancel, wait, list, retry, keep, hold, confirm."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tako
from tako import Context, workflow
from tako.protocol import ids
from tests.host import shop
from tests.host.shop import Shop
from tests.support.cli import Cli

WORKFLOWS = """
import asyncio
import os
import time
from tako import AsyncContext, Context, Fatal, Signal, workflow
from tools import hold, note


@workflow
def add(ctx: Context, a: int, b: int = 1) -> int:
    return ctx.step("add", lambda: a + b)


@workflow(retries=0)
def fails(ctx: Context, words: str = "it broke") -> None:
    raise ValueError(words)


@workflow
def slow(ctx: Context) -> None:
    ctx.step("first", lambda: 1)
    ctx.step("second", hold, f"go {ctx.run_id}")
    note(f"after {ctx.run_id}")
    ctx.step("third", note, f"third {ctx.run_id}")


@workflow
async def slow_async(ctx: AsyncContext) -> None:
    await ctx.step("first", one)
    try:
        await ctx.step("second", long_wait, ctx.run_id)
    finally:
        note(f"interrupted {ctx.run_id}")


async def one() -> int:
    return 1


async def long_wait(run_id: str) -> None:
    note(f"at {run_id}")
    await asyncio.sleep(60)


answer = Signal("answer", str)


@workflow(signals=[answer], key="{name}")
def asks(ctx: Context, name: str = "x") -> str:
    return ctx.wait_for(answer, timeout="1h")


@workflow(signals=[answer], retries=0, timeout="2s")
def spends(ctx: Context) -> None:
    for n in range(9):
        ctx.step(f"work {n}", lambda: time.sleep(0.5))
        ctx.wait_for(answer, timeout="1h")


@workflow(timeout="300ms", retries=0)
def never_ends(ctx: Context) -> None:
    import tako.worker.overdue

    tako.worker.overdue.STUCK_AFTER_S = 0.2
    hold("the end of time")


@workflow(retries=0, on_dead="mourn")
def dies(ctx: Context, how: str) -> None:
    if how == "error":
        raise ValueError("it broke")
    if how == "fatal":
        raise Fatal("it broke")
    os.kill(os.getpid(), 9)


@workflow
def mourn(ctx: Context, run_id: str, error: str) -> None:
    note(f"mourned {run_id}: {error}")


@workflow(retention="1h")
def brief(ctx: Context) -> None: ...


@workflow(if_unhealthy="hold")
def patient(ctx: Context) -> None:
    note("patient")
"""


@pytest.fixture
def host(tmp_path: Path, runtime: Path) -> Iterator[Shop]:
    with Shop(shop.make(tmp_path / "shop", WORKFLOWS)) as host:
        host.is_proven()
        yield host


@pytest.fixture
def cli(host: Shop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Commands in the app's folder."""
    monkeypatch.chdir(host.folder)
    return Cli(host.folder, capsys)


def done(host: Shop) -> str:
    """A run that has succeeded."""
    run_id = host.enqueue("add", {"a": 1})
    host.ended(run_id)
    return run_id


def steps(host: Shop, run_id: str) -> list[str]:
    return [step["name"] for step in host.show(run_id, "steps")["steps"]]


# --- timeout --------------------------------------------------------------------------------------------------------


def test_the_time_of_an_attempt_goes_on_after_each_wait(host: Shop) -> None:
    run_id = host.enqueue("spends")

    def stopped() -> Any:
        return info if (info := host.show(run_id))["status"] in ("waiting", "dead") else None

    while host.until(stopped, what="a wait, or the end")["status"] == "waiting":
        host.ok("signal_run", id=run_id, signal="answer", payload_json='"go on"')
        host.until(lambda: host.show(run_id)["status"] != "waiting", what="the run goes on")

    assert "the attempt did not end within 2s" in host.ended(run_id, status="dead")["reason"]
    assert 1 <= len([name for name in steps(host, run_id) if name.startswith("work")]) <= 4


def test_a_worker_whose_thread_will_not_end_is_replaced_before_it_is_gone_and_its_other_runs_finish(host: Shop) -> None:
    neighbour = host.enqueue("slow")
    host.noted(f"at go {neighbour}")
    run_id = host.enqueue("never_ends")
    assert "the attempt did not end within 0.3s" in host.ended(run_id, status="dead")["reason"]
    host.until(lambda: [w for w in host.workers() if w["state"] == "draining"], what="the worker drains")

    host.ended(host.enqueue("add", {"a": 1}))

    assert host.show(neighbour)["status"] == "running"
    (host.folder / f"go {neighbour}").touch()
    assert host.ended(neighbour)["attempt"] == 1
    assert [attempt["outcome"] for attempt in host.show(neighbour, "attempts")["attempts"]] == ["succeeded"]
    assert host.problems("unhealthy_group") == []


# --- cancel ---------------------------------------------------------------------------------------------------------


def test_a_cancelled_async_handler_is_interrupted_at_its_await(host: Shop) -> None:
    run_id = host.enqueue("slow_async")
    host.noted(f"at {run_id}")

    cancelled = host.ok("cancel", id=run_id, reason="not wanted")

    host.noted(f"interrupted {run_id}")
    assert (cancelled["status"], cancelled["reason"]) == ("cancelled", "not wanted")
    assert steps(host, run_id) == ["first"]


def test_a_cancelled_sync_handler_finishes_its_step_unseen_and_starts_no_other(host: Shop) -> None:
    run_id = host.enqueue("slow")
    host.noted(f"at go {run_id}")

    assert host.ok("cancel", id=run_id)["status"] == "cancelled"
    host.let(f"go {run_id}")
    host.ended(host.enqueue("add", {"a": 1}))
    host.until(lambda: not host.workers()[0]["in_flight"], what="the worker is done with it")

    assert not [note for note in host.notes() if note.startswith(("after", "third"))]
    assert steps(host, run_id) == ["first"]
    assert host.show(run_id)["status"] == "cancelled"


def test_a_run_that_waits_is_cancelled_and_takes_no_signal_any_more(host: Shop) -> None:
    run_id = host.enqueue("asks")
    host.is_now(run_id, "waiting")

    host.ok("cancel", id=run_id)

    assert host.call("signal_run", id=run_id, signal="answer", payload_json='"yes"')["code"] == "run_finished"
    assert host.call("cancel", id=done(host))["code"] == "run_finished"


def test_children_are_cancelled_with_their_parent(host: Shop) -> None:
    parent = host.enqueue("asks")
    host.is_now(parent, "waiting")
    running = host.enqueue("slow_async", parent_id=parent)
    waiting = host.enqueue("asks", {"name": "y"}, parent_id=running)
    host.noted(f"at {running}")
    host.is_now(waiting, "waiting")

    host.ok("cancel", id=parent, reason="no longer wanted")

    host.noted(f"interrupted {running}")
    for child in (running, waiting):
        assert host.show(child)["reason"] == f"its parent {parent} was cancelled: no longer wanted"


# --- results and lists, from another process than the worker's ------------------------------------------------------


def test_a_result_is_waited_for_across_processes_and_has_its_type(host: Shop) -> None:
    with host.as_app():

        @workflow(name="add")
        def typed(ctx: Context, a: int, b: int = 1) -> int:
            raise NotImplementedError

        assert typed.enqueue(a=2, b=40).result() == 42
        assert asyncio.run(twice(typed)) == 2


async def twice(typed: Any) -> int:
    run = await typed.aenqueue(a=1)
    found: int = await run.aresult(timeout="20s")
    return found


def test_a_dead_run_raises_with_the_traceback_of_the_worker(host: Shop) -> None:
    with host.as_app():
        run = tako.enqueue("fails", {"words": "no such tenant"})
        with pytest.raises(tako.RunFailed) as failed:
            run.result()

    words = str(failed.value)
    assert f"run {run.id} of fails is dead: ValueError: no such tenant" in words
    assert "workflows/all.py" in words
    assert "raise ValueError(words)" in words
    assert f"tako runs retry {run.id}" in words


def test_a_cancelled_run_raises_with_its_reason_and_one_that_goes_on_is_a_timeout(host: Shop) -> None:
    with host.as_app():
        run = tako.enqueue("asks")
        host.is_now(run.id, "waiting")
        with pytest.raises(TimeoutError, match="is waiting after 50ms; it goes on"):
            run.result(timeout="50ms")
        run.cancel(reason="enough")
        with pytest.raises(tako.RunCancelled, match="enough"):
            run.result()
        run.cancel()  # again: the reply of the first may have been lost
        with pytest.raises(tako.RunFinished):
            tako.get_run(done(host)).cancel()


def test_lists_come_page_by_page_and_filtered(host: Shop) -> None:
    with host.as_app():
        before = time.time_ns() // 1_000_000
        news = [{"id": ids.uuid7(), "workflow": "add", "payload_json": '{"a": 1}'} for _ in range(230)]
        host.ok("enqueue_runs", runs=news)
        dead = tako.enqueue("fails")
        waiting = tako.enqueue("asks", {"name": "k"})
        host.ended(dead.id, status="dead")
        host.is_now(waiting.id, "waiting")
        host.until(lambda: not list(tako.runs(workflow="add", status="pending")), what="all are claimed")
        host.until(lambda: not list(tako.runs(workflow="add", status="running")), what="all have ended")

        assert [run.id for run in tako.runs(workflow="add")] == [new["id"] for new in reversed(news)]
        assert len(list(tako.runs(workflow="add", limit=150))) == 150
        assert [run.id for run in tako.runs(status="dead")] == [dead.id]
        assert [run.id for run in tako.runs(status="waiting")] == [waiting.id]
        assert [run.id for run in tako.runs(workflow="asks", key="k")] == [waiting.id]
        assert len(list(tako.runs(group="default"))) == 232
        assert list(tako.runs(group="mail")) == []
        assert list(tako.runs(since="1h")) == list(tako.runs())
        assert host.runs(until_ms=before) == []
        assert asyncio.run(collected()) == [waiting.id, dead.id]


async def collected() -> list[str]:
    return [run.id async for run in tako.aruns(limit=2)]


# --- deaths ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        ({"how": "error"}, "ValueError: it broke"),
        ({"how": "fatal"}, "Fatal: it broke"),
        ({"how": "kill"}, "worker died 3 times running it (SIGKILL"),
    ],
)
def test_on_dead_is_enqueued_with_the_run_and_its_error_whatever_killed_it(
    host: Shop, payload: dict[str, Any], words: str
) -> None:
    run_id = host.enqueue("dies", payload)
    host.ended(run_id, status="dead")

    (told,) = host.until(lambda: host.runs(workflow="mourn"), what="somebody is told")
    host.ended(told["id"])
    assert host.notes()[-1].startswith(f"mourned {run_id}: ")
    assert words in host.notes()[-1]


def test_retries_of_dead_runs_can_be_chosen_by_workflow_and_error(host: Shop, cli: Cli) -> None:
    one, two = host.enqueue("fails", {"words": "smtp is down"}), host.enqueue("fails", {"words": "other"})
    host.ended(one, status="dead")
    host.ended(two, status="dead")

    said = cli("runs", "retry", "--workflow", "fails", "--error", "smtp", "--since", "1h")

    assert (said.code, said.err) == (0, "✔ Enqueued again: 1 run.\n")
    host.until(lambda: host.show(one)["attempt"] == 2, what="it is run again")
    assert host.show(two)["attempt"] == 1
    host.ended(one, status="dead")
    again = cli("runs", "retry", "--all", "--json").json
    assert sorted(run["id"] for run in again["runs"]) == sorted([one, two])


def test_cancel_of_all_leaves_nothing_unfinished_and_says_what_it_could_not(host: Shop, cli: Cli) -> None:
    waiting = host.enqueue("asks")
    sleeping = host.enqueue("add", {"a": 1}, delay_ms=3_600_000)
    running = host.enqueue("slow_async")
    host.noted(f"at {running}")
    host.is_now(waiting, "waiting")
    ended = done(host)

    assert cli("runs", "cancel", "--all").code == 2
    said = cli("runs", "cancel", "--all", "--yes", "--reason", "over")
    assert (said.code, said.err) == (0, "✔ Cancelled: 3 runs.\n")
    for run_id in (waiting, sleeping, running):
        assert host.show(run_id)["reason"] == "over"

    said = cli("runs", "cancel", waiting, ended)
    assert said.code == 1
    assert f"✘ {ended} was not cancelled: Run {ended} has ended (succeeded)" in said.err


def test_a_signal_is_sent_from_the_command_line(host: Shop, cli: Cli) -> None:
    run_id = host.enqueue("asks", {"name": "k"})
    host.is_now(run_id, "waiting")

    assert cli("runs", "signal", "--workflow", "asks", "k", "answer", '"yes"').code == 0

    assert host.ended(run_id)["result_json"] == '"yes"'


# --- time -----------------------------------------------------------------------------------------------------------


def test_ended_runs_are_kept_as_long_as_their_workflow_says(host: Shop) -> None:
    short, long = host.enqueue("brief"), host.enqueue("add", {"a": 1})
    unfinished = host.enqueue("asks")
    for run_id in (short, long):
        host.ended(run_id)
    host.is_now(unfinished, "waiting")

    def upkeep(hours: float) -> None:
        host.clock.wall_ahead_ms += round(hours * 3_600_000)
        host.run(host.host.upkeep.run_once(host.clock.now_ms()))

    upkeep(hours=0.5)
    host.show(short)
    upkeep(hours=1)
    assert host.call("get_run", id=short)["code"] == "run_not_found"
    host.show(long)
    upkeep(hours=24 * 31)
    gone = host.call("get_run", id=long)
    assert gone["code"] == "run_not_found"
    assert "30 days" in gone["detail"]["cure"]
    assert host.show(unfinished)["id"] == unfinished


def test_a_run_that_nobody_could_start_in_time_expires(host: Shop) -> None:
    host.ok("pause", workflow="add")
    run_id = host.enqueue("add", {"a": 1}, expires_at_ms=host.clock.now_ms() + 300)

    assert host.ended(run_id, status="cancelled")["reason"] == "expired before a worker could start it"


def test_a_run_with_a_delay_starts_at_its_time_and_not_before(host: Shop) -> None:
    run_id = host.enqueue("add", {"a": 1}, delay_ms=300)

    run = host.ended(run_id)

    assert run["started_ms"] >= run["created_ms"] + 300


def test_higher_priority_goes_first(host: Shop) -> None:
    host.ok("pause", workflow="mourn")
    for priority in (0, 5, -1, 9):
        payload = {"run_id": str(priority), "error": ""}
        host.enqueue("mourn", payload, priority=priority)
    host.ok("resume", workflow="mourn")

    host.until(lambda: len(host.notes()) == 4, what="all are done")
    started = sorted(host.runs(workflow="mourn"), key=lambda run: (run["started_ms"], -run["priority"]))
    assert [run["priority"] for run in started] == [9, 5, 0, -1]


# --- whether it will run at all -------------------------------------------------------------------------------------


def test_confirm_returns_when_a_worker_has_the_run_and_withdraws_it_when_none_comes(host: Shop) -> None:
    with host.as_app():

        @workflow(name="slow")
        def typed(ctx: Context) -> None: ...

        confirmed = typed.using(confirm=True).enqueue()
        assert host.show(confirmed.id)["status"] == "running"
        host.let(f"go {confirmed.id}")

        host.ok("pause", workflow="slow")
        with pytest.raises(tako.EnqueueError, match="no worker claimed the run within its deadline") as refused:
            typed.using(confirm=True, deadline="300ms").enqueue()
        withdrawn = refused.value.detail["id"]
        assert host.call("get_run", id=withdrawn)["code"] == "run_not_found"
        host.ok("resume", workflow="slow")
        host.ended(confirmed.id)


@pytest.mark.parametrize("way", ["by the caller", "by the workflow"])
def test_a_run_that_may_wait_is_stored_while_nobody_can_start_it_shown_as_blocked_and_logged(
    host: Shop, way: str
) -> None:
    host.save(all="import nothing_of_this_name\n" + WORKFLOWS)
    host.until(lambda: host.problems("unhealthy_group"), what="the group is unhealthy")
    if way == "by the caller":
        run_id = host.enqueue("add", {"a": 1}, if_unhealthy="hold")
        assert host.ask("add", {"a": 1})["code"] == "worker_unhealthy"
    else:
        run_id = host.enqueue("patient")

    run = host.is_now(run_id, "blocked")
    assert run["blocked"].startswith("worker exited with status 1")
    assert [problem["severity"] for problem in host.problems("blocked_runs")] == ["error"]
    assert [line for line in host.log() if 'is stored although group "default" cannot start a worker' in line]

    host.save(all=WORKFLOWS)
    host.ended(run_id)
