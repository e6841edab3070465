"""`tako deploy` and its family over a real sshd, to a real daemon: what a person types, and what goes wrong on the way.

Without systemd and Caddy: `test_deploy_box.py` has those.
"""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import signal
import sqlite3
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.support.box import PlainBox
from tests.support.dev import is_alive, until
from tests.support.laptop import TAKO, Laptop
from tests.support.load import Load
from tests.support.shop import until_there_is

from tako.config import load
from tako.deploy import artifact
from tako.deploy.channel import Channel
from tako.deploy.leg import Leg
from tako.deploy.servers import Registry
from tako.deploy.ssh import Ssh, run_folder
from tako.deploy.target import target_of
from tako.deploy.unreachable import Unreachable
from tako.errors import TakoError

pytestmark = pytest.mark.acceptance

BROKEN = "from tako import workflow\n\nimport jinja3\n\n\n@workflow\ndef broken(ctx):\n    pass\n"


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlainBox]:
    with PlainBox(tmp_path_factory.mktemp("box")) as box:
        yield box


@pytest.fixture
def laptop(tmp_path: Path, box: PlainBox) -> Iterator[Laptop]:
    laptop = Laptop(tmp_path)
    laptop.knows(box, "fra1")
    yield laptop
    laptop.close()


def body(box: PlainBox, host: str, path: str = "/") -> str:
    return box.server.get(path, host=host).text


def test_a_server_that_is_one_already_is_only_written_down(tmp_path: Path, box: PlainBox) -> None:
    laptop = Laptop(tmp_path)

    asked = laptop.tako("servers", "add", box.address, "--name", "fra1", "--identity", str(box.keys.login), code=2)
    assert f"{box.keys.host_fingerprint} (ssh-ed25519)" in asked.err
    assert f"add --host-key {box.keys.host_fingerprint}" in asked.err
    assert laptop.tako("servers", "ls", "--json").json == {"servers": []}

    wrong = laptop.tako("servers", "add", box.address, "--name", "fra1", "--host-key", "SHA256:wrong", code=1)
    assert "not SHA256:wrong. Nothing was sent." in wrong.err

    laptop.tako(
        "servers", "add", box.address, "--name", "fra1", "--identity", str(box.keys.login),
        "--host-key", box.keys.host_fingerprint,
    )  # fmt: skip
    (listed,) = laptop.tako("servers", "ls", "--json").json["servers"]
    assert listed == {"name": "fra1", "address": box.address, "host_key": box.keys.host_fingerprint}


def test_an_app_is_deployed_changed_and_taken_back(laptop: Laptop, box: PlainBox) -> None:
    laptop.has_shop("r1", name="one")
    first = laptop.tako("deploy", "--json").json
    assert first["live"]
    assert first["servers"][0]["previous"] is None
    assert body(box, "one.test") == "r1"

    again = laptop.tako("deploy")
    assert f"Nothing to deploy: fra1 serves {first['release']} already." in again.err

    laptop.has_shop("r2", name="one")
    with Load(box.server.port, host="one.test") as load:
        said = laptop.tako("deploy")
        load.until_answered_by("r2")
    assert load.report.failed == []
    for words in (
        "✔ Connected to fra1",
        "✔ Uploaded 2 files",
        "✔ Each group of workers starts",
        "✔ Live",
        "at https://one.test",
    ):
        assert words in said.err

    releases = laptop.tako("releases", "--json").json["servers"]["fra1"]
    assert [each["message"] for each in releases["releases"]] == ["Release r2", "Release r1"]
    assert releases["releases"][0]["is_current"]

    back = laptop.tako("rollback")
    assert "serves on fra1 at https://one.test" in back.err
    assert body(box, "one.test") == "r1"
    laptop.tako("rollback", releases["current"])
    assert body(box, "one.test") == "r2"


