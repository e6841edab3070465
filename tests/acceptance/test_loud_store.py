"""Loud: enqueues, signals, queues, settings and storage. Rows 5, 6, 17, 26, 28, 33, 36 and 37 of docs/loud.md.

A full disk: `test_one_clear_message.py`; row 29: `test_in_time.py`.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from tests.acceptance.apps import greeting_app
from tests.support.dev import Dev, write
from tests.support.locks import locked
from tests.support.loud import GREET, Shopkeeper

import tako
from tako.host import rescue
from tako.sdk import runtime

TOP = "import time\nfrom pathlib import Path\nfrom tako import Context, Signal, workflow\n\n"
MINUTES_MS = 60_000


# --- rows 5, 6 and 37: what the caller asks -------------------------------------------------------------------------


def test_5_a_name_that_no_code_declares_is_refused_with_the_nearest(shop: Shopkeeper) -> None:
    with shop() as it:
        it.ready()

        with pytest.raises(tako.UnknownWorkflow, match="no code declares a workflow named 'great'") as raised:
            it.enqueue("great", name="Ann")

        assert "Did you mean greet?" in str(raised.value)
        assert it.runs("great") == []


def test_5_stored_runs_of_a_name_that_is_gone_are_shown_and_logged(shop: Shopkeeper) -> None:
    with shop() as it:
        it.ready()
        stored = tako.enqueue("greet", {"name": "Ann"}, delay="300ms")
        it.save(GREET.replace("def greet", "def welcome"))

        assert "greet" in it.problem("unroutable_runs")["what"]
        it.logged("error", "greet.*no code declares this workflow")
        it.until(lambda: it.state(stored.id)["status"] == "blocked", what="the run is blocked")

        it.save(GREET)
        it.ended(stored.id)


def test_6_arguments_that_do_not_fit_are_refused_before_anything_is_stored(shop: Shopkeeper) -> None:
    with shop() as it:
        it.ready()

        for args, named in (({}, "name"), ({"name": 1}, "name"), ({"name": "Ann", "nmae": "x"}, "nmae")):
            with pytest.raises(tako.PayloadError, match=named):
                it.enqueue("greet", **args)

        assert it.runs("greet") == []


def test_37_an_id_that_nobody_knows_is_an_error_and_never_pending(shop: Shopkeeper) -> None:
    with shop() as it:
        for call in (tako.get_run, lambda run_id: it.host and tako.Run(run_id, "greet").status()):
            with pytest.raises(tako.RunNotFound, match="there is no run 0198"):
                call("0198aaaa-0000-7000-8000-000000000000")


# --- row 17 ---------------------------------------------------------------------------------------------------------

SLOW = TOP + (
    "@workflow(max_pending=2)\ndef slow(ctx: Context) -> None:\n"
    "    while not Path('go').exists():\n        time.sleep(0.02)\n"
)


def test_17_a_queue_that_grows_old_is_a_warning_then_an_error_with_one_line_each(shop: Shopkeeper) -> None:
    with shop(SLOW, settings="[workflows]\nconcurrency = 1") as it:
        it.ready()
        first = it.enqueue("slow")
        it.until(lambda: it.state(first)["status"] == "running", what="the only place is taken")
        waiting = it.enqueue("slow")

        for minutes, severity in ((6, "warning"), (31, "error")):
            due_ms = it.clock.now_ms() - minutes * MINUTES_MS
            it.change_store("UPDATE runs SET run_at_ms = ? WHERE id = ?", due_ms, waiting)
            it.rounds()
            it.rounds()
            words = f"the oldest waiting run of slow has waited for {minutes} min"
            assert len(it.lines(severity, words)) == 1
            problem = it.problem("old_backlog")
            assert (problem["severity"], problem["what"]) == (severity, words)
            assert it.status()["ok"] is (severity == "warning")

        (it.folder / "go").touch()
        it.ended(waiting)
        it.rounds()
        it.logged("info", "backlog of slow is short again")
        it.no_problem("old_backlog")


def test_17_a_queue_that_is_full_refuses_and_stores_nothing(shop: Shopkeeper) -> None:
    with shop(SLOW) as it:
        it.ready()
        for _ in range(2):
            it.enqueue("slow")

        with pytest.raises(tako.QueueFull, match="slow has 2 unfinished runs and max_pending is 2"):
            it.enqueue("slow")

        assert len(it.runs("slow")) == 2
        (it.folder / "go").touch()


# --- row 26 ---------------------------------------------------------------------------------------------------------

SHIPS = TOP + (
    "shipped = Signal('shipped', str)\n\n"
    "@workflow(signals=[shipped], key='order:{order}')\ndef ships(ctx: Context, order: int) -> str:\n"
    "    while not Path('go').exists():\n        time.sleep(0.02)\n"
    "    return ctx.wait_for(shipped, timeout='1h')\n"
)


def test_26_a_signal_that_comes_early_is_kept_and_one_to_nobody_or_misspelt_is_raised_at_its_sender(
    shop: Shopkeeper,
) -> None:
    def send(name: str = "shipped", value: str = '"DHL"', **where: str) -> None:
        fields = {"signal": name, "payload_json": value, **where}
        runtime.engine().call("signal_run", fields, deadline_s=5)

    with shop(SHIPS) as it:
        it.ready()
        run_id = it.enqueue("ships", order=7)
        for where in ({"id": run_id}, {"workflow": "ships", "key": "order:7"}):
            with pytest.raises(tako.UnknownSignal, match="'ships' declares no signal 'shiped'; it declares: 'shipped'"):
                send("shiped", **where)
        with pytest.raises(tako.RunNotFound):
            send(id="0198aaaa-0000-7000-8000-000000000000")
        with pytest.raises(tako.RunNotFound, match="no run of ships with the key 'order:8'"):
            send(workflow="ships", key="order:8")

        with pytest.raises(tako.PayloadError, match="signal shipped: expected a text, found a number; nothing was"):
            send(value="3", id=run_id)

        send(id=run_id)  # before the wait
        assert it.state(run_id)["signals"][0]["name"] == "shipped"
        (it.folder / "go").touch()
        assert it.ended(run_id)["result_json"] == '"DHL"'

        with pytest.raises(tako.RunFinished, match="has ended"):
            send(id=run_id)


def test_26_a_signal_that_nobody_took_is_a_warning_on_the_run(shop: Shopkeeper) -> None:
    with shop(SHIPS.replace("ctx.wait_for(shipped, timeout='1h')", "'nothing'")) as it:
        run_id = it.enqueue("ships", order=7)
        runtime.engine().call("signal_run", {"id": run_id, "signal": "shipped", "payload_json": '"a"'}, deadline_s=5)
        (it.folder / "go").touch()

        assert it.ended(run_id)["warnings"] == ["it ended with signals that no wait_for has taken: shipped"]


# --- row 28 -------------------------------------------------------------------------------------------------


def test_28_a_locked_store_refuses_in_bounded_time_naming_the_holder_and_goes_on_by_itself(shop: Shopkeeper) -> None:
    with shop() as it:
        it.ready()
        with locked(it.host.places.database) as pid:
            began = time.monotonic()
            with pytest.raises(tako.StoreUnavailable, match=f"is locked by pid {pid}"):
                it.enqueue("greet", name="Ann")
            assert time.monotonic() - began < 4.0

            assert f"locked by pid {pid}" in it.problem("store_unavailable")["what"]
            it.logged("error", f"the store cannot be written: .* is locked by pid {pid}")
            assert f"locked by pid {pid}" in it.alerted("store_unavailable")["what"]
            assert it.runs("greet") == []

        it.rounds()
        it.no_problem("store_unavailable")
        it.logged("info", "the store can be written again")
        it.ended(it.enqueue("greet", name="Ann"))


def test_28_a_disk_that_is_nearly_full_refuses_enqueues_before_the_store_meets_its_end(
    shop: Shopkeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    with shop() as it:
        it.ready()
        # Every disk has less than this.
        monkeypatch.setattr(rescue, "MIN_FREE_BYTES", 2**70)
        monkeypatch.setattr(rescue, "MIN_FREE_SHARE", 2.0)
        it.rounds()

        with pytest.raises(tako.StoreUnavailable, match=r"nearly full: .* KiB left; nothing was enqueued"):
            it.enqueue("greet", name="Ann")
        assert "nearly full" in it.problem("store_unavailable")["what"]
        it.logged("error", "nearly full: .* KiB left. Enqueues are refused until there is room")
        it.rounds()
        assert len(it.lines("error", "nearly full")) == 1
        assert "nearly full" in it.alerted("store_unavailable")["what"]

        monkeypatch.undo()
        it.rounds()
        it.logged("info", "the disk has room again")
        it.no_problem("store_unavailable")


# --- row 33 ---------------------------------------------------------------------------------------------------------


def test_33_a_key_that_is_unknown_or_misplaced_stops_tako_dev_with_file_line_and_the_nearest(folder: Path) -> None:
    write(folder, greeting_app(**{"tako.toml": "[workflows]\nconcurency = 2\n\n[web]\nworkers = 2\n"}))
    dev = Dev(folder).start(ready=None)

    assert dev.wait() == 1
    assert "tako.toml:2: workflows.concurency" in dev.screen()
    assert "concurrency" in dev.screen()
    assert "tako.toml:5: web.workers" in dev.screen()
    assert "Traceback" not in dev.screen()


def test_33_a_group_table_that_no_workflow_uses_is_an_error_with_file_and_line(shop: Shopkeeper) -> None:
    with shop(settings="[workflows.mial]\nworkers = 1") as it:
        it.ready()

        it.logged("error", r"tako.toml:2: workflows.mial: no workflow is of this group")
        assert "tako.toml:2: workflows.mial" in it.problem("settings")["what"]

        it.save({"workflows/mail.py": GREET.replace("@workflow", "@workflow(group='mial')").replace("greet", "mail")})
        it.no_problem("settings")


# --- row 36 ---------------------------------------------------------------------------------------------------------


def test_36_work_cut_off_at_shutdown_is_handed_back_uncounted_and_its_number_is_told(shop: Shopkeeper) -> None:
    hangs = SLOW.replace("max_pending=2", "retries=0")
    with shop(hangs, settings='[workflows]\ndrain_timeout = "300ms"') as it:
        ids = [it.enqueue("slow") for _ in range(2)]
        it.until(lambda: all(it.state(run_id)["status"] == "running" for run_id in ids), what="both run")
    told = it.lines("info", "runs had not finished and were handed back, uncounted: they go on at the next start")
    assert told[0]["message"].startswith("2 runs")

    (it.folder / "go").touch()
    with shop(hangs) as it:
        for run_id in ids:
            it.ended(run_id)
            run = it.state(run_id, "attempts")
            assert run["attempt"] == 1
            assert [attempt["outcome"] for attempt in run["attempts"]] == ["succeeded"]


def test_36_tako_dev_says_it_in_its_closing_lines(folder: Path) -> None:
    write(
        folder,
        {
            "workflows/__init__.py": "",
            "workflows/slow.py": SLOW.replace("max_pending=2", "retries=0"),
            "tako.toml": '[workflows]\ndrain_timeout = "300ms"\n',
        },
    )
    dev = Dev(folder, "--no-web").start(ready="workflows")
    enqueued = dev.tako("enqueue", "slow")
    assert enqueued.returncode == 0, enqueued.stderr
    dev.wait_for("slow.*started")

    dev.stop()

    assert "1 run may finish" in dev.screen()
    assert "1 run had not finished and was handed back, uncounted: it goes on at the next start" in dev.screen()
