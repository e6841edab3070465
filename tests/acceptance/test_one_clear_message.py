"""What goes wrong around the engine: each gets one clear message, and nothing is lost."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path

from tests.acceptance.apps import greeting_app
from tests.support.dev import Dev, until, write
from tests.support.disk import Disk


def test_a_port_that_is_taken_is_an_error_that_names_its_holder(folder: Path) -> None:
    write(folder, greeting_app())
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        dev = Dev(folder, "--port", str(port)).start(ready=None)
        assert dev.wait() == 1
    assert f"port {port}" in dev.screen().lower() or f":{port}" in dev.screen()
    assert str(os.getpid()) in dev.screen()
    assert "Traceback" not in dev.screen()


def test_two_apps_beside_each_other_both_answer(tmp_path: Path, folder: Path) -> None:
    other = folder.with_name("blog")
    write(folder, greeting_app())
    write(other, greeting_app())
    with Dev(folder) as first, Dev(other, env={"XDG_RUNTIME_DIR": first.env["XDG_RUNTIME_DIR"]}) as second:
        assert first.url != second.url
        assert first.http("/").json() == second.http("/").json() == {"ok": True}


def test_a_second_tako_dev_in_one_folder_names_the_first(folder: Path) -> None:
    write(folder, greeting_app())
    with Dev(folder) as first:
        assert first.process is not None
        second = Dev(folder).start(ready=None)
        assert second.wait() == 1
        assert str(first.process.pid) in second.screen()
        assert "Traceback" not in second.screen()
        assert first.http("/enqueue/greet", {"name": "Ada"}).status == 200


def test_a_folder_that_cannot_be_written_is_named(folder: Path) -> None:
    write(folder, greeting_app())
    mount = ["mount", "--bind", "-o", "ro", str(folder), str(folder)]
    if os.geteuid() == 0 and subprocess.run(mount, capture_output=True, check=False).returncode == 0:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(folder)], check=True)
        undo = ["umount", str(folder)]
    else:
        folder.chmod(0o500)
        undo = ["chmod", "700", str(folder)]
    try:
        dev = Dev(folder).start(ready=None)
        assert dev.wait() == 1
        assert str(folder) in dev.screen()
        assert "cannot be written" in dev.screen()
        assert "Traceback" not in dev.screen()
    finally:
        subprocess.run(undo, check=True)


def test_a_group_that_could_not_start_when_tako_dev_ended_is_in_a_box_when_it_starts_again(folder: Path) -> None:
    # A fault of the code, so that the next start is tried a minute later and not when `tako dev` starts.
    again = "from tako import Context, workflow\n\n@workflow\ndef greet(ctx: Context) -> None: ...\n"
    write(folder, {**greeting_app(), "workflows/zz_again.py": again})
    with Dev(folder) as dev:
        dev.wait_for("there is a workflow 'greet' already")
    with Dev(folder) as dev:
        header = dev.wait_for(r"  groups      default \(scale to zero")
        box = dev.wait_for(r"┌─ ✘ .*: worker exited with status 78")
        dev.wait_for("there is a workflow 'greet' already")
        assert dev.lines.index(header) < dev.lines.index(box), "below the header, where it stays in sight"


def test_the_header_tells_when_schedules_fire_next_at_the_very_first_start_too(folder: Path) -> None:
    report = (
        "from tako import Context, Cron, Every, workflow\n\n"
        "@workflow(schedule=[Cron('0 9 1 1 *', tz='Europe/Paris'), Every('1h')])\n"
        "def report(ctx: Context) -> None: ...\n"
    )
    write(folder, {**greeting_app(), "workflows/report.py": report})
    with Dev(folder) as dev:
        first = dev.wait_for(r"  schedules   report 0 9 1 1 \* Europe/Paris, next \w+ 01 Jan \d\d:00 \(in \d+[dh]\)")
        second = dev.wait_for(r"^              report every 1h, next [\w ]*\d\d:00 \(in \d+[hms]\)")
        added = dev.wait_for("schedule every 1h of report was added")
    assert dev.lines.index(first) + 1 == dev.lines.index(second) < dev.lines.index(added)


def test_a_store_deleted_while_stopped_is_noticed(folder: Path) -> None:
    write(folder, greeting_app())
    with Dev(folder) as dev:
        dev.http("/enqueue/greet", {"name": "Ada"})
    for path in folder.glob(".tako/runs.db*"):
        path.unlink()
    dev.start(ready=None)
    assert dev.wait() == 1
    assert "runs.db" in dev.screen()
    assert not (folder / ".tako/runs.db").exists()


def test_a_store_deleted_under_the_running_engine_is_written_back(folder: Path) -> None:
    write(folder, greeting_app())
    with Dev(folder) as dev:
        dev.http("/enqueue/greet", {"name": "Ada"})
        until(lambda: dev.runs()[0]["status"] == "succeeded", what="the first run")
        for path in folder.glob(".tako/runs.db*"):
            path.unlink()
        refused = dev.http("/enqueue/greet", {"name": "Bob"})
        assert refused.status == 503
        assert "runs.db" in refused.json()["error"]
        assert dev.wait() == 1
        dev.wait_for("runs.db was deleted")
    with Dev(folder) as dev:
        assert [run["status"] for run in dev.runs()] == ["succeeded"]


def test_an_argument_of_two_mebibytes_is_refused_with_the_limit(folder: Path) -> None:
    write(folder, greeting_app())
    with Dev(folder) as dev:
        refused = dev.http("/enqueue/greet", {"name": "x" * 2 * 1024 * 1024})
        assert refused.json()["code"] == "payload"
        assert "1,048,576" in refused.json()["error"]
        assert "reference" in refused.json()["error"]
        assert dev.http("/enqueue/greet", {"name": "Ada"}).status == 200
        assert len(dev.runs()) == 1


def test_a_full_disk_refuses_enqueues_and_goes_on_when_there_is_space_again(disk: Disk) -> None:
    folder = disk.folder / "shop"
    write(folder, greeting_app())
    with Dev(folder) as dev:
        assert dev.http("/enqueue/greet", {"name": "Ada"}).status == 200
        until(lambda: dev.runs()[0]["status"] == "succeeded", what="the first run")
        with disk.full():
            refused = dev.http("/enqueue/greet", {"name": "Bob"}, timeout_s=5)
            assert refused.status == 503
            assert "disk" in refused.json()["error"]
            assert len(dev.runs()) == 1
        assert dev.http("/enqueue/greet", {"name": "Bob"}).status == 200
        until(lambda: [run["status"] for run in dev.runs()] == ["succeeded"] * 2, what="both runs")
    shutil.rmtree(folder)
