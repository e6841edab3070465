"""The real thing: a bare Debian with systemd and sshd becomes a server, gets an app, and is hit hard.

One box for all tests but those that need a disk of their own. On a machine that cannot boot one (conftest.py says why,
at the end of the run), `test_deploy_ssh.py` has what can be said without systemd and Caddy.
"""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from reliability.deploys.__main__ import PLACES, play
from reliability.deploys.scene import Scene
from tests.support.box import ROOT, Box
from tests.support.dev import until
from tests.support.laptop import Laptop
from tests.support.shop import until_there_is

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(900)]  # the first one may have to put the Debian together


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    with Box(tmp_path_factory.mktemp("box")) as box:
        yield box


@pytest.fixture(scope="module")
def added(box: Box, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Make the box a server; what the command said."""
    said: str = add(Laptop(tmp_path_factory.mktemp("adding")), box).err
    box.watch_for()
    return said


@pytest.fixture
def laptop(tmp_path: Path, box: Box, added: str) -> Laptop:
    laptop = Laptop(tmp_path)
    laptop.knows(box, "fra1")
    return laptop


def add(laptop: Laptop, box: Box, *more: str, code: int = 0) -> Any:
    return laptop.tako(
        "servers", "add", box.address, "--name", "fra1", "--identity", str(box.keys.login), "--host-key",
        box.keys.host_fingerprint, "--offline", "--acme", "internal", *more, code=code,
    )  # fmt: skip


def get(box: Box, host: str, path: str = "/", *, method: str = "GET", body: str = "") -> tuple[int, str]:
    """A request through Caddy, by https, as a browser elsewhere makes it."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection((box.host, 443), 30) as plain,
        context.wrap_socket(plain, server_hostname=host) as secured,
    ):
        form = f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n" if body else ""
        secured.sendall(f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{form}\r\n{body}".encode())
        answer = b"".join(iter(lambda: secured.recv(65_536), b""))
    head, _, content = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), content.decode(errors="replace")


class Visitors:
    """People who ask for a page again and again, each on a new connection; what was not answered with 200 is kept."""

    def __init__(self, box: Box, host: str, *, count: int = 4) -> None:
        self.answered = 0
        self.failed: list[str] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._visit, args=(box, host), daemon=True) for _ in range(count)]

    def __enter__(self) -> Visitors:
        for thread in self._threads:
            thread.start()
        until(lambda: self.answered > 5, what="visitors are answered")
        return self

    def __exit__(self, *_: object) -> None:
        until(lambda seen=self.answered: self.answered > seen + 5, what="visitors are answered again")  # type: ignore[misc]
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def _visit(self, box: Box, host: str) -> None:
        while not self._stop.is_set():
            try:
                status, text = get(box, host)
            except OSError as error:
                status, text = 0, repr(error)
            if status == 200:
                self.answered += 1
            else:
                self.failed.append(f"{status} {text[:100]}")


def daemon_pid(box: Box) -> str:
    return box.sh("systemctl show -p MainPID --value tako-server").strip()


def test_a_bare_debian_becomes_a_server(box: Box, laptop: Laptop, added: str) -> None:
    for words in (
        "✔ Connected to fra1: Debian GNU/Linux 12",
        "✔ Sent",
        "✔ Built its environment",
        "✔ Started Caddy",
        "fra1 is ready",
    ):
        assert words in added
    status = laptop.tako("servers", "status", "fra1", "--json").json["servers"][0]
    assert status["problems"] == []
    assert status["hello"]["machine"] == "x86_64"
    # Nothing of it listens to the world but SSH and Caddy.
    listening = box.sh("ss -Hltn | awk '{print $4}'").split()
    assert {each.rpartition(":")[2] for each in listening if not each.startswith("127.0.0.1:")} == {"22", "80", "443"}
    assert "nothing was installed" in add(laptop, box).err