def test_the_dashboard_comes_through_ssh_until_ctrl_c(laptop: Laptop, box: PlainBox) -> None:
    laptop.has_shop("r1", name="seen")
    laptop.tako("deploy")
    laptop.tako("enqueue", "charge", "order=7", "--wait", "--env", "production")

    opened = laptop.start("open", "--print", "--env", "production")
    opened.until("It comes through SSH from fra1, as long as this runs. (Ctrl-C ends it)")
    url = opened.line()
    runs = httpx.get(f"{url}runs", trust_env=False)
    metrics = httpx.get(f"{url.rsplit('/', 2)[0]}/metrics", trust_env=False)
    ended = opened.kill(signal.SIGINT)

    assert (runs.status_code, metrics.status_code, ended.code) == (200, 200, 0)
    assert "succeeded" in runs.text
    assert 'tako_web_instances{app="seen",env="production"} 1' in metrics.text
    with pytest.raises(httpx.ConnectError):
        httpx.get(url, trust_env=False)


def test_a_dry_run_lists_and_does_nothing(laptop: Laptop, box: PlainBox) -> None:
    laptop.has_shop("r1", name="dry", toml='release = "true"\n')

    said = laptop.tako("deploy", "--dry-run")

    assert "app.py" in said.out
    assert "fra1 has no release: sends the files that it lacks, runs 'true'." in said.err
    assert "nothing was done" in said.err
    assert not [
        app
        for app in laptop.tako("servers", "status", "--json", code=None).json["servers"][0]["apps"]
        if app["app"] == "dry"
    ]


def test_a_typo_in_a_workflow_is_refused_with_file_and_line_and_the_old_one_serves(
    laptop: Laptop, box: PlainBox
) -> None:
    laptop.has_shop("r1", name="typo")
    first = laptop.tako("deploy", "--json").json["release"]
    laptop.has_shop("r2", name="typo", files={"workflows/broken.py": BROKEN})

    with Load(box.server.port, host="typo.test") as load:
        said = laptop.tako("deploy", code=1)
        load.more()

    assert load.report.failed == []
    assert set(load.report.answered) == {"r1"}
    assert "✘ Not deployed to fra1: " in said.err
    assert "workflows/broken.py:3" in said.err
    assert "No module named 'jinja3'" in said.err
    assert f"The previous release ({first}) still serves." in said.err


def test_runs_without_code_in_the_release_refuse_it_and_are_listed(laptop: Laptop) -> None:
    later = "from tako import workflow\n\n\n@workflow\ndef later(ctx):\n    ctx.sleep('wait', '1h')\n"
    laptop.has_shop("r1", name="orphan", files={"workflows/later.py": later})
    laptop.tako("deploy")
    run_id = laptop.tako("enqueue", "later", "--env", "production", "--json").json["id"]
    laptop.has_shop("r2", name="orphan")

    said = laptop.tako("deploy", code=1)
    assert "later" in said.err
    assert "--orphans" in said.err

    laptop.tako("deploy", "--orphans", "cancel")
    assert laptop.tako("runs", "show", run_id, "--env", "production", "--json").json["status"] == "cancelled"


def test_everything_on_the_machine_works_from_the_laptop(laptop: Laptop, box: PlainBox) -> None:
    laptop.has_shop("r1", name="far")
    laptop.tako("deploy")

    ran = laptop.tako("enqueue", "charge", "order=7", "--wait", "--env", "production")
    assert ran.out == '"r1"\n'
    (run,) = laptop.tako("runs", "list", "--env", "production", "--json").json["runs"]
    assert (run["workflow"], run["status"]) == ("charge", "succeeded")
    assert "charge" in laptop.tako("workflows", "--server", "fra1").out
    assert laptop.tako("schedules", "--env", "production", "--json").json == {"schedules": []}
    status = laptop.tako("status", "--env", "production", "--json").json
    assert status["ok"]
    assert status["servers"]["fra1"]["state"] == "serving"
    lines = laptop.tako("logs", "--env", "production", "--json").json["lines"]
    assert {line["server"] for line in lines} == {"fra1"}
    assert any("Deploy" in line["message"] or "deploy" in line["message"] for line in lines)
    assert laptop.tako("scale", "web=2", "--json").json["servers"]["fra1"]["web"] == 2
    assert "production is not on ams1" in laptop.tako("runs", "list", "--server", "ams1", code=1).err

    laptop.tako("delete", code=2)
    assert body(box, "far.test") == "r1"
    laptop.tako("delete", "--yes", "far/production")
    assert box.server.get("/", host="far.test").status_code == 404


