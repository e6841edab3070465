"""A deploy, roll-back or roll as a machine of phases: each a row before it is begun, each with what undoes it.

Up to `switch` nothing is touched that serves: a failure kills what is new and removes what is half-way. `switch` is one
transaction in runs.db. After it, what fails in `watch` is undone by the reverse transaction, with the old instances
still there; from `drain` on the release has been accepted, and what goes wrong is logged.
"""

from __future__ import annotations

import asyncio
import errno
import json
import sqlite3
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from tako.errors import DeployRefused, StoreUnavailable, TakoError
from tako.host import activation
from tako.host.gate import Gate
from tako.host.launch import Launch
from tako.protocol.management import JobInfo, Outcome, Phase
from tako.protocol.messages import Registry as GroupRegistry
from tako.server import failpoints, launching, orphans, pruning, release_command, stage, watch
from tako.server.cutover import Cutover
from tako.server.events import JobEvents
from tako.server.job_words import BEGINS, CURES, DONES, FINISHED, detail_of, words_of
from tako.server.site import NOTHING
from tako.supervisor.instance import BootFailed
from tako.supervisor.roll import Roll

if TYPE_CHECKING:
    from tako.rpc.connection import Connection
    from tako.server.site import Site

HOLD_S = 600.0
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})

# What each kind of job goes through. `upload` is the client's part of it, before `commit`.
DEPLOY: tuple[Phase, ...] = (
    "upload", "stage", "build", "release", "gate", "boot", "health", "held", "switch", "watch", "drain", "workers",
    "prune",
)  # fmt: skip
ROLLBACK: tuple[Phase, ...] = ("boot", "health", "held", "switch", "watch", "drain", "workers", "prune")
ROLL: tuple[Phase, ...] = ("gate", "boot", "health", "switch", "watch", "drain", "workers")
COURSES: dict[str, tuple[Phase, ...]] = {"deploy": DEPLOY, "rollback": ROLLBACK, "secrets": ROLL, "restart": ROLL}
AFTER_SWITCH = frozenset({"watch", "drain", "workers", "prune"})


class Aborted(Exception):
    """Somebody has called it off, or nobody has let it go on in time."""


