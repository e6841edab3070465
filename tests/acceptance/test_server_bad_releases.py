"""Releases that are no good, each in its own way: refused or taken back, and no request fails while that happens."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.dev import is_alive, until
from tests.support.server import App, Server, failed, finished
from tests.support.shop import shop

pytestmark = pytest.mark.acceptance

SHORT = '[web]\nstart_timeout = "3s"'
LINGER = """
import subprocess
subprocess.Popen(["sleep", "300"], start_new_session=False)
"""


DIES = """
from tako.web import runner as _r
_serve = _r.Runner.serve
async def _die(self):
    await _serve(self)
    asyncio.get_running_loop().call_later({after_s}, os._exit, 3)
_r.Runner.serve = _die
"""
LEAKS = """
import resource, threading, time
resource.setrlimit(resource.RLIMIT_NOFILE, (48, 48))
leaked = []
def leak():
    while True:
        try:
            leaked.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            time.sleep(0.001)
def begin():
    threading.Thread(target=leak, daemon=True).start()
    return 200
"""
EATS = """
import threading
def eat():
    eaten = [bytearray(b"x" * (4 << 20)) for _ in range(100)]
def begin():
    threading.Thread(target=eat, daemon=True).start()
    return 200
"""
# As gunicorn does with `fd://`: it takes the name that the socket was bound under for its own, and removes it.
UNLINKS = """
import http.server, os, socket
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.send_header("Content-Length", "2"); self.end_headers(); self.wfile.write(b"ok")
    def address_string(self): return ""
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler, bind_and_activate=False)
server.socket = socket.socket(fileno=3)
try:
    os.unlink(server.socket.getsockname())
except FileNotFoundError:
    print("nothing to remove", flush=True)
server.serve_forever()
"""
BREAKS = """
from pathlib import Path

from tako import current, workflow

if (Path(current.data_dir) / "served").exists():
    import jinja3


@workflow
def mail(ctx):
    pass
