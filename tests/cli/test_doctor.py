from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from tests.support.cli import Cli
from tests.support.fake_engine import FakeEngine

from tako.cli import checkup
from tako.engine import runs
from tako.engine.store import Store
from tako.host.lock import Lock


def findings(cli: Cli) -> tuple[int, dict[str, dict[str, Any]]]:
    said = cli("doctor", "--json")
    return said.code, {found["name"]: found for found in said.json["findings"]}


@pytest.fixture
def store(cli: Cli) -> Path:
    path = cli.folder / ".tako" / "runs.db"
    path.parent.mkdir(mode=0o700)
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE t (x)")
    connection.executemany("INSERT INTO t VALUES (?)", [("x" * 500,) for _ in range(200)])
    connection.commit()
    connection.close()
    return path


def test_a_healthy_folder_exits_0_and_needs_no_engine(cli: Cli) -> None:
    code, found = findings(cli)

    assert code == 0
    assert {"python", "sqlite", "disk", "config", "store"} <= found.keys()


def test_people_get_a_line_for_each_thing(cli: Cli) -> None:
    said = cli("doctor")

    assert said.code == 0
    assert all(f" {name} " in said.out for name in ("python", "sqlite", "disk", "config", "store"))


def test_a_damaged_store_exits_1_and_names_the_file(cli: Cli, store: Path) -> None:
    data = bytearray(store.read_bytes())
    data[8192:12288] = b"\xff" * 4096
    store.write_bytes(data)

    code, found = findings(cli)

    assert code == 1
    assert found["store"]["state"] == "bad"
    assert "runs.db" in found["store"]["what"] or "malformed" in found["store"]["what"]


def test_a_whole_store_is_looked_at_under_the_engines_lock(cli: Cli, store: Path) -> None:
    assert findings(cli)[1]["store"]["state"] == "good"

    lock = Lock(store.with_name("engine.lock"))
    lock.take()
    try:
        code, found = findings(cli)
    finally:
        lock.release()
    assert code == 1
    assert "already runs the engine" in found["store"]["what"]


def test_a_running_engine_is_asked_instead(cli: Cli, engine: FakeEngine) -> None:
    engine.answers["status"] = {"problems": [{"what": "x", "cure": "y"}], "store": {"path": "/shop/.tako/runs.db"}}
    engine.answers["check_store"] = {"problems": []}

    code, found = findings(cli)

    assert code == 0
    assert found["engine"]["state"] == "warning"
    assert "tako status" in found["engine"]["cure"]
    assert found["store"]["state"] == "good"


def test_what_the_engine_finds_wrong_with_its_store_is_a_finding(cli: Cli, engine: FakeEngine) -> None:
    engine.answers["status"] = {"problems": [], "store": {"path": "/shop/.tako/runs.db"}}
    engine.answers["check_store"] = {"problems": ["I9: run r: dead without a reason", "I4: …"]}

    code, found = findings(cli)

    assert code == 1
    assert found["store"]["what"] == "/shop/.tako/runs.db is damaged: I9: run r: dead without a reason (and 1 more)"
    assert "tako backup" in found["store"]["cure"]


def test_a_run_that_breaks_an_invariant_is_found_in_a_file_that_nobody_has_open(cli: Cli) -> None:
    path = cli.folder / ".tako" / "runs.db"
    path.parent.mkdir(mode=0o700)
    store = Store.open(path)
    with store.transaction():
        runs.enqueue(store, [{"id": "r", "workflow": "w", "payload_json": "{}"}], now_ms=1)
    store.close()
    assert findings(cli)[0] == 0

    connection = sqlite3.connect(path)
    connection.execute("DELETE FROM payloads")
    connection.commit()
    connection.close()

    code, found = findings(cli)
    assert code == 1
    assert f"{path} is damaged: I1: run r: has no payload" in found["store"]["what"]


def test_a_wrong_tako_toml_is_a_finding(cli: Cli) -> None:
    (cli.folder / "tako.toml").write_text("nmae = 1\n")

    code, found = findings(cli)

    assert code == 1
    assert "nmae" in found["config"]["what"]


def test_an_interpreter_that_is_not_there_is_a_finding(cli: Cli) -> None:
    (cli.folder / ".venv").mkdir()

    code, found = findings(cli)

    assert code == 1
    assert "cannot be run" in found["workers"]["what"]


def test_secrets_that_others_can_read_are_a_finding(cli: Cli) -> None:
    cli("secrets", "set", "A", "--value", "x")
    (cli.folder / ".tako" / "secrets.json").chmod(0o644)

    code, found = findings(cli)

    assert code == 1
    assert "chmod 600" in found["secrets"]["cure"]


def test_little_room_on_the_disk_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage:
        free, total = 10_000_000, 100_000_000_000

    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage)

    (found,) = checkup.disk(tmp_path)
    assert found.state == "bad"