class Job:
    """One job of a site. `run` ends when it is finished, and raises nothing."""

    def __init__(self, site: Site, row: sqlite3.Row) -> None:
        self.site = site
        self.id: str = row["job"]
        self.kind: str = row["kind"]
        self.release: str = row["release"]
        self.previous: str | None = row["previous"]
        self.by: str = row["by"]
        self.message: str | None = row["message"]
        self.options: dict[str, Any] = json.loads(row["options"])
        self.started_ms: int = row["started_ms"]
        self.phase = cast(Phase, row["phase"])
        self.phase_ms: int = row["phase_ms"]
        self.outcome: Outcome | None = None
        self.error: str | None = None
        self.finished_ms: int | None = None
        daemon = site.daemon
        self._state = daemon.state
        self._now_ms = daemon.clock.now_ms
        self.events = JobEvents(daemon.state, self.id, now_ms=self._now_ms, redact=self._redact)
        self.done = asyncio.Event()
        self._is_held = bool(self.options.get("hold"))
        self._let_go = asyncio.Event()
        self.uploads_on: Connection | None = None  # the connection that sends the files
        self.sizes: dict[str, int] = {}  # of the files, by hash
        self.is_committed = False
        self._abort = asyncio.Event()
        self._cut_short = asyncio.Event()
        self._launch: Launch | None = None
        self.cutover = Cutover(self)
        self.told: Mapping[str, GroupRegistry] = {}
        self.roll: Roll | None = None
        self._phases: dict[Phase, Callable[[], Awaitable[None]]] = {
            "upload": self._upload, "stage": self._stage, "build": self._build, "release": self._release_command,
            "gate": self._gate, "boot": self._boot, "health": self._health, "held": self._held,
            "switch": self.cutover.switch, "watch": partial(watch.watch, self), "drain": self._drain,
            "workers": self._workers, "prune": self._prune,
        }  # fmt: skip

    def _redact(self, text: str) -> str:
        return self.site.hub.redact(text)

    # --- what others ask and say ------------------------------------------------------------------------------------

    def info(self) -> JobInfo:
        """The job, as it is shown."""
        return {
            "app": self.site.app, "env": self.site.env, "job": self.id, "kind": cast(Any, self.kind),
            "release": self.release, "previous": self.previous, "by": self.by, "message": self.message,
            "phase": self.phase, "started_ms": self.started_ms, "phase_ms": self.phase_ms,
            "finished_ms": self.finished_ms, "outcome": self.outcome, "error": self.error,
        }  # fmt: skip

    def hold(self, is_held: bool) -> None:
        """Whether to wait before the switch."""
        self._is_held = is_held

    def let_go(self) -> None:
        """Go on to the switch."""
        self._let_go.set()

    async def cut_short(self) -> None:
        """End it now, if all that is left of it is to wait for old instances and workers, who finish by themselves."""
        if self.phase in ("drain", "workers", "prune"):
            self._cut_short.set()
            await self.done.wait()

    @property
    def has_switched(self) -> bool:
        """Whether it is too late to call it off."""
        return self.cutover.is_live or self.phase in AFTER_SWITCH or self.phase == "switch"

    def abort(self) -> None:
        """Call it off. Raises DeployRefused: it is too late for that."""
        if self.has_switched:
            raise DeployRefused(
                f"{self.id} is in {self.phase}: it has switched already", cure="Go back with `tako rollback`."
            )
        self._abort.set()
        self._let_go.set()

    # --- the course -------------------------------------------------------------------------------------------------

    async def run(self, *, start: Phase | None = None) -> None:
        """Go through the phases, from `start` on, and finish."""
        course = COURSES[self.kind]
        for phase in course[course.index(start) if start is not None else 0 :]:
            if phase == "held" and not self._is_held:
                continue
            try:
                await self._go_through(phase)
            except asyncio.CancelledError:
                raise  # the daemon ends; the next one finds the row
            except Aborted:
                await self._call_off(phase)
                return
            except Exception as error:
                if phase in AFTER_SWITCH and phase != "watch":
                    self.events.tell(
                        "note", phase, f"{words_of(error)} (the release serves; this was not needed for it)"
                    )
                    self.site.say("error", f"{self.id}: {phase} failed: {words_of(error)}")
                    continue
                await self._fail(phase, error)
                return
        self.finish("live", None)

    async def _go_through(self, phase: Phase) -> None:
        if self._abort.is_set() and phase not in AFTER_SWITCH:
            raise Aborted
        self.phase, self.phase_ms = phase, self._now_ms()
        try:
            self._state.run("set_phase", job=self.id, phase=phase, now_ms=self.phase_ms)
        except StoreUnavailable:
            if phase not in AFTER_SWITCH:
                raise  # from there on the row tells enough: whoever reads it does no more than once again
        failpoints.reach(phase, "before")
        self.events.tell("begin", phase, BEGINS[phase])
        began = time.monotonic()
        await self._unless_aborted(phase, self._phases[phase]())
        self.events.tell("done", phase, DONES[phase], ms=round((time.monotonic() - began) * 1000))
        failpoints.reach(phase, "after")

    async def _unless_aborted(self, phase: Phase, work: Awaitable[None]) -> None:
        if phase in AFTER_SWITCH or phase == "switch":
            await work
            return
        task = asyncio.ensure_future(work)
        calling_off = asyncio.ensure_future(self._abort.wait())
        try:
            await asyncio.wait({task, calling_off}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            calling_off.cancel()
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        if task.cancelled():
            raise Aborted
        task.result()

    def finish(self, outcome: Outcome, error: str | None) -> None:
        """It is over: a row, an event, a line in the log."""
        self.outcome, self.error, self.finished_ms = outcome, error, self._now_ms()
        self.site.daemon.blobs.forget(self.id)
        self.site.say(
            "info" if outcome == "live" else "error",
            f"{self.kind} {self.release} by {self.by}: {outcome}" + (f": {error}" if error else ""),
        )
        self._state.at_last(self._finished)
        more: dict[str, Any] = {"error": error} if error else {}
        self.events.tell("finished", self.phase, FINISHED[outcome], outcome=outcome, **more)

    def _finished(self) -> None:
        """Only what is written down lets the next one begin."""
        assert self.outcome is not None
        with self._state.transaction():
            if self.outcome != "live":
                self._state.run("drop_proposed", app=self.site.app, env=self.site.env, job=self.id)
            self._state.run("finish_job", job=self.id, outcome=self.outcome, error=self.error, now_ms=self.finished_ms)
        if self.site.job is self:
            self.site.job = None
        self.done.set()

    async def _call_off(self, phase: Phase) -> None:
        await self._undo()
        self.finish("aborted", f"called off in {phase}")

    async def _fail(self, phase: Phase, error: Exception) -> None:
        if isinstance(error, OSError) and error.errno in FULL:
            error = DeployRefused(f"the disk is full: {error}", cure="Make room on it, and deploy again.")
        known = isinstance(error, TakoError | BootFailed)
        detail = detail_of(error)
        if not known:
            self.site.daemon.report(f"{self.id} failed in {phase} by a mistake of Tako's", error)
        self.events.tell(
            "failed", phase, words_of(error),
            ms=self._now_ms() - self.phase_ms,
            code=error.code if isinstance(error, TakoError) else "deploy_failed" if known else "internal",
            cure=error.cure if isinstance(error, TakoError) else CURES.get(phase, ""),
            **({"detail": detail} if detail else {}),
        )  # fmt: skip
        if phase == "watch":
            await self._roll_back()
            self.finish("rolled_back", words_of(error))
            return
        await self.cutover.pay_way_back()
        await self._undo()
        self.finish("failed", words_of(error))

    async def _undo(self) -> None:
        """Before the switch: kill what is new, remove what is half-way."""
        site = self.site
        if self.roll is not None:
            await self.roll.abort()
        if self.kind == "deploy" and not self._is_known():
            await asyncio.to_thread(stage.sweep, site.layout)
            self.drop_release()
        if site.current is None:
            await site.forget_first()

    def drop_release(self) -> None:
        """A release that was not accepted is not kept; its files are, for the next deploy."""
        site = self.site
        if self.kind == "deploy" and not self._is_known() and self.release not in (site.current, self.previous):
            stage.remove(site.layout.release(self.release))
            forget = partial(self._state.run, "delete_release", app=site.app, env=site.env, release=self.release)
            self._state.at_last(forget)

    def _is_known(self) -> bool:
        row = self.site.release_row(self.release)
        return row is not None and bool(row["complete"])

    # --- before the switch ------------------------------------------------------------------------------------------

    async def _upload(self) -> None:
        row = self.site.release_row(self.release)
        assert row is not None
        manifest = json.loads(row["manifest"])
        missing = [] if self._is_known() else self.site.daemon.blobs.missing(entry["sha256"] for entry in manifest)
        if missing:
            raise DeployRefused(
                f"{len(missing)} files of the release have not arrived", cure="Deploy again: only those are sent."
            )

    async def _stage(self) -> None:
        row = self.site.release_row(self.release)
        assert row is not None
        if self._is_known():
            return
        manifest = json.loads(row["manifest"])
        gid = self.site.user.gid if self.site.user is not None else None
        await asyncio.to_thread(stage.stage, self.site.layout, self.release, manifest, self.site.daemon.blobs, gid=gid)
        await asyncio.to_thread(stage.finish, self.site.layout, self.release)

    async def _build(self) -> None:
        site, environments = self.site, self.site.daemon.environments
        source = site.layout.source(self.release)
        name = environments.name_for(source)
        built = await environments.build(name, source, on_line=lambda line: self.events.output("build", line))
        if built:
            self.events.tell("note", "build", "a new environment was built")
        self._state.run("set_environment", app=site.app, env=site.env, release=self.release, environment=name)
        if not self._is_known():
            static = self.launch().config.web.static
            await asyncio.to_thread(stage.publish, site.layout, self.release, static)
            await environments.compile(name, source)

    async def _release_command(self) -> None:
        launch = self.launch()
        command = launch.config.release
        if command is None or not self.options.get("leader", True):
            return
        if self._is_known() and self.release == self.site.current:
            return
        self._state.run("set_marker", job=self.id, marker="started")
        host = await self.site.open_host(launch)
        await release_command.run(
            command, launch, name=f"{self.id}-release", token=host.tokens.issue(),
            on_line=lambda line: self.events.output("release", line), redact=self._redact,
        )  # fmt: skip
        self._state.run("set_marker", job=self.id, marker="ended")

    async def _gate(self) -> None:
        launch = self.launch()
        host = await self.site.open_host(launch)
        gate = Gate(host, launch, on_line=lambda group, line: self.events.output("gate", line))
        self.told = await gate.run()
        await orphans.check(self, host, self.told)
        for words in await orphans.misfits(host, self.told):
            self.events.tell("note", "gate", words)

    async def _boot(self) -> None:
        site, launch = self.site, self.launch()
        host = await site.open_host(launch)
        if self.kind == "rollback":
            self.told = await activation.told_by(host, release=self.release)
            await orphans.check(self, host, self.told)
        if launching.has_web(launch.config):
            config = site.web_config(launch)
        elif site.pool is not None:
            self.events.tell("note", "boot", "the release has no web app; the old one's ends with the switch")
            config = NOTHING
        else:
            return
        self.roll = Roll(site.open_pool(), release=self.release, roll=self.id, config=config, make=site.maker(launch))
        await self.roll.boot()

    async def _health(self) -> None:
        if self.roll is not None:
            await self.roll.check()

    async def _held(self) -> None:
        try:
            async with asyncio.timeout(HOLD_S):
                await self._let_go.wait()
        except TimeoutError:
            self.events.tell("note", "held", f"nobody let it go on within {HOLD_S / 60:g} minutes")
            raise Aborted from None

    def launch(self) -> Launch:
        """How the release's processes are started."""
        if self._launch is None:
            self._launch = self.site.launch(self.release, job=self.id)
            if self.site.host is None:  # nothing redacts yet
                self.site.hub.redact = _redactor(self._launch.secrets())
            else:
                self.site.hub.redact = _redactor({**_of(self.site), **_numbered(self._launch.secrets())})
        return self._launch

    # --- after it ---------------------------------------------------------------------------------------------------

    async def _roll_back(self) -> None:
        if self.roll is not None:
            await self.roll.revert(undo=self.cutover.take_back)
            if self.options["before"]["release"]:
                self.events.tell("note", "watch", f"{self.options['before']['release']} serves again")
        else:
            await self.cutover.take_back()
        await self.cutover.pay_way_back()
        if not self.options["before"]["release"]:
            await self.site.forget_first()

    async def _drain(self) -> None:
        if self.roll is not None:
            await self.roll.accept()
        if self.site.pool is not None:
            await self._unless_cut_short(self.site.pool.drained())

    async def _workers(self) -> None:
        if self.site.host is not None:
            await self._unless_cut_short(self.site.host.groups.old_ones_gone())

    async def _unless_cut_short(self, waiting: Awaitable[None]) -> None:
        task, cut = asyncio.ensure_future(waiting), asyncio.ensure_future(self._cut_short.wait())
        try:
            await asyncio.wait({task, cut}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            task.cancel()
            cut.cancel()
        if self._cut_short.is_set():
            self.events.tell("note", self.phase, "somebody else's turn: what is old finishes by itself")

    async def _prune(self) -> None:
        await pruning.prune(self.site)


def _redactor(values: Mapping[str, str]) -> Callable[[str], str]:
    from tako.logs.redact import redactor

    return redactor(dict(values))


def _of(site: Site) -> dict[str, str]:
    return site.secrets()


def _numbered(values: Mapping[str, str]) -> dict[str, str]:
    """Under other names, so that old and new values of one name are both taken out."""
    return {f"{name} (new)": value for name, value in values.items()}
