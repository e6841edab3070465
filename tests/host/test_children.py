"""Child runs with real workers: started once whatever is killed, waited for without a worker, cancelled together."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tako
from tests.host import shop
from tests.host.shop import Shop
from tests.support.cli import Cli
from tests.support.dev import kill

CHILDREN = """
import asyncio
import datetime
import decimal
from dataclasses import dataclass
from tako import AsyncContext, Context, Signal, workflow
from tools import hold, note


@dataclass
class Paid:
    amount: decimal.Decimal
    on: datetime.date


@workflow
def pay(ctx: Context, order: int, until: str = "") -> Paid:
    note(f"paying {order}")
    if until:
        ctx.step("wait", hold, until)
    return Paid(decimal.Decimal(order) / 2, datetime.date(2026, 1, order))


@workflow(retries=0)
def fails(ctx: Context, words: str) -> None:
    raise ValueError(words)


@workflow
def stops(ctx: Context) -> None:
    raise ctx.stop("no need")


@workflow(key="{name}")
def keyed(ctx: Context, name: str) -> str:
    ctx.step("wait", hold, f"go {name}")
    return ctx.run_id


go = Signal("go", str)
"""

PARENTS = """
@workflow(retries=0)
{adef} orders(ctx: {Context}, count: int = 3, until: str = "") -> str:
    runs = [{wait}ctx.start(f"pay-{{order}}", pay, order, until=until) for order in range(1, count + 1)]
    paid = {wait}ctx.gather(*runs)
    note(f"gathered in attempt {{ctx.attempt}}")
    assert all(type(one) is Paid for one in paid), paid
    return " ".join(f"{{one.amount}} {{one.on}}" for one in paid)


@workflow(retries=0)
{adef} holds_between(ctx: {Context}) -> str:
    run = {wait}ctx.start("pay", pay, 1)
    {wait}ctx.step("wait", hold, "go on")
    return (({wait}ctx.gather(run))[0]).on.isoformat()


@workflow(retries=0)
{adef} meets_errors(ctx: {Context}, return_exceptions: bool) -> str:
    good = {wait}ctx.start("good", pay, 1)
    bad = {wait}ctx.start("bad", fails, "no money")
    worse = {wait}ctx.start("worse", fails, "no luck")
    stopped = {wait}ctx.start("stopped", stops)
    found = {wait}ctx.gather(good, bad, worse, stopped, return_exceptions=return_exceptions)
    return " ".join(type(one).__name__ for one in found)


@workflow(retries=0)
{adef} family(ctx: {Context}, depth: int, end: str = "go") -> int:
    if depth == 0:
        {wait}ctx.step("wait", hold, end)
        {wait}ctx.step("never", note, "a step after the cancel")
        return 0
    runs = [{wait}ctx.start(f"child {{n}}", family, depth - 1, end) for n in range(2)]
    return 1 + sum({wait}ctx.gather(*runs))


@workflow
{adef} starts_for_ever(ctx: {Context}) -> None:
    for n in range(100_000):
        {wait}ctx.start(f"child {{n}}", pay.using(delay="1h"), n)


@workflow(retries=0)
{adef} joins(ctx: {Context}, name: str) -> str:
    run = {wait}ctx.start("keyed", keyed, name)
    return f"{{run.is_new}} {{({wait}ctx.gather(run))[0]}}"


@workflow(retries=0)
{adef} stops_itself(ctx: {Context}) -> None:
    {wait}ctx.start("family", family, 0, "never")
    {wait}ctx.step("wait", hold, "stop now")
    raise ctx.stop("withdrawn")


@workflow(retries=0)
{adef} misuses(ctx: {Context}, how: str) -> None:
    if how == "arguments":
        {wait}ctx.start("pay", pay, "many")
    if how == "list":
        {wait}ctx.gather([{wait}ctx.start("pay", pay, 1)])
    if how == "function":
        {wait}ctx.start("pay", note, 1)
    if how == "confirm":
        {wait}ctx.start("pay", pay.using(confirm=True), 1)
    if how == "itself":
        {wait}ctx.gather({wait}ctx.start("again", misuses.using(key="k"), "itself"))
    if how == "twice":
        {wait}ctx.start("pay", pay, 1)
        {wait}ctx.start("pay", pay, 2)