def test_the_example_is_deployed_and_signs_people_up_by_https(box: Box, laptop: Laptop) -> None:
    source = laptop.folder / "signup"
    shutil.copytree(ROOT / "examples/signup", source, ignore=shutil.ignore_patterns(".tako", "__pycache__"))
    with (source / "tako.toml").open("a") as file:
        file.write('\n[envs.production]\nroutes = ["signup.test"]\nservers = ["fra1"]\n')
    laptop.commits(source, message="Sign-up")

    deployed = laptop.tako("deploy", "--json")
    first = deployed.json
    assert first["live"]
    assert "https://signup.test has a certificate by Caddy Local Authority" in deployed.err
    status, page = get(box, "signup.test")
    assert (status, "Sign up" in page) == (200, True)

    (laptop.app / "pages.py").write_text((source / "pages.py").read_text() + "\n# changed\n")
    with Visitors(box, "signup.test") as visitors:
        second = laptop.tako("deploy", "--json").json
    assert visitors.failed == []
    assert second["servers"][0]["previous"] == first["release"]
    assert 0 < second["servers"][0]["uploaded_bytes"] < 10_000
    print(json.dumps({"first": first, "second": second}, indent=1))

    form = "email=ann%40example.com&password=correct+horse"
    assert get(box, "signup.test", "/signup", method="POST", body=form)[0] == 303
    assert len(laptop.tako("runs", "list", "--env", "production", "--json").json["runs"]) == 1


def test_each_app_runs_as_a_user_of_its_own_and_reads_nothing_of_the_daemon_or_of_another_app(
    box: Box, laptop: Laptop
) -> None:
    static = '[web]\nstatic = { "/static" = "static" }\n'
    laptop.has_shop("r1", name="alone", toml=static, files={"static/a.css": "body {}"})
    laptop.tako("deploy")
    ran = laptop.tako("run", "--env", "production", "--", "sh", "-c", "id -un; cat /proc/self/cgroup")
    laptop.has_shop("r1", name="other")
    laptop.tako("deploy")

    about = json.loads(get(box, "alone.test", "/about")[1])
    assert about["uid"] == int(box.sh("id -u tako-alone"))
    assert ran.out.startswith("tako-alone\n")
    assert "/tako-apps.slice/tako-app-alone-production-c" in ran.out
    state = "/var/lib/tako"
    runs = f"{state}/apps/alone/production/data/tako/runs.db"
    as_app = "setpriv --reuid=tako-alone --regid=tako-alone --clear-groups"
    sources = f"{state}/apps/other/production/current/src/app.py"
    for path in (f"{state}/state.db", f"{state}/secret.key", runs, sources, "/etc/shadow"):
        assert "Permission denied" in box.sh(f"{as_app} head -c1 {path} 2>&1 || true"), path
    for folder in (f"{state}/blobs", f"{state}/apps/other/production/data/app"):
        assert "Permission denied" in box.sh(f"{as_app} ls {folder} 2>&1 || true"), folder
    assert get(box, "alone.test", "/static/a.css") == (200, "body {}")  # by Caddy, which reads no source either
    connect = f"{as_app} python3 -c 'import socket; socket.socket(1).connect(\"/run/tako/tako.sock\")' 2>&1 || true"
    assert "PermissionError" in box.sh(connect)
    scopes = box.sh("systemctl list-units --plain --no-legend 'tako-app-alone-*.scope'")
    assert "tako-app-alone-production" in scopes


def test_the_daemon_may_die_stop_and_start_and_no_visitor_notices(box: Box, laptop: Laptop) -> None:
    laptop.has_shop("r1", name="steady")
    laptop.tako("deploy")
    pid = json.loads(get(box, "steady.test", "/about")[1])["pid"]

    with Visitors(box, "steady.test") as visitors:
        before = daemon_pid(box)
        box.sh("systemctl kill --signal=SIGKILL tako-server")
        until(lambda: daemon_pid(box) not in (before, "0", ""), what="systemd starts the daemon again")
        box.sh("systemctl restart tako-server")
        box.sh("systemctl stop tako-server")
        box.sh("systemctl start tako-server")

    assert visitors.failed == []
    assert json.loads(get(box, "steady.test", "/about")[1])["pid"] == pid
    assert laptop.tako("status", "--env", "production", "--json").json["ok"]