def test_an_app_is_restarted_without_a_release_and_a_refused_request(laptop: Laptop, box: PlainBox) -> None:
    laptop.has_shop("r1", name="anew")
    release = laptop.tako("deploy", "--json").json["release"]
    pid = box.server.get("/about", host="anew.test").json()["pid"]

    with Load(box.server.port, host="anew.test") as load:
        said = laptop.tako("restart")
        load.more()

    assert load.report.failed == []
    assert "anew serves on fra1" in said.err
    assert box.server.get("/about", host="anew.test").json()["pid"] != pid
    releases = laptop.tako("releases", "--json").json["servers"]["fra1"]
    assert [each["release"] for each in releases["releases"]] == [release]


def test_maintenance_is_told_by_status_until_it_ends(laptop: Laptop) -> None:
    laptop.has_shop("r1", name="down")
    laptop.tako("deploy")

    laptop.tako("maintenance", "on")
    assert "down for maintenance" in laptop.tako("status", "--env", "production").out
    laptop.tako("maintenance", "off")
    assert "maintenance" not in laptop.tako("status", "--env", "production").out


SHOWS = """
import sys
from tako import current, secrets
from workflows.charge import charge
print(current.env, current.build, secrets["WORD"], sys.stdin.read(), charge.enqueue(order=7).result(timeout=60))
print("told", file=sys.stderr)
sys.exit(7)
"""
WAITS = "import os, sys, time; print(sys.stdin.isatty(), os.getpid(), flush=True); time.sleep(600)"


def test_a_command_runs_on_the_server_as_a_process_of_the_app(laptop: Laptop, box: PlainBox) -> None:
    laptop.has_shop("r1", name="errands")
    laptop.tako("secrets", "set", "WORD", "--env", "production", stdin="a-word-of-mine")
    release = laptop.tako("deploy", "--json").json["release"]

    done = laptop.tako("run", "--env", "production", "--", "python", "-c", SHOWS, stdin="piped", code=7)
    gone = laptop.tako("run", "--env", "production", "no-such-command", code=127)

    assert done.out == f"production {release} a-word-of-mine piped r1\n"
    assert "told" in done.err
    assert "no-such-command cannot be run" in gone.err
    said = laptop.tako("logs", "--env", "production").out
    assert re.search(r"command +\S+ runs python\n", said)
    assert re.search(r"command +python of \S+ exited with status 7", said)


def test_a_command_on_the_server_has_the_terminal_and_hears_ctrl_c(laptop: Laptop, box: PlainBox) -> None:
    laptop.has_shop("r1", name="prompt")
    laptop.tako("deploy")
    argv = [TAKO, "run", "--env", "production", "--", "python", "-c", WAITS]
    ours, theirs = pty.openpty()
    with subprocess.Popen(argv, cwd=laptop.app, env=laptop.env, stdin=theirs, stdout=theirs, stderr=theirs) as running:
        os.close(theirs)
        shown = b""
        while b"\n" not in shown:
            assert select.select([ours], [], [], 60)[0], shown
            shown += os.read(ours, 4096)
        is_terminal, pid = shown.split()[:2]

        os.write(ours, b"\x03")

        assert running.wait(60) == 130
    os.close(ours)
    assert is_terminal == b"True"
    until(lambda: not is_alive(int(pid)), what="the command is gone")


def test_a_command_on_the_server_ends_with_whoever_started_it(laptop: Laptop, box: PlainBox) -> None:
    laptop.has_shop("r1", name="left")
    laptop.tako("deploy")
    running = laptop.start("run", "--env", "production", "--", "python", "-c", WAITS)
    is_terminal, pid = running.line().split()

    box.cut_connections()

    assert running.end().code == 1
    assert "the command was ended there" in running.err
    assert is_terminal == "False"
    until(lambda: not is_alive(int(pid)), what="the command is gone")


