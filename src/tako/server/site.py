"""One app in one environment on this server: its engine, its web instances, its listener. Jobs move it."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tako.engine.store import Store
from tako.errors import StoreDamaged, TakoError
from tako.host import activation, lines
from tako.host.app import AppHost
from tako.host.launch import Launch
from tako.logs import files
from tako.logs.files import LogFiles
from tako.logs.hub import Hub
from tako.protocol.messages import LogLine
from tako.protocol.messages import Registry as GroupRegistry
from tako.rpc.auth import token_hash
from tako.server import launching, layout, routing, stage
from tako.server.records import Records
from tako.supervisor import output
from tako.supervisor.instance import Failure
from tako.supervisor.instances import InstancePool, Ready, WebConfig
from tako.supervisor.listener import Listener
from tako.supervisor.spawn import SpawnRequest

if TYPE_CHECKING:
    from tako.server.daemon import Daemon
    from tako.server.job import Job

NOTHING = WebConfig(instances=0)


class Site:
    """`host` and `pool` are there from the first deploy's gate on; `job` is the one that is under way."""

    def __init__(self, daemon: Daemon, app: str, env: str) -> None:
        self.daemon = daemon
        self.app, self.env = app, env
        self.layout = daemon.layout.app(app, env)
        self.host: AppHost | None = None
        self.pool: InstancePool | None = None
        self.listener: Listener | None = None
        self.job: Job | None = None
        self.failure: str | None = None  # why its engine is not running
        self.is_begun = False
        self.user = daemon.spawner.user_of(app)
        layout.make_app(self.layout, uid=self.user.uid if self.user else None)
        self._files = LogFiles(self.layout.data / "logs")
        self.hub = Hub(sinks=(self._keep,))
        self._go_on_reading()
        self.records = Records(
            daemon.state, app=app, env=env, now_ms=daemon.clock.now_ms,
            on_end=lambda name: daemon.spawner.end_scope(name, app=app, env=env), on_token_end=self._on_token_end,
        )  # fmt: skip

    # --- its log ----------------------------------------------------------------------------------------------------

    def _keep(self, line: LogLine) -> None:
        if output.reading.spool:
            line["spool"], line["at"] = output.reading.spool, output.reading.at
        self._files.write(line)

    def _go_on_reading(self) -> None:
        """What the daemon before us has kept of a process's output is not read again, whenever it died."""
        spools = {path.name: path for path in (self.layout.data / "spool").glob("*.spool")}
        for name, at in files.positions(self.layout.data / "logs", set(spools)).items():
            output.go_on_at(spools[name], at)

    # --- what is written down ---------------------------------------------------------------------------------------

    @property
    def row(self) -> sqlite3.Row:
        """Its row in `state.db`."""
        found = self.daemon.state.one("app", app=self.app, env=self.env)
        assert found is not None
        return found

    @property
    def current(self) -> str | None:
        """The release that serves."""
        current: str | None = self.row["current"]
        return current

    def release_row(self, release: str) -> sqlite3.Row | None:
        """A release's row."""
        return self.daemon.state.one("release", app=self.app, env=self.env, release=release)

    def routes(self) -> list[str]:
        """Where it answers: `example.com`, `example.com/shop`."""
        return [row["host"] + row["path"] for row in self.daemon.state.all("routes_of", app=self.app, env=self.env)]

    def secrets(self, job: str | None = None) -> dict[str, str]:
        """Its secrets; those that come with this job, if it brings some."""
        row = self.daemon.state.one("secrets", app=self.app, env=self.env)
        if row is None:
            return {}
        sealed = row["pending_sealed"] if job is not None and row["pending_job"] == job else row["sealed"]
        return self.daemon.sealer.open(sealed, app=self.app, env=self.env)

    def scale(self) -> dict[str, Any]:
        """What `tako scale` was told."""
        found: dict[str, Any] = json.loads(self.row["scale"])
        return found

    def launch(self, release: str, *, job: str | None = None) -> Launch:
        """What processes of a release are started with; with the secrets that come with a job.

        Raises:
            DeployRefused: its tako.toml says something that cannot be done here.
        """
        row = self.release_row(release)
        assert row is not None
        config = launching.config_of(
            self.layout.source(release),
            app=self.app,
            server=row["server"],
            python=self.daemon.environments.python(row["environment"] or "fixed"),
            scale=self.scale(),
        )
        return launching.launch_of(
            self.layout,
            release,
            config,
            secrets=lambda: self.secrets(job),
            spawner=self.daemon.spawner,
            url=self.daemon.url_of(self._host_of(release)),
        )

    def _host_of(self, release: str) -> str:
        """By which name a release is visited; it need not serve yet."""
        return next((host for host, _ in routing.wanted(self, release)), "")

    def web_config(self, launch: Launch) -> WebConfig:
        """How its web app is served."""
        host = self._host_of(launch.release).replace("*.", "www.")  # any name below a wildcard
        return launching.web_config_of(launch.config, host=host or "localhost")

    # --- the engine -------------------------------------------------------------------------------------------------

    async def open_host(self, launch: Launch) -> AppHost:
        """Start the engine, if it does not run; nothing of it begins yet."""
        if self.host is None:
            host = AppHost(
                launch.config,
                hub=self.hub,
                environment=self.env,
                release=launch.release,
                variables=launch.variables,
                places=launch.places,
                prepare=lambda places: None,
                secrets=_Fixed(launch),
                fixed=True,
                wrap=launch.wrap,
                child_uid=self.user.uid if self.user else None,
                on_fatal=self._fatal,
            )
            host.url = launch.urls.get(self.app, "")
            host.log_folder = self.layout.data / "logs"
            self.records.all()
            for hashed in self.records.tokens.values():  # before its socket is there: an instance may live, and ask
                host.tokens.admit(hashed, worker_id=None)
            await host.start()
            if host.store.active_release is None:
                await host.writer.do(Store.activate, release="")  # until the first switch nobody may claim
            self.host = host
        return self.host

    def _fatal(self, error: TakoError) -> None:
        self.failure = error.message
        self.hub.publish(_line(self.daemon.clock.now_ms(), "error", error.message))

    def follow(self, launch: Launch, told: Mapping[str, GroupRegistry]) -> None:
        """After a flip: the engine is this release's now, and begins if it has not."""
        assert self.host is not None
        activation.follow(self.host, launch, told, secrets=_Fixed(launch))
        self.host.url = launch.urls.get(self.app, "")
        if not self.is_begun:
            self.is_begun = True
            self.host.begin(proven=told.keys())

    # --- the web app ------------------------------------------------------------------------------------------------

    def open_pool(self, listener: Listener | None = None) -> InstancePool:
        """The pool, made if there is none; it serves nothing until it is told what."""
        if self.pool is None:
            self.listener = listener or self.daemon.listener_of(self)
            self.pool = InstancePool(
                self.app, NOTHING, listener=self.listener, sockets=self.layout.instances, house=self,
                clock=self.daemon.clock, records=self.records,
            )  # fmt: skip
            self.pool.start()
        return self.pool

    def maker(self, launch: Launch) -> Any:
        """What starts an instance of a release."""
        from tako.discovery import webapp

        app = webapp.find(launch.config.root, main=launch.config.main)

        def make(instance_id: str, web: Mapping[str, str]) -> SpawnRequest:
            assert self.host is not None
            token = self.host.tokens.issue()
            self.records.tokens[instance_id] = token_hash(token)
            return launch.web(app, instance_id=instance_id, web=web, token=token)

        return make

    def _on_token_end(self, hashed: str) -> None:
        if self.host is not None:
            self.host.tokens.revoke(hashed)

    def spawn_request(self, instance_id: str, web: Mapping[str, str]) -> SpawnRequest:
        """Before the first release there is nothing to start."""
        raise TakoError("no release is there to serve")

    def ready(self, ready: Ready) -> None:
        """Instances that died, or slept, are there again."""
        self.say("info", f"web app serves again after {ready.boot_ms}ms ({ready.reason})", scope="web")

    def failed(self, failure: Failure, *, is_repeat: bool) -> None:
        """It could not be started, or died."""
        if not is_repeat:
            self.say("error", failure.reason + (f"\n{failure.short}" if failure.short else ""), scope="web")

    def changed(self) -> None:
        """Nobody looks but when asked."""

    def wake_pool(self) -> None:
        """An instance that was adopted has news."""
        if self.pool is not None:
            self.pool.wake()

    def redact(self, text: str) -> str:
        """The text without secrets."""
        return self.hub.redact(text)

    def output(self, instance_id: str, pid: int, line: str) -> None:
        """An instance has printed a line."""
        found = lines.parse(line, now_ms=self.daemon.clock.now_ms(), scope="web", pid=pid)
        found["instance"] = instance_id
        if release := self.records.releases.get(instance_id):
            found["release"] = release
        self.hub.publish(found)

    def log(self, level: str, message: str, **fields: Any) -> None:
        """The pool has something to say."""
        self.say(level, message, scope="web", **fields)

    def say(self, level: str, message: str, *, scope: str = "tako", **fields: Any) -> None:
        """A line in the app's log."""
        line = _line(self.daemon.clock.now_ms(), level, message, scope=scope)
        if fields:
            line["fields"] = fields
        self.hub.publish(line)

    # --- the end ----------------------------------------------------------------------------------------------------

    async def stop(self) -> None:
        """Stop everything of it: instances drain, workers drain, the store is closed."""
        if self.pool is not None:
            await self.pool.stop()
            self.pool = None
        if self.listener is not None:
            self.listener.close()
            self.listener = None
        await self._stop_host()

    async def detach(self) -> None:
        """Let go of everything: processes live on, for the next daemon."""
        if self.pool is not None:
            await self.pool.detach()
        if self.host is not None:
            await self.host.detach()
        self.hub.close()
        self._files.close()

    async def _stop_host(self) -> None:
        if self.host is not None:
            await self.host.stop()
            self.host, self.is_begun = None, False

    async def forget_first(self) -> None:
        """The first deploy has failed: nothing of it is left but its rows."""
        await self.stop()

    async def delete(self, *, keep_data: bool) -> None:
        """Stop it and remove its files."""
        await self.stop()
        self.hub.close()
        self._files.close()
        await asyncio.to_thread(self._remove, keep_data)

    def _remove(self, keep_data: bool) -> None:
        shutil.rmtree(self.layout.run, ignore_errors=True)
        if not keep_data:
            shutil.rmtree(self.layout.data, ignore_errors=True)
        else:
            for name in ("releases", "logs", "spool"):
                shutil.rmtree(self.layout.data / name, ignore_errors=True)
            self.layout.current.unlink(missing_ok=True)
        with suppress(OSError):
            self.layout.data.parent.rmdir()

    def point_current(self, release: str) -> None:
        """`current` leads to the release that serves."""
        stage.point(self.layout.current, self.layout.release(release))


class _Fixed:
    """The secrets of a launch; they change by a roll only."""

    def __init__(self, launch: Launch) -> None:
        self.load = launch.secrets

    def stamp(self) -> object:
        """The same for ever."""
        return None


def active_of(database: Path) -> tuple[str | None, str]:
    """The release that may claim and the change that made it so, as a store that nobody has open says; (None, "") when
    there is none.

    Raises:
        StoreDamaged: it cannot be read.
    """
    if not database.exists():
        return None, ""
    try:
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as store:
            rows = dict(store.execute("SELECT name, value FROM meta WHERE name IN ('active_release', 'active_roll')"))
    except sqlite3.Error as error:
        raise StoreDamaged(f"{database} cannot be read: {error}") from error
    return rows.get("active_release") or None, rows.get("active_roll", "")


def _line(now_ms: int, level: str, message: str, *, scope: str = "tako") -> LogLine:
    return {"ts_ms": now_ms, "level": level, "scope": scope, "message": message}
