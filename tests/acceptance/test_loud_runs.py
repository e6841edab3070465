"""Loud: what goes wrong inside of runs. Rows 7 to 9, 18 to 25, 27 and 38 of docs/loud.md."""

from __future__ import annotations

import os
import re
import signal

import pytest
from tests.support.dev import until
from tests.support.loud import GREET, Shop, Shopkeeper

import tako
from tako.host import groups, holding

TOP = "import asyncio, os, time\nfrom decimal import Decimal\nfrom pathlib import Path\n"
TOP += "from tako import AsyncContext, Context, Retry, Signal, workflow\n\n"


# --- row 7 ----------------------------------------------------------------------------------------------------------


def test_7_stored_arguments_that_no_longer_fit_are_warned_of_when_saved_and_dead_when_claimed(
    shop: Shopkeeper,
) -> None:
    with shop() as it:
        it.ready()
        stored = tako.enqueue("greet", {"name": "Ann"}, delay="1h")
        it.save(GREET.replace("name: str) -> str:\n    return ctx", "name: str, title: str) -> str:\n    return ctx"))

        words = "1 waiting run of greet does not fit its parameters any more and will be dead when claimed: argument "
        it.logged("warning", words)
        problem = it.problem("misfit_runs")
        assert problem["severity"] == "warning"
        assert words in problem["what"]

        wake(it, stored.id)
        dead = it.dead(stored.id)
        assert dead["error"].startswith("the stored payload does not fit: missing 'title'")
        assert dead["attempt"] == 1, "no retries burnt"
        it.no_problem("misfit_runs")
        assert it.alerted("dead_run")["what"] == "greet is dead: the stored payload does not fit"

        it.save(GREET)
        it.ok("retry", id=stored.id)
        it.ended(stored.id)


def test_7_the_warning_goes_when_the_change_is_taken_back(shop: Shopkeeper) -> None:
    with shop() as it:
        it.ready()
        stored = tako.enqueue("greet", {"name": "Ann"}, delay="1h")
        it.save(GREET.replace("name: str) -> str:\n    return ctx", "name: int) -> str:\n    return ctx"))
        it.problem("misfit_runs")

        it.save(GREET)

        it.no_problem("misfit_runs")
        it.logged("info", "the waiting runs of greet fit its parameters again")
        assert it.state(stored.id)["status"] == "pending"


# --- row 8 ----------------------------------------------------------------------------------------------------------

KILLS = (
    TOP
    + """
@workflow
def report(ctx: Context) -> None:
    ctx.step("load", lambda: 1)
    ctx.step("render", render)


@workflow
async def report_at_once(ctx: AsyncContext) -> None:
    await ctx.step("load", lambda: 1)
    await asyncio.gather(ctx.step("read", read), ctx.step("render", render))


async def read() -> None:
    await asyncio.sleep(60)


def render() -> None:
    os.kill(os.getpid(), 9)
"""
)


@pytest.mark.parametrize(
    ("workflow", "place"), [("report", "in step 'render'"), ("report_at_once", "in steps 'read' and 'render'")]
)
def test_8_a_run_that_kills_its_worker_again_and_again_is_dead_and_names_the_signal_and_the_step(
    shop: Shopkeeper, workflow: str, place: str
) -> None:
    with shop(KILLS) as it:
        dead = it.dead(it.enqueue(workflow))

        words = f"worker died 3 times running it (SIGKILL) {place}"
        assert dead["error"] == words
        deaths = [attempt["error"] for attempt in dead["attempts"]]
        assert deaths == ["its worker died: SIGKILL", f"its worker died: SIGKILL {place}", words]
        assert it.problem("dead_runs")["severity"] == "error"
        it.logged("error", re.escape(words))
        assert words in str(it.alerted("dead_run"))


# --- row 9 ----------------------------------------------------------------------------------------------------------


