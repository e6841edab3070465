"""status, workflows, schedules, backup, version, check: what a page shows, and how it exits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.support.cli import Cli
from tests.support.fake_engine import FakeEngine

from tako.config.model import Config
from tako.dev import check

HEALTHY = {
    "group": "default", "state": "healthy", "failing": False, "failures": 0, "since_ms": None, "retry_at_ms": None,
    "reason": None, "workers": [{"id": "w1", "pid": 7, "state": "active", "since_ms": 1, "in_flight": 2}], "held": 0,
}  # fmt: skip
SICK = {
    **HEALTHY, "group": "mail", "state": "cooldown", "failures": 12, "failing": True, "retry_at_ms": 32_503_680_000_000,
    "reason": "worker exited with status 1 after 84ms without claiming any runs", "workers": [],
}  # fmt: skip


def status(**changed: Any) -> dict[str, Any]:
    return {
        "ok": True, "groups": [HEALTHY], "counts": {"pending": 3, "dead": 0}, "problems": [],
        "store": {"durability": "full"}, "version": "0.1.0", "pid": 7, **changed,
    }  # fmt: skip


def test_status_exits_0_when_nothing_is_wrong(cli: Cli, engine: FakeEngine) -> None:
    engine.answers["status"] = status()

    said = cli("status")

    assert said.code == 0
    assert said.out.startswith("✔ my-app: nothing is wrong.\n")
    for part in ("default healthy, 1 worker, 2 in flight", "3 pending", "durability full", "version 0.1.0, pid 7"):
        assert part in said.out
    assert "dead" not in said.out


def test_status_exits_1_and_names_each_problem_with_its_cure(cli: Cli, engine: FakeEngine) -> None:
    problems = [
        {"what": "Group mail cannot start.", "cure": "tako logs --last-crash"},
        {"what": "2 dead runs", "cure": ""},
    ]
    engine.answers["status"] = status(ok=False, groups=[HEALTHY, SICK], problems=problems)

    said = cli("status")

    assert said.code == 1
    assert said.out.startswith(
        "✘ my-app: 2 things are wrong.\n  ✘ Group mail cannot start.\n    tako logs --last-crash\n"
    )
    assert "mail failing, no worker, 12 failed starts" in said.out
    assert "worker exited with status 1 after 84ms" in said.out


def test_status_json_is_what_the_engine_says_and_exits_the_same(cli: Cli, engine: FakeEngine) -> None:
    engine.answers["status"] = status(ok=False, problems=[{"what": "x", "cure": "y"}])

    said = cli("status", "--json")

    assert said.code == 1
    assert said.json == engine.answers["status"]


def test_a_warning_is_told_but_is_nothing_wrong(cli: Cli, engine: FakeEngine) -> None:
    engine.answers["status"] = status(problems=[{"severity": "warning", "what": "an old backlog", "cure": "wait"}])

    said = cli("status")

    assert said.code == 0
    assert said.out.startswith("! my-app: 1 thing needs a look.\n  ! an old backlog\n    wait\n")


def test_workflows_are_shown_with_file_group_and_health(cli: Cli, engine: FakeEngine) -> None:
    engine.answers["list_workflows"] = {
        "workflows": [
            {"name": "send_email", "group": "mail", "health": "cooldown", "counts": {"pending": 2}, "paused": None,
             "file": "workflows/mail.py", "line": 7},
            {"name": "report", "group": "default", "health": "healthy", "counts": {}, "paused": "paused: …",
             "file": "workflows/r.py", "line": 1},
        ],
        "pauses": [
            {"kind": "key", "name": "send_email", "key": "a b", "since_ms": 1, "waiting": 1},
            {"kind": "workflow", "name": "report", "key": "", "since_ms": 1, "waiting": 0},
            {"kind": "group", "name": "mail", "key": "", "since_ms": 1, "waiting": 3},
        ],
    }  # fmt: skip

    said = cli("workflows")

    rows = said.out.splitlines()
    assert rows[1].split() == ["send_email", "mail", "cooldown", "2", "pending", "workflows/mail.py:7"]
    assert rows[2].split() == ["report", "default", "paused", "none", "workflows/r.py:1"]
    assert "key 'a b' of send_email has been paused for" in said.err
    assert "1 run waits. End it with `tako workflows resume send_email --key 'a b'`." in said.err
    assert "0 runs wait. End it with `tako workflows resume report`." in said.err
    assert "3 runs wait. End it with `tako workflows resume --group mail`." in said.err
    assert cli("workflows", "--json").json == engine.answers["list_workflows"]


@pytest.mark.parametrize(
    ("words", "fields", "what"),
    [
        (["send_email"], {"workflow": "send_email"}, "send_email"),
        (["--group", "mail"], {"group": "mail"}, "group mail"),
        (["send_email", "--key", "a"], {"workflow": "send_email", "key": "a"}, "key 'a' of send_email"),
    ],
)
def test_a_workflow_a_group_or_a_key_is_paused_and_resumed(
    cli: Cli, engine: FakeEngine, words: list[str], fields: dict[str, str], what: str
) -> None:
    engine.answers["pause"] = engine.answers["resume"] = {"changed": True, "pauses": []}

    paused, resumed = cli("workflows", "pause", *words), cli("workflows", "resume", *words)

    assert (paused.code, resumed.code) == (0, 0)
    assert engine.asked("pause") == engine.asked("resume") == [fields]
    assert f"✔ Paused {what}: " in paused.err
    assert f"tako workflows resume {' '.join(words)}" in paused.err
    assert f"✔ Resumed {what}." in resumed.err
    assert cli("workflows", "pause", *words, "--json").json == {"changed": True, "pauses": []}


@pytest.mark.parametrize("words", [[], ["a", "--group", "b"], ["--group", "b", "--key", "c"], ["--key", "c"]])
def test_what_is_paused_must_be_named_once(cli: Cli, engine: FakeEngine, words: list[str]) -> None:
    assert cli("workflows", "pause", *words).code == 2


def test_a_pause_that_changes_nothing_says_so(cli: Cli, engine: FakeEngine) -> None:
    engine.answers["pause"] = engine.answers["resume"] = {"changed": False, "pauses": []}

    assert "a was paused already" in cli("workflows", "pause", "a").err
    assert "a was not paused" in cli("workflows", "resume", "a").err


def test_no_workflow_says_how_to_make_one(cli: Cli, engine: FakeEngine) -> None:
    engine.answers["list_workflows"] = {"workflows": []}

    assert "tako init" in cli("workflows").err


def schedule(**changed: Any) -> dict[str, Any]:
    return {
        "workflow": "nightly", "spec": "0 9 * * 1-5 Europe/Paris", "options": {}, "fired_ms": None,
        "next_ms": 32_503_680_000_000, "skipped": 0, "paused": False, "late_ms": 0, **changed,
    }  # fmt: skip


def test_schedules_are_shown_with_last_and_next_fire_and_how_many_times_were_skipped(
    cli: Cli, engine: FakeEngine
) -> None:
    sync = schedule(workflow="sync", spec="every 15m", fired_ms=1000, skipped=3)
    engine.answers["list_schedules"] = {"schedules": [schedule(), sync]}

    rows = [row.split("  ") for row in cli("schedules").out.splitlines()]

    shown = [[cell.strip() for cell in row if cell.strip()] for row in rows[1:]]
    assert shown[0][1] == "0 9 * * 1-5 Europe/Paris"
    assert shown[0][3:] == ["never", "0", "on time"]
    assert shown[1][1] == "every 15m"
    assert shown[1][3].startswith("1970-01-01")
    assert shown[1][4:] == ["3", "on time"]


def test_a_schedule_that_is_late_or_paused_says_so(cli: Cli, engine: FakeEngine) -> None:
    engine.answers["list_schedules"] = {
        "schedules": [schedule(late_ms=720_000), schedule(workflow="sync", paused=True)]
    }

    rows = cli("schedules").out.splitlines()

    assert rows[1].endswith("late by 12m")
    assert rows[2].endswith("paused")


def test_a_schedule_is_paused_resumed_and_run_now(cli: Cli, engine: FakeEngine) -> None:
    engine.answers["pause_schedules"] = engine.answers["resume_schedules"] = {"count": 1}
    engine.answers["run_schedule"] = {"id": "r1", "is_new": True}

    assert "does not fire until `tako schedules resume nightly`" in cli("schedules", "pause", "nightly").err
    assert "what was missed meanwhile does not fire" in cli("schedules", "resume", "nightly").err
    said = cli("schedules", "run", "nightly")
    assert (said.code, said.out) == (0, "r1\n")
    for command in ("pause_schedules", "resume_schedules", "run_schedule"):
        assert engine.asked(command) == [{"workflow": "nightly"}]
    assert cli("schedules", "run", "nightly", "--json").json == {"id": "r1", "is_new": True}


def test_a_backup_is_asked_for_with_a_whole_path(cli: Cli, engine: FakeEngine) -> None:
    engine.answers["backup"] = lambda m: {"path": m["path"], "bytes": 12_345}

    said = cli("backup", "copy.db")

    assert said.code == 0
    assert engine.asked("backup") == [{"path": str(cli.folder / "copy.db")}]
    assert "Copied 12,345 bytes" in said.err


def test_a_backup_without_a_path_lies_with_the_app(cli: Cli, engine: FakeEngine) -> None:
    engine.answers["backup"] = lambda m: {"path": m["path"], "bytes": 1}

    path = Path(cli("backup", "--json").json["path"])

    assert path.parent == cli.folder / ".tako" / "backups"
    assert path.parent.stat().st_mode & 0o077 == 0


def test_a_backup_never_overwrites(cli: Cli, engine: FakeEngine) -> None:
    (cli.folder / "copy.db").write_text("mine")

    said = cli("backup", "copy.db")

    assert said.code == 1
    assert "exists; no backup was made" in said.err
    assert engine.asked("backup") == []


def test_version_needs_no_engine(cli: Cli) -> None:
    said = cli("version", "--json")

    assert said.code == 0
    assert said.json["tako"]
    assert said.json["engine"] is None
    assert cli("--version").out.startswith("tako ")


def test_version_tells_the_engines_too(cli: Cli, engine: FakeEngine) -> None:
    engine.answers["status"] = status()

    assert cli("version", "--json").json["engine"] == "0.1.0"


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the host's check says, in place of booting anything."""
    found: dict[str, Any] = {"problems": [], "groups": [{"group": "default", "workflows": ["a", "b"]}]}

    async def check_groups(config: Config, variables: dict[str, str]) -> dict[str, Any]:
        return found

    monkeypatch.setattr(check, "check", check_groups)
    return found


def test_check_exits_0_when_everything_starts(cli: Cli, checked: dict[str, Any]) -> None:
    said = cli("check")

    assert said.code == 0
    assert "2 workflows in 1 group" in said.err


def test_check_names_every_problem_and_exits_1(cli: Cli, checked: dict[str, Any]) -> None:
    checked["problems"] = [{"what": "workflows/a.py cannot be imported\n  NameError: x", "cure": "Fix line 3."}]

    said = cli("check")

    assert said.code == 1
    assert "✘ workflows/a.py cannot be imported\n  NameError: x\n  Fix line 3.\n" in said.err
    assert "Nothing was stored" in said.err
    assert cli("check", "--json").json == checked