def test_a_backup_of_a_deployed_app_comes_home_as_one_file_and_leaves_nothing_there(
    laptop: Laptop, box: PlainBox
) -> None:
    laptop.has_shop("r1", name="kept")
    laptop.tako("deploy")
    laptop.tako("enqueue", "charge", "order=7", "--wait", "--env", "production")

    path = Path(laptop.tako("backup", "--env", "production", "--json").json["path"])

    assert path.parent == laptop.app
    assert path.stat().st_mode & 0o077 == 0
    with tarfile.open(path) as archive:
        archive.extractall(laptop.folder / "unpacked", filter="data")
    assert (laptop.folder / "unpacked/data/ledger").read_text().count("end") == 1
    with contextlib.closing(sqlite3.connect(laptop.folder / "unpacked/runs.db")) as store:
        assert store.execute("SELECT status FROM runs").fetchall() == [("succeeded",)]
    assert not list((box.server.data / "apps/kept/production").glob("backup-*"))
    assert "exists; no backup was made" in laptop.tako("backup", str(path), "--env", "production", code=1).err


def test_changed_secrets_roll_the_app_without_a_release(laptop: Laptop, box: PlainBox) -> None:
    laptop.has_shop("r1", name="sec")
    laptop.tako("secrets", "set", "KEY", "--env", "production", stdin="hunter22")
    release = laptop.tako("deploy", "--json").json["release"]
    assert box.server.get("/about", host="sec.test").json()["secrets"] == {"KEY": "hunter22"}
    assert "fra1 has 1 secret, as before" in laptop.tako("secrets", "sync", "--env", "production").err

    laptop.tako("secrets", "set", "KEY", "--env", "production", stdin="hunter23")
    with Load(box.server.port, host="sec.test") as load:
        said = laptop.tako("secrets", "sync", "--env", "production")
        load.more()

    assert load.report.failed == []
    assert "app and workers run with them now" in said.err
    about = box.server.get("/about", host="sec.test").json()
    assert about["secrets"] == {"KEY": "hunter23"}
    assert "hunter" not in str(about["env"])
    releases = laptop.tako("releases", "--json").json["servers"]["fra1"]
    assert [each["release"] for each in releases["releases"]] == [release]

    # Who has not the key deploys the code, and the secrets stay.
    (laptop.folder / "config/tako/keys/sec/production").unlink()
    laptop.has_shop("r2", name="sec")
    assert "Those on the server stay as they are." in laptop.tako("deploy").err
    assert box.server.get("/about", host="sec.test").json()["secrets"] == {"KEY": "hunter23"}


# Cut in the middle


def test_a_command_that_dies_after_the_commit_leaves_a_deploy_that_goes_on(laptop: Laptop, box: PlainBox) -> None:
    go = laptop.folder / "go"
    laptop.has_shop("r1", name="dies", at_import=until_there_is(go))
    deploy = laptop.start("deploy")
    deploy.until("Each group of workers starts")
    deploy.kill()

    attached = laptop.start("deploy", "--attach")
    attached.until("Each group of workers starts")
    go.touch()

    ended = attached.end()
    assert ended.code == 0, ended.err
    assert "serves on fra1 at https://dies.test" in ended.err
    assert body(box, "dies.test") == "r1"
    assert "No deploy of dies to production is under way" in laptop.tako("deploy", "--attach", code=1).err


def test_ctrl_c_says_what_goes_on(laptop: Laptop, box: PlainBox) -> None:
    go = laptop.folder / "go"
    laptop.has_shop("r1", name="ctrl", at_import=until_there_is(go))
    deploy = laptop.start("deploy")
    deploy.until("Each group of workers starts")

    ended = deploy.kill(signal.SIGINT)

    assert ended.code == 130
    assert "It goes on at fra1: `tako deploy --attach` follows it." in ended.err
    attached = laptop.start("deploy", "--attach")
    attached.until("Each group of workers starts")
    go.touch()
    assert attached.end().code == 0


