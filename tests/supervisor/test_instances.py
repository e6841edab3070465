"""The web app is kept served: replaced without a refused request, replaced when it dies, and loud when it cannot start.

Real processes on a real socket; `Pool` below is a host that writes down what it is told.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

import httpx
from tests.support.web import Instance

from tako.clock import SystemClock
from tako.protocol import control, envelope
from tako.supervisor import instance
from tako.supervisor.instance import Failure
from tako.supervisor.instances import InstancePool, Ready, WebConfig
from tako.supervisor.listener import Listener
from tako.supervisor.spawn import SpawnRequest

PATIENCE_S = 30.0
# A small app, so that a boot costs little: what it says is what its file says.
APP = """
import asyncio, os
SAYS = {says!r}

async def app(scope, receive, send):
    assert scope["type"] == "http"
    if scope["path"] == "/die":
        os._exit(9)
    if scope["path"] == "/slow":
        print("slow")
        await asyncio.sleep(1)
    await send({{"type": "http.response.start", "status": 404 if scope["path"] == "/gone" else 200, "headers": []}})
    await send({{"type": "http.response.body", "body": f"{{SAYS}} {{os.getpid()}}".encode()}})
"""


class Pool:
    """A pool and the host that it talks to, around an app in a folder."""

    def __init__(self, folder: Path, **config: Any) -> None:
        self.folder = folder
        self.sockets = folder / "s"
        self.sockets.mkdir(exist_ok=True)
        self.main = "app:app"
        self.python = sys.executable
        self.mistake: Exception | None = None
        self.told: list[Ready | Failure] = []
        self.repeats: list[bool] = []
        self.printed: list[str] = []
        self.logged: list[str] = []
        self.news = asyncio.Event()
        self.listener = Listener.bind(folder / "app.sock")
        self.pool = InstancePool(
            "shop",
            WebConfig(**{"development": True, "drain_timeout_s": 5.0, **config}),
            listener=self.listener,
            sockets=self.sockets,
            house=self,
            clock=SystemClock(),
        )

    # --- the host ---------------------------------------------------------------------------------------------------

    def spawn_request(self, instance_id: str, web: Mapping[str, str]) -> SpawnRequest:
        if self.mistake is not None:
            raise self.mistake
        return SpawnRequest(
            argv=control.argv(self.python, control.Arguments(main=self.main, orphan_timeout_ms=15_000)),
            env={"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1", **web},
            cwd=self.folder,
            envelope=envelope.build(token="token", secrets={}),
            spool=self.folder / f"{instance_id}.spool",
        )

    def ready(self, ready: Ready) -> None:
        self.told.append(ready)
        self.news.set()

    def failed(self, failure: Failure, *, is_repeat: bool) -> None:
        self.told.append(failure)
        self.repeats.append(is_repeat)
        self.news.set()

    def changed(self) -> None:
        self.news.set()

    def redact(self, text: str) -> str:
        return text.replace("s3cret", "***")

    def output(self, instance_id: str, pid: int, line: str) -> None:
        self.printed.append(line)
        self.news.set()

    def log(self, level: str, message: str, **fields: Any) -> None:
        self.logged.append(message + str(fields.get("traceback", "")))
        self.news.set()

    # --- what tests do ----------------------------------------------------------------------------------------------

    def write(self, text: str) -> None:
        (self.folder / "app.py").write_text(text)

    def says(self, words: str) -> None:
        self.write(APP.format(says=words))

    async def get(self, path: str = "/", **options: Any) -> httpx.Response:
        transport = httpx.AsyncHTTPTransport(uds=str(self.listener.path))
        async with httpx.AsyncClient(
            transport=transport, base_url="http://shop.localhost", timeout=PATIENCE_S
        ) as client:
            return await client.get(path, **options)

    async def until(self, condition: Callable[[], Any]) -> Any:
        async with asyncio.timeout(PATIENCE_S):
            while not (found := condition()):
                self.news.clear()
                await self.news.wait()
            return found

    async def settled(self) -> Failure | None:
        return await asyncio.wait_for(self.pool.settled(), PATIENCE_S)

    @property
    def pids(self) -> list[int]:
        return [each["pid"] for each in self.pool.snapshot()["instances"]]


def scene(folder: Path, play: Callable[[Pool], Coroutine[Any, Any, None]], **config: Any) -> None:
    """Play a scene with a started pool; afterwards nothing may be left."""

    async def main() -> None:
        pool = Pool(folder, **config)
        pool.says("one")
        try:
            await play(pool)
        finally:
            await pool.pool.stop(timeout_s=5.0)
            pool.listener.close()
        assert not [each for each in pool.told if isinstance(each, Ready) and any(map(is_running, each.pids))]

    asyncio.run(main())
    assert not list(folder.glob("*.spool"))


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


# Serving and replacing


def test_it_boots_the_app_and_tells_how_long_that_took(tmp_path: Path) -> None:
    async def play(it: Pool) -> None:
        it.pool.start()
        it.pool.start()

        assert (await it.get()).text.startswith("one ")
        await it.pool.settled()  # it serves before it is told of
        [ready] = it.told
        assert isinstance(ready, Ready)
        assert (ready.reason, ready.boot_ms > 0, list(ready.pids)) == ("start", True, it.pids)

    scene(tmp_path, play)


def test_new_code_takes_over_and_what_is_in_flight_finishes(tmp_path: Path) -> None:
    async def play(it: Pool) -> None:
        it.pool.start()
        await it.settled()
        [old] = it.pids
        slow = asyncio.ensure_future(it.get("/slow"))
        await it.until(lambda: "slow" in it.printed)

        it.says("two")
        it.pool.replace("app.py was saved")
        await it.settled()

        assert (await it.get()).text.startswith("two ")
        assert (await slow).text == f"one {old}"
        assert [each.reason for each in it.told if isinstance(each, Ready)] == ["start", "app.py was saved"]

    scene(tmp_path, play)


def test_no_request_is_refused_in_a_storm_of_saves(tmp_path: Path) -> None:
    async def play(it: Pool) -> None:
        it.pool.start()
        stop = asyncio.Event()
        answers: list[str] = []

        async def load() -> None:
            while not stop.is_set():
                answer = await it.get()
                answers.append(f"{answer.status_code} {answer.text.split()[0]}")

        clients = [asyncio.ensure_future(load()) for _ in range(4)]
        for number in range(12):
            it.says(f"v{number}")
            it.pool.replace("saved")
            if number % 4 == 3:
                await it.settled()
        stop.set()
        await asyncio.gather(*clients)

        assert {answer[:4] for answer in answers} == {"200 "}
        assert (await it.get()).text.startswith("v11 ")
        assert len(answers) > 10

    scene(tmp_path, play)


def test_several_instances_share_the_queue_and_are_replaced_together(tmp_path: Path) -> None:
    async def play(it: Pool) -> None:
        it.pool.start()
        await it.settled()
        assert len(set(it.pids)) == 2

        it.says("two")
        it.pool.replace("saved")
        await it.settled()

        assert {answer.text.split()[0] for answer in await asyncio.gather(*(it.get() for _ in range(10)))} == {"two"}
        assert len(set(it.pids)) == 2

    scene(tmp_path, play, instances=2)


# Failing to start


def test_a_boot_that_fails_answers_everybody_at_once_with_the_reason(tmp_path: Path) -> None:
    async def play(it: Pool) -> None:
        it.write("import jinja3  # <script>")
        waiting = [asyncio.ensure_future(it.get()) for _ in range(20)]
        it.pool.start()

        failure = await it.settled()
        answers = await asyncio.gather(*waiting)

        assert failure is not None
        assert re.fullmatch(r"web app exited with status 1 after \d+ms, before it was ready", failure.reason)
        assert failure.short == ("ModuleNotFoundError: No module named 'jinja3'\n  app.py:1  import jinja3  # <script>")
        assert {answer.status_code for answer in answers} == {503}
        assert {answer.headers["retry-after"] for answer in answers} == {"1"}
        assert "ModuleNotFoundError: No module named 'jinja3'" in answers[0].text
        assert answers[0].headers["content-type"] == "text/plain; charset=utf-8"
        page = await it.get(headers={"Accept": "text/html,*/*"})
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert "import jinja3  # &lt;script&gt;" in page.text
        assert "# <script>" not in page.text
        assert "location.reload()" in page.text

    scene(tmp_path, play)


def test_mended_code_is_served_and_clients_that_asked_meanwhile_waited(tmp_path: Path) -> None:
    async def play(it: Pool) -> None:
        it.write("app = (")
        it.pool.start()
        assert (await it.settled()) is not None
        look = await it.get(control.LOOK_PATH)
        assert look.headers["tako-failure"] == "1"

        it.says("mended")
        it.pool.replace("saved")

        assert (await it.get()).text.startswith("mended ")
        assert "tako-failure" not in (await it.get(control.LOOK_PATH)).headers
        ready = it.told[-1]
        assert isinstance(ready, Ready)
        assert ready.recovered_from is not None

    scene(tmp_path, play)


def test_in_development_a_mistake_that_was_saved_is_shown_and_old_code_is_not(tmp_path: Path) -> None:
    async def play(it: Pool) -> None:
        it.pool.start()
        await it.settled()

        it.write("1 / 0")
        it.pool.replace("saved")
        await it.settled()

        answer = await it.get()
        assert answer.status_code == 503
        assert "ZeroDivisionError" in answer.text

    scene(tmp_path, play)


def test_on_a_server_the_old_code_goes_on_and_the_reason_is_not_shown_to_clients(tmp_path: Path) -> None:
    async def play(it: Pool) -> None:
        it.pool.start()
        await it.settled()

        it.write("1 / 0")
        it.pool.replace("deploy")
        await it.until(lambda: isinstance(it.told[-1], Failure))

        assert (await it.get()).text.startswith("one ")
        it.pool.replace("deploy")
        os.kill(it.pids[0], signal.SIGKILL)
        await it.until(lambda: it.pool.snapshot()["state"] == "failed")
        answer = await it.get()
        assert (answer.status_code, answer.text) == (503, "Service Unavailable\n")

    scene(tmp_path, play, development=False)


def test_the_same_failure_is_not_printed_again_and_a_start_is_only_tried_again_when_asked_for(tmp_path: Path) -> None:
    async def play(it: Pool) -> None:
        it.write("print('trying')\nopen('/database')")
        it.pool.start()
        await it.settled()
        assert it.printed.count("trying") == 1

        await it.get()
        await it.until(lambda: len(it.told) == 2)
        await it.get()
        await it.until(lambda: len(it.told) == 3)

        assert it.repeats == [False, True, True]
        assert it.printed.count("trying") == 1
        it.says("there again")
        await it.get()
        await it.until(lambda: isinstance(it.told[-1], Ready))
        assert (await it.get()).text.startswith("there again ")

    scene(tmp_path, play)


def test_an_interpreter_that_is_not_there_is_named(tmp_path: Path) -> None:
    async def play(it: Pool) -> None:
        it.python = ".venv/bin/python"
        it.pool.start()

        failure = await it.settled()

        assert failure is not None
        assert failure.reason == (
            "web app could not be spawned: [Errno 2] No such file or directory: '.venv/bin/python'"
        )
        assert (await it.get()).status_code == 503

    scene(tmp_path, play)


def test_an_interpreter_without_tako_is_told_to_get_it(tmp_path: Path) -> None:
    async def play(it: Pool) -> None:
        bare = tmp_path / "bare"
        bare.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S "$@"\n')
        bare.chmod(0o700)
        it.python = str(bare)
        it.pool.start()

        failure = await it.settled()

        assert failure is not None
        assert failure.reason.endswith(f": {sys.executable} does not have Tako. Install tako-py there")

    scene(tmp_path, play)


def test_a_mistake_of_our_own_is_logged_with_its_traceback_and_leaves_nobody_hanging(tmp_path: Path) -> None:
    async def play(it: Pool) -> None:
        it.mistake = ZeroDivisionError("ours")
        it.pool.start()

        assert (await it.get()).status_code == 503
        assert "the web app is no longer supervised, by a mistake of Tako's" in it.logged[0]
        assert "ZeroDivisionError: ours" in it.logged[0]

    scene(tmp_path, play)


def test_a_boot_that_hangs_is_killed_and_tells_where_it_hung(tmp_path: Path) -> None:
    async def play(it: Pool) -> None:
        it.write("import threading\nthreading.Event().wait()")
        it.pool.start()

        failure = await it.settled()

        assert failure is not None
        assert failure.reason.startswith("web app did not become ready within 1s")

    scene(tmp_path, play, start_timeout_s=1.0)


def test_health_is_asked_before_anybody_is_let_in(tmp_path: Path) -> None:
    async def play(it: Pool) -> None:
        it.pool.start()
        failure = await it.settled()
        assert failure is not None
        assert failure.reason == "web app answered /gone with 404 (health in tako.toml)"

        it.pool.replace("tako.toml was saved", WebConfig(development=True, health="/"))

        assert (await it.get()).text.startswith("one ")

    scene(tmp_path, play, health="/gone")


# Dying


def test_an_instance_that_dies_is_replaced_and_who_comes_meanwhile_waits(tmp_path: Path) -> None:
    async def play(it: Pool) -> None:
        it.pool.start()
        await it.settled()
        [old] = it.pids

        os.kill(old, signal.SIGKILL)
        answer = await it.get()

        assert answer.text.startswith("one ")
        assert it.pids != [old]
        [death] = [each for each in it.told if isinstance(each, Failure)]
        assert death.reason.startswith("web app was killed by SIGKILL after")

    scene(tmp_path, play)


def test_five_deaths_in_a_minute_are_a_crash_loop_that_says_so_until_the_code_changes(tmp_path: Path) -> None:
    async def play(it: Pool) -> None:
        it.pool.start()
        await it.settled()
        for _ in range(5):
            pids = await it.until(lambda: it.pids)
            os.kill(pids[0], signal.SIGKILL)
            await it.until(lambda pids=pids: it.pids != pids)  # type: ignore[misc]

        answer = await it.get()
        assert answer.status_code == 503
        assert "web app died 5 times in 60s, last: web app was killed by SIGKILL" in answer.text

        it.says("mended")
        it.pool.replace("saved")
        assert (await it.get()).text.startswith("mended ")

    scene(tmp_path, play)


# Sleeping


def test_idle_it_scales_to_zero_and_the_next_request_wakes_it(tmp_path: Path) -> None:
    async def play(it: Pool) -> None:
        it.pool.start()
        await it.settled()
        for _ in range(3):
            await it.until(lambda: it.pool.snapshot()["state"] == "asleep")
            assert it.pids == []

            answers = await asyncio.gather(*(it.get() for _ in range(30)))

            assert {answer.status_code for answer in answers} == {200}
        assert it.logged[0] == "web app scaled to zero"
        assert [each.reason for each in it.told if isinstance(each, Ready)][1] == "request"

    scene(tmp_path, play, idle_timeout_s=0.3)


def test_a_long_request_keeps_it_awake(tmp_path: Path) -> None:
    async def play(it: Pool) -> None:
        it.pool.start()
        await it.settled()

        assert (await it.get("/slow")).status_code == 200

    scene(tmp_path, play, idle_timeout_s=0.7)


# Ending


def test_stopped_while_it_boots_it_leaves_nothing(tmp_path: Path) -> None:
    async def play(it: Pool) -> None:
        it.write("import threading\nthreading.Event().wait()")
        it.pool.start()
        await asyncio.sleep(0)
        it.pool.replace("saved")

        await asyncio.wait_for(it.pool.stop(timeout_s=5.0), 10)
        await it.pool.stop()

    scene(tmp_path, play)


def test_one_that_hears_nothing_any_more_is_killed_when_the_pool_stops(tmp_path: Path) -> None:
    async def play(it: Pool) -> None:
        it.pool.start()
        await it.settled()
        os.kill(it.pids[0], signal.SIGSTOP)

        await asyncio.wait_for(it.pool.stop(timeout_s=0.2), 10)

    scene(tmp_path, play)


def test_orphans_of_an_earlier_daemon_are_drained(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP.format(says="old"))
    with Instance(tmp_path, "app:app") as orphan:
        orphan.started()
        orphan.line.close()

        assert asyncio.run(instance.drain_orphans(orphan.run)) == 1

        assert orphan.wait() == 0
        assert not orphan.control.exists()
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(tmp_path / "run" / "stale.c"))
    stale.close()
    assert asyncio.run(instance.drain_orphans(tmp_path / "run")) == 0