"""


def refused(app: App, release: str, *, phase: str, **files: object) -> str:
    """Deploy it beside r1 with load running: it is refused in this phase, r1 goes on, and why."""
    app.deploy("r1")
    with app.load(clients=3, slow=False) as load:
        events = app.deploy(release, outcome="failed", **files)  # type: ignore[arg-type]
        load.more(10)
    assert load.report.failed == []
    assert set(load.report.answered) == {"r1"}
    assert [each["release"] for each in app.status()["instances"]] == ["r1"]
    found = failed(events)
    assert found["phase"] == phase
    return str(found["message"])


def test_an_import_error_in_the_web_app(app: App) -> None:
    message = refused(app, "r2", phase="boot", at_import="import jinja3")

    assert "exited with status 1" in message
    assert "No module named 'jinja3'" in message
    assert "app.py:" in message


def test_a_startup_that_hangs(app: App) -> None:
    message = refused(app, "r2", phase="boot", toml=SHORT, at_startup="await asyncio.sleep(600)")

    assert "did not become ready within 3s" in message


def test_an_import_that_hangs_is_told_with_its_place(app: App) -> None:
    message = refused(app, "r2", phase="boot", toml=SHORT, at_import="import time; time.sleep(600)")

    assert "did not become ready within 3s (app.py:" in message


def test_a_startup_that_fails(app: App) -> None:
    fails = 'return await send({"type": "lifespan.startup.failed", "message": "no database"})'
    message = refused(app, "r2", phase="boot", at_startup=fails)

    assert "no database" in message


@pytest.mark.parametrize("status", [404, 500])
def test_a_health_path_that_answers_with_an_error(app: App, status: int) -> None:
    message = refused(app, "r2", phase="health", toml='[web]\nhealth = "/up"', status=status)

    assert f"answered /up with {status}" in message


def test_a_health_path_that_redirects_or_wants_the_apps_own_host_is_well(app: App) -> None:
    app.deploy("r1", toml='[web]\nhealth = "/up"', status=302)

    own = f'(b"host", b"{app.name}.test") in scope["headers"]'
    begin = {"routes": [f"{app.name}.test"]}
    app.deploy("r2", toml='[web]\nhealth = "/up"', status=f"200 if {own} else 400", begin=begin)


def test_a_health_path_that_does_not_answer(app: App) -> None:
    slow = "(await asyncio.sleep(60)) or 200"
    message = refused(app, "r2", phase="health", toml='[web]\nhealth = "/up"', status=slow)

    assert "did not answer /up within 5s" in message


def test_settings_that_cannot_be_used(app: App) -> None:
    message = refused(app, "r2", phase="build", toml="[web]\ninstanzes = 2")

    assert "instanzes" in message


def test_a_main_that_is_not_there(app: App) -> None:
    files = {"tako.toml": 'name = "shop"\nmain = "nowhere:app"\n'}

    assert "nowhere" in refused(app, "r2", phase="boot", files=files)


def test_one_that_dies_right_after_the_switch_is_taken_back_without_a_boot(app: App) -> None:
    app.deploy("r1")
    (before,) = [each["pid"] for each in app.status()["instances"]]

    with app.load(path=str(app.listener), clients=3, slow=False) as load:
        events = app.deploy(
            "r2", at_import=DIES.format(after_s=0.1), outcome="rolled_back", toml='[web]\ndrain_timeout = "1s"'
        )
        load.until_answered_by("r1")

    assert "exited with status 3" in failed(events)["message"]
    assert finished(events)["message"].startswith("Taken back")
    assert [each["pid"] for each in app.status()["instances"]] == [before]
    assert app.ask("releases")["current"] == "r1"
    # What it was answering as it died is lost; what waited in the queue is not.
    assert len(load.report.failed) <= 3
    with app.engine() as engine:
        run_id = app.get("/enqueue").text
        assert engine.ask("wait_run", id=run_id, timeout_ms=30_000)["result_json"] == '"r1"'


def test_one_that_dies_while_its_certificate_is_waited_for_is_taken_back(tmp_path: Path) -> None:
    settings = tmp_path / "server.toml"
    with socket.create_server(("127.0.0.1", 0)) as silent:  # as an authority that does not answer
        settings.write_text(f"[https]\nhttps_port = {silent.getsockname()[1]}\n")
        with Server(tmp_path, f"--ingress={settings}", watch_s=0.1) as server, App(server, "shop", tmp_path) as app:
            app.deploy("r1")
            job = app.client.upload("shop", shop(app.folder, "r2"), "r2", routes=["shop.test"])["job"]
            app.client.ask("deploy.commit", job=job)
            switched_ms = app.client.until_phase(job, "watch")["ts_ms"]
            app.reconnect()
            (instance,) = app.status()["instances"]
            until(lambda: time.time() * 1000 > switched_ms + 1_000, what="the watch is over but for the certificate")

            os.killpg(instance["pid"], signal.SIGKILL)

            app.client.ended(job, outcome="rolled_back")
            assert app.get("/").text == "r1"
            silent.close()  # who still waits there need not


def test_one_that_dies_when_it_was_watched_long_enough_is_a_crash_loop_with_its_reason(app: App) -> None:
    app.deploy("r1", at_import=DIES.format(after_s=0.7))

    found = app.until(lambda status: status["state"] == "failed", what="a crash loop")

    assert "web app died 5 times in 60s" in found["reason"]
    answer = app.get("/")
    assert (answer.status_code, int(answer.headers["retry-after"]) >= 1) == (503, True)
    app.deploy("r2")
    assert app.get("/").text == "r2"


def test_workers_that_break_right_after_the_switch_take_the_release_back(app: App) -> None:
    app.deploy("r1")
    begins = (
        "from pathlib import Path\nfrom tako.web import runner as _r\n_serve = _r.Runner.serve\n"
        "async def _mark(self):\n    (Path(tako.current.data_dir) / 'served').touch()\n    await _serve(self)\n"
        "_r.Runner.serve = _mark"
    )
    toml = "[workflows]\nworkers = 1"

    with app.load(path=str(app.listener), clients=3, slow=False) as load:
        files = {"workflows/mail.py": BREAKS}
        events = app.deploy("r2", at_import=begins, toml=toml, files=files, outcome="rolled_back")
        load.until_answered_by("r1")

    found = failed(events)
    assert (found["phase"], found["code"]) == ("watch", "deploy_failed")
    assert (found["detail"]["group"], found["detail"]["file"]) == ("default", "workflows/mail.py")
    assert "No module named 'jinja3'" in found["message"]
    assert load.report.failed == []
    with app.engine() as engine:
        assert engine.ask("status")["release"] == "r1"
        run_id = app.get("/enqueue").text
        assert engine.ask("wait_run", id=run_id, timeout_ms=30_000)["result_json"] == '"r1"'


def test_one_that_leaks_what_it_opens_until_it_can_open_nothing_is_replaced(app: App) -> None:
    app.deploy("r1", at_import=LEAKS, status='begin() if path == "/leak" else 200', toml='[web]\nhealth = "/up"')
    (before,) = [each["pid"] for each in app.status()["instances"]]
    assert app.get("/leak").status_code == 200

    def is_replaced(status: dict[str, Any]) -> bool:
        return bool(status["instances"]) and status["instances"][0]["pid"] != before

    app.until(is_replaced, what="it is replaced")
    with app.load(clients=2, slow=False) as load:
        load.more(10)
    assert load.report.failed == []


@contextlib.contextmanager
def memory_group(name: str, *, most_bytes: int) -> Iterator[Path]:
    """A control group with a limit of memory, as systemd makes one for each scope. Its `cgroup.procs` takes pids."""
    old = Path("/sys/fs/cgroup/memory")
    group = (old if old.is_dir() else old.parent) / name
    group.mkdir()
    try:
        (group / ("memory.limit_in_bytes" if old.is_dir() else "memory.max")).write_text(str(most_bytes))
        yield group
    finally:
        until(lambda: not (group / "cgroup.procs").read_text(), what="the group is empty")
        group.rmdir()


def test_one_that_eats_its_memory_is_ended_by_the_kernel_replaced_and_told(app: App) -> None:
    app.deploy("r1", at_import=EATS, status='begin() if path == "/eat" else 200')
    (before,) = [each["pid"] for each in app.status()["instances"]]

    with memory_group(f"tako-test-{os.getpid()}", most_bytes=160 << 20) as group:
        (group / "cgroup.procs").write_text(str(before))
        assert app.get("/eat").status_code == 200
        until(lambda: not is_alive(before), what="the kernel has ended it")

    assert app.get("/").text == "r1"
    assert any("out of memory" in line["message"] for line in app.logs())


def test_a_command_that_removes_the_sockets_name_removes_nothing_of_ours(app: App) -> None:
    toml = f'name = "shop"\n[web]\ncommand = "{sys.executable} server.py"\nlisten = "fd"\n'
    app.deploy("r1", files={"tako.toml": toml, "server.py": UNLINKS})

    assert app.listener.exists()
    answer = app.get("/")
    assert (answer.status_code, answer.text) == (200, "ok"), app.logs()
    assert any(line["message"] == "nothing to remove" for line in app.logs())


def test_an_upload_that_outlasts_the_drain_is_cut_off_and_nobody_else_notices(app: App) -> None:
    toml = '[web]\ndrain_timeout = "500ms"'
    app.deploy("r1", toml=toml)
    head = f"POST /size HTTP/1.1\r\nHost: {app.host}\r\nContent-Length: 1000000\r\n\r\n".encode()

    with app.load(clients=3) as load, socket.create_connection(("127.0.0.1", app.server.port), timeout=30) as slow:
        slow.sendall(head + b"x" * 1000)
        app.until(lambda status: status["instances"][0]["inflight"] >= 1, what="the upload has begun")
        app.deploy("r2", toml=toml)
        load.until_answered_by("r2")
        answer = slow.recv(65_536)

    assert load.report.failed == []
    assert b" 200 " not in answer
    assert [each["release"] for each in app.status()["instances"]] == ["r2"]
    assert any("cut off" in line["message"] for line in app.logs(release="r1"))


def test_a_release_command_that_is_killed_refuses_the_release(app: App) -> None:
    message = refused(app, "r2", phase="release", toml='release = "echo half a table; kill -9 $$"')

    assert "was killed by SIGKILL" in message
    assert "half a table" in message


def test_one_that_dies_as_it_begins_to_serve_never_serves(app: App) -> None:
    patch = "from tako.web import runner as _r\nasync def _die(self): os._exit(9)\n_r.Runner.serve = _die"
    message = refused(app, "r2", phase="switch", at_import=patch)

    assert "exited with status 9" in message
    assert "as it began to serve" in message


def test_one_that_ignores_sigterm_and_its_drain_is_ended_by_force(app: App) -> None:
    stubborn = "from tako.web import runner as _r\n_r.Runner.drain = lambda self, timeout_s: None"
    toml = '[web]\ndrain_timeout = "300ms"'
    app.deploy("r1", at_import=stubborn, toml=toml)
    (old,) = [each["pid"] for each in app.status()["instances"]]

    app.deploy("r2", toml=toml)

    until(lambda: not is_alive(old), what="the old instance is gone")
    assert app.get("/").text == "r2"


def test_children_that_an_instance_leaves_behind_go_with_it(app: App) -> None:
    app.deploy("r1", at_import=LINGER, toml='[web]\ndrain_timeout = "300ms"')
    (old,) = [each["pid"] for each in app.status()["instances"]]
    children = [int(pid) for pid in Path(f"/proc/{old}/task/{old}/children").read_text().split()]
    assert len(children) == 1

    app.deploy("r2")

    until(lambda: not any(is_alive(child) for child in children), what="the child is gone")


def test_one_that_prints_without_end_and_without_newlines_blocks_nobody(app: App) -> None:
    loud = "os.write(1, b'\\xff\\x00' * 500_000); [print('x' * 200) for _ in range(20_000)]"
    app.deploy("r1", at_import=loud)

    assert app.get("/").text == "r1"
    until(lambda: len(app.logs()) >= 5_000, what="its lines are in the log")


def test_one_that_takes_its_secrets_late_or_never_starts_all_the_same(app: App) -> None:
    big = {f"KEY_{number}": "x" * 10_000 for number in range(30)}
    app.deploy("r1")
    job = app.ask("secrets.put", by="x", secrets=big)["job"]
    app.client.ended(job)

    assert app.get("/about").json()["secrets"] == big


def test_a_group_table_that_no_workflow_uses(app: App) -> None:
    message = refused(app, "r2", phase="gate", toml="[workflows.mial]\nworkers = 1")

    assert "no workflow is of this group" in message


def test_a_worker_that_hangs_at_boot(app: App) -> None:
    hang = "import time\nfrom tako import workflow\n\ntime.sleep(600)\n\n\n@workflow\ndef slow(ctx):\n    pass\n"
    toml = '[workflows]\nboot_timeout = "3s"'
    message = refused(app, "r2", phase="gate", files={"workflows/slow.py": hang}, toml=toml)

    assert "did not become ready within 3s (workflows/slow.py:4" in message


def test_a_worker_that_needs_a_secret_that_is_not_there(app: App) -> None:
    needs = 'from tako import secrets, workflow\n\nKEY = secrets["STRIPE"]\n\n\n@workflow\ndef pay(ctx):\n    pass\n'
    message = refused(app, "r2", phase="gate", files={"workflows/pay.py": needs})

    assert "STRIPE" in message
    app.client.deploy(app.name, app.folder / "shop-r2", "r2", secrets={"STRIPE": "sk_live"})
    assert app.get("/").text == "r2"


def test_a_secret_is_in_no_event_no_log_and_no_environment(app: App) -> None:
    value = "sk_live_0123456789"
    tells = 'from tako import secrets\nprint("the key is", secrets["KEY"])\n'
    app.deploy("r1")
    job = app.ask("secrets.put", by="x", secrets={"KEY": value})["job"]
    app.client.ended(job)

    events = app.deploy("r2", at_import=tells + 'raise RuntimeError(secrets["KEY"])', outcome="failed")

    assert value not in str(events)
    assert value not in str(app.logs())
    (pid,) = [each["pid"] for each in app.status()["instances"]]
    assert value.encode() not in Path(f"/proc/{pid}/environ").read_bytes()
    assert value.encode() not in (app.server.data / "state.db").read_bytes()
    assert (app.server.data / "secret.key").stat().st_mode & 0o077 == 0
