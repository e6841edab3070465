"""The daemon: all sites of this server, the management socket, and what is started again after an end of any kind.

`start` in this order: lock, state, what was kept over our end, sites (each adopts what lives of it), jobs that were
under way, sockets. `detach` lets go of everything and leaves it running; that is how the daemon ends.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import traceback
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tako.clock import Clock, SystemClock
from tako.errors import TakoError, UnknownApp
from tako.host import lock
from tako.host.app import AppHost
from tako.ingress.relay import Relay
from tako.protocol.management import AppRef
from tako.rpc.server import Server
from tako.server import commands, layout, metrics, notify, recover, routing
from tako.server.blobs import Blobs
from tako.server.caddy import Settings
from tako.server.certificates import Keeper
from tako.server.dashboard import Pages
from tako.server.environments import Environments, Tools
from tako.server.hosts import Hosts
from tako.server.job import Job
from tako.server.layout import Layout
from tako.server.sealing import Sealer
from tako.server.site import Site
from tako.server.spawner import Limits, Spawner
from tako.server.state import State
from tako.supervisor import child
from tako.supervisor.listener import Listener, identity_of

WATCH_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line said."""

    layout: Layout
    http: tuple[str, int] | None = None
    metrics: tuple[str, int] | None = None
    systemd: bool = False
    users: bool = False
    group: int | None = None  # who may use the management socket, besides root
    listener_group: int | None = None  # who may connect to listeners of apps: the ingress
    ingress: Settings | None = None  # the Caddy beside us
    tools: Tools = field(default_factory=Tools)
    limits: Limits = field(default_factory=Limits)
    watch_s: float = WATCH_S


