"""The web app of `tako dev`: found, served on the shared listener, answered at two addresses, rolled when saved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tako.discovery import webapp
from tako.discovery.scan import is_workflow_file
from tako.host import lines
from tako.ingress import addresses
from tako.supervisor.instance import Failure
from tako.supervisor.instances import InstancePool, Ready, WebConfig
from tako.supervisor.listener import Listener
from tako.supervisor.spawn import SpawnRequest

if TYPE_CHECKING:
    from tako.dev.boots import BootLines
    from tako.dev.session import Session
    from tako.host.app import AppHost

ORPHAN_TIMEOUT_MS = 15_000
PROBLEM = "web app"


class Web:
    """The app's instances, their listener, and the ports at which a browser finds them. An app may have none."""

    def __init__(self, host: AppHost, *, session: Session, boots: BootLines, port: int | None) -> None:
        self._host = host
        self._session = session
        self._boots = boots
        self._port = port
        self._app: webapp.WebApp | None = None
        self._listener: Listener | None = None
        self._pool: InstancePool | None = None
        self._addresses: addresses.Addresses | None = None

    # --- life -------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Serve, if the folder holds a web app.

        Raises:
            TakoError: the port that was asked for is taken, and by whom.
        """
        host = self._host
        self._app = webapp.find(host.config.root, main=host.config.main)
        if self._app is None and host.config.web.command is None:
            return
        listener = self._listener = Listener.bind(host.places.listener_socket)
        self._addresses = await addresses.open_addresses(
            host.config.name,
            listener=listener.path,
            runtime=host.places.sockets.parent,
            root=host.config.root,
            port=self._port,
        )
        self._pool = InstancePool(
            host.config.name,
            config_of(self._host),
            listener=listener,
            sockets=host.places.sockets,
            house=self,
            clock=host.clock,
        )
        self._pool.start()

    async def stop(self) -> None:
        """Finish the requests in flight, then let go of ports and listener."""
        if self._addresses is not None:
            await self._addresses.close()
        if self._pool is not None:
            await self._pool.stop()
        if self._listener is not None:
            self._listener.close()

    def kill(self) -> None:
        """SIGKILL to every instance."""
        if self._pool is not None:
            self._pool.kill()

    def urls(self) -> tuple[str, ...]:
        """Where a browser finds the app; the plain one last."""
        return () if self._addresses is None else self._addresses.urls()

    def notes(self) -> tuple[str, ...]:
        """What does not answer, and why."""
        if self._addresses is not None:
            return tuple(self._addresses.notes)
        place = webapp.elsewhere(self._host.config.root)
        return () if place is None else (f'no web app is served; is it {place}? Then main = "{place}" in tako.toml',)

    def booting_pids(self) -> tuple[int, ...]:
        """The instances that are not ready yet."""
        return () if self._pool is None else self._pool.booting_pids()

    def snapshot(self) -> dict[str, Any] | None:
        """The web app as `tako status` shows it; None when there is none."""
        return None if self._pool is None else self._pool.snapshot()

    # --- changes ----------------------------------------------------------------------------------------------------

    def code_changed(self, changed: list[str]) -> None:
        """Roll the app, unless nothing but workflow files was saved: those it leaves alone."""
        if self._pool is not None and not all(is_workflow_file(path) for path in changed):
            self._find_again()
            self._pool.replace(_shown(changed))

    def signatures_changed(self, names: list[str]) -> None:
        """Workers of new code have other signatures than the web app may have imported."""
        if self._pool is not None:
            self._pool.replace(f"signature of {_shown(names)}")

    def settings_changed(self) -> None:
        """`tako.toml` or `.env` changed."""
        if self._pool is not None:
            self._find_again()
            self._pool.replace("settings", config_of(self._host))

    def _find_again(self) -> None:
        found = webapp.find(self._host.config.root, main=self._host.config.main)
        self._app = found or self._app

    # --- what the pool asks of its house ----------------------------------------------------------------------------

    def spawn_request(self, instance_id: str, web: Mapping[str, str]) -> SpawnRequest:
        """What to start for an instance."""
        return request_of(self._host, self._app, instance_id=instance_id, web=web)

    def ready(self, ready: Ready) -> None:
        """New code, or the same again, serves."""
        if not self._session.mended(PROBLEM, then="the app answers again") and ready.reason != "start":
            self._host.hub.publish(
                {
                    "ts_ms": self._host.clock.now_ms(),
                    "level": "info",
                    "scope": "web",
                    "message": f"reloaded in {ready.boot_ms}ms ({ready.reason})",
                }
            )

    def failed(self, failure: Failure, *, is_repeat: bool) -> None:
        """It could not be started, or died."""
        self._boots.drop(scope="web")
        if not is_repeat:
            self._session.problem(PROBLEM, failure.reason, failure.traceback or "\n".join(failure.lines))

    def changed(self) -> None:
        """What `snapshot` tells is other than before."""
        self._boots.settle()

    def redact(self, text: str) -> str:
        """The text without secrets."""
        return self._host.hub.redact(text)

    def output(self, instance_id: str, pid: int, line: str) -> None:
        """An instance has printed a line."""
        self._host.hub.publish(lines.parse(line, now_ms=self._host.clock.now_ms(), scope="web", pid=pid))

    def log(self, level: str, message: str, **fields: Any) -> None:
        """The pool has something to say."""
        self._host.say(level, message, **fields)


def config_of(host: AppHost) -> WebConfig:
    """How the app's `[web]` wants it served, in development."""
    web = host.config.web
    return WebConfig(
        instances=web.instances,
        idle_timeout_s=web.idle_timeout_s,
        start_timeout_s=web.start_timeout_s,
        drain_timeout_s=web.drain_timeout_s,
        health=web.health,
        development=True,
    )


def request_of(host: AppHost, app: webapp.WebApp | None, *, instance_id: str, web: Mapping[str, str]) -> SpawnRequest:
    """What to start for an instance of the app (None: of the `command` in `tako.toml`)."""
    return host.launch.web(
        app, instance_id=instance_id, web=web, token=host.tokens.issue(), orphan_timeout_ms=ORPHAN_TIMEOUT_MS
    )


def _shown(changed: list[str]) -> str:
    others = len(changed) - 1
    return changed[0] + (f" and {others} more" if others else "")
