"""Loud: schedules that stop, are missed, or pile up, and clocks that jump. Rows 11 to 16 of docs/loud.md.

Hours that come twice or never: `tests/cron/test_ticker.py` and `test_expression.py`.
"""

from __future__ import annotations

from tests.support.locks import locked
from tests.support.loud import Shopkeeper

TOP = "import time\nfrom pathlib import Path\nfrom tako import Context, Cron, Every, workflow\n\n"
HOURS_MS = 3_600_000


def test_11_a_schedule_that_stopped_is_late_in_every_channel_and_fires_when_it_can_again(shop: Shopkeeper) -> None:
    beats = TOP + "@workflow(schedule=Every('1s', grace='1s'))\ndef beats(ctx: Context) -> None: ...\n"
    with shop(beats) as it:
        it.until(lambda: it.runs("beats"), what="it fires")
        with locked(it.host.places.database):

            def late() -> bool:
                it.rounds()
                return bool(it.lines("error", r"schedule every 1s of beats is \d+ s late"))

            it.until(late, what="the lateness is logged")
            assert "schedule 'every 1s' of beats is" in it.problem("late_schedule")["what"]
            assert not it.status()["ok"]
            assert it.schedules()["beats"]["late_ms"] > 0
            assert "schedule every 1s of beats is" in it.alerted("late_schedule")["what"]
            it.rounds()
            assert len(it.lines("error", "of beats is")) == 1, "one line, however long it lasts"

        before = len(it.runs("beats"))
        it.until(lambda: len(it.runs("beats")) > before, what="it fires again", timeout_s=60)

        def in_time() -> bool:
            it.rounds()
            return bool(it.lines("info", "schedule every 1s of beats is not late any more"))

        it.until(in_time, what="it is in time again")


def test_11_a_schedule_fires_with_no_worker_running(shop: Shopkeeper) -> None:
    beats = TOP + "@workflow(schedule=Every('2s'))\ndef beats(ctx: Context) -> None: ...\n"
    with shop(beats, settings='[workflows]\nidle_timeout = "100ms"') as it:
        it.ready()
        it.until(lambda: not it.workers(), what="no worker is left")

        it.until(lambda: it.runs("beats"), what="it fires")
        it.ended(it.runs("beats")[0]["id"])


def test_12_of_what_was_missed_while_the_machine_was_down_the_newest_fires_and_the_others_are_counted_and_shown(
    shop: Shopkeeper,
) -> None:
    hourly = TOP + "@workflow(schedule=Every('1h'))\ndef hourly(ctx: Context) -> None: ...\n"
    with shop(hourly) as it:
        it.ready()
        it.until(lambda: "hourly" in it.schedules(), what="the schedule is known")

    later = shop(hourly)
    later.clock.wall_ahead_ms = 10 * HOURS_MS
    with later as it:
        it.until(lambda: it.runs("hourly"), what="the newest fires")

        it.logged("warning", r"schedule every 1h of hourly: (9|10) missed times were skipped")
        assert len(it.runs("hourly")) == 1
        assert it.schedules()["hourly"]["skipped"] in (9, 10)
        problem = it.problem("skipped_schedule")
        assert problem["severity"] == "warning"
        assert "missed times were skipped (at " in problem["what"]


def test_13_the_next_due_time_is_stored_and_not_counted_from_the_start_of_a_process(shop: Shopkeeper) -> None:
    yearly = TOP + "@workflow(schedule='0 0 1 1 *')\ndef yearly(ctx: Context) -> None: ...\n"
    due = []
    for release in range(3):
        with shop(yearly + f"# release {release}\n") as it:
            it.ready()
            it.until(lambda it=it: "yearly" in it.schedules(), what="the schedule is known")  # type: ignore[misc]
            due.append(it.schedules()["yearly"]["next_ms"])
            now_ms = it.clock.now_ms()
    assert len(set(due)) == 1

    long_after = shop(yearly)
    long_after.clock.wall_ahead_ms = due[0] - now_ms + 1_000
    with long_after as it:
        it.until(lambda: it.runs("yearly"), what="it fires although every process was younger than its interval")