class Daemon:
    """One server."""

    def __init__(self, options: Options, *, clock: Clock | None = None) -> None:
        self.options = options
        self.layout = options.layout
        self.clock = clock or SystemClock()
        self.watch_s = options.watch_s
        self.started_ms = self.clock.now_ms()
        self.boot_id = child.boot_id()
        self.spawner = Spawner(systemd=options.systemd, users=options.users, limits=options.limits)
        self.sites: dict[tuple[str, str], Site] = {}
        self.restart_wanted = asyncio.Event()
        self._kept: dict[str, int] = {}
        self.certificates: Keeper | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._relay: Relay | None = None
        self._metrics: metrics.MetricsServer | None = None
        self.pages = Pages(self)

    # --- life -------------------------------------------------------------------------------------------------------

    async def start(self, kept: Mapping[str, int]) -> None:
        """Take the data folder, adopt what lives, go on with what was under way, and answer.

        Raises:
            EngineRunning: another daemon has the folder.
            StoreDamaged, StoreUnavailable, VersionMismatch: its state cannot be used. Nothing was started or stopped.
        """
        layout.make(self.layout)
        self._lock = lock.Lock(self.layout.lock)
        self._lock.take()
        self._kept = dict(kept)
        self.state = State(self.layout.database)
        self.sealer = Sealer.of(self.layout.key)
        self.blobs = Blobs(self.layout.blobs)
        self.hosts = Hosts(self.layout.hosts)
        self.environments = Environments(self.layout.environments, self.options.tools)
        self.blobs.sweep()
        self.server = Server(
            self.layout.socket,
            handlers=commands.commands(self),
            worker_commands=frozenset(),
            authenticate=commands.authenticate,
            on_close=self._on_close,
            group=self.options.group,
        )
        for row in self.state.all("apps"):
            site = self.sites[(row["app"], row["env"])] = Site(self, row["app"], row["env"])
            if row["wanted"] == "deleted":
                await self.delete(site, keep_data=False)
                continue
            try:
                await recover.reopen(site)
                routing.show(self, site)
            except Exception as error:  # one app that cannot be opened must not keep the others from being served
                words = f"{error.message} {error.cure}".strip() if isinstance(error, TakoError) else repr(error)
                site.failure = words
                self.report(f"{site.app} ({site.env}) could not be opened", error)
        recover.sweep(self)
        await self._listen()
        for name in self._kept.values():  # listeners of apps that are no more
            os.close(name)
        self._kept.clear()

    async def _listen(self) -> None:
        await self.server.start()
        if self.options.http is not None:
            self._relay = Relay(routing.Routes(self))
            await self._relay.serve([routing.listen(self.options.http)])
        if self.options.metrics is not None:
            self._metrics = metrics.MetricsServer(self)
            await self._metrics.start(self.options.metrics)
        if self.options.ingress is not None:
            self.certificates = Keeper(self.hosts, self.options.ingress)
            self._tasks.add(asyncio.get_running_loop().create_task(self.certificates.renew(), name="certificates"))

    async def detach(self) -> None:
        """End, and leave everything running. Jobs are taken up by the next daemon."""
        if self._relay is not None:
            await self._relay.close()
        if self._metrics is not None:
            await self._metrics.stop()
        await self.pages.stop()
        await self.server.stop()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for site in self.sites.values():
            await site.detach()
        self.state.close()
        self._lock.release()

    async def stop(self) -> None:
        """End, and drain every app first: for `--foreground`, where nothing is to be left behind."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(site.stop() for site in self.sites.values()))
        await self.detach()

    def report(self, what: str, error: BaseException) -> None:
        """A line for the journal, with the traceback of what is not ours."""
        shown = error.message if isinstance(error, TakoError) else "".join(traceback.format_exception(error))
        print(f"{what}: {shown}", file=sys.stderr, flush=True)  # noqa: T201

    def _on_close(self, connection: commands.Connection) -> None:
        for site in self.sites.values():
            if site.job is not None:
                site.job.events.forget(connection)
        commands.closed(self, connection)

    # --- sites and jobs ---------------------------------------------------------------------------------------------

    def site(self, app: str, env: str) -> Site:
        """A site. Raises UnknownApp."""
        found = self.sites.get((app, env))
        if found is None:
            known = ", ".join(sorted(f"{app}/{env}" for app, env in self.sites)) or "none"
            raise UnknownApp(
                f"this server has no app {app} in {env}; it has: {known}", cure="Deploy it: `tako deploy`."
            )
        return found

    def new_site(self, app: str, env: str) -> Site:
        """A site, made if there is none."""
        layout.require_names(app, env)
        if (app, env) not in self.sites:
            self.state.run("add_app", app=app, env=env, now_ms=self.clock.now_ms())
            self.sites[(app, env)] = Site(self, app, env)
        return self.sites[(app, env)]

    def refs(self) -> list[AppRef]:
        """What there is."""
        return [{"app": app, "env": env} for app, env in sorted(self.sites)]

    def run_job(self, job: Job, *, start: commands.Phase | None = None) -> None:
        """Let a job run, whoever is connected."""
        self.in_background(job.run(start=start), name=job.id)

    def in_background(self, work: Coroutine[Any, Any, None], *, name: str) -> None:
        """Do something beside everything else; it is cancelled when we end."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self.report(f"{task.get_name()} was left where it stood", error)

    async def delete(self, site: Site, *, keep_data: bool) -> None:
        """Remove a site with all that is its."""
        where = {"app": site.app, "env": site.env}
        self.state.run("want_deleted", **where)
        routing.withdraw(self, site)
        if site.pool is None:  # it could not be opened, and nobody has adopted what lives of it
            recover.kill_all(site)
        await site.delete(keep_data=keep_data)
        notify.forget(listener_name(site))
        with self.state.transaction():
            for statement in ("delete_routes", "delete_releases", "delete_secrets", "delete_app"):
                self.state.run(statement, **where)
        del self.sites[(site.app, site.env)]

    # --- listeners --------------------------------------------------------------------------------------------------

    def listener_of(self, site: Site) -> Listener:
        """The site's listener: what was kept for us, else a new one."""
        if (kept := self.adopt_listener(site, [])) is not None:
            return kept
        listener = Listener.bind(site.layout.listener, group=self.options.listener_group)
        self._remember(site, listener)
        return listener

    def _remember(self, site: Site, listener: Listener) -> None:
        name = listener_name(site)
        identity = [self.boot_id, *listener.identity()]
        self.state.run("set_meta", name=f"listener:{name}", value=json.dumps(identity))
        notify.forget(name)
        notify.keep(name, listener.fileno())

    def adopt_listener(self, site: Site, found: list[socket.socket]) -> Listener | None:
        """The site's listener from what systemd or its instances have kept, if the path still leads to it."""
        name, path = listener_name(site), site.layout.listener
        kept = self._kept.pop(name, None)
        row = self.state.one("get_meta", name=f"listener:{name}")
        expected = json.loads(row["value"]) if row is not None else []
        chosen = None
        for sock in [*([socket.socket(fileno=kept)] if kept is not None else []), *found]:
            if chosen is None and _identity(self.boot_id, sock, path) == expected:
                chosen = Listener.adopt(sock, path)
            else:
                sock.close()
        if chosen is not None and kept is None:
            notify.keep(name, chosen.fileno())
        return chosen

    def keep_listeners(self) -> dict[str, int]:
        """Copies of all listeners, by name, for an execution of ours after this one."""
        return {
            listener_name(site): os.dup(site.listener.fileno())
            for site in self.sites.values()
            if site.listener is not None
        }

    # --- what sites ask ---------------------------------------------------------------------------------------------

    def roll_of(self, host: AppHost) -> str:
        """The change that made the active release active."""
        return host.store.get_meta("active_roll") or ""

    def publish_routes(self, site: Site, release: str) -> None:
        """The release's routes are in force."""
        routing.publish(self, site, release)

    def url_of(self, host: str) -> str:
        """Where a host name answers."""
        if not host:
            return ""
        if self.options.http is not None:
            return f"http://{host}:{self.options.http[1]}"
        return f"https://{host}"

    def hello(self) -> dict[str, object]:
        """What `hello` answers, but for the protocol."""
        return {
            "version": version("tako-py"),
            "machine": os.uname().machine,
            "python": ".".join(map(str, sys.version_info[:3])),
            "uv": self.options.tools.uv is not None,
            "boot_id": self.boot_id,
            "pid": os.getpid(),
            "started_ms": self.started_ms,
            "apps": self.refs(),
        }


def listener_name(site: Site) -> str:
    """Under which a listener is kept; letters that systemd takes."""
    return f"{site.app}.{site.env}"


def _identity(boot_id: str, sock: socket.socket, path: Path) -> list[object]:
    try:
        return [boot_id, *identity_of(sock, path)]
    except OSError:
        return [None]
