"""A web instance serves ASGI and WSGI apps on a listener that it is lent, and loses no request when it goes."""

from __future__ import annotations

import json
import re
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import websockets.sync.client
from tests.support.web import Instance, until

from tako.protocol import framing

FASTAPI = """
import asyncio, os, sys
from contextlib import asynccontextmanager
from fastapi import FastAPI, Request, WebSocket

@asynccontextmanager
async def lifespan(app):
    print("started", flush=True)
    yield {"made": "at start"}
    print("ended", flush=True)

app = FastAPI(lifespan=lifespan)

@app.get("/")
def hello(request: Request):
    client, scheme = request.client.host, request.url.scheme
    return {"client": client, "scheme": scheme, "state": request.state.made, "pid": os.getpid()}

@app.post("/echo")
async def echo(request: Request):
    return len(await request.body())

@app.get("/slow")
async def slow(s: float = 1.0):
    print("slow", flush=True)
    await asyncio.sleep(s)
    return "done"

@app.get("/stuck")
def stuck():
    import time
    print("stuck", flush=True)
    time.sleep(60)

@app.get("/broken")
def broken():
    raise ValueError("a bug of the user's")

@app.websocket("/ws")
async def ws(socket: WebSocket):
    await socket.accept()
    while True:
        await socket.send_text(await socket.receive_text())
"""
FLASK = """
from flask import Flask, request
app = Flask(__name__)

@app.route("/", methods=["GET", "POST"])
def hello():
    return {"client": request.remote_addr, "scheme": request.scheme, "host": request.host, "body": len(request.data)}
"""
STARLETTE = """
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

async def hello(request):
    return PlainTextResponse("hello from starlette")

application = Starlette(routes=[Route("/", hello)])
"""
DJANGO = """
import os, sys, types
from django.conf import settings
from django.http import HttpResponse
from django.urls import path

urls = types.ModuleType("urls")
urls.urlpatterns = [path("", lambda request: HttpResponse("hello from django " + request.META["REMOTE_ADDR"]))]
sys.modules["urls"] = urls
settings.configure(ROOT_URLCONF="urls", ALLOWED_HOSTS=[".localhost"], SECRET_KEY="x", DEBUG=True)

from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
"""
FORWARDED = {"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "https"}


@pytest.fixture
def app(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str, name: str = "app.py") -> Path:
        (tmp_path / name).write_text(text)
        return tmp_path

    return write


App = Callable[[str], Path]


# Kinds of apps


def test_a_fastapi_app_is_served_with_its_lifespan_and_behind_a_proxy(app: App) -> None:
    with Instance(app(FASTAPI), "app:app") as instance:
        ready = instance.hear("ready")
        instance.tell("serve")

        answer = instance.get("/", headers=FORWARDED)

        assert (ready["pid"], ready["boot_ms"] > 0) == (instance.pid, True)
        assert answer.json() == {"client": "127.0.0.1", "scheme": "https", "state": "at start", "pid": instance.pid}
        assert "date" in answer.headers
        assert "server" not in answer.headers
        instance.send_signal(signal.SIGTERM)
        assert instance.wait() == 0
        assert instance.output() == "started\nended\n"


def test_a_starlette_app_is_served(app: App) -> None:
    with Instance(app(STARLETTE), "app:application") as instance:
        assert instance.started().get("/").text == "hello from starlette"


def test_a_flask_app_is_served_in_threads(app: App) -> None:
    with Instance(app(FLASK), "app:app") as instance, instance.started().client() as client:
        answer = client.post("/", content=b"x" * 300_000, headers=FORWARDED)

        assert answer.json() == {"client": "127.0.0.1", "scheme": "https", "host": "shop.localhost", "body": 300_000}


@pytest.mark.parametrize("kind", ["asgi", "wsgi"])
def test_a_django_app_is_served_both_ways(app: App, kind: str) -> None:
    folder = app(f"{DJANGO}\napplication = get_{kind}_application()")
    with Instance(folder, "app:application") as instance:
        answer = instance.started().get("/", headers=FORWARDED)

        assert answer.text == "hello from django 127.0.0.1"


@pytest.mark.parametrize(("kind", "debug", "status"), [("asgi", True, 200), ("wsgi", True, 200), ("wsgi", False, 404)])
def test_a_django_project_answers_for_its_static_files_in_debug(
    tmp_path: Path, kind: str, debug: bool, status: int
) -> None:
    subprocess.run([sys.executable, "-m", "django", "startproject", "shop", tmp_path], check=True)
    settings = tmp_path / "shop" / "settings.py"
    settings.write_text(settings.read_text() + f"\nDEBUG = {debug}\nALLOWED_HOSTS = ['.localhost']\n")
    with Instance(tmp_path, f"shop.{kind}:application") as instance:
        assert instance.started().get("/static/admin/css/base.css").status_code == status


def test_a_factory_is_called(app: App) -> None:
    with Instance(app(f"{FLASK}\ndef create_app(): return app"), "app:create_app()") as instance:
        assert instance.started().get("/").status_code == 200


@pytest.mark.parametrize(
    "text",
    [
        "async def app(scope, receive, send):\n    await answer(scope, send)",
        "def app(scope, receive, send):\n    return answer(scope, send)",
        "class App:\n    async def __call__(self, scope, receive, send):\n        await answer(scope, send)\n"
        "app = App()",
        "import functools\nasync def f(x, scope, receive, send):\n    await answer(scope, send)\n"
        "app = functools.partial(f, 1)",
        "def app(environ, start_response):\n    start_response('200 OK', [])\n    return [b'plain']",
        "class App:\n    def __call__(self, environ, start_response):\n"
        "        start_response('200 OK', [])\n        yield b'plain'\napp = App()",
    ],
)
def test_whether_a_plain_callable_speaks_asgi_or_wsgi_is_seen(app: App, text: str) -> None:
    answer = (
        "async def answer(scope, send):\n    assert scope['type'] == 'http'\n"
        "    await send({'type': 'http.response.start', 'status': 200, 'headers': []})\n"
        "    await send({'type': 'http.response.body', 'body': b'plain'})\n"
    )
    with Instance(app(answer + text), "app:app") as instance:
        assert instance.started().get("/").text == "plain"


# What goes wrong at start


@pytest.mark.parametrize(
    ("text", "main", "last"),
    [
        ("import jinja3", "app:app", "ModuleNotFoundError: No module named 'jinja3'"),
        ("app = (", "app:app", "SyntaxError: '(' was never closed"),
        ("def f():\n    1 / 0\nf()", "app:app", "ZeroDivisionError: division by zero"),
        ("def create_app():\n    raise KeyError('x')", "app:create_app()", "KeyError: 'x'"),
    ],
)
def test_an_import_that_fails_prints_the_users_traceback_and_exits_1(app: App, text: str, main: str, last: str) -> None:
    with Instance(app(text), main) as instance:
        assert instance.wait() == 1
        output = instance.output()

    assert output.splitlines()[-1] == last
    assert str(instance.folder / "app.py") in output
    assert "tako/web" not in output
    assert "importlib" not in output


@pytest.mark.parametrize(
    ("text", "main", "message"),
    [
        ("", "gone:app", "There is no module 'gone' in "),
        ("", "app.gone:app", "There is no module 'app.gone' in "),
        ("application = 1", "app:app", "app.py has no 'app', from which app:app would be served."),
        ("aplication = 1", "app:application", "Did you mean 'aplication'?"),
        ("app = 3", "app:app", "app:app is a int, not an ASGI or WSGI app."),
        ("class app: ...", "app:app", 'app:app is the class app, not an app.\n  Did you mean "app:app()"?'),
        ("def app(): ...", "app:app", "app:app takes 0 arguments: an ASGI app takes 3, a WSGI app 2.\n  If it makes"),
        ("import sys; sys.exit(3)", "app:app", "The app ended its process while it was imported: SystemExit(3)"),
    ],
)
def test_a_main_that_names_no_app_says_what_is_there_instead(app: App, text: str, main: str, message: str) -> None:
    with Instance(app(text), main) as instance:
        assert instance.wait() == 1
        assert message in instance.output()


def test_a_lifespan_that_raises_is_a_failed_start(app: App) -> None:
    text = FASTAPI.replace('print("started", flush=True)', "raise OSError('no database')")
    with Instance(app(text), "app:app") as instance:
        assert instance.wait() == 1
        assert "OSError: no database" in instance.output()


def test_a_start_that_hangs_shows_where(app: App) -> None:
    with Instance(app("import threading\nthreading.Event().wait()"), "app:app", start_timeout_ms=2_000) as instance:
        until(lambda: 'app.py", line 2 in <module>' in instance.output())


# Serving, pausing, draining


def test_nothing_is_accepted_before_serve(app: App) -> None:
    with Instance(app(FASTAPI), "app:app") as instance, ThreadPoolExecutor() as pool:
        instance.hear("ready")
        waiting = pool.submit(instance.get, "/", headers=FORWARDED)
        assert instance.get("/", socket_path=instance.private, headers=FORWARDED).status_code == 200
        assert not waiting.done()

        instance.tell("serve")

        assert waiting.result().status_code == 200


def test_paused_it_leaves_new_connections_to_the_next_instance_and_can_serve_again(app: App) -> None:
    folder = app(FASTAPI)
    with Instance(folder, "app:app") as old, Instance(folder, "app:app", listener=old.listener) as new:
        old.started()
        new.hear("ready")
        with ThreadPoolExecutor() as pool:
            slow = pool.submit(old.get, "/slow?s=0.5")
            until(lambda: "slow" in old.output())
            old.tell("pause")
            old.hear("paused")
            waiting = pool.submit(old.get, "/", headers=FORWARDED)
            new.tell("serve")

            assert waiting.result().json()["pid"] == new.pid
            assert slow.result().text == '"done"'
        new.tell("pause")
        new.hear("paused")
        old.tell("serve")
        assert old.get("/", headers=FORWARDED).json()["pid"] == old.pid


def test_a_kept_connection_is_closed_at_pause_so_that_its_next_request_reaches_new_code(app: App) -> None:
    folder = app(FASTAPI)
    with Instance(folder, "app:app") as old, Instance(folder, "app:app", listener=old.listener) as new:
        old.started()
        new.hear("ready")
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(10)
            client.connect(str(old.run / "app.sock"))
            client.sendall(b"GET /echo HTTP/1.1\r\nHost: shop.localhost\r\n\r\n")
            answer = b""
            while not answer.endswith(b"}"):
                answer += client.recv(4096)

            old.tell("pause")

            assert client.recv(4096) == b""
        old.hear("paused")
        new.tell("serve")
        assert old.get("/", headers=FORWARDED).json()["pid"] == new.pid


def test_sigterm_finishes_what_is_in_flight_and_loses_no_accepted_connection(app: App) -> None:
    with Instance(app(FASTAPI), "app:app") as instance, ThreadPoolExecutor() as pool:
        instance.started()
        silent = socket.socket(socket.AF_UNIX)
        silent.connect(str(instance.run / "app.sock"))
        slow = pool.submit(instance.get, "/slow?s=1")
        until(lambda: "slow" in instance.output())

        instance.send_signal(signal.SIGTERM)
        silent.sendall(b"GET /echo HTTP/1.1\r\nHost: shop.localhost\r\n\r\n")

        assert silent.recv(100).startswith(b"HTTP/1.1 405 ")
        assert slow.result().text == '"done"'
        assert instance.wait() == 0
        silent.close()


def test_what_does_not_end_in_time_is_cut_off_and_said(app: App) -> None:
    with Instance(app(FASTAPI), "app:app", drain_timeout_ms=300) as instance, ThreadPoolExecutor() as pool:
        instance.started()
        stuck = pool.submit(instance.get, "/stuck")
        until(lambda: "stuck" in instance.output())

        instance.tell("drain", timeout_s=0.1)

        assert instance.wait() == 0
        assert "1 request did not end within 0.1s and was cut off." in instance.output()
        assert stuck.result().status_code == 500


def test_websockets_are_told_1012_at_drain(app: App) -> None:
    with Instance(app(FASTAPI), "app:app") as instance:
        instance.started()
        with websockets.sync.client.unix_connect(str(instance.run / "app.sock"), "ws://shop.localhost/ws") as ws:
            ws.send("hello")
            assert ws.recv() == "hello"

            instance.send_signal(signal.SIGTERM)

            with pytest.raises(websockets.exceptions.ConnectionClosed) as closed:
                ws.recv(timeout=10)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1012
        assert instance.wait() == 0


def test_a_websocket_that_is_told_1012_stays_open_until_the_client_has_answered(app: App) -> None:
    """Else a message that is on its way would be refused, and the ingress would take that for a broken connection."""
    with Instance(app(FASTAPI), "app:app") as instance, socket.socket(socket.AF_UNIX) as ws:
        instance.started()
        ws.settimeout(30)
        ws.connect(str(instance.run / "app.sock"))
        ws.sendall(
            b"GET /ws HTTP/1.1\r\nHost: shop.localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        assert b" 101 " in ws.recv(4096)
        ws.sendall(masked(0x81, b"hello"))
        assert ws.recv(4096) == b"\x81\x05hello"

        instance.send_signal(signal.SIGTERM)

        assert ws.recv(4096) == b"\x88\x02" + (1012).to_bytes(2, "big")
        for _ in range(3):  # it reads on, and answers no more
            ws.sendall(masked(0x81, b"too late"))
        assert select.select([ws], [], [], 1.0)[0] == []
        ws.sendall(masked(0x88, (1012).to_bytes(2, "big")))
        assert ws.recv(4096) == b""
        assert instance.wait() == 0


def masked(head: int, payload: bytes) -> bytes:
    """A frame as clients send it."""
    mask = b"\x01\x02\x03\x04"
    return bytes([head, 0x80 | len(payload)]) + mask + bytes(b ^ mask[at % 4] for at, b in enumerate(payload))


def test_the_end_of_the_line_ends_nothing(app: App) -> None:
    with Instance(app(FASTAPI), "app:app") as instance:
        instance.started()

        instance.line.close()

        assert instance.get("/", headers=FORWARDED).status_code == 200
        assert instance.get("/", headers=FORWARDED).json()["pid"] == instance.pid


def test_in_development_an_orphan_drains_when_nobody_has_adopted_it(app: App) -> None:
    with Instance(app(FASTAPI), "app:app", orphan_timeout_ms=200) as instance:
        instance.started()

        instance.line.close()

        assert instance.wait() == 0
        assert instance.output().endswith("ended\n")


def test_a_new_daemon_adopts_it_and_gets_the_listener_back(app: App) -> None:
    with Instance(app(FASTAPI), "app:app") as instance:
        instance.started()
        instance.line.close()
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(10)
            line.connect(str(instance.control))
            line.sendall(framing.encode({"do": "adopt"}))

            data, fds, _, _ = socket.recv_fds(line, 4096, 4)
            status = json.loads(data)

            assert (status["pid"], status["serving"]) == (instance.pid, True)
            with socket.socket(fileno=fds[0]) as listener:
                assert listener.getsockname() == str(instance.run / "app.sock")
            line.sendall(framing.encode({"do": "pause"}))
            assert json.loads(line.recv(4096)) == {"ev": "paused"}


def test_the_control_socket_and_the_private_one_are_closed_to_others(app: App) -> None:
    with Instance(app(FASTAPI), "app:app") as instance:
        instance.hear("ready")

        assert instance.control.stat().st_mode & 0o777 == 0o600
        assert instance.private.stat().st_mode & 0o777 == 0o600


def test_it_tells_what_is_in_flight_and_what_is_done_but_not_of_probes(app: App) -> None:
    with Instance(app(FASTAPI), "app:app") as instance, ThreadPoolExecutor() as pool:
        instance.started()
        instance.get("/", socket_path=instance.private, headers=FORWARDED)
        slow = pool.submit(instance.get, "/slow?s=1.5")

        assert instance.hear("stat") == {"ev": "stat", "inflight": 1, "done": 0}
        assert instance.hear("stat") == {"ev": "stat", "inflight": 0, "done": 1}
        slow.result()


def test_no_request_fails_while_instances_replace_each_other_under_load(app: App) -> None:
    folder = app(FASTAPI)
    first = Instance(folder, "app:app")
    stop = threading.Event()
    answers: list[int] = []

    def load() -> None:
        while not stop.is_set():
            with first.client() as client:
                answers.append(client.post("/echo", content=b"x" * 10_000).status_code)

    with ThreadPoolExecutor() as pool, first:
        first.started()
        clients = [pool.submit(load) for _ in range(4)]
        old = first
        replaced = []
        for _ in range(3):
            new = Instance(folder, "app:app", listener=first.listener).__enter__()
            replaced.append(new)
            new.hear("ready")
            old.tell("pause")
            old.hear("paused")
            new.tell("serve")
            new.hear("serving")
            old.tell("drain", timeout_s=10)
            assert old.wait() == 0
            old = new
        stop.set()
        for client in clients:
            client.result()
        for instance in replaced:
            instance.__exit__(None, None, None)

    assert set(answers) == {200}
    assert len(answers) > 20


# Output and what the app sees


def test_an_unhandled_exception_is_one_line_with_the_apps_frames(app: App) -> None:
    with Instance(app(FASTAPI), "app:app") as instance:
        instance.started()
        assert instance.get("/broken").status_code == 500
        until(lambda: "unhandled" in instance.output())
        output = instance.output()

    line = next(json.loads(line) for line in output.splitlines() if "unhandled" in line)
    assert (line["msg"], line["level"]) == ("unhandled ValueError", "error")
    assert re.sub(r'"/[^"]*/', '"', line["traceback"]).splitlines() == [
        "Traceback (most recent call last):",
        '  File "app.py", line 37, in broken',
        '    raise ValueError("a bug of the user\'s")',
        "ValueError: a bug of the user's",
    ]
    assert "site-packages" not in output


def test_an_app_that_has_set_up_logging_tells_it_itself(app: App) -> None:
    own = "import logging\nlogging.basicConfig(format='MINE %(message)s')\n"
    with Instance(app(own + FASTAPI), "app:app") as instance:
        instance.started()
        assert instance.get("/broken").status_code == 500
        until(lambda: "MINE Exception in ASGI application" in instance.output())

        assert '"unhandled' not in instance.output()


LOGGING = """
import logging

log = logging.getLogger("shop")

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        return
    log.debug("too fine")
    log.info("sold", extra={"order": 7})
    log.warning("few are left: %s", "\\udc80")
    try:
        raise ValueError("no card")
    except ValueError:
        log.exception("not paid")
    log.critical("the end")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})
"""


def logged(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines() if line.startswith('{"msg":')]


def test_what_an_app_logs_has_its_level_its_logger_and_its_fields(app: App) -> None:
    with Instance(app(LOGGING), "app:app") as instance:
        instance.started()
        assert instance.get("/").status_code == 200
        until(lambda: "the end" in instance.output())
        lines = logged(instance.output())

    assert [(line["level"], line["msg"], line["logger"]) for line in lines] == [
        ("info", "sold", "shop"), ("warning", "few are left: \udc80", "shop"), ("error", "not paid", "shop"),
        ("error", "the end", "shop"),
    ]  # fmt: skip
    assert lines[0]["order"] == 7
    assert lines[2]["traceback"].endswith("ValueError: no card\n")


def test_a_handler_of_the_apps_own_keeps_its_form_and_gets_a_level(app: App) -> None:
    own = """
import logging

handler = logging.StreamHandler()
handler.setLevel(logging.WARNING)
logging.getLogger("shop").addHandler(handler)  # as Django's: its records go to the root, too
formed = logging.StreamHandler()
formed.setFormatter(logging.Formatter("MINE %(message)s"))
logging.getLogger("shop.formed").addHandler(formed)
logging.getLogger("shop.formed").propagate = False
"""
    more = LOGGING.replace(
        '    log.critical("the end")',
        """
    try:
        raise ValueError("no bill")
    except ValueError:
        logging.getLogger("shop.formed").exception("not billed")
    log.critical("the end")""",
    )
    with Instance(app(own + more), "app:app") as instance:
        instance.started()
        assert instance.get("/").status_code == 200
        until(lambda: "the end" in instance.output())
        lines = logged(instance.output())

    assert [(line["level"], line["msg"].split("\n")[0]) for line in lines] == [
        ("info", "sold"), ("warning", "few are left: \udc80"), ("error", "not paid"), ("error", "MINE not billed"),
        ("error", "the end"),
    ]  # fmt: skip
    assert lines[2]["traceback"].endswith("ValueError: no card\n")
    assert lines[3]["msg"].endswith("ValueError: no bill")


def test_the_access_log_tells_method_path_status_and_time_without_the_query(app: App) -> None:
    with Instance(app(FASTAPI), "app:app", access_log=True) as instance:
        instance.started()
        instance.get("/echo?token=secret")
        assert instance.get("/broken").status_code == 500
        with websockets.sync.client.unix_connect(str(instance.run / "app.sock"), "ws://shop.localhost/ws"):
            pass
        until(lambda: "closed after" in instance.output())
        output = instance.output()

    lines = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    lines = [line for line in lines if "unhandled" not in line["msg"]]
    assert [(line["level"], line["msg"].rsplit(" ", 1)[0]) for line in lines] == [
        ("info", "GET /echo 405"), ("error", "GET /broken 500"), ("info", "WS /ws"), ("info", "WS /ws closed after"),
    ]  # fmt: skip
    assert "ValueError: a bug of the user's" in output
    assert "secret" not in output


def test_the_app_runs_in_its_root_and_sees_neither_our_arguments_nor_our_fds(app: App) -> None:
    text = "import os, subprocess, sys\nprint(sys.argv[1:], sys.path[0] == os.getcwd(), __name__)\n" + STARLETTE
    text += "\nls = subprocess.run(['ls', '/proc/self/fd'], close_fds=False, capture_output=True, text=True)"
    text += "\nprint(ls.stdout.split())"
    with Instance(app(text), "app:application") as instance:
        instance.started()

        assert instance.output().splitlines() == ["[] True app", "['0', '1', '2', '3']"]


def test_secrets_are_there_at_import_and_not_in_the_environment(app: App) -> None:
    text = "import os\nfrom tako.sdk import runtime\nprint(runtime.secrets(), 's3cret' in str(os.environ))\n"
    with Instance(app(text + STARLETTE), "app:application", secrets={"KEY": "s3cret"}) as instance:
        instance.started()

        assert instance.output() == "{'KEY': 's3cret'} False\n"
        assert b"s3cret" not in Path(f"/proc/{instance.pid}/environ").read_bytes()
        assert b"s3cret" not in Path(f"/proc/{instance.pid}/cmdline").read_bytes()


def test_started_by_hand_it_says_who_starts_it(tmp_path: Path) -> None:
    with Instance(tmp_path, "") as instance:
        assert instance.wait() in (1, 2)
    assert "\nTraceback" not in instance.output()