def test_caddy_may_die_and_is_there_again(box: Box, laptop: Laptop) -> None:
    laptop.has_shop("r1", name="front")
    laptop.tako("deploy")
    restarts = "systemctl show -p NRestarts --value tako-caddy"
    before = box.sh(restarts)

    box.sh("systemctl kill --signal=SIGKILL tako-caddy")

    until(lambda: box.sh(restarts) != before and served(box, "front.test"), what="systemd starts Caddy again")


def test_an_upgrade_that_does_not_start_is_taken_back_and_no_visitor_notices(
    box: Box, laptop: Laptop, tmp_path: Path
) -> None:
    laptop.has_shop("r1", name="upgraded")
    laptop.tako("deploy")
    before = laptop.tako("servers", "status", "fra1", "--json").json["servers"][0]["hello"]["version"]

    with Visitors(box, "upgraded.test") as visitors:
        same = laptop.tako("servers", "upgrade", "fra1", "--offline")
        assert f"fra1 runs {before}, as before" in same.err
        broken = laptop_with_another_tako(laptop, tmp_path, "raise SystemExit('broken on purpose')")
        failed = broken.tako("servers", "upgrade", "fra1", "--offline", code=1)
        assert f"did not start on fra1; {before} runs again." in failed.err
        assert "broken on purpose" in failed.err
        better = laptop_with_another_tako(laptop, tmp_path, "")
        done = better.tako("servers", "upgrade", "fra1", "--offline", "--json").json

    assert visitors.failed == []
    assert done["from"] == before != done["version"]
    assert laptop.tako("servers", "status", "fra1", "--json").json["servers"][0]["hello"]["version"] == done["version"]


def laptop_with_another_tako(laptop: Laptop, folder: Path, line: str) -> Laptop:
    """The same laptop, whose Tako has another line in its daemon's first module."""
    source = folder / f"tako{len(line)}" / "tako"
    shutil.copytree(ROOT / "src/tako", source, ignore=shutil.ignore_patterns("__pycache__"))
    main = source / "server/daemon.py"
    main.write_text(main.read_text().replace("WATCH_S = 10.0\n", f"WATCH_S = 10.0  # changed\n{line}\n"))
    other = Laptop(folder / str(len(line)))
    other.env = {**laptop.env, "PYTHONPATH": str(source.parent)}
    return other


def test_deploys_roll_backs_kills_and_a_power_cut_under_load_fail_no_request_and_lose_or_double_no_run(
    box: Box, laptop: Laptop
) -> None:
    """A little of what `scripts/gate deploys` does."""
    authority = box.sh("cat /var/lib/tako-caddy/caddy/pki/authorities/local/root.crt")
    scene = Scene(box, laptop, ssl.create_default_context(cadata=authority))
    places = {place: PLACES[place] for place in ("gate:after", "commit:after")}

    acts = list(play(scene, deploys=1, rollbacks=1, places=places, power_cuts=1))

    print("\n".join(map(str, acts)))
    assert [problem for act in acts for problem in act.problems] == []


def served(box: Box, host: str) -> bool:
    try:
        return get(box, host)[0] == 200
    except OSError:
        return False


def until_up(box: Box) -> None:
    """Apps serve before the daemon has seen to all of them, and it answers when it has."""
    active = "systemctl is-active tako-server"
    until(lambda: box.sh(active, check=False).strip() == "active", what="the daemon is up", timeout_s=60)


def test_after_a_reboot_everything_is_there_again(box: Box, laptop: Laptop) -> None:
    laptop.has_shop("r1", name="again")
    laptop.tako("deploy")

    box.reboot(clean=True)

    until(lambda: served(box, "again.test"), what="the app serves after the reboot", timeout_s=60)
    until_up(box)
    assert laptop.tako("servers", "status", "fra1", "--json").json["servers"][0]["problems"] == []


