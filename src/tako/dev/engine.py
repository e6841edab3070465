"""`tako dev`: the engine of this folder's app in the foreground, its web app, its screen, a watch on its files.

Everything that is started here is stopped here, in the reverse order, at the first Ctrl-C; the second kills.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import re
import resource
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import uvloop

from tako.config import load
from tako.config.model import Alerts, Config
from tako.dashboard.server import Dashboard
from tako.dev import header, watch
from tako.dev.boots import BootLines
from tako.dev.dashboard import open_dashboard
from tako.dev.interrupts import Interrupts
from tako.dev.keyboard import Key
from tako.dev.options import DevOptions
from tako.dev.runs import RunLines
from tako.dev.session import Session
from tako.dev.variables import variables_of
from tako.dev.web import Web
from tako.engine import inspect
from tako.errors import TakoError
from tako.host import garbage
from tako.host.app import AppHost
from tako.ingress import addresses, routes
from tako.logs.files import LogFiles
from tako.logs.hub import Hub
from tako.protocol.messages import GroupHealth, LogLine

# Files that decide how processes are started, besides the code itself.
SETTINGS = ("tako.toml", ".env")
KILL_PATIENCE_S = 1.0
LOOK_AFTER_S = 1.5
HEADER_PATIENCE_S = 1.0
FILES = 8_192


def run(folder: Path, options: DevOptions) -> int:
    """Run until Ctrl-C; 0 when stopped by it, 1 when something ended it.

    Raises:
        TakoError: nothing could be started, and why.
    """
    config = settings_of(folder, options)
    variables = variables_of(config)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # secrets are in memory, and must not be in a core file
    # A browser's connection costs two files here, and shells often allow a process no more than a thousand.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, FILES) if most > 0 else FILES, most))
    return uvloop.run(Dev(config, variables, options).run())


def settings_of(folder: Path, options: DevOptions) -> Config:
    """The app's `tako.toml`, with what the command line overrides. Raises ConfigError."""
    config = load.load(folder)
    return config if options.alerts else dataclasses.replace(config, alerts=Alerts())


