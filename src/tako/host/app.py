"""The engine of one app on one machine: the store, the rules, the supervisors and the socket, wired.

`start` in this order, `stop` in the reverse: lock, store, what the last engine left, code, groups, socket. What decides
about runs is in `engine/`, what decides about processes in `supervisor/`; here one's news becomes the other's event.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any

from tako.clock import Clock, SystemClock
from tako.config import load
from tako.config.model import Config
from tako.cron.ticker import Ticked, Ticker
from tako.engine import runs
from tako.engine.answer import Answer
from tako.engine.dispatcher import Dispatcher
from tako.engine.events import Ended, Event, Held, runs_of
from tako.engine.upkeep import Upkeep
from tako.engine.writer import Writer
from tako.errors import ConfigError, StoreUnavailable, TakoError, Unauthorized, VersionMismatch
from tako.host import lock, recovery
from tako.host.admission import Admission
from tako.host.alarms import Alarms
from tako.host.code import Code
from tako.host.deaths import Deaths
from tako.host.groups import Groups
from tako.host.handlers import WORKER_COMMANDS, commands
from tako.host.holding import Holding
from tako.host.launch import Launch
from tako.host.logbridge import LogBridge
from tako.host.lookout import Lookout
from tako.host.meter import Meter
from tako.host.misfits import Misfits
from tako.host.places import Places, make, places_of
from tako.host.recent import Recent
from tako.host.registry import Registry
from tako.host.rounds import Rounds
from tako.host.secrets import FileSecrets, Secrets
from tako.host.streams import Streams
from tako.host.tokens import Tokens
from tako.host.view import View
from tako.host.watch import RunWatch
from tako.logs.hub import Hub
from tako.protocol import PROTOCOL_VERSION
from tako.protocol.messages import Enqueued, NewRun
from tako.rpc.auth import Peer, Principal, Role
from tako.rpc.connection import Connection, Message
from tako.rpc.server import Server
from tako.supervisor.process import Process, Processes
from tako.supervisor.spawn import SpawnRequest

# So many runs are stored in less time than anybody notices.
A_FEW = 20
REMEMBER_AGAIN_S = 1.0


class AppHost:
    """One app's engine. `on_fatal` hears of what ends it; the other callbacks tell a screen what has changed.

    `fixed`: code, settings and secrets change only when somebody says so (`activate`), as on a server; else they are
    looked at on the way. `prepare` makes the app's folders. `wrap` puts processes into scopes of their own; `child_uid`
    is the user they then run as, who may use the socket.
    """

    processes: Processes = Process  # where workers come from

    def __init__(
        self,
        config: Config,
        *,
        hub: Hub,
        environment: str = "development",
        release: str = "dev",
        variables: Mapping[str, str] | None = None,
        places: Places | None = None,
        prepare: Callable[[Places], None] = make,
        secrets: Secrets | None = None,
        fixed: bool = False,
        wrap: Callable[[SpawnRequest, str], SpawnRequest] | None = None,
        child_uid: int | None = None,
        clock: Clock | None = None,
        rng: random.Random | None = None,
        on_fatal: Callable[[TakoError], None] = lambda error: None,
        on_health: Callable[[str], None] = lambda group: None,
        on_code: Callable[[list[str]], None] = lambda changed: None,
        on_events: Callable[[list[Event]], None] = lambda events: None,
        on_signatures: Callable[[list[str]], None] = lambda names: None,
    ) -> None:
        self.config = config
        self.hub = hub
        self.environment = environment
        self.release = release
        self.variables = dict(variables or {})
        self.clock = clock or SystemClock()
        self.rng = rng or random.Random()
        self.pid = os.getpid()
        self.on_fatal = on_fatal
        self.on_health = on_health
        self.on_code = on_code
        self.on_events = on_events
        self.on_signatures = on_signatures
        self.places = places or places_of(config.root)
        self.secrets = secrets or FileSecrets(self.places.secrets)
        self.is_fixed = fixed
        self._prepare = prepare
        self._wrap = wrap
        self._child_uid = child_uid
        self.tokens = Tokens(config.name)
        self.registry = Registry()
        self.streams = Streams(hub)
        self.ended_watch = RunWatch()
        self.claimed_watch = RunWatch()
        self.stopped_watch = RunWatch()
        self.view = View(self)
        self.code = Code(config.root, on_change=self.code_changed)
        self._lock = lock.Lock(self.places.lock)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._noted: dict[str, str] = {}
        self.url = ""  # where the app answers, as soon as that is known
        self.neighbours: Callable[[], Mapping[str, str]] = dict  # where other apps of this machine answer, by name
        self.recent = Recent()
        self.log_folder: Path | None = None  # where lines are kept that the hub's ring has lost, or never had
        self.settings_error: ConfigError | None = None  # of settings that have no effect
        self.misfits = Misfits(self)
        self.meter = Meter(self)
        self.listeners: list[Callable[[str, Collection[str]], None]] = []  # who looks on; see `tell_listeners`
        self.next_schedule_ms: int | None = None  # as the last tick found it
        self.is_code_new = True  # since the last engine, and not every group has told yet what it declares now
        self.has_begun = False

    # --- life -------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Take the store, recover, and answer on the socket; `begin` is next.

        Raises:
            EngineRunning: another engine has the store.
            StoreDamaged: the file is damaged or gone. Nothing was started.
        """
        self._prepare(self.places)
        self._lock.take()
        try:
            self.store = recovery.open_store(self.places, durability=self.config.durability)
        except BaseException:
            self._lock.release()
            raise
        self._wire(asyncio.get_running_loop())
        self.code.start(python=self.config.python)
        await recovery.recover(self)
        lock.write_engine_json(self.places.engine_json, self._engine_json())
        await self.server.start()

    def _wire(self, loop: asyncio.AbstractEventLoop) -> None:
        """Make the parts, and let them know of each other. Nothing runs yet but the writer."""
        self.lookout = self._make_lookout()
        self.alarms = Alarms(self)
        self.deaths = Deaths(self)
        self.rounds = Rounds(self)
        self.writer = self._make_writer(loop)
        self.dispatcher = Dispatcher(self.writer, clock=self.clock, on_ready=self._on_ready)
        self._log_bridge = LogBridge(self.say, loop=loop)
        self._log_bridge.open()
        self.upkeep = Upkeep(
            self.writer,
            clock=self.clock,
            retention_ms=round(self.config.retention_s * 1000),
            of_workflow=self.registry.retention_ms,
        )
        self.ticker = Ticker(self.writer, clock=self.clock, on_ticked=self._ticked)
        self.holding = Holding(self)
        self.groups = self._make_groups()
        self.admission = Admission(
            registry=self.registry,
            gates=self.groups.pools,
            clock=self.clock,
            submit=self._submit_enqueue,
            check=self._submit_check,
            hurry=self.holding.claims.hurry,
            look=self.lookout.look,
        )
        self.server = Server(
            self.places.internal_socket,
            handlers=commands(self),
            worker_commands=WORKER_COMMANDS,
            authenticate=self._authenticate,
            on_close=self._on_close,
            owner=self._child_uid,
        )

    def _make_writer(self, loop: asyncio.AbstractEventLoop) -> Writer:
        return Writer(
            self.store,
            on_commit=self._on_commit,
            on_fatal=self.fatal,
            on_unavailable=self.rounds.store_changed,
            on_timed=self.meter.committed_in,
            on_answered=self._flush,
            loop=loop,
            monotonic=self.clock.monotonic,
        )

    def _make_groups(self) -> Groups:
        return Groups(self)

    def _make_lookout(self) -> Lookout:
        return Lookout(self)

    def begin(self, *, proven: Collection[str] = ()) -> None:
        """Boot a probe of each group, but for those that a gate has `proven`; let due runs and schedules fire.

        `tell_url` comes before, for the children.
        """
        self.alarms.begin()
        self.check_groups()
        self.groups.start(proven=proven)
        self.view.check_names()
        self.dispatcher.start()
        self.has_begun = True
        self._fire_when_known()
        self.upkeep.start()
        self.rounds.start()

    async def stop(self) -> None:
        """Drain the workers, hand back what they did not finish, close the store. Twice is harmless."""
        if not self._lock.is_held:
            return
        self.has_begun = False
        self.admission.closed = "workflow runtime is draining"
        before = self.holding.handed_back
        await self.groups.stop()
        if n := self.holding.handed_back - before:
            runs = "1 run had not finished and was" if n == 1 else f"{n} runs had not finished and were"
            then = "it goes" if n == 1 else "they go"
            self.say("info", f"{runs} handed back, uncounted: {then} on at the next start")
        await self._close()

    async def detach(self) -> None:
        """Close the store and let go of the workers: they live on, and reconnect to the next engine."""
        if not self._lock.is_held:
            return
        self.has_begun = False
        # First: nobody is refused. Whose connection ends asks the next engine, and finds what this one had stored.
        await self.server.stop()
        await self.groups.detach()
        await self._close()

    async def _close(self) -> None:
        self.holding.stop()
        self.meter.stop()
        await self.rounds.stop()
        await self.upkeep.stop()
        await self.ticker.stop()
        await self.dispatcher.stop()
        await self.streams.stop()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.server.stop()
        await self.alarms.alerter.stop()
        await self.writer.stop()
        self.store.close()
        self._log_bridge.close()
        self._lock.release()

    def _engine_json(self) -> dict[str, object]:
        return {
            "app": self.config.name,
            "pid": self.pid,
            "socket": str(self.places.internal_socket),
            "store_id": self.store.store_id,
            "started_ms": self.clock.now_ms(),
        }

    def tell_url(self, url: str) -> None:
        """Let other commands, and the app itself (`tako.current.url`), know where the app answers."""
        self.url = url
        self.note(url=url)

    def note(self, **facts: str) -> None:
        """Let other commands know of this, by `engine.json`."""
        self._noted.update(facts)
        lock.write_engine_json(self.places.engine_json, {**self._engine_json(), **self._noted})

    def fatal(self, error: TakoError) -> None:
        """The engine cannot go on: take nothing more, and let whoever has started it know."""
        self.admission.closed = self.admission.closed or error.message
        self.alarms.fatal(error)
        self.on_fatal(error)

    def in_background(self, work: Coroutine[Any, Any, Any]) -> None:
        """Do something that nobody waits for; what goes wrong is logged."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._background_done)

    def _background_done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            shown = error.message if isinstance(error, TakoError) else f"{type(error).__name__}: {error}"
            self.say("error", f"the engine could not finish what it had begun: {shown}")

    # --- enqueue ----------------------------------------------------------------------------------------------------

    async def enqueue(self, news: Sequence[NewRun], *, deadline_mono_ms: int | None) -> list[Enqueued]:
        """Admit and store runs; see Admission."""
        with self.meter.refusals():
            stored: list[Enqueued] = await self.admission.enqueue(news, deadline_mono_ms)
        return stored

    def _submit_enqueue(self, news: Sequence[NewRun], deadline_mono_ms: int | None) -> Answer[list[Enqueued]]:
        for workflow in {new["workflow"] for new in news}:
            self.view.note_stored(workflow)
        return self.writer.ask_with_others(
            runs.enqueue_all,
            news,
            now_ms=self.clock.now_ms(),
            deadline_mono_ms=deadline_mono_ms,
            is_short=len(news) <= A_FEW,
        )

    def _submit_check(self, news: Sequence[NewRun], deadline_mono_ms: int | None) -> Answer[list[Enqueued]]:
        return self.writer.ask(runs.check, news, deadline_mono_ms=deadline_mono_ms, is_short=len(news) <= A_FEW)

    def _flush(self) -> None:
        """What a transaction answers leaves with its last answer: a turn of the loop later is a lone caller's wait."""
        if self.has_begun:
            self.server.flush()

    # --- news -------------------------------------------------------------------------------------------------------

    def _on_commit(self, events: list[Event]) -> None:
        """After each COMMIT, before its callers are answered."""
        self.dispatcher.tell(events)
        self.ticker.tell(events)
        for event in events:
            if type(event) is Ended:
                self.ended_watch.tell(event.run_id)
                if event.status == "dead":
                    self.deaths.note(event.run_id)
            elif type(event) is Held:
                self.holding.tell_cancelled(event)
        self.meter.committed(events)
        self.on_events(events)
        if self.streams.has_listeners:
            self.view.stream(events)
        if self.listeners and (changed := runs_of(events)):
            self.tell_listeners("runs", changed)

    def tell_listeners(self, what: str, run_ids: Collection[str] = ()) -> None:
        """Who looks on learns that something changed: `runs` (these), `health` or `schedules`."""
        self.meter.changes += 1
        for listener in self.listeners:
            listener(what, run_ids)

    def _on_ready(self, workflow: str, lane: str) -> None:
        """Something may be claimed: by a worker that waits, else wake one."""
        group = self.registry.group_of(workflow)
        if group is None or group not in self.groups.pools:
            self.view.note_unroutable(workflow)
        elif not self.holding.claims.ready(group, solo=lane == "solo"):
            self.groups.pools[group].work()

    def _ticked(self, ticked: Ticked) -> None:
        """The ticker has logged what it did; what it left out is shown for a day."""
        self.next_schedule_ms = ticked.next_ms
        self.tell_listeners("schedules")
        for skip in ticked.skips:
            subject = f"{skip.workflow} {skip.spec} {skip.words.split(' (')[0]}"
            what = f"schedule {skip.spec} of {skip.workflow}: {skip.words}"
            cure = "`tako schedules` has the counts; what is to happen then, `catch_up=` and `overlap=` say."
            self.recent.note("skipped_schedule", subject, what, cure=cure, now_ms=self.clock.now_ms())
        for held in ticked.told:
            self.holding.tell_cancelled(held)

    def code_changed(self, changed: list[str]) -> None:
        """Row 18: the registry begins anew, every group boots a probe, old workers drain."""
        self.registry.new_code(self.code.names_by_group())
        self.check_groups()
        self.groups.new_code()
        self.view.check_names()
        self.in_background(self.remember_code())
        self.tell_listeners("health")
        self.on_code(changed)

    async def remember_code(self) -> None:
        """Which code the recorded health is about. A full disk must not make the next start take it for new."""
        while True:
            try:
                await self.writer.do(recovery.set_code, digest=self.code.digest)
            except StoreUnavailable:
                if not self.has_begun:
                    return
                await asyncio.sleep(REMEMBER_AGAIN_S)
            else:
                return

    def check_groups(self) -> None:
        """A group table that no workflow uses, or a group without its table, has no effect: say so, once."""
        before = self.settings_error
        try:
            load.check_groups(self.config, self.code.scan.groups)
            self.settings_error = None
        except ConfigError as error:
            self.settings_error = error
            if before is None or before.message != error.message:
                self.say("error", error.message)

    def reconfigure(self, config: Config, *, variables: Mapping[str, str]) -> None:
        """Take a changed `tako.toml` or `.env`: what processes get from now on."""
        if config.durability != self.config.durability:
            self.say("warning", f'durability = "{config.durability}" takes effect when the engine is started again')
        self.upkeep.retention_ms = round(config.retention_s * 1000)
        self.config = config
        self.variables = dict(variables)
        self.alarms.alerter.reconfigure(config.alerts)
        self.check_groups()
        self.code.changed(python=config.python)

    @property
    def launch(self) -> Launch:
        """What processes of the release that serves are started with."""
        variables = dict(self.variables)
        if not self.is_fixed and not self.code.is_settled(now_ms=self.clock.now_ms()):
            variables["PYTHONDONTWRITEBYTECODE"] = "1"
        more = {} if self._wrap is None else {"wrap": self._wrap}
        return Launch(
            config=self.config,
            environment=self.environment,
            release=self.release,
            places=self.places,
            secrets=self.secrets.load,
            variables=variables,
            urls={**self.neighbours(), self.config.name: self.url},
            **more,
        )

    @property
    def python(self) -> str:
        """The interpreter as it is started and shown: relative to the app's root if it lies in it."""
        return self.launch.python

    def environment_of_children(
        self, *, worker: Mapping[str, str] | None = None, web: Mapping[str, str] | None = None
    ) -> dict[str, str]:
        """The environment of every process of this app."""
        return self.launch.environ(worker=worker, web=web)

    def _fire_when_known(self) -> None:
        """Let schedules fire, as soon as they are those of the code.

        If it was changed while no engine ran, the workers must tell first: a line that was removed must not fire for
        the time in between. What they cannot tell, because they do not start, stays as it was.
        """
        if self.has_begun and not (self.is_code_new and any(pool.is_unproven for pool in self.groups.pools.values())):
            self.is_code_new = False
            self.ticker.start()

    def health_changed(self, group: str) -> None:
        """A group's health or slots changed: tell the screen and subscribers."""
        self._fire_when_known()
        self.alarms.health_changed(group)
        self.on_health(group)
        self.tell_listeners("health")
        if self.streams.has_listeners and (pool := self.groups.pools.get(group)):
            self.streams.tell_health(pool.snapshot())

    def say(self, level: str, message: str, **fields: Any) -> None:
        """A line of our own in the log."""
        line: dict[str, Any] = {"ts_ms": self.clock.now_ms(), "level": level, "scope": "tako", "message": message}
        for name in ("group", "pid", "run_id", "workflow"):
            if name in fields:
                line[name] = fields.pop(name)
        if fields:
            line["fields"] = fields
        self.hub.publish(line)  # type: ignore[arg-type]

    # --- connections ------------------------------------------------------------------------------------------------

    def _authenticate(self, message: Message, peer: Peer) -> Principal:
        app = message.get("app")
        if app != self.config.name:
            raise Unauthorized(f"unknown app: {_short(app)}")
        if message.get("protocol", PROTOCOL_VERSION) != PROTOCOL_VERSION:
            raise VersionMismatch(
                f"this engine speaks protocol {PROTOCOL_VERSION}, the caller (tako {_short(message.get('sdk'))}) "
                f"speaks {_short(message['protocol'])}",
                cure="Install the same version of tako-py for the app and for the engine, and start both again.",
            )
        if message.get("token"):
            return self.tokens.principal(message["token"])
        # A v0 worker has no token: which one it is, its process group tells.
        worker_id = self.groups.worker_of_process(peer.pid)
        return Principal(app, Role.WORKER if worker_id else Role.CLIENT, worker_id)

    def _on_close(self, connection: Connection) -> None:
        self.streams.closed(connection)
        self.groups.connection_closed(connection)


def _short(value: object) -> str:
    """Something that a caller sent, as it may stand in an answer."""
    return str(value)[:100]
