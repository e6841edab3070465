"""Schedules with real workers: what fires, what it tells the handler, what a person and an edit change.

Times of cron lines and zones: `tests/cron`. Late, missed and piled up: `tests/acceptance/test_loud_schedules.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.host import shop
from tests.host.shop import Shop

TOP = "from tako import Context, Cron, Every, workflow\nfrom tools import hold, note\n\n"
HOURLY = (
    TOP
    + """
@workflow(schedule=Cron("0 * * * *", tz="Asia/Kathmandu"), retries=7)
def hourly(ctx: Context, region: str = "eu") -> None:
    note(f"{region} {ctx.scheduled_for}")
"""
)


def overlapping(policy: str) -> str:
    return TOP + (
        f"@workflow(schedule=Every('1h', overlap='{policy}'), retries=0)\n"
        "def slow(ctx: Context) -> None:\n"
        "    ctx.step('first', hold, f'go {ctx.run_id}')\n"
        "    note(f'end {ctx.run_id}')\n"
    )


@pytest.fixture
def folder(tmp_path: Path, runtime: Path) -> Path:
    return shop.make(tmp_path / "shop", HOURLY, toml='[workflows]\nidle_timeout = "100ms"\n')


@pytest.fixture
def host(folder: Path) -> Iterator[Shop]:
    with Shop(folder) as host:
        host.is_proven()
        scheduled(host)
        yield host


def scheduled(host: Shop, workflow: str = "hourly") -> dict[str, Any]:
    """The schedule of a workflow, as soon as there is one."""
    return host.until(
        lambda: next((found for found in host.schedules() if found["workflow"] == workflow), None),
        what=f"the schedule of {workflow} is known",
    )


def fired(host: Shop, count: int = 1, workflow: str = "hourly") -> list[dict[str, Any]]:
    """The runs, the oldest first, as soon as there are so many."""
    return host.until(
        lambda: runs[::-1] if len(runs := host.runs(workflow=workflow)) >= count else None, what=f"{count} fires"
    )


def test_a_handler_is_told_the_time_it_is_for_in_its_schedules_zone(host: Shop) -> None:
    host.leap(hours=1)
    (run,) = fired(host)
    host.ended(run["id"])

    (told,) = host.notes()
    assert told.startswith("eu ")
    assert told.endswith(":00:00+05:45")
    assert run["retries"] == 7
    (info,) = host.schedules()
    assert (info["fired_ms"] is not None, info["skipped"], info["paused"], info["late_ms"]) == (True, 0, False, 0)


def test_a_schedule_fires_while_its_code_cannot_start_and_the_run_is_blocked_until_it_can(host: Shop) -> None:
    host.save(all="import nothing_of_this_name\n" + HOURLY)
    host.until(lambda: host.problems("unhealthy_group"), what="the code cannot start")
    host.leap(hours=1)
    (run,) = fired(host)
    assert "worker exited with status 1" in host.is_now(run["id"], "blocked")["blocked"]

    host.save(all=HOURLY)
    host.ended(run["id"])


def test_a_new_engine_fires_what_the_last_one_missed_also_for_code_that_it_cannot_start(folder: Path) -> None:
    with Shop(folder) as host:
        host.is_proven()
        due_ms = scheduled(host)["next_ms"]
    (folder / "workflows/all.py").write_text("import nothing_of_this_name\n" + HOURLY)

    host = Shop(folder)
    host.clock.wall_ahead_ms = due_ms + 1_000 - host.clock.now_ms()
    with host:
        host.is_now(fired(host)[0]["id"], "blocked")


def test_what_was_removed_or_reworded_while_no_engine_ran_fires_no_more(folder: Path) -> None:
    two = HOURLY + HOURLY.removeprefix(TOP).replace("def hourly", "def other")
    (folder / "workflows/all.py").write_text(two)
    with Shop(folder) as host:
        host.is_proven()
        assert len(host.schedules()) == 2
    (folder / "workflows/all.py").write_text(HOURLY.replace("0 * * * *", "30 * * * *"))

    host = Shop(folder)
    host.clock.wall_ahead_ms = 10 * 3_600_000
    with host:
        host.is_proven()
        host.run(host.host.rounds.run_once())
        (only,) = host.schedules()
        assert only["spec"].startswith("30 ")
        assert only["next_ms"] > host.clock.now_ms()
        assert host.runs() == []


def test_a_line_that_is_edited_begins_anew_and_a_removed_one_fires_no_more(host: Shop) -> None:
    host.run(host.host.ticker.run_once(host.clock.now_ms()))
    host.save(all=HOURLY.replace("0 * * * *", "30 * * * *"))
    host.until(lambda: scheduled(host)["spec"].startswith("30 "), what="the new line is known")
    assert scheduled(host)["next_ms"] > host.clock.now_ms()

    host.save(all=HOURLY.replace("schedule=", "name='hourly') #"))
    host.until(lambda: host.schedules() == [], what="the schedule is gone")
    host.leap(hours=3)
    assert host.runs() == []


def test_a_paused_schedule_does_not_fire_and_what_it_missed_does_not_either(host: Shop) -> None:
    assert host.ok("pause_schedules", workflow="hourly") == {"count": 1}
    host.leap(hours=5)
    assert scheduled(host)["paused"]
    assert scheduled(host)["late_ms"] == 0
    assert host.ok("status")["ok"]

    host.ok("resume_schedules", workflow="hourly")
    host.run(host.host.rounds.run_once())
    assert host.runs() == []
    host.leap(hours=1)
    fired(host)


def test_a_pause_of_a_schedule_outlives_an_edit(host: Shop) -> None:
    host.ok("pause_schedules", workflow="hourly")
    host.save(all=HOURLY.replace("0 * * * *", "30 * * * *"))
    host.until(lambda: scheduled(host)["spec"].startswith("30 "), what="the new line is known")

    assert scheduled(host)["paused"]


def test_run_now_is_an_ordinary_run_that_nobody_scheduled(host: Shop) -> None:
    answer = host.ok("run_schedule", workflow="hourly")

    run = host.ended(answer["id"])
    assert answer["is_new"]
    assert host.notes() == ["eu None"]
    assert run["scheduled_for_ms"] is None
    assert scheduled(host)["fired_ms"] is None


def test_run_now_is_refused_as_an_enqueue_is(host: Shop) -> None:
    host.save(all="import nothing_of_this_name\n" + HOURLY)
    refused = host.call("run_schedule", workflow="hourly")

    assert refused["code"] == "worker_unhealthy"
    assert host.runs() == []


@pytest.mark.parametrize("command", ["run_schedule", "pause_schedules", "resume_schedules"])
def test_a_workflow_without_a_schedule_is_named(host: Shop, command: str) -> None:
    refused = host.call(command, workflow="nightly")

    assert (refused["code"], refused["message"]) == ("run_not_found", "nightly has no schedule.")


def test_runs_of_a_schedule_have_their_workflows_key(host: Shop) -> None:
    host.save(all=HOURLY.replace("retries=7", "key='report:{region}'"))
    host.until(lambda: "hourly" in host.host.store.options, what="the store has what the new code says of its keys")
    host.leap(hours=1)

    assert fired(host)[0]["key"] == "report:eu"


@pytest.mark.parametrize("policy", ["skip", "queue", "allow", "replace"])
def test_overlapping_fires_do_what_the_schedule_says(tmp_path: Path, runtime: Path, policy: str) -> None:
    with Shop(shop.make(tmp_path / "shop", overlapping(policy))) as host:
        scheduled(host, "slow")
        host.leap(hours=1)
        first = fired(host, workflow="slow")[0]["id"]
        host.noted(f"at go {first}")
        host.leap(hours=1)

        if policy == "skip":
            host.until(lambda: scheduled(host, "slow")["skipped"], what="the second is skipped")
            assert len(fired(host, workflow="slow")) == 1
        elif policy == "queue":
            assert len(fired(host, workflow="slow")) == 1
            host.let(f"go {first}")
            host.ended(first)
            second = fired(host, 2, "slow")[1]["id"]
            host.noted(f"at go {second}")
            assert host.show(second)["scheduled_for_ms"] == host.show(first)["scheduled_for_ms"] + 3_600_000
        elif policy == "allow":
            second = fired(host, 2, "slow")[1]["id"]
            host.noted(f"at go {second}")
            assert host.show(first)["status"] == host.show(second)["status"] == "running"
        else:
            second = fired(host, 2, "slow")[1]["id"]
            assert host.ended(first, status="cancelled")["reason"] == "replaced by the next run of its schedule"
            host.noted(f"at go {second}")
            host.let(f"go {first}")
        for run in host.runs(workflow="slow"):
            host.let(f"go {run['id']}")
            host.ok("wait_run", id=run["id"], timeout_ms=30_000)
        ended = {line for line in host.notes() if line.startswith("end ")}
        assert (f"end {first}" in ended) is (policy != "replace")


def test_a_scheduled_handler_whose_argument_has_no_default_cannot_start(tmp_path: Path, runtime: Path) -> None:
    folder = shop.make(tmp_path / "shop", HOURLY.replace('region: str = "eu"', "region: str"))
    with Shop(folder) as host:
        problem = host.until(lambda: next(iter(host.problems("unhealthy_group")), None), what="the group is unhealthy")

        assert "workflows/all.py:" in problem["what"]
        assert "a scheduled workflow is called without arguments; give a default to: region" in problem["what"]
