"""One life of the daemon: the real host on the simulated machine, from its start to its death."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from unittest import mock

from reliability.simulation import shop
from reliability.simulation.counters import count
from reliability.simulation.loop import DaemonLoop
from reliability.simulation.machine import Processes
from reliability.simulation.worker import VERSION
from tako.config.model import Config, GroupSettings
from tako.engine import registry as registry_rows
from tako.engine.call import Call
from tako.engine.store import Store
from tako.engine.writer import Writer
from tako.errors import TakoError
from tako.host import activation, recovery
from tako.host.app import AppHost
from tako.host.groups import Groups
from tako.host.launch import Launch
from tako.host.lock import Lock
from tako.host.lookout import Lookout
from tako.host.places import Places, places_in
from tako.logs.hub import Hub
from tako.protocol import env, envelope
from tako.protocol.messages import LogLine
from tako.supervisor.spawn import SpawnRequest

if TYPE_CHECKING:
    from reliability.simulation.world import World

# How the daemon tells of what must not happen.
_OUR_BUGS = (" failed: ", "could not finish what it had begun: AssertionError", "Error while answering", "Traceback")
NOWHERE = Path("/")
PLACES = places_in(NOWHERE, state=NOWHERE, sockets=NOWHERE, secrets=NOWHERE / "no such file")


class SimulatedWriter(Writer):
    """The real batches without the thread. What goes to it is done a little later, when the daemon may be dead; short
    rules may run on the loop, as in the real one."""

    world: World

    def _start(self) -> None:
        pass

    def _hand_over(self, batch: list[Call]) -> None:
        if len(batch) > 1:
            count("several callers in one transaction")
        if self.world.daemon_is_doomed or self.world.rng.random() < 0.5:
            since = self._since
            self._send_away(lambda: self._transact(batch, since=since))
        else:
            super()._hand_over(batch)

    def _send_away(self, work: Callable[[], None]) -> None:
        self._is_away = True
        self.world.timeline.later(self.world.rng.uniform(0.000_2, 0.003), self._do_away, work)

    def _do_away(self, work: Callable[[], None]) -> None:
        loop = self._loop
        assert isinstance(loop, DaemonLoop)
        if loop.is_dead:
            return
        if loop.is_frozen:
            self.world.timeline.later(0.05, self._do_away, work)
        elif not self.world.daemon_dies("before commit"):
            work()
            self.world.daemon_dies("after commit")


class SimulatedGroups(Groups):
    """The real groups, which start simulated workers."""

    _host: SimulatedHost

    def spawn_request(self, group: str, worker_id: str, solo: bool) -> SpawnRequest:
        """What to start for a worker of this group."""
        host = self._host
        settings = host.config.group(group)
        return SpawnRequest(
            argv=["worker"],
            env={
                VERSION: str(host.version),
                env.GROUP: group,
                env.CONCURRENCY: "1" if solo else str(settings.concurrency),
                env.IDLE_TIMEOUT_MS: str(round(settings.idle_timeout_s * 1000)),
                env.DRAIN_TIMEOUT_MS: str(round(settings.drain_timeout_s * 1000)),
            },
            cwd=NOWHERE,
            envelope=envelope.build(
                token=host.tokens.issue(worker_id=worker_id), secrets={}, worker_id=worker_id,
                files=host.code.scan.files_of(group),
            ),
            spool=NOWHERE / worker_id,
        )  # fmt: skip


class _QuietHub(Hub):
    def publish(self, line: LogLine) -> None:
        """Nobody reads it."""


class _SimulatedLock(Lock):
    """Held from start to stop."""

    _is_taken = False

    @property
    def is_held(self) -> bool:
        return self._is_taken

    def take(self) -> None:
        self._is_taken = True

    def release(self) -> None:
        self._is_taken = False


class SimulatedLookout(Lookout):
    """Files and secrets are what the world says."""

    def look(self) -> None:
        """Nothing is ever other than it was said to be."""

    def take_secrets(self) -> None:
        """There are none."""


class SimulatedHost(AppHost):
    """The real host; code, store, writer and processes are simulated."""

    def __init__(self, world: World, loop: DaemonLoop, *, rng: random.Random) -> None:
        settings = world.plan.settings
        group = GroupSettings(
            workers=settings.min_workers,
            max_workers=settings.max_workers,
            concurrency=settings.concurrency,
            idle_timeout_s=settings.idle_timeout_s,
            boot_timeout_s=settings.boot_timeout_s,
            drain_timeout_s=settings.drain_timeout_s,
        )
        places: Places = PLACES
        super().__init__(
            Config(name="shop", root=NOWHERE, python="python", groups={"default": group}),
            hub=_QuietHub(capacity=1),
            places=places,
            clock=world.clock,
            rng=rng,
            on_fatal=self._stop_at_once,
            fixed=settings.is_server,
        )
        self.version = world.version
        self._world = world
        self._loop = loop
        self._lock = _SimulatedLock(places.lock)
        self.processes = Processes(world.machine, loop.enter)

    async def start(self) -> None:
        """As the real one, without files and sockets."""
        self._lock.take()
        self.store = self._world.disk.open()
        if self.is_fixed and self.store.active_release:
            self.release = self.store.active_release
        self._wire(self._loop)
        if self.is_fixed:
            self._world.version = version_of(self.release) if self.store.active_release else self._world.version
        self.read_code(self._world.version)
        await recovery.recover(self)

    def read_code(self, version: int) -> None:
        """This is the current code."""
        self.version = version
        self.code.scan = shop.scan(version)
        self._digest = f"code-{version}"
        self.code._fingerprint = _Fingerprint(self._digest)  # type: ignore[assignment]

    async def serve(self) -> None:
        """After `start`, on a server: the release that is active, or the first one that ever was."""
        if self.store.active_release is None:
            await self.writer.do(Store.activate, release="")  # until the first switch nobody may claim
        if not self.store.active_release:
            await self.roll(self._world.version)
            return
        for registry in (await activation.told_by(self, release=self.release)).values():
            self.registry.told(registry)
        self.begin()

    async def roll(self, version: int, *, dies: str | None = None) -> None:
        """As `tako-server` does it, once its gate has booted every group of the release."""
        release = f"r{version}"
        told: dict[str, Any] = {group: shop.registry(group, version) for group in shop.GROUPS}
        for registry in told.values():
            await self.writer.do(registry_rows.save, release=release, registry=registry, now_ms=self.clock.now_ms())
        self._world.oracle.releases.rolls(release)
        self._world.doom(dies)
        await activation.flip(self, release=release, roll=f"roll of {release}", told=told)
        self._world.oracle.releases.rolled(release)
        self.read_code(version)
        with mock.patch.object(activation, "_code_of", lambda host, config: host.code):
            activation.follow(self, cast(Launch, _Release(self.config, release)), told, secrets=self.secrets)
        if not self.has_begun:
            self.begin(proven=told.keys())
        self._world.rolled()

    def code_saved(self) -> None:
        """The watcher has seen a change."""
        self.read_code(self._world.version)
        self.code_changed(["workflows"])

    def _make_writer(self, loop: asyncio.AbstractEventLoop) -> Writer:
        SimulatedWriter.world = self._world
        return SimulatedWriter(
            self.store,
            on_commit=self._on_commit,
            on_fatal=self.fatal,
            on_unavailable=self.rounds.store_changed,
            loop=loop,
            monotonic=self.clock.monotonic,
        )

    def _make_groups(self) -> Groups:
        return SimulatedGroups(self)

    def health_changed(self, group: str) -> None:
        """The oracle keeps books of it."""
        self._world.oracle.groups.changed(group)
        super().health_changed(group)

    def say(self, level: str, message: str, **fields: Any) -> None:
        """Some lines mean that the code is wrong."""
        if any(words in message for words in _OUR_BUGS):
            self._world.oracle.fail("internal", message)
        super().say(level, message, **fields)

    def _make_lookout(self) -> Lookout:
        return SimulatedLookout(self)

    def _stop_at_once(self, error: TakoError) -> None:
        count("daemon stopped, its disk failed")
        self._world.timeline.later(0.001, self._world.kill_daemon, self._loop)


def version_of(release: str) -> int:
    """Of which code a release is made."""
    return int(release.removeprefix("r"))


class _Release(NamedTuple):
    """What `activation.follow` wants to know of a release."""

    config: Config
    release: str
    variables: Mapping[str, str] = MappingProxyType({})


class _Fingerprint:
    def __init__(self, digest: str) -> None:
        self.digest = digest
        self.stamps: dict[str, Any] = {}


class Daemon:
    """A host and its loop. It listens as soon as recovery is done."""

    def __init__(self, world: World, *, number: int) -> None:
        self.world = world
        # Most of what asyncio's loops can do is not there: a daemon that asks for it is told so at once.
        self.loop = DaemonLoop(world.timeline)  # type: ignore[abstract]
        self.loop.on_error = world.oracle.loop_error
        self.host = SimulatedHost(world, self.loop, rng=random.Random(f"{world.plan.seed} daemon {number}"))
        self.is_listening = False
        self._jobs: set[asyncio.Task[None]] = set()
        self.loop.enter(self._start)

    def _start(self) -> None:
        self.loop.create_task(self._serve())

    async def _serve(self) -> None:
        try:
            await self.host.start()
            self.world.oracle.daemon_started(self.host)
            if self.host.is_fixed:
                await self.host.serve()
            else:
                self.host.begin()
        except TakoError:
            # The disk takes nothing: the process ends with the reason, and is started again by whoever watches it.
            count("daemon could not start")
            self.world.timeline.later(0.001, self.world.daemon_stopped, self.loop)
            return
        self.is_listening = True

    def stop(self) -> None:
        """SIGTERM: as `tako dev` stops."""
        self.loop.enter(lambda: self.loop.create_task(self._stop()))

    def roll(self, version: int, *, dies: str | None) -> None:
        """Somebody deploys. `dies`: the daemon is killed before or after the commit that lets the release claim."""
        self.loop.enter(lambda: self._jobs.add(self.loop.create_task(self._roll(version, dies))))

    async def _roll(self, version: int, dies: str | None) -> None:
        try:
            await self.host.roll(version, dies=dies)
        except TakoError:
            count("roll refused by the store")

    async def _stop(self) -> None:
        """As `tako-server` does it: its jobs end first, wherever they are."""
        for job in self._jobs:
            job.cancel()
        await asyncio.gather(*self._jobs, return_exceptions=True)
        await self.host.stop()
        self.is_listening = False
        self.world.timeline.later(0.001, self.world.daemon_stopped, self.loop)

    def die(self) -> None:
        """SIGKILL."""
        self.is_listening = False
        self.loop.die()
        if hasattr(self.host, "_log_bridge"):
            self.host._log_bridge.close()
