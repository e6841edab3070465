"""Any server that a command starts keeps an instance's contract, because the shim stands in front of it."""

from __future__ import annotations

import os
import signal
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.support.web import Instance, until

SERVER = """
import http.server, json, os, socket, sys, time

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_HEAD(self):
        self.answer({}, head=True)
    def do_GET(self):
        if self.path == "/slow":
            print("slow", flush=True)
            time.sleep(1)
        letter = os.pread(int(os.environ["TAKO_ENVELOPE_FD"]), 4096, 0)
        names = ("PORT", "HOST", "LISTEN_FDS", "LISTEN_PID", "TAKO_CTL_SOCK")
        env = {name: os.environ[name] for name in names if name in os.environ}
        self.answer({"pid": os.getpid(), "argv": sys.argv[1:], "env": env, "letter": json.loads(letter),
                     "connection": self.headers["Connection"], "fds": len(os.listdir("/proc/self/fd"))})
    def do_POST(self):
        self.answer({"length": len(self.rfile.read(int(self.headers["Content-Length"])))})
    def answer(self, found, head=False):
        body = json.dumps(found).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if not head:
            self.wfile.write(body)
    def address_string(self):
        return "somebody"

if "LISTEN_FDS" in os.environ:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler, bind_and_activate=False)
    server.socket = socket.socket(fileno=3)
else:
    server = http.server.ThreadingHTTPServer((os.environ["HOST"], int(os.environ["PORT"])), Handler)
server.serve_forever()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "server.py").write_text(SERVER)
    return tmp_path


@pytest.mark.parametrize("listen", ["port", "fd"])
def test_a_command_is_served_whether_it_takes_a_port_or_a_socket(folder: Path, listen: str) -> None:
    command = [sys.executable, "server.py", "--bind=$HOST:${PORT}", "$OTHER"]
    with Instance(folder, command=command, listen=listen, secrets={"KEY": "s3cret"}) as instance:
        instance.started()
        first = instance.get("/").json()
        second = instance.get("/").json()

        assert first["pid"] == second["pid"] != instance.pid
        assert first["letter"] == {"token": "token", "secrets": {"KEY": "s3cret"}, "storages": {}}
        assert first["connection"] == "close"
        env = first["env"]
        if listen == "port":
            assert first["argv"] == [f"--bind=127.0.0.1:{env['PORT']}", "$OTHER"]
            assert set(env) == {"PORT", "HOST"}
        else:
            assert env == {"LISTEN_FDS": "1", "LISTEN_PID": str(first["pid"])}


@pytest.mark.parametrize("listen", ["port", "fd"])
def test_at_sigterm_it_finishes_what_is_in_flight_and_ends_the_command(folder: Path, listen: str) -> None:
    with (
        Instance(folder, command=[sys.executable, "server.py"], listen=listen) as instance,
        ThreadPoolExecutor() as pool,
    ):
        pid = instance.started().get("/").json()["pid"]
        slow = pool.submit(instance.get, "/slow")
        until(lambda: "slow" in instance.output())

        instance.send_signal(signal.SIGTERM)

        assert slow.result().status_code == 200
        assert instance.wait() == 0
        assert not Path(f"/proc/{pid}").exists()


def test_paused_it_leaves_new_connections_in_the_queue(folder: Path) -> None:
    with Instance(folder, command=[sys.executable, "server.py"]) as instance, ThreadPoolExecutor() as pool:
        instance.started()
        instance.tell("pause")
        instance.hear("paused")
        waiting = pool.submit(instance.get, "/")
        assert instance.get("/", socket_path=instance.private).status_code == 200
        assert not waiting.done()

        instance.tell("serve")

        assert waiting.result().status_code == 200


def test_a_large_upload_and_a_kept_connection_work(folder: Path) -> None:
    with Instance(folder, command=[sys.executable, "server.py"]) as instance, instance.started().client() as client:
        for _ in range(3):
            assert client.post("/", content=b"x" * 3_000_000).json() == {"length": 3_000_000}


def test_in_flight_and_done_are_told(folder: Path) -> None:
    with Instance(folder, command=[sys.executable, "server.py"]) as instance, ThreadPoolExecutor() as pool:
        instance.started()
        pool.submit(instance.get, "/slow")

        assert instance.hear("stat") == {"ev": "stat", "inflight": 1, "done": 0}
        assert instance.hear("stat") == {"ev": "stat", "inflight": 0, "done": 1}


def test_what_is_no_request_is_refused_before_it_reaches_the_command(folder: Path) -> None:
    with Instance(folder, command=[sys.executable, "server.py"]) as instance:
        instance.started()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(instance.run / "app.sock"))
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
            assert client.recv(100).startswith(b"HTTP/1.1 400 Bad Request")


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        (["no-server"], 1, "The command could not be started: [Errno 2] No such file or directory: 'no-server'"),
        ([sys.executable, "-c", "print('no database'); raise SystemExit(7)"], 7, "no database"),
        ([sys.executable, "-c", "pass"], 1, ""),
    ],
)  # fmt: skip
def test_a_command_that_does_not_start_ends_the_instance_with_its_code(
    folder: Path, command: list[str], code: int, message: str
) -> None:
    with Instance(folder, command=command) as instance:
        assert instance.wait() == code
        assert message in instance.output()


def test_a_command_that_dies_while_it_serves_ends_the_instance(folder: Path) -> None:
    with Instance(folder, command=[sys.executable, "server.py"]) as instance:
        pid = instance.started().get("/").json()["pid"]

        os.kill(pid, signal.SIGKILL)

        assert instance.wait() == 128 + signal.SIGKILL


LISTENS = "import http.server as h, os, socket; {} h.HTTPServer(({!r}, {}), h.SimpleHTTPRequestHandler).serve_forever()"
PORT = "int(os.environ['PORT'])"


def test_a_command_that_listens_at_every_address_is_served(folder: Path) -> None:
    command = [sys.executable, "-c", LISTENS.format("", "0.0.0.0", PORT)]
    with Instance(folder, command=command) as instance:
        assert instance.started().get("/").status_code == 200


@pytest.mark.parametrize(
    "program",
    [
        "import threading; threading.Event().wait()",
        LISTENS.format("", "127.0.0.1", "0"),
        LISTENS.format("h.HTTPServer.address_family = socket.AF_INET6;", "::1", PORT),
    ],
    ids=["nowhere", "another-port", "another-family"],
)
def test_a_command_that_does_not_listen_where_it_should_is_told_where(folder: Path, program: str) -> None:
    command = [sys.executable, "-c", program]
    with Instance(folder, command=command, start_timeout_ms=400) as instance:
        until(lambda: "does not answer yet. It must listen on 127.0.0.1:" in instance.output())

        instance.send_signal(signal.SIGTERM)

        assert instance.wait() == 0


def test_a_shim_that_is_killed_takes_its_command_with_it(folder: Path) -> None:
    with Instance(folder, command=[sys.executable, "server.py"]) as instance:
        pid = instance.started().get("/").json()["pid"]

        instance.send_signal(signal.SIGKILL)

        assert instance.wait() == -signal.SIGKILL
        until(lambda: not Path(f"/proc/{pid}/exe").is_symlink() or not _is_running(pid))


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