"""

ASYNC_ONLY = """
@workflow(signals=[go])
async def races(ctx: AsyncContext) -> list[str]:
    async def told() -> str:
        word = await ctx.wait_for(go, timeout=None)
        await ctx.step("told", note, f"told {word}")
        return word

    async def gathered() -> str:
        run = await ctx.start("pay", pay, 1, until="paid")
        [paid] = await ctx.gather(run)
        await ctx.step("gathered", note, "gathered")
        return str(paid.amount)

    async def slept() -> str:
        await ctx.sleep("nap", "9h")
        return "slept"

    return list(await asyncio.gather(told(), gathered(), slept()))


@workflow(retries=0)
async def forgets(ctx: AsyncContext) -> None:
    ctx.start("pay", pay, 1)
"""

KINDS = {
    "def": {"adef": "def", "wait": "", "Context": "Context"},
    "async def": {"adef": "async def", "wait": "await ", "Context": "AsyncContext"},
}


def started(folder: Path, kind: str, *, toml: str = "") -> Shop:
    return Shop(shop.make(folder, CHILDREN + PARENTS.format(**KINDS[kind]) + ASYNC_ONLY, toml=toml))


@pytest.fixture(params=list(KINDS))
def host(tmp_path: Path, runtime: Path, request: pytest.FixtureRequest) -> Iterator[Shop]:
    with started(tmp_path / "shop", request.param) as host:
        host.is_proven()
        yield host


@pytest.fixture
def one(tmp_path: Path, runtime: Path) -> Iterator[Shop]:
    """What is the same for both kinds of handlers is tried with one."""
    with started(tmp_path / "shop", "async def") as host:
        host.is_proven()
        yield host


def children(host: Shop, parent: str, status: str = "") -> list[str]:
    """Ids of the children in the order in which they were started."""
    found = host.runs(parent_id=parent, limit=1000)
    return [run["id"] for run in reversed(found) if status in ("", run["status"])]


def value(host: Shop, run_id: str) -> Any:
    return host.ended(run_id)["result_json"]


# --- results --------------------------------------------------------------------------------------------------------


def test_a_parent_gets_the_results_of_its_children_in_order_and_in_their_types(host: Shop) -> None:
    parent = host.enqueue("orders")

    assert value(host, parent) == '"0.5 2026-01-01 1 2026-01-02 1.5 2026-01-03"'
    steps = host.show(parent, "steps")["steps"]
    assert [(step["name"], step["status"], step["child_id"]) for step in steps] == [
        (f"pay-{n}", "started", child) for n, child in enumerate(children(host, parent), start=1)
    ]


def test_a_waiting_parent_holds_no_worker(host: Shop) -> None:
    parent = host.enqueue("orders", {"until": "go"})
    for order in (1, 2, 3):
        host.noted(f"paying {order}")

    info = host.is_now(parent, "waiting")

    assert info["waiting"]["runs"] == children(host, parent)
    (worker,) = host.workers()
    host.until(lambda: host.workers()[0]["in_flight"] == 3, what=f"three runs in flight, found {worker}")
    host.let("go")
    host.ended(parent)
    assert host.notes().count("gathered in attempt 1") == 1


def test_the_first_error_is_raised_with_its_traceback_and_the_others_are_listed(host: Shop) -> None:
    parent = host.enqueue("meets_errors", {"return_exceptions": False})

    dead = host.ended(parent, status="dead")
    trace = host.show(parent)["traceback"]

    assert "RunFailed" in dead["reason"]
    assert "raise ValueError(words)\nValueError: no money" in trace  # the remote one
    assert "also failed: fails" in trace
    assert "no luck" in trace
    assert "also failed: stops" in trace


def test_errors_are_in_their_places_when_they_are_asked_for(host: Shop) -> None:
    parent = host.enqueue("meets_errors", {"return_exceptions": True})

    assert value(host, parent) == '"Paid RunFailed RunFailed RunCancelled"'


def test_a_child_whose_key_is_taken_is_waited_for_though_it_is_none(host: Shop) -> None:
    other = host.enqueue("keyed", {"name": "a"}, key="a")
    parent = host.enqueue("joins", {"name": "a"})
    host.is_now(parent, "waiting")
    assert children(host, parent) == []

    host.let("go a")

    assert value(host, parent) == f'"False {other}"'
    (step,) = host.show(parent, "steps")["steps"]
    assert step["child_id"] == other


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("arguments", "start 'pay': order: expected int"),
        ("list", "gather: expected runs, found list"),
        ("function", "start 'pay': expected a workflow, found function"),
        ("confirm", "using(confirm=...) has no effect on a child"),
        ("twice", "The step 'pay' was called twice in one attempt"),
        ("itself", "gather: this run itself is among those to wait for"),
    ],
)
def test_what_cannot_be_meant_ends_the_run_with_the_reason(one: Shop, how: str, words: str) -> None:
    parent = one.enqueue("misuses", {"how": how}, key="k")

    assert words in one.ended(parent, status="dead")["reason"]
    assert one.show(parent)["attempt"] == 1


def test_a_start_without_await_fails_the_run(one: Shop) -> None:
    parent = one.enqueue("forgets")

    assert "ctx.start('pay') at workflows/all.py:" in one.ended(parent, status="dead")["reason"]


# --- what is killed -------------------------------------------------------------------------------------------------


def test_a_parent_killed_after_a_start_joins_the_same_child(host: Shop) -> None:
    parent = host.enqueue("holds_between")
    host.noted("at go on")
    [child] = children(host, parent)
    host.ended(child)

    host.kill_worker()
    host.noted("at go on", times=2)
    host.let("go on")

    assert value(host, parent) == '"2026-01-01"'
    assert children(host, parent) == [child]
    assert host.notes().count("paying 1") == 1


def test_a_parent_whose_worker_is_killed_again_and_again_while_it_starts_children_starts_each_once(host: Shop) -> None:
    parent = host.enqueue("orders", {"count": 28})
    for round in range(2):
        host.until(lambda: len(children(host, parent)) > 6 + 6 * round, what="some children")  # noqa: B023
        for worker in host.workers():
            if worker["pid"]:
                kill(worker["pid"])

    host.ended(parent)
    assert len(children(host, parent)) == 28


def test_a_child_that_is_killed_runs_again_and_its_parent_waits_on(host: Shop) -> None:
    parent = host.enqueue("orders", {"count": 1, "until": "go"})
    host.noted("at go")
    host.is_now(parent, "waiting")

    host.kill_worker()
    host.noted("at go", times=2)
    host.let("go")

    assert value(host, parent) == '"0.5 2026-01-01"'


def test_an_engine_that_is_started_again_wakes_a_parent_when_its_child_ends(tmp_path: Path, runtime: Path) -> None:
    with started(tmp_path / "shop", "def", toml='[workflows]\ndrain_timeout = "100ms"\n') as host:
        parent = host.enqueue("orders", {"count": 2, "until": "go"})
        host.noted("at go", times=2)
        host.is_now(parent, "waiting")
    with started(tmp_path / "shop", "def") as host:
        host.let("go")
        assert value(host, parent) == '"0.5 2026-01-01 1 2026-01-02"'


# --- cancelled together ---------------------------------------------------------------------------------------------


def test_cancelling_a_parent_cancels_all_its_descendants(host: Shop) -> None:
    parent = host.enqueue("family", {"depth": 2})
    host.noted("at go", times=4)

    host.ok("cancel", id=parent, reason="withdrawn")

    everyone = host.runs(workflow="family")
    assert len(everyone) == 7
    assert {run["status"] for run in everyone} == {"cancelled"}
    host.let("go")
    host.ended(host.enqueue("pay", {"order": 9}))
    assert "a step after the cancel" not in host.notes()


def test_no_child_escapes_a_cancel_that_comes_while_children_are_started(host: Shop) -> None:
    parent = host.enqueue("starts_for_ever")
    host.until(lambda: len(children(host, parent)) > 30, what="children")

    host.ok("cancel", id=parent)

    assert children(host, parent, "pending") == []
    before = len(children(host, parent))
    host.ended(host.enqueue("pay", {"order": 1}))
    assert len(children(host, parent)) == before


def test_a_parent_that_stops_itself_stops_its_children(host: Shop) -> None:
    parent = host.enqueue("stops_itself")
    host.noted("at never")

    host.let("stop now")
    host.ended(parent, status="cancelled")

    [child] = children(host, parent)
    assert host.ended(child, status="cancelled")["reason"] == f"its parent {parent} was cancelled: withdrawn"
    host.let("never")
    host.ended(host.enqueue("pay", {"order": 1}))
    assert "a step after the cancel" not in host.notes()


# --- retried together -----------------------------------------------------------------------------------------------


def test_a_retry_of_the_parent_runs_its_failed_children_again_and_no_other(one: Shop) -> None:
    parent = one.enqueue("meets_errors", {"return_exceptions": False})
    one.ended(parent, status="dead")
    before = children(one, parent)
    one.save(all=(one.folder / "workflows/all.py").read_text().replace("raise ValueError(words)", "return"))
    one.is_proven()

    one.ok("retry", id=parent)

    # `stops` stops again, and that is what the parent meets now.
    assert "RunCancelled" in one.ended(parent, status="dead")["reason"]
    assert children(one, parent) == before
    assert [one.show(child)["status"] for child in before] == ["succeeded", "succeeded", "succeeded", "cancelled"]
    assert one.notes().count("paying 1") == 1


# --- several waits at once ------------------------------------------------------------------------------------------


def test_each_branch_of_a_handler_goes_on_when_what_it_waits_for_is_there(one: Shop) -> None:
    parent = one.enqueue("races")
    one.noted("at paid")
    one.is_now(parent, "sleeping")

    one.ok("signal_run", id=parent, signal="go", payload_json='"early"')
    one.noted("told early")
    one.is_now(parent, "sleeping")
    one.let("paid")
    one.noted("gathered")
    one.is_now(parent, "sleeping")
    one.leap(9.1)

    assert value(one, parent) == '["early","0.5","slept"]'
    assert one.notes().count("told early") == one.notes().count("gathered") == 1


# --- workers that cannot start --------------------------------------------------------------------------------------

MAIL = """
from tako import Context, workflow