class Dev:
    """One `tako dev`."""

    def __init__(self, config: Config, variables: Mapping[str, str], options: DevOptions) -> None:
        self._options = options
        self._stop = asyncio.Event()
        self._failure: TakoError | None = None
        self.session = Session.of_this_process(
            as_json=options.json, plain=options.plain, redact=lambda text: self._hub.redact(text)
        )
        self._files: LogFiles | None = None
        self._boots = BootLines(show=self.session.line, is_booting=self._is_booting)
        self._hub = Hub(sinks=(self._keep_line, self._boots.line))
        self.host = AppHost(
            config,
            hub=self._hub,
            variables=variables,
            on_fatal=self._fatal,
            on_health=self._health_changed,
            on_code=self._code_changed,
            on_events=lambda events: self._runs.tell(events),
            on_signatures=self._signatures_changed,
        )
        self._runs = RunLines(self.host)
        self.web: Web | None = None
        if options.web:
            self.web = Web(self.host, session=self.session, boots=self._boots, port=options.port)
        self.dashboard: Dashboard | None = None
        self._tried = asyncio.Event()  # every group's code has booted or failed once
        self._shown: dict[str, str] = {}  # by group: the key of its box

    # --- life -------------------------------------------------------------------------------------------------------

    async def run(self) -> int:
        """Start all, wait for the end, stop all."""
        loop = asyncio.get_running_loop()
        interrupts = Interrupts(loop, stop=self._stop.set, kill=self._kill)
        try:
            return await self._run(loop)
        finally:
            interrupts.close()
            self.session.close()

    async def _run(self, loop: asyncio.AbstractEventLoop) -> int:
        self.session.hold()
        await self.host.start()
        try:
            self._files = LogFiles(self.host.places.logs)
            self.host.log_folder = self.host.places.logs
            try:
                self.dashboard = open_dashboard(self.host, port=self._options.dashboard_port)
                self.host.note(dashboard=self.dashboard.url())
                await self._open_web()
                self.host.begin()
                garbage.settle()
                await self._until_tried()
                await self._header()
                self.session.attach(loop, self._keys())
                await self._watch_until_stopped()
            finally:
                await self._stop_in_order()
                self._hub.close()
                self._files.close()
        finally:
            await self.host.stop()
        if self._failure is not None:
            raise self._failure
        return 0

    async def _until_tried(self) -> None:
        """Wait a moment for the workers of new code: the header has their schedules, a box below it their failures."""
        news = [asyncio.ensure_future(event.wait()) for event in (self._tried, self._stop)]
        self._look_if_tried()
        await asyncio.wait(news, timeout=HEADER_PATIENCE_S, return_when=asyncio.FIRST_COMPLETED)
        for one in news:
            one.cancel()

    def _look_if_tried(self) -> None:
        if not any(pool.is_unproven for pool in self.host.groups.pools.values()):
            self._tried.set()

    async def _open_web(self) -> None:
        if self.web is not None:
            await self.web.start()
            if urls := self.web.urls():
                self.host.tell_url(urls[-1])
        self.host.neighbours = self._neighbours

    def _neighbours(self) -> dict[str, str]:
        """Where the other apps of this machine answer, for `TAKO_URL_<APP>`."""
        running = routes.running(self.host.places.sockets.parent / addresses.FOLDER)
        return {app.name: f"http://localhost:{app.port}" for app in running}

    async def _watch_until_stopped(self) -> None:
        watching = asyncio.get_running_loop().create_task(self._watch())
        # Nobody says when the watch stands; what was saved before that is found by one look afterwards.
        looking = asyncio.get_running_loop().call_later(LOOK_AFTER_S, self._changed, set())
        stopping = asyncio.get_running_loop().create_task(self._stop.wait())
        done, _ = await asyncio.wait({watching, stopping}, return_when=asyncio.FIRST_COMPLETED)
        looking.cancel()
        stopping.cancel()
        watching.cancel()
        await asyncio.gather(watching, stopping, return_exceptions=True)
        if watching in done:
            await watching

    async def _stop_in_order(self) -> None:
        holding = self.host.holding.leases.count_by_worker()
        runs = sum(holding.values())
        if runs:
            self.session.closing(f"Stopping… {runs} run{'s' if runs > 1 else ''} may finish; Ctrl-C again to stop now")
        else:
            self.session.closing("Stopping…")
        if self.web is not None:
            await self.web.stop()  # before the engine, so that requests in flight can still enqueue
        await self.host.stop()
        if self.dashboard is not None:
            await self.dashboard.stop()  # behind the engine, so that one can watch it drain
        self._runs.close()

    def _kill(self) -> None:
        """The second Ctrl-C: every process of ours, now. What was acknowledged is in the store."""
        if self.web is not None:
            self.web.kill()
        self._killing = asyncio.get_running_loop().create_task(self._kill_workers())

    async def _kill_workers(self) -> None:
        """Their death is our doing, so it is not counted against the runs that they held (L4)."""
        with suppress(TakoError, TimeoutError):
            async with asyncio.timeout(KILL_PATIENCE_S):
                await self.host.groups.kill()
        self.session.close()
        os._exit(130)

    def _fatal(self, error: TakoError) -> None:
        self._failure = self._failure or error
        self._stop.set()

    # --- the screen -------------------------------------------------------------------------------------------------

    async def _header(self) -> None:
        web, now_ms = self.web, self.host.clock.now_ms()
        self.session.header(
            header.of(
                self.host,
                urls=web.urls() if web is not None else (),
                dashboard=self.dashboard.url() if self.dashboard is not None else None,
                schedules=await self.host.writer.read(inspect.schedules, now_ms=now_ms),
                notes=web.notes() if web is not None else (),
                now_ms=now_ms,
            )
        )

    def _keep_line(self, line: LogLine) -> None:
        if self._files is not None:
            self._files.write(line)

    def _is_booting(self, pid: int) -> bool:
        if self.web is not None and pid in self.web.booting_pids():
            return True
        workers = (worker for pool in self.host.groups.pools.values() for worker in pool.snapshot()["workers"])
        return any(worker["pid"] == pid and worker["state"] == "booting" for worker in workers)

    def _keys(self) -> dict[str, Key]:
        return {
            "r": Key(what="restart", press=lambda: self._changed({"r"})),
            "q": Key(what="quit", press=self._stop.set),
        }

    def _health_changed(self, group: str) -> None:
        """A group that cannot start is a box; a worker's HELLO mends it."""
        pool = self.host.groups.pools.get(group)
        if pool is None:
            return
        health = pool.snapshot()
        if health["failures"] and health["state"] in ("cooldown", "probing", "degraded"):
            self._boots.drop(scope="worker", group=group)
            self._show_failure(group, health)
        elif health["state"] == "healthy" and (shown := self._shown.pop(group, None)):
            self.session.mended(shown)
        self._boots.settle()
        self._look_if_tried()

    def _show_failure(self, group: str, health: GroupHealth) -> None:
        """A box under the name of the file that is broken, if the traceback tells one."""
        key = file_of(health["traceback_tail"]) or f'group "{group}"'
        before = self._shown.get(group)
        if before not in (None, key):
            self.session.mended(before, then="something else is broken now")
        self._shown[group] = key
        body = "\n".join(health["stderr_tail"]) or health["traceback_tail"] or ""
        self.session.problem(key, f"{key}: {health['reason']}", body)

    # --- saved files ------------------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        async for paths in watch.changes(self.host.config.root, stop=self._stop, on_poll=self._polls):
            self._changed({path.relative_to(self.host.config.root).as_posix() for path in paths})

    def _polls(self, why: str) -> None:
        self.host.say("warning", why)

    def _changed(self, paths: set[str]) -> None:
        """Something was saved. What differs is judged by content, in `host/code.py`."""
        if paths & set(SETTINGS):
            self._reconfigure()
        self.host.code.changed()

    def _reconfigure(self) -> None:
        root = self.host.config.root
        try:
            config = settings_of(root, self._options)
            variables = variables_of(config)
        except TakoError as error:
            self.session.problem("tako.toml", "tako.toml cannot be used; the one before it stays in force", str(error))
            return
        self.session.mended("tako.toml", then="it is in force")
        if config.name != self.host.config.name:
            self.session.note("The app's name has changed; that takes effect when `tako dev` is started again.")
            return
        self.host.reconfigure(config, variables=variables)
        if self.web is not None:
            self.web.settings_changed()

    def _code_changed(self, changed: list[str]) -> None:
        """Told by the host before it boots probes: the web app is rolled unless only workflow files were saved."""
        if self.web is not None:
            self.web.code_changed(changed)

    def _signatures_changed(self, names: list[str]) -> None:
        if self.web is not None:
            self.web.signatures_changed(names)


def file_of(traceback_tail: str | None) -> str | None:
    """The app's file that a failed boot points at, such as `workflows/send_email.py`."""
    found = re.search(r"^  (\S+\.py):\d+", traceback_tail or "", re.MULTILINE)
    return found.group(1) if found else None
