"""What people hold back waits and says why, with real workers; what they let go on goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host import shop
from tests.host.shop import Shop

WORKFLOWS = """
from tako import Context, workflow
from tools import hold, note


@workflow
def send(ctx: Context, to: str = "ada") -> None:
    note(f"send {to}")


@workflow(key="order:{order}", retries=1)
def charge(ctx: Context, order: int = 1) -> None:
    note(f"charge {order}")


@workflow
def slow(ctx: Context) -> None:
    ctx.step("first", hold, "go")
    note("second")


@workflow(group="mail")
def post(ctx: Context) -> None:
    note("post")
"""


@pytest.fixture
def folder(tmp_path: Path, runtime: Path) -> Path:
    toml = '[workflows]\nidle_timeout = "200ms"\ndrain_timeout = "10s"\n[workflows.mail]\nworkers = 1\n'
    return shop.make(tmp_path / "shop", WORKFLOWS, toml=toml)


@pytest.fixture
def host(folder: Path) -> Iterator[Shop]:
    with Shop(folder) as host:
        host.is_proven()
        host.is_proven("mail")
        yield host


def test_runs_of_a_paused_workflow_are_blocked_with_the_reason_until_it_is_resumed(host: Shop) -> None:
    assert host.ok("pause", workflow="send")["changed"]
    held, other = host.enqueue("send"), host.enqueue("charge")

    host.ended(other)
    assert host.show(held)["blocked"] == "paused: `tako workflows resume send` lets it go on"
    assert [run["id"] for run in host.runs(status="blocked")] == [held]
    assert host.runs(status="pending") == []

    assert host.ok("resume", workflow="send")["changed"]
    host.ended(held)


def test_no_worker_is_kept_or_started_for_what_is_paused(host: Shop) -> None:
    host.ok("pause", workflow="send")
    host.until(lambda: not host.workers(), what="the group is at zero")
    host.enqueue("send")

    host.run(host.host.rounds.run_once())
    assert host.workers() == []
    assert host.problems("old_backlog") == []


def test_status_tells_of_a_pause_as_a_warning_and_nothing_is_wrong(host: Shop) -> None:
    host.ok("pause", workflow="charge", key="order:7")
    host.ok("pause", group="mail")
    host.enqueue("charge", {"order": 7})

    status = host.ok("status")
    assert status["ok"]
    whats = {(problem["severity"], problem["what"], problem["cure"]) for problem in host.problems("paused")}
    assert whats == {
        ("warning", "group mail is paused; nothing waits", "Let it go on with `tako workflows resume --group mail`."),
        (
            "warning",
            "key 'order:7' of charge is paused; 1 run waits",
            "Let it go on with `tako workflows resume charge --key order:7`.",
        ),
    }
    assert {(pause["kind"], pause["waiting"]) for pause in status["pauses"]} == {("group", 0), ("key", 1)}
    assert status["counts"]["pending"] == 1


def test_a_run_that_runs_when_its_workflow_is_paused_goes_on(host: Shop) -> None:
    run_id = host.enqueue("slow")
    host.noted("at go")

    host.ok("pause", workflow="slow")
    host.let("go")

    host.ended(run_id)
    assert host.notes()[-1] == "second"


def test_a_paused_key_holds_back_its_runs_and_no_others(host: Shop) -> None:
    host.ok("pause", workflow="charge", key="order:1")
    held, other = host.enqueue("charge", {"order": 1}), host.enqueue("charge", {"order": 2})

    host.ended(other)
    assert host.show(held)["status"] == "blocked"
    assert host.show(held)["blocked"] == "paused: `tako workflows resume charge --key order:1` lets it go on"
    host.ok("resume", workflow="charge", key="order:1")
    host.ended(held)
    assert host.notes() == ["charge 2", "charge 1"]


def test_a_paused_group_lets_its_runs_finish_ends_its_workers_and_refuses_enqueues(host: Shop) -> None:
    run_id = host.enqueue("slow")
    host.noted("at go")
    host.ok("pause", group="default")
    refused = host.ask("send")
    kept = host.enqueue("send", if_unhealthy="hold")

    assert refused["code"] == "worker_unhealthy"
    assert refused["message"].startswith("worker unhealthy: workers are paused\n")
    assert "tako workflows resume --group default" in refused["message"]
    host.let("go")
    host.ended(run_id)
    host.until(lambda: not host.workers(), what="the worker has ended")
    assert host.show(kept)["blocked"] == "paused: `tako workflows resume --group default` lets it go on"
    assert host.problems("blocked_runs") == host.problems("unhealthy_group") == []
    host.ended(host.enqueue("post"))

    host.ok("resume", group="default")
    host.ended(kept)


def test_pauses_outlive_the_engine_and_new_code(folder: Path) -> None:
    with Shop(folder) as host:
        host.is_proven()
        host.is_proven("mail")
        host.ok("pause", workflow="send")
        host.ok("pause", workflow="charge", key="order:1")
        host.ok("pause", group="mail")
        ids = [host.enqueue("send"), host.enqueue("charge"), host.enqueue("post", if_unhealthy="hold")]

    with Shop(folder) as host:
        host.is_proven()
        host.save(all=WORKFLOWS + "\n# another version\n")
        host.is_proven()
        host.ended(host.enqueue("charge", {"order": 2}))
        assert [host.show(run_id)["status"] for run_id in ids] == ["blocked"] * 3
        assert host.workers("mail") == []

        for target in ({"workflow": "send"}, {"workflow": "charge", "key": "order:1"}, {"group": "mail"}):
            assert host.ok("resume", **target)["changed"]
        for run_id in ids:
            host.ended(run_id)
        assert host.ok("list_workflows")["pauses"] == []


def test_what_does_not_exist_cannot_be_paused(host: Shop) -> None:
    unknown = host.call("pause", workflow="sent")
    assert unknown["code"] == "unknown_workflow"
    assert "nothing was paused" in unknown["message"]
    assert unknown["detail"]["cure"] == "Did you mean send?"
    assert host.call("pause", group="post")["detail"]["cure"] == "There are: default, mail."
    assert host.call("pause", key="a")["code"] == "invalid_request"
    assert not host.ok("resume", workflow="send")["changed"]


def test_workflows_are_listed_with_what_is_paused(host: Shop) -> None:
    host.ok("pause", workflow="send")
    host.ok("pause", group="mail")

    found = {info["name"]: info["paused"] for info in host.ok("list_workflows")["workflows"]}

    assert found == {
        "send": "paused: `tako workflows resume send` lets it go on",
        "post": "paused: `tako workflows resume --group mail` lets it go on",
        "charge": None,
        "slow": None,
    }