def test_a_cable_that_is_pulled_and_put_back_does_not_end_a_deploy(box: Box, laptop: Laptop) -> None:
    go = Path("/var/tmp/cable")  # on the box, where /run does not outlive a boot
    laptop.has_shop("r1", name="cable", at_import=until_there_is(go))
    deploy = laptop.start("deploy")
    deploy.until("Each group of workers starts")

    box.cut_network()
    deploy.until("Trying again…")
    box.mend_network()
    box.sh(f"touch {go}")

    ended = deploy.end()
    assert ended.code == 0, ended.err
    assert "serves on fra1 at https://cable.test" in ended.err


def test_what_has_left_an_instances_group_ends_with_it_and_its_scope_has_its_limit(box: Box, laptop: Laptop) -> None:
    leaves = "import subprocess; subprocess.Popen(['setsid', 'sleep', '3599'])"
    laptop.has_shop("r1", name="leaves", toml='[web]\nmemory = "160M"\n', at_import=leaves)
    laptop.tako("deploy")
    pid = json.loads(get(box, "leaves.test", "/about")[1])["pid"]
    (left,) = box.sh("pgrep -x -f 'sleep 3599'").split()
    (scope,) = box.sh("systemctl list-units --plain --no-legend 'tako-app-leaves-*.scope' | cut -d' ' -f1").split()
    assert box.sh(f"systemctl show -p MemoryMax --value {scope}").strip() == str(160 << 20)

    box.sh(f"kill -KILL {pid}")

    until(lambda: json.loads(get(box, "leaves.test", "/about")[1])["pid"] != pid, what="another instance answers")
    until(lambda: left not in box.sh("pgrep -x -f 'sleep 3599'").split(), what="what had left is gone")


@pytest.mark.parametrize(("phase", "serves"), [("Each group of workers starts", "r1"), ("Live", "r2")])
def test_a_power_cut_in_the_middle_of_a_deploy_leaves_one_release_whole(
    box: Box, laptop: Laptop, phase: str, serves: str
) -> None:
    laptop.has_shop("r1", name="dark")
    laptop.tako("deploy")
    go = Path(f"/var/tmp/dark-{serves}")
    laptop.has_shop("r2", name="dark", at_import=until_there_is(go))
    if serves == "r2":
        box.sh(f"touch {go}")
    deploy = laptop.start("deploy")
    deploy.until(phase)

    box.power_cut()
    deploy.kill()
    box.boot()

    until(lambda: served(box, "dark.test"), what="the app serves after the power cut", timeout_s=60)
    until_up(box)
    assert get(box, "dark.test")[1] == serves
    laptop.has_shop("r3", name="dark")
    laptop.tako("deploy")
    assert get(box, "dark.test")[1] == "r3"


def test_a_release_that_does_not_fit_on_the_disk_is_refused_before_it_is_sent(tmp_path: Path) -> None:
    with Box(tmp_path, disk_mb=900) as small:
        laptop = Laptop(tmp_path)
        add(laptop, small)
        laptop.has_shop("r1", name="big")
        with (laptop.app / "huge.bin").open("wb") as file:
            file.truncate(600_000_000)
        subprocess.run(["git", "add", "."], cwd=laptop.app, env=laptop.env, check=True)

        said = laptop.tako("deploy", code=1)

        assert "Not deployed to fra1: " in said.err
        assert "free" in said.err
        assert small.sh("find /var/lib/tako/blobs -type f | wc -l").strip() == "0"


def test_a_server_is_let_go_of_and_leaves_nothing_but_its_data(box: Box, laptop: Laptop) -> None:
    laptop.has_shop("r1", name="last")
    laptop.tako("deploy")

    assert "There is nobody to ask" in laptop.tako("servers", "rm", "fra1", "--uninstall", code=2).err
    laptop.tako("servers", "rm", "fra1", "--uninstall", "--yes", "fra1")
    left = box.sh("ls -d /opt/tako /run/tako /etc/systemd/system/tako* 2>/dev/null || true; pgrep -a caddy || true")
    assert left.split() == ["/etc/systemd/system/tako-server.service.d"]  # the test's own
    assert "last" in box.sh("ls /var/lib/tako/apps")