def test_9_a_worker_that_is_frozen_beyond_its_lease_is_fenced_off_and_the_run_goes_on_elsewhere(
    shop: Shopkeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (groups, holding):
        monkeypatch.setattr(module, "LEASE_S", 1.0)
        monkeypatch.setattr(module, "HEARTBEAT_S", 0.2)
    flows = (
        TOP + "@workflow(retries=0)\ndef slow(ctx: Context) -> str:\n    return ctx.step('work', work)\n\n"
        "def work() -> str:\n"
        "    with Path('starts').open('a') as file:\n        file.write(f'{os.getpid()}\\n')\n"
        "    while not Path('go').exists():\n        time.sleep(0.02)\n"
        "    return str(os.getpid())\n"
    )
    with shop(flows) as it:
        run_id = it.enqueue("slow")
        starts = it.folder / "starts"
        until(lambda: starts.exists() and starts.read_text(), what="the step runs")
        frozen = int(starts.read_text())
        os.kill(frozen, signal.SIGSTOP)
        until(lambda: len(starts.read_text().split()) == 2, what="another worker has it")
        os.kill(frozen, signal.SIGCONT)
        it.logged("warning", "lost the run, so its handler is stopped and changes nothing more")
        (it.folder / "go").touch()

        done = it.ended(run_id)
        second = starts.read_text().split()[1]
        assert second != str(frozen)
        assert done["result_json"] == f'"{second}"', "the result of the one that held the lease"
        outcomes = [attempt["outcome"] for attempt in it.state(run_id, "attempts")["attempts"]]
        assert outcomes == ["crashed", "succeeded"]
        it.logged("error", "worker stopped answering for 30s")


# --- rows 18 and 19 -------------------------------------------------------------------------------------------------


def test_18_a_step_that_blocks_the_event_loop_is_told_with_its_line(shop: Shopkeeper) -> None:
    flows = (
        TOP + "@workflow\nasync def blocks(ctx: AsyncContext) -> None:\n    await ctx.step('wait', wait)\n\n"
        "async def wait() -> None:\n    time.sleep(1.6)\n"
    )
    with shop(flows) as it:
        it.ended(it.enqueue("blocks"))

        line = it.logged("warning", r"the event loop has been blocked for \d\.\ds by .*workflows/flows.py:11")
        assert "`def`" in line["message"]
        assert "time.sleep(1.6)" in line["message"], "the stack"


def test_19_a_handler_that_hangs_ends_at_its_timeout_with_its_stack_on_the_run(shop: Shopkeeper) -> None:
    flows = (
        TOP + "@workflow(retries=0, step_timeout='500ms')\n"
        "def hangs(ctx: Context) -> None:\n    ctx.step('forever', forever)\n\n"
        "def forever() -> None:\n    while not Path('enough').exists():\n        time.sleep(0.05)\n"
    )
    with shop(flows) as it:
        run_id = it.enqueue("hangs")

        dead = it.dead(run_id)

        (it.folder / "enough").touch()
        assert "TimeoutError: step 'forever' did not end within 0.5s (workflows/flows.py:1" in dead["error"]
        assert "Stack of the handler when its time was up" in dead["traceback"]
        assert "in forever" in dead["traceback"]
        it.logged("error", "TimeoutError: step 'forever' did not end within 0.5s")
        it.alerted("dead_run")


# --- rows 20 to 23: steps -------------------------------------------------------------------------------------------

STEPS = (
    TOP
    + """
@workflow
def unstorable(ctx: Context) -> None:
    ctx.step("charge", lambda: {"items": [1, object()]})


@workflow
def changes_type(ctx: Context) -> str:
    first = ctx.step("pay", pay)
    return type(first).__name__


def pay() -> tuple[int, Decimal]:
    return (1, Decimal("9.90"))


@workflow
async def forgets(ctx: AsyncContext) -> None:
    ctx.step("mail", mail)
    await asyncio.sleep(0)


def mail() -> None:
    Path("mailed").touch()


@workflow
def twice(ctx: Context) -> None:
    ctx.step("mail", mail)
    ctx.step("mail", mail)


@workflow
async def at_once(ctx: AsyncContext) -> None:
    await asyncio.gather(ctx.step("mail", mail), ctx.step("mail", mail))
"""
)


def test_20_a_step_result_that_cannot_be_stored_ends_the_run_with_its_path_and_burns_no_retry(shop: Shopkeeper) -> None:
    with shop(STEPS) as it:
        dead = it.dead(it.enqueue("unstorable"))

        assert "StepResultError: step 'charge': result.items[1]" in dead["error"]
        assert dead["attempt"] == 1
        it.logged("error", "StepResultError")
        assert "StepResultError" in it.alerted("dead_run")["what"]


def test_20_a_step_gives_on_the_first_pass_what_every_later_one_will_see(shop: Shopkeeper) -> None:
    with shop(STEPS) as it:
        assert tako.get_run(it.enqueue("changes_type")).result() == "tuple"


def test_21_a_step_without_await_fails_the_run_and_names_the_line(shop: Shopkeeper) -> None:
    with shop(STEPS) as it:
        dead = it.dead(it.enqueue("forgets"))

        assert "StepError" in dead["error"]
        assert "workflows/flows.py:24" in dead["error"]
        assert "await" in dead["error"]
        assert not (it.folder / "mailed").exists()
        it.logged("error", "was called without await")
        assert it.problem("dead_runs")
        assert "StepError" in it.alerted("dead_run")["what"]


def test_22_there_is_no_step_outside_of_a_run(shop: Shopkeeper) -> None:
    assert not hasattr(tako, "step")
    with shop() as it:
        flows = it.folder / "workflows/flows.py"
        code = compile(flows.read_text(), str(flows), "exec")
        declared: dict[str, object] = {"__name__": "elsewhere"}
        exec(code, declared)
        with pytest.raises(TypeError, match=r"greet\.enqueue\("):
            declared["greet"](name="Ann")  # type: ignore[operator]
        assert it.ok("list_runs")["runs"] == []


@pytest.mark.parametrize("workflow", ["twice", "at_once"])
def test_23_two_steps_of_one_name_are_an_error_that_suggests_another(shop: Shopkeeper, workflow: str) -> None:
    with shop(STEPS) as it:
        dead = it.dead(it.enqueue(workflow))

        assert "the step 'mail' was called twice in one attempt" in dead["error"].lower()
        assert 'f"mail-{item_id}"' in dead["error"] + dead["traceback"]
        it.logged("error", "StepError: The step 'mail' was called twice in one attempt")


def test_23_a_step_that_was_renamed_under_a_run_is_a_warning_with_both_names(shop: Shopkeeper) -> None:
    before = (
        TOP + "@workflow\ndef sells(ctx: Context) -> None:\n    ctx.step('charge', lambda: None)\n"
        "    ctx.sleep('pause', '1h')\n    ctx.step('ship', lambda: None)\n"
    )
    with shop(before) as it:
        run_id = it.enqueue("sells")
        it.until(lambda: it.state(run_id)["status"] == "sleeping", what="the run sleeps")
        it.save(before.replace("'charge'", "'charge-card'"))
        it.ready()
        wake(it, run_id)

        warnings = it.ended(run_id)["warnings"]

        assert any("'charge-card'" in warning and "'charge'" in warning for warning in warnings), warnings
        it.logged("warning", "'charge'")


# --- rows 24 and 25 -------------------------------------------------------------------------------------------------

FAILS = (
    TOP
    + """
@workflow(retries=Retry(2, first="50ms"))
def charges(ctx: Context, card: str) -> None:
    ctx.step("charge", charge, card)


def charge(card: str) -> None:
    raise ConnectionError(f"the bank does not know {card}")


@workflow(retries=5)
def misspelt(ctx: Context) -> None:
    chrage()
"""
)


def test_24_a_failure_is_logged_the_first_time_and_a_dead_run_is_red_until_somebody_has_seen_it(
    shop: Shopkeeper,
) -> None:
    with shop(FAILS) as it:
        run_id = it.enqueue("charges", card="4242-hunter22")

        first = it.logged("error", "ConnectionError")
        assert it.state(run_id)["status"] in ("pending", "running"), "logged before the retries are used up"
        assert "Traceback" in first["message"]
        assert "workflows/flows.py" in first["message"]
        dead = it.dead(run_id)
        assert dead["attempt"] == 3
        it.logged("error", f"is dead: ConnectionError: the bank does .*\nRun it again: tako runs retry {run_id}")
        it.until(lambda: len(it.lines("error", "^ConnectionError")) == 3, what="a line for each attempt")
        it.logged("info", r"attempt 2 failed; the next one begins in 0\.\ds")
        assert not it.status()["ok"]
        assert "1 dead run nobody has seen: charges (1)" in it.problem("dead_runs")["what"]
        told = it.alerted("dead_run")
        assert told["what"] == "charges is dead: ConnectionError"
        assert run_id in told["cure"]
        assert "hunter22" not in str(told), "no payload in an alert"

        it.ok("ack", ids=[run_id])
        assert it.status()["ok"]


def test_25_a_programming_error_is_final_at_once(shop: Shopkeeper) -> None:
    with shop(FAILS) as it:
        dead = it.dead(it.enqueue("misspelt"))

        assert dead["error"] == "NameError: name 'chrage' is not defined"
        assert dead["attempt"] == 1
        it.logged("error", "NameError")
        it.alerted("dead_run")


# --- row 27 ---------------------------------------------------------------------------------------------------------

WAITS = (
    TOP
    + """
shipped = Signal("shipped", str)


@workflow(signals=[shipped], retries=0)
def ships(ctx: Context) -> str:
    return ctx.wait_for(shipped, timeout="300ms")


@workflow(signals=[shipped], retries=0)
def forgets_the_timeout(ctx: Context) -> str:
    return ctx.wait_for(shipped)
"""
)


def test_27_a_wait_needs_a_timeout_and_raises_at_its_end(shop: Shopkeeper) -> None:
    with shop(WAITS) as it:
        assert "SignalTimeout: no signal 'shipped' came before the timeout" in it.dead(it.enqueue("ships"))["error"]
        it.logged("error", "SignalTimeout: no signal 'shipped' came before the timeout")
        assert "timeout" in it.dead(it.enqueue("forgets_the_timeout"))["error"]
        assert len(it.hook.wait_of("dead_run", 2)) == 2


# --- row 38 ---------------------------------------------------------------------------------------------------------


def test_38_a_saved_result_that_cannot_be_read_ends_the_run_and_is_never_null(shop: Shopkeeper) -> None:
    flows = (
        TOP + "@workflow\ndef sells(ctx: Context) -> str:\n    paid = ctx.step('charge', charge)\n"
        "    ctx.sleep('pause', '1h')\n    return f'paid {paid}'\n\n"
        "def charge() -> str:\n    return 'yes'\n"
    )
    with shop(flows) as it:
        run_id = it.enqueue("sells")
        it.until(lambda: it.state(run_id)["status"] == "sleeping", what="the run sleeps")
        it.change_store("UPDATE steps SET result = '\"ye' WHERE name = 'charge'")
        wake(it, run_id)

        dead = it.dead(run_id)

        assert "step 'charge': stored result unreadable" in dead["error"]
        assert dead["attempt"] == 1
        it.logged("error", "stored result unreadable")
        it.alerted("dead_run")
        assert it.problem("dead_runs")


def wake(it: Shop, run_id: str) -> None:
    """Let the time of a sleeping run have come."""
    it.change_store("UPDATE runs SET run_at_ms = 0 WHERE id = ?", run_id)
    it.change_store("UPDATE waiters SET wake_at_ms = 0")
    it.loop.call_soon_threadsafe(it.host.dispatcher._expect, 0)