@workflow(group="mail")
def post(ctx: Context, to: str) -> str:
    return f"posted to {to}"
"""
POSTS = """
from tako import Context, workflow
from workflows.mail import post

@workflow
def sends(ctx: Context) -> list[str]:
    return ctx.gather(ctx.start("post", post, "ann"))
"""


def test_a_child_of_a_group_that_cannot_start_is_stored_and_blocked_and_runs_when_mended(
    tmp_path: Path, runtime: Path
) -> None:
    also = "import nowhere\n" + MAIL.replace("post", "other")
    with Shop(shop.make(tmp_path / "shop", POSTS, mail=MAIL, also=also)) as host:
        host.is_proven()
        host.until(lambda: host.host.groups.pools["mail"].state.failure, what="the group mail has failed")
        parent = host.enqueue("sends")
        host.is_now(parent, "waiting")
        [child] = children(host, parent)

        info = host.is_now(child, "blocked")

        assert info["blocked"].startswith("worker exited with status 1")
        assert any("a run of post is stored although" in line for line in host.log())
        host.save(also=also.replace("import nowhere\n", ""))
        assert value(host, parent) == '["posted to ann"]'


# --- for people -----------------------------------------------------------------------------------------------------


def test_runs_show_has_the_children_and_whom_a_parent_waits_for(
    one: Shop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(one.folder)
    cli = Cli(one.folder, capsys)
    parent = one.enqueue("orders", {"count": 2, "until": "go"})
    one.is_now(parent, "waiting")

    page = cli("runs", "show", parent).out
    document = cli("runs", "show", parent, "--json").json

    first, second = children(one, parent)
    assert f"waits     for 2 runs: {first}, {second}" in page
    assert f"child {first}" in page
    assert [(child["id"], child["workflow"]) for child in document["children"]] == [(first, "pay"), (second, "pay")]
    one.let("go")
    one.ended(parent)


def test_handles_know_children_and_an_ack_of_the_parent_covers_them(one: Shop) -> None:
    run_id = one.enqueue("meets_errors", {"return_exceptions": False})
    one.ended(run_id, status="dead")

    with one.as_app():
        steps = tako.get_run(run_id).steps()
        kinds = [step.child.status() if step.child else None for step in steps]
        with pytest.raises(tako.RunFailed, match="no money"):
            tako.get_run(run_id).result()

    assert kinds == ["succeeded", "dead", "dead", "cancelled"]
    assert one.ok("ack", ids=[run_id]) == {"count": 3}
    assert one.problems("dead_runs") == []