def test_14_schedules_are_those_of_the_code_and_what_changes_is_printed(shop: Shopkeeper) -> None:
    def code(name: str) -> str:
        return TOP + f"@workflow(schedule=Every('1s'))\ndef {name}(ctx: Context) -> None: ...\n"

    with shop(code("before")) as it:
        it.until(lambda: it.runs("before"), what="it fires")
        it.save(code("after"))

        it.logged("info", "schedule every 1s of before was removed")
        it.logged("info", "schedule every 1s of after was added")
        assert list(it.schedules()) == ["after"]
        fired = len(it.runs("before"))
        it.until(lambda: len(it.runs("after")) >= 2, what="the new one fires, and waits for no worker")
        assert len(it.runs("before")) == fired, "the old one does not"


def test_14_a_group_whose_last_file_is_deleted_takes_its_schedules_along(shop: Shopkeeper) -> None:
    def code(name: str) -> str:
        return TOP + f"@workflow(schedule=Every('1s'), group='{name}')\ndef {name}(ctx: Context) -> None: ...\n"

    settings = "[workflows.mail]\n[workflows.work]"
    files = {"workflows/mail.py": code("mail"), "workflows/work.py": code("work")}
    with shop(files, settings=settings) as it:
        it.until(lambda: it.schedules().keys() == {"mail", "work"}, what="both are known")
        (it.folder / "workflows/mail.py").unlink()
        it.ok("reload")

        it.logged("info", "schedule every 1s of mail was removed")
        assert list(it.schedules()) == ["work"]

    with shop({}, settings=settings) as it:
        (it.folder / "workflows/work.py").unlink()
        it.ok("reload")
        it.until(lambda: not it.schedules(), what="the last one is gone too")


def test_15_overlapping_fires_do_not_pile_up_and_each_skip_is_recorded(shop: Shopkeeper) -> None:
    slow = (
        TOP + "@workflow(schedule=Every('1s'))\ndef slow(ctx: Context) -> None:\n"
        "    while not Path('go').exists():\n        time.sleep(0.02)\n"
    )
    with shop(slow) as it:
        it.until(lambda: it.runs("slow"), what="it fires")
        it.until(lambda: it.schedules()["slow"]["skipped"] >= 2, what="two fires are skipped")

        (only,) = it.runs("slow")
        it.logged("warning", f"schedule every 1s of slow: skipped, the run before \\({only['id']}\\) has not ended")
        problem = it.problem("skipped_schedule")
        assert "times since" in problem["what"]
        assert it.status()["ok"], "a skip is what the schedule asks for"
        (it.folder / "go").touch()
        it.until(lambda: len(it.runs("slow")) >= 2, what="it goes on")


def test_16_a_clock_that_jumps_is_logged_expires_no_lease_and_fires_each_time_once(shop: Shopkeeper) -> None:
    flows = (
        TOP + "@workflow(schedule=Every('24h'))\ndef daily(ctx: Context) -> None: ...\n\n"
        "@workflow(retries=0)\ndef works(ctx: Context) -> str:\n"
        "    while not Path('go').exists():\n        time.sleep(0.02)\n    return 'done'\n"
    )
    with shop(flows) as it:
        it.ready()
        working = it.enqueue("works")
        it.until(lambda: it.state(working)["status"] == "running", what="a run is in flight")
        it.rounds()
        it.clock.wall_ahead_ms = 24 * HOURS_MS
        it.rounds()

        it.logged("warning", r"the machine's clock jumped forward by 86400s \(it was set, or this machine slept\)")
        it.until(lambda: it.runs("daily"), what="the schedule that is due by the new clock fires")
        it.clock.wall_ahead_ms = 0
        it.rounds()
        it.logged("warning", "the machine's clock jumped back by 86400s")
        it.clock.wall_ahead_ms = 24 * HOURS_MS
        it.rounds()
        assert len(it.runs("daily")) == 1, "nothing fires twice"

        (it.folder / "go").touch()
        it.ended(working)
        assert it.state(working, "attempts")["attempt"] == 1
        assert not it.lines("error", "stopped answering")