def test_a_connection_that_is_cut_after_the_commit_is_made_again(laptop: Laptop, box: PlainBox) -> None:
    go = laptop.folder / "go"
    laptop.has_shop("r1", name="cutlate", at_import=until_there_is(go))
    deploy = laptop.start("deploy")
    deploy.until("Each group of workers starts")

    box.cut_connections()
    deploy.until("Trying again…")
    go.touch()

    ended = deploy.end()
    assert ended.code == 0, ended.err
    assert "serves on fra1 at https://cutlate.test" in ended.err


@pytest.mark.parametrize("last", ["begin", "finished"])
def test_a_commit_whose_answer_was_lost_is_not_done_again(
    laptop: Laptop, box: PlainBox, last: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    laptop.has_shop("r1", name=f"lost-{last}")
    registry = Registry(laptop.folder / "config/tako")
    target = target_of(load.load(laptop.app), registry, environment="production")
    leg = Leg(Ssh(target.servers[0], folder=run_folder()), target, tell=lambda told: None)
    commits = []

    class Cut(Channel):
        """Its connection breaks when the commit has arrived, and is not answered until the job has come so far."""

        def call(self, command: str, *arguments: Any, **options: Any) -> Any:
            found = super().call(command, *arguments, **options)
            if command == "deploy.commit":
                commits.append(found)
                with Channel(Ssh(target.servers[0], folder=run_folder())) as other:
                    _, events = other.events("deploy.attach", {"job": found["job"]}, push="deploy")
                    next(each for each in events if each["event"] == last and each["phase"] != "upload")
                raise Unreachable("cut")
            return found

    monkeypatch.setattr("tako.deploy.leg.Channel", Cut)
    leg.connect()
    leg.send(artifact.collect(target.config), is_leader=True, secrets=None, orphans="refuse", hold=False)
    leg.follow(lambda event: False)

    assert leg.is_committed
    assert len(commits) == 1
    assert body(box, f"lost-{last}.test") == "r1"


def test_an_upload_whose_command_is_killed_or_whose_connection_is_cut_sends_only_the_rest(
    laptop: Laptop, box: PlainBox
) -> None:
    laptop.has_shop("r1", name="cutearly")
    for number in range(60):
        (laptop.app / f"asset{number}.bin").write_bytes(os.urandom(1_000_000))
    subprocess.run("git add . && git commit -qm assets", shell=True, cwd=laptop.app, env=laptop.env, check=True)
    before = blobs_on(box)
    killed = laptop.start("deploy")
    until(lambda: blobs_on(box) > before + 5, what="blobs on the server")
    assert killed.kill().code == -signal.SIGKILL
    arrived = blobs_on(box)
    deploy = laptop.start("deploy")
    for share in (0.3, 0.6, 0.97):
        until(lambda share=share: blobs_on(box) > before + 61 * share, what="more blobs on the server")  # type: ignore[misc]
        box.cut_connections()
        deploy.until("Trying again…")

    ended = deploy.end()

    assert ended.code == 0, ended.err
    assert body(box, "cutearly.test") == "r1"
    told = re.search(r"Uploaded (\d+) file|All files are there", ended.err)
    assert told is not None, ended.err
    sent = int(told[1] or 0)  # by the last connection: nothing, if the one before was cut after the last file
    assert sent <= before + 62 - arrived


def blobs_on(box: PlainBox) -> int:
    return len(list((box.server.data / "blobs").glob("*/*[0-9a-f]")))


def test_a_release_of_thousands_of_files_is_deployed_though_its_manifest_fits_in_no_line(
    laptop: Laptop, box: PlainBox
) -> None:
    laptop.has_shop("r1", name="many")
    for number in range(4_000):
        (laptop.app / f"{number:04d}-{'x' * 200}.txt").touch()
    subprocess.run("git add . && git commit -qm many", shell=True, cwd=laptop.app, env=laptop.env, check=True)

    laptop.tako("deploy")

    assert body(box, "many.test") == "r1"
    (release,) = laptop.tako("releases", "--json").json["servers"]["fra1"]["releases"]
    assert release["files"] > 4_000


def test_a_second_deploy_is_told_who_is_at_it(laptop: Laptop) -> None:
    go = laptop.folder / "go"
    laptop.has_shop("r1", name="two", at_import=until_there_is(go))
    first = laptop.start("deploy")
    first.until("Each group of workers starts")

    second = laptop.tako("deploy", "--force", code=1)

    assert "Not deployed to fra1: d" in second.err
    assert "@" in second.err
    assert "tako deploy --abort" in second.err
    go.touch()
    assert first.end().code == 0


def test_a_deploy_can_be_called_off_from_elsewhere(laptop: Laptop) -> None:
    laptop.has_shop("r1", name="off")
    before = laptop.tako("deploy", "--json").json["release"]
    laptop.has_shop("r2", name="off", at_import=until_there_is(laptop.folder / "never"))
    first = laptop.start("deploy")
    first.until("Connected to fra1")
    until(lambda: laptop.tako("deploy", "--abort", code=None).code == 0, what="it is under way, and called off")

    ended = first.end()
    assert ended.code == 1
    assert f"The previous release ({before}) still serves." in ended.err
    assert "No deploy of off to production is under way" in laptop.tako("deploy", "--abort", code=1).err


def test_what_could_lie_outside_of_a_release_or_is_not_what_it_says_is_refused_by_the_server(
    laptop: Laptop, box: PlainBox
) -> None:
    server = Registry(laptop.folder / "config/tako").get("fra1")
    ref = {"app": "evil", "env": "production", "release": "r1", "by": "eve@x"}
    content = "a" * 64
    with Channel(Ssh(server, folder=run_folder())) as channel:
        for path in ("../x", "/etc/passwd", "a/../../x", "a//b", "", ".", "a\0b", "a\nb"):
            entry = {"path": path, "mode": 0o644, "size": 1, "sha256": content}
            with pytest.raises(TakoError):
                channel.call("deploy.begin", {**ref, "manifest": [entry]})

        entry = {"path": "app.py", "mode": 0o644, "size": 1, "sha256": content}
        job = channel.call("deploy.begin", {**ref, "manifest": [entry]})["job"]
        with pytest.raises(TakoError):
            channel.call("blob.put", {"job": job, "sha256": content, "offset": 0, "data": "eA==", "zlib": False})
        channel.call("deploy.abort", {"job": job})


# Several servers


@pytest.fixture
def pair(tmp_path: Path, box: PlainBox, laptop: Laptop) -> Iterator[PlainBox]:
    """A second server, `ams1`."""
    with PlainBox(tmp_path / "ams1") as second:
        laptop.knows(second, "ams1")
        yield second


def test_several_servers_switch_together_or_not_at_all(laptop: Laptop, box: PlainBox, pair: PlainBox) -> None:
    laptop.has_shop("r1", name="both", servers=["fra1", "ams1"])
    said = laptop.tako("deploy")
    assert "both" in said.err
    assert "serves on fra1, ams1" in said.err
    assert (body(box, "both.test"), body(pair, "both.test")) == ("r1", "r1")

    # On ams1, another app has the second route: it cannot go there, so fra1 does not either.
    other = Laptop(laptop.folder, "other")
    other.knows(pair, "ams1")
    other.has_shop("o1", name="other", servers=["ams1"])
    other.tako("deploy")
    laptop.has_shop("r2", name="both", servers=["fra1", "ams1"], routes=["both.test", "other.test"])
    failed = laptop.tako("deploy", code=1)

    assert "Not deployed to fra1: fra1 was ready and did not switch, because ams1 was not." in failed.err
    assert "Not deployed to ams1: " in failed.err
    assert "other.test" in failed.err
    assert (body(box, "both.test"), body(pair, "both.test")) == ("r1", "r1")

    # Its health is bad on ams1 only.
    ill = '500 if "ams1" in os.environ["TAKO_DATA_DIR"] else 200'
    health = '[web]\nhealth = "/up"\n'
    laptop.has_shop("r2", name="both", servers=["fra1", "ams1"], status=ill, toml=health)
    failed = laptop.tako("deploy", code=1)
    assert "Not deployed to fra1: fra1 was ready and did not switch, because ams1 was not." in failed.err
    assert "answered /up with 500" in failed.err
    assert (body(box, "both.test"), body(pair, "both.test")) == ("r1", "r1")

    laptop.has_shop("r3", name="both", servers=["fra1", "ams1"])
    laptop.tako("deploy")
    laptop.tako("rollback")
    assert (body(box, "both.test"), body(pair, "both.test")) == ("r1", "r1")
    assert "each has runs of its own" in laptop.tako("runs", "list", "--env", "production", code=1).err
    assert laptop.tako("status", "--env", "production", "--json").json["servers"].keys() == {"fra1", "ams1"}
    merged = laptop.tako("logs", "--env", "production", "--json").json["lines"]
    assert {line["server"] for line in merged} == {"fra1", "ams1"}


def test_when_workers_are_broken_on_one_of_two_servers_each_server_tells_of_its_own(
    laptop: Laptop, box: PlainBox, pair: PlainBox
) -> None:
    breaks = (
        "import os\nfrom pathlib import Path\nfrom tako import workflow\n\n"
        "if Path(os.environ['TAKO_DATA_DIR'], 'broken').exists():\n    import jinja3\n\n\n"
        "@workflow\ndef mail(ctx):\n    pass\n"
    )
    laptop.has_shop("r1", name="half", servers=["fra1", "ams1"], files={"workflows/mail.py": breaks})
    laptop.tako("deploy")
    (pair.server.data / "apps/half/production/data/app/broken").touch()

    laptop.tako("enqueue", "mail", "--server", "ams1")  # accepted: its workers have started at the gate
    refused = laptop.tako("enqueue", "mail", "--server", "ams1", "--wait", code=None)
    laptop.tako("enqueue", "mail", "--server", "fra1", "--wait")

    status = laptop.tako("status", "--env", "production", "--json", code=1).json
    groups = {
        name: {group["group"]: group["state"] for group in server["engine"]["groups"]}
        for name, server in status["servers"].items()
    }
    assert groups["fra1"] == {"default": "healthy"}
    assert groups["ams1"]["default"] in ("cooldown", "probing")
    assert not status["ok"]
    assert "jinja3" in refused.err
    said = laptop.tako("status", "--env", "production", code=1)
    assert "ams1" in said.out
    assert "jinja3" in said.out


def test_of_two_servers_one_that_is_out_of_reach_is_told_and_the_other_still_answers(
    laptop: Laptop, pair: PlainBox
) -> None:
    laptop.has_shop("r1", name="part", servers=["fra1", "ams1"])
    laptop.tako("deploy")
    pair.cut_connections()
    pair.stop_ssh()

    status = laptop.tako("status", "--env", "production", "--json", code=1).json
    assert status["servers"].keys() == {"fra1"}
    assert "ams1" in status["errors"]["ams1"]
    assert not status["ok"]
    logs = laptop.tako("logs", "--env", "production", "--json", code=1)
    assert {line["server"] for line in logs.json["lines"]} == {"fra1"}
    assert "refuses connections" in logs.err


def test_a_server_that_shows_another_key_is_not_talked_to(laptop: Laptop, pair: PlainBox) -> None:
    laptop.has_shop("r1", name="key", servers=["ams1"])
    pair.cut_connections()
    pair.new_host_key()

    said = laptop.tako("deploy", code=1)
    assert "shows another host key than the one that was pinned. Nothing was sent." in said.err
    assert "--replace" in said.err
    assert laptop.tako("servers", "add", pair.address, "--name", "ams1", code=1).err.count("another host key") == 1

    laptop.tako(
        "servers", "add", pair.address, "--name", "ams1", "--replace", "--identity", str(pair.keys.login),
        "--host-key", pair.keys.host_fingerprint,
    )  # fmt: skip
    laptop.tako("deploy")
