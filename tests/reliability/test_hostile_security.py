"""Named cases of security: what is on the disk, who may say what, and times that no calendar of ours expects."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from reliability.hostile import messages, siege
from reliability.hostile.engine import APP, Engine, write_app

from tako.clock import SystemClock
from tako.protocol import ids
from tests.host.running import RunningHost
from tests.support.dev import is_alive, until

YEAR_1970_MS, YEAR_2100_MS = 86_400_000, 4_102_444_800_000


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An app, with a runtime folder whose path is short."""
    runtime = Path("/tmp") / f"tako-hs-{os.getpid()}"
    runtime.mkdir(mode=0o700, exist_ok=True)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    write_app(tmp_path)
    yield tmp_path
    subprocess.run(["rm", "-rf", str(runtime)], check=True)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with Engine(tmp_path_factory.mktemp("s")) as engine:
        yield engine


def modes(folder: Path) -> dict[str, int]:
    """The permissions of everything below."""
    return {str(path): stat.S_IMODE(path.lstat().st_mode) for path in folder.rglob("*") if not path.is_symlink()}


def test_no_file_of_the_engine_can_be_read_or_written_by_others_whatever_the_umask(folder: Path) -> None:
    before = os.umask(0)
    try:
        (folder / ".tako").mkdir(mode=0o777)
        with RunningHost(folder) as host:
            host.call("enqueue_runs", runs=[{"id": ids.uuid7(), "workflow": "greet", "payload_json": "{}"}])
            found = modes(folder / ".tako") | modes(host.host.places.sockets)
            state = stat.S_IMODE((folder / ".tako").stat().st_mode)
    finally:
        os.umask(before)

    assert not state & 0o022, "others could put another store in"
    open_to_others = {path: oct(mode) for path, mode in found.items() if mode & 0o077}
    assert set(open_to_others) <= {str(folder / ".tako/.gitignore")}, open_to_others


def test_a_socket_that_was_left_behind_is_replaced_and_a_file_in_its_place_as_well(folder: Path) -> None:
    with RunningHost(folder) as host:
        path = host.host.places.internal_socket
    for kind in ("socket", "file"):
        if kind == "socket":
            with socket.socket(socket.AF_UNIX) as left:
                left.bind(str(path))
        else:
            path.write_text("not a socket")

        with RunningHost(folder) as host:
            assert host.call("health")["status"] == "ok"


@pytest.mark.parametrize("now_ms", [YEAR_1970_MS, YEAR_2100_MS])
def test_an_engine_whose_clock_says_1970_or_2100_does_its_work(folder: Path, now_ms: int) -> None:
    class Clock(SystemClock):
        def now_ms(self) -> int:
            return now_ms

    with RunningHost(folder, clock=Clock()) as host:
        run_id = ids.uuid7()
        stored = host.call("enqueue_runs", runs=[{"id": run_id, "workflow": "greet", "payload_json": "{}"}])
        ended = host.call("wait_run", id=run_id, timeout_ms=30_000)

    assert stored["status"] == "ok", stored
    assert ended["data"]["status"] == "succeeded"
    assert ended["data"]["created_ms"] == now_ms


def test_a_payload_of_no_bytes_is_refused_and_one_of_the_limit_is_stored(engine: Engine) -> None:
    with siege.Client(engine.socket) as client:
        empty = {"id": ids.uuid7(), "workflow": "greet", "payload_json": ""}
        client.raw(messages.line({"command": "enqueue_runs", "runs": [empty]}, app=APP, token=None))
        refused = client.read()
        assert refused is not None
        assert refused["code"] == "payload"


@pytest.mark.parametrize("command", ["save_step", "finish", "park", "load_steps", "heartbeat", "release_runs"])
def test_a_worker_changes_nothing_about_a_run_that_it_does_not_hold(engine: Engine, command: str) -> None:
    run_id = ids.uuid7()
    with siege.Client(engine.socket) as client:
        new = {"id": run_id, "workflow": "wait", "payload_json": json.dumps({"n": hash(command) % 10_000})}
        client.call("enqueue_runs", runs=[new])
        before = client.call("get_run", id=run_id, **{"with": ["steps"]})
    engine.impersonate()
    held = {"id": run_id, "epoch": 99}
    said: dict[str, object] = {
        "command": command, **held, "step_name": "charge", "result_json": '"stolen"', "after": "",
        "outcome": "succeeded", "event_name": "shipped",
    }  # fmt: skip
    if command in ("heartbeat", "release_runs"):
        said["runs"] = [held]
    with siege.Client(engine.socket) as worker:
        for extra in ({}, {"worker_id": "default-another"}):
            worker.raw(messages.line({**said, **extra}, app=APP, token=engine.token))
            reply = worker.read()
            assert reply is not None
            told = json.dumps(reply)
            assert reply.get("code") in ("stale", None), told

    with siege.Client(engine.socket) as client:
        after = client.call("get_run", id=run_id, **{"with": ["steps"]})
    assert "stolen" not in json.dumps(after)
    assert after["status"] in (before["status"], "running", "waiting")


def test_a_token_of_another_app_opens_nothing(engine: Engine) -> None:
    with siege.Client(engine.socket) as client:
        client.raw(messages.line({"command": "health"}, app=APP, token="x" * 43))
        reply = client.read()
        assert reply is not None
        assert (reply["code"], client.read()) == ("unauthorized", None)


def test_what_a_worker_forks_does_not_outlive_it(folder: Path) -> None:
    source = folder / "workflows/shop.py"
    source.write_text(
        source.read_text() + "\n\n@workflow(retries=0)\ndef fork(ctx: Context) -> int:\n"
        "    import os, time\n    pid = os.fork()\n    if pid == 0:\n        time.sleep(600)\n        os._exit(0)\n"
        "    return pid\n"
    )
    with RunningHost(folder) as host:
        run_id = ids.uuid7()
        host.call("enqueue_runs", runs=[{"id": run_id, "workflow": "fork", "payload_json": "{}"}])
        child = int(host.call("wait_run", id=run_id, timeout_ms=30_000)["data"]["result_json"])
        assert is_alive(child)
        (worker,) = host.call("health")["data"]["groups"][0]["workers"]
        os.kill(worker["pid"], signal.SIGKILL)

        until(lambda: not is_alive(child), what="the child of the killed worker is gone")


def test_an_environment_file_reaches_the_apps_processes_and_never_the_engines_own(folder: Path) -> None:
    marker = folder / "was-run"
    (folder / "evil").mkdir()
    (folder / "evil/sitecustomize.py").write_text(f"open({str(marker)!r}, 'a').write('x')\n")
    (folder / ".env").write_text(f"PYTHONPATH={folder / 'evil'}\nTAKO_INTERNAL_SOCKET=/tmp/elsewhere\n")
    tako = str(Path(sys.executable).with_name("tako"))

    for command in (["status"], ["runs", "list"], ["doctor"], ["--help"]):
        subprocess.run([tako, *command], cwd=folder, capture_output=True, check=False, timeout=60)

    assert not marker.exists()
