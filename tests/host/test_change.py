"""Code that changes under stored runs: renamed, removed, strict. With real workers.

Arguments that no longer fit, and steps that were renamed: `tests/acceptance/test_loud_runs.py`, rows 7 and 23.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host import shop
from tests.host.shop import Shop
from tests.support.cli import Cli

TOP = "from tako import Context, Signal, workflow\nfrom tools import hold, note\n\ngo = Signal('go', str)\n\n"
ORDER = (
    TOP
    + """
@workflow(signals=[go], key="order:{number}", max_pending=2)
def order(ctx: Context, number: int = 1) -> str:
    ctx.step("charge", note, f"charge {number}")
    ctx.wait_for(go, timeout="1h")
    ctx.step("ship", note, f"ship {number}")
    return ctx.workflow
"""
)
RENAMED = ORDER.replace("@workflow(", "@workflow(aliases=['order'], ").replace("def order", "def fulfil")


@pytest.fixture
def host(tmp_path: Path, runtime: Path) -> Iterator[Shop]:
    with Shop(shop.make(tmp_path / "shop", ORDER)) as host:
        host.is_proven()
        yield host


def parked(host: Shop, number: int = 1) -> str:
    """An order that waits, with one saved step."""
    run_id = host.enqueue("order", {"number": number})
    host.is_now(run_id, "waiting")
    return run_id


def say_go(host: Shop, run_id: str) -> None:
    host.ok("signal_run", id=run_id, signal="go", payload_json='""')


def rename(host: Shop) -> None:
    host.save(all=RENAMED)
    host.until(lambda: host.host.registry.find("fulfil"), what="the new name is known")


# --- renamed --------------------------------------------------------------------------------------------------------


def test_runs_of_a_renamed_workflow_are_finished_by_the_new_code(host: Shop) -> None:
    begun = parked(host, 1)
    rename(host)
    by_old_name = host.enqueue("order", {"number": 2})

    say_go(host, begun)
    host.is_now(by_old_name, "waiting")
    say_go(host, by_old_name)

    assert host.ended(begun)["result_json"] == '"fulfil"'
    assert host.ended(by_old_name)["result_json"] == '"fulfil"'
    assert sorted(host.notes()) == ["charge 1", "charge 2", "ship 1", "ship 2"]
    assert host.problems("unroutable_runs") == []


def test_an_old_name_is_the_same_workflow_to_keys_limits_lists_and_counts(host: Shop) -> None:
    old = parked(host, 1)
    rename(host)

    assert host.enqueue("fulfil", {"number": 1}) == old, "one unfinished run per key, under whichever name"
    new = host.enqueue("fulfil", {"number": 2})
    host.is_now(new, "waiting")
    full = host.ask("order", {"number": 3})
    assert full["code"] == "queue_full"
    for name in ("order", "fulfil"):
        assert host.ok("find_run", workflow=name, key="order:1")["id"] == old
    assert [run["id"] for run in host.runs(workflow="fulfil")] == [new, old]
    assert [run["id"] for run in host.runs(workflow="order")] == [old]
    assert [run["id"] for run in host.runs(workflow="fulfil", key="order:1")] == [old]
    (info,) = host.ok("list_workflows")["workflows"]
    assert (info["name"], info["counts"]) == ("fulfil", {"pending": 2})
    host.ok("signal_run", workflow="fulfil", key="order:1", signal="go", payload_json='""')
    host.ended(old)


def test_a_dead_run_of_the_old_name_is_retried_by_the_new_code_unless_its_key_is_taken(host: Shop) -> None:
    old = parked(host)
    host.ok("cancel", id=old)
    rename(host)
    new = host.enqueue("fulfil", {"number": 1})

    refused = host.call("retry", id=old)
    assert refused["code"] == "duplicate_run"
    assert new in refused["message"]
    host.ok("cancel", id=new)
    host.ok("retry", id=old)
    host.is_now(old, "waiting")
    say_go(host, old)
    host.ended(old)


# --- removed --------------------------------------------------------------------------------------------------------


def test_unfinished_runs_of_a_removed_workflow_wait_are_told_of_and_can_be_cancelled(
    host: Shop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sleeping = parked(host)
    host.save(all=ORDER.replace("def order", "def deliver"))
    host.until(lambda: host.problems("unroutable_runs"), what="status tells of it")

    (problem,) = host.problems("unroutable_runs")
    assert problem["severity"] == "error"
    assert problem["what"] == "1 unfinished run of 'order': no code declares this workflow any more"
    assert "`tako runs cancel --all --workflow order`" in problem["cure"]
    told = "runs of 'order' wait, but no code declares"
    host.until(lambda: [line for line in host.log() if line.startswith(told)], what="the log tells of it")
    say_go(host, sleeping)
    assert host.is_now(sleeping, "blocked")["blocked"] == "no code declares the workflow 'order'"
    assert host.runs(status="blocked")[0]["id"] == sleeping

    monkeypatch.chdir(host.folder)
    assert Cli(host.folder, capsys)("runs", "cancel", "--all", "--workflow", "order", "--yes").code == 0
    assert host.show(sleeping)["status"] == "cancelled"
    assert host.problems("unroutable_runs") == []


def test_a_removed_workflow_that_comes_back_finishes_its_runs(host: Shop) -> None:
    waiting = parked(host)
    host.save(all=ORDER.replace("def order", "def deliver"))
    host.until(lambda: host.problems("unroutable_runs"), what="status tells of it")
    say_go(host, waiting)

    host.save(all=ORDER)
    host.ended(waiting)


def test_runs_of_a_workflow_that_was_removed_while_no_engine_ran_are_told_of_at_the_start(
    tmp_path: Path, runtime: Path
) -> None:
    folder = shop.make(tmp_path / "shop", ORDER)
    with Shop(folder) as host:
        host.is_proven()
        parked(host)
    (folder / "workflows/all.py").unlink()

    with Shop(folder) as host:
        assert host.problems("unroutable_runs")
        told = "runs of 'order' wait, but no code declares"
        host.until(lambda: [line for line in host.log() if line.startswith(told)], what="the log tells of it")
        host.save(other=ORDER.replace("def order", "def deliver"))
        host.is_proven()
        assert len([line for line in host.log() if line.startswith(told)]) == 1, "once"


# --- strict ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strict", [True, False])
def test_a_strict_workflow_does_not_go_on_with_other_code_than_it_began_with(
    tmp_path: Path, runtime: Path, strict: bool
) -> None:
    code = ORDER.replace("@workflow(", f"@workflow(strict={strict}, retries=5, ")
    with Shop(shop.make(tmp_path / "shop", code)) as host:
        host.is_proven()
        run_id = parked(host)
        host.save(all=code.replace('"charge", note', '"charge-card", note'))
        host.is_proven()
        say_go(host, run_id)

        if strict:
            run = host.ended(run_id, status="dead")
            assert run["reason"] == 'code changed under it (saved step "charge" was not reached)'
            assert f"retry {run_id} --from-step 'charge'" in host.show(run_id)["traceback"], "a way on"
            assert run["attempt"] == 1
            assert "ship 1" not in host.notes()
        else:
            assert any("'charge'" in warning for warning in host.ended(run_id)["warnings"])
