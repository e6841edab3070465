"""The instances of the web app: new code is booted beside the old and takes over, and what dies is replaced.

One task, `_run`, decides everything, one step after the other, so that no two changes cross: boot what is missing,
switch, sleep when idle, wait. `replace`, exits and the clock only wake it.

The switch is strict: the old instances stop accepting, then the new ones begin; in between, requests wait in the
listener's queue. So code of two versions never answers at the same time, and none is refused. When a boot fails and
nothing else serves, the daemon answers itself (`stopgap.py`), and tries again after 0.5 s, 1 s, … 60 s; in development
only when somebody has asked meanwhile, or when the code has changed.
"""

from __future__ import annotations

import asyncio
import traceback
from collections import deque
from pathlib import Path
from typing import Any

from tako.clock import Clock
from tako.protocol import control
from tako.supervisor import instance as instances
from tako.supervisor.instance import BootFailed, Failure, Instance
from tako.supervisor.listener import Listener
from tako.supervisor.stopgap import Stopgap
from tako.supervisor.web_house import Ready, WebConfig, WebHouse

__all__ = ["InstancePool", "Ready", "WebConfig", "WebHouse"]

FIRST_DELAY_S = 0.5
MAX_DELAY_S = 60.0
DEATHS = 5
DEATHS_WITHIN_S = 60.0
HEALTH_TIMEOUT_S = 5.0


_Line = tuple[str, int, str]


class InstancePool:
    """Keeps the web app served. Make and use it on the event loop; `start` and `stop` twice do no harm."""

    def __init__(
        self, app: str, config: WebConfig, *, listener: Listener, sockets: Path, house: WebHouse, clock: Clock
    ) -> None:
        self.config = config
        self._listener = listener
        self._sockets = sockets
        self._house = house
        self._clock = clock
        self._stopgap = Stopgap(app, listener, development=config.development, on_request=self._on_asked)
        self._news = asyncio.Event()
        self._settled = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._leaving: set[asyncio.Task[None]] = set()
        self._watches: set[asyncio.Task[None]] = set()
        self._serving: list[Instance] = []
        self._booting: list[Instance] = []
        self._count = 0
        self._generation = 1
        self._reason = "start"
        self._failure: Failure | None = None
        self._failures = 0  # in a row
        self._retry_at = 0.0
        self._was_asked = False
        self._deaths: deque[float] = deque(maxlen=DEATHS)
        self._is_asleep = False
        self._is_stopping = False

    # --- what a host asks -------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin: boot the first instances."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="web-instances")

    def replace(self, reason: str, config: WebConfig | None = None) -> None:
        """The code or the settings have changed: boot new instances, and switch to them when they are ready.

        A boot that is under way is of no use any more and is killed.
        """
        self.config = config or self.config
        self._generation += 1
        self._reason = reason
        self._failures = 0
        self._retry_at = 0.0
        self._deaths.clear()
        if self.config.development:
            self._is_asleep = False  # asleep or not: a mistake is told when it is saved
        self._stopgap.stop()  # what comes now is for the new code to answer
        self._settled.clear()
        self._news.set()

    async def settled(self) -> Failure | None:
        """Wait until the present code serves (None), or cannot (why)."""
        await self._settled.wait()
        return self._failure

    async def stop(self, *, timeout_s: float | None = None) -> None:
        """Drain all instances, within `timeout_s` or what is configured. Connections go on waiting in the queue."""
        self._is_stopping = True
        self._news.set()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)
        self._stopgap.close()
        for old in self._serving:
            self._let_go(old, timeout_s)
        self._serving = []
        if timeout_s is not None and self._leaving:
            await asyncio.wait(self._leaving, timeout=timeout_s + 1.0)
            for task in self._leaving:
                task.cancel()
        await asyncio.gather(*self._leaving, *self._watches, return_exceptions=True)
        self._settled.set()

    def kill(self) -> None:
        """SIGKILL everything, at once: the user presses Ctrl-C again."""
        for each in (*self._serving, *self._booting):
            each.kill()
        for task in self._leaving:
            task.cancel()

    def booting_pids(self) -> tuple[int, ...]:
        """The processes that are not ready yet."""
        return tuple(each.pid for each in self._booting if each.pid)

    def snapshot(self) -> dict[str, Any]:
        """What `tako status` shows of the web app."""
        state = "serving" if self._serving else "asleep" if self._is_asleep else "starting"
        if self._failure and not self._serving:
            state = "failed"
        return {
            "state": state,
            "instances": [
                {"id": each.id, "pid": each.pid, "inflight": each.inflight, "done": each.done, "boot_ms": each.boot_ms}
                for each in self._serving
            ],
            "reason": self._failure.reason if self._failure else None,
            "failures": self._failures,
        }

    # --- the one task -----------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            if self.config.development:
                await instances.drain_orphans(self._sockets)
            while not self._is_stopping:
                self._news.clear()
                await self._step()
        except Exception:
            # The top of the pool: a mistake of ours must not leave clients in a queue that nobody serves, unanswered.
            words = "the web app is no longer supervised, by a mistake of Tako's"
            self._house.log("error", words, traceback=traceback.format_exc())
            self._failure = Failure(f"{words}; its traceback stands in the log")
            if not self._serving:
                await self._answer()
            self._tell()

    async def _step(self) -> None:
        """One decision, and what follows from it; returns when there may be another one."""
        missing = self._missing()
        if self._is_asleep:
            await self._sleep()
        elif not missing:
            await self._watch()
        elif (wait_s := self._delay_s()) > 0 or self._waits_to_be_asked():
            await self._wait(wait_s if wait_s > 0 else None)
        else:
            await self._boot(missing)

    def _missing(self) -> int:
        present = [each for each in self._serving if each.generation == self._generation]
        return self.config.instances - len(present)

    def _delay_s(self) -> float:
        return self._retry_at - self._clock.monotonic()

    def _waits_to_be_asked(self) -> bool:
        """In development a start that failed is tried again only when somebody has asked for the app since."""
        return self.config.development and self._failure is not None and self._failures > 0 and not self._was_asked

    async def _wait(self, timeout_s: float | None) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                await self._news.wait()
        except TimeoutError:
            pass

    # --- boot and switch --------------------------------------------------------------------------------------------

    async def _boot(self, count: int) -> None:
        generation, reason = self._generation, self._reason
        # What a start prints that is only tried again has been read already, unless it turns out to be something else.
        kept: list[_Line] | None = [] if self._failures else None
        new = self._booting = [self._new_instance(generation, kept) for _ in range(count)]
        self._was_asked = False
        boots = asyncio.gather(*(self._boot_one(each) for each in new), return_exceptions=True)
        try:
            await self._until_done_or_outdated(boots, generation)
        finally:
            self._booting = []
        if not boots.done():
            boots.cancel()
            await asyncio.gather(boots, return_exceptions=True)
            await asyncio.gather(*(each.kill_and_wait() for each in new))
            return
        failed = next((result for result in boots.result() if result is not None), None)
        is_news = not isinstance(failed, BootFailed) or not failed.failure.is_like(self._failure)
        for line in (kept or ()) if is_news else ():
            self._house.output(*line)
        if kept is not None:
            kept.clear()
        if failed is None:
            await self._switch(new, reason)
            return
        await asyncio.gather(*(each.kill_and_wait() for each in new))
        if not isinstance(failed, BootFailed):
            raise failed
        await self._on_failure(failed.failure)

    def _new_instance(self, generation: int, kept: list[_Line] | None) -> Instance:
        self._count += 1
        instance_id = f"web-{self._count}"

        def on_line(pid: int, line: str) -> None:
            if kept is not None and any(each.id == instance_id for each in self._booting):
                kept.append((instance_id, pid, line))
            else:
                self._house.output(instance_id, pid, line)

        return Instance(
            instance_id,
            generation=generation,
            clock=self._clock,
            on_line=on_line,
            on_change=self._news.set,
            redact=self._house.redact,
        )

    async def _boot_one(self, new: Instance) -> None:
        web = {
            control.PRIVATE_SOCKET: str(self._sockets / f"{new.id}.p"),
            control.CONTROL_SOCKET: str(self._sockets / f"{new.id}.c"),
        }
        await new.boot(
            lambda: self._house.spawn_request(new.id, web),
            self._listener.fileno(),
            timeout_s=self.config.start_timeout_s,
        )
        if self.config.health is not None:
            path = Path(web[control.PRIVATE_SOCKET])
            words = await new.is_healthy(self.config.health, path, timeout_s=HEALTH_TIMEOUT_S)
            if words is not None:
                raise BootFailed(Failure(f"{instances.SUBJECT} {words} (health in tako.toml)"))

    async def _until_done_or_outdated(self, boots: asyncio.Future[Any], generation: int) -> None:
        while not boots.done() and generation == self._generation and not self._is_stopping:
            news = asyncio.ensure_future(self._news.wait())
            try:
                await asyncio.wait({boots, news}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                news.cancel()
            self._news.clear()

    async def _switch(self, new: list[Instance], reason: str) -> None:
        """Old ones pause, then new ones serve. One that ends in that moment: the old ones go on."""
        stale = [each for each in self._serving if each.generation != self._generation]
        self._stopgap.stop()
        await asyncio.gather(*(each.pause() for each in stale))
        if not all(await asyncio.gather(*(each.serve() for each in new))):
            await asyncio.gather(*(each.serve() for each in stale))
            await asyncio.gather(*(each.kill_and_wait() for each in new))
            await self._on_failure(Failure(f"{instances.SUBJECT} ended as it began to serve"))
            return
        self._serving = [each for each in self._serving if each not in stale] + new
        for old in stale:
            self._let_go(old, None)
        for each in new:
            self._keep(self._watches, self._until_exit(each))
        before, self._failure = self._failure, None
        self._failures = 0
        boot_ms = max(each.boot_ms for each in new)
        self._house.ready(Ready(reason, boot_ms, tuple(each.pid or 0 for each in new), before))
        self._reason = "exit"  # whatever is booted next without a word from outside replaces one that ended
        self._tell()

    # --- failures ---------------------------------------------------------------------------------------------------

    async def _on_failure(self, failure: Failure) -> None:
        self._failures += 1
        self._retry_at = self._clock.monotonic() + min(MAX_DELAY_S, FIRST_DELAY_S * 2 ** (self._failures - 1))
        await self._fail(failure)

    async def _fail(self, failure: Failure) -> None:
        is_repeat = failure.is_like(self._failure)
        self._failure = failure
        stale = [each for each in self._serving if each.generation != self._generation]
        if stale and self.config.development:
            # The page must show the mistake that was just saved, and not go on with what was there before.
            await asyncio.gather(*(each.pause() for each in stale))
            self._serving = [each for each in self._serving if each not in stale]
            for old in stale:
                self._let_go(old, None)
        elif stale:
            # On a server the release that works goes on; that the other one does not is for the deploy to tell.
            self._generation = stale[0].generation
        self._house.failed(failure, is_repeat=is_repeat)
        if not self._serving:
            await self._answer()
        self._tell()

    async def _answer(self) -> None:
        """Let nobody hang: while no instance serves, clients get the reason."""
        assert self._failure is not None
        self._stopgap.retry_after_s = max(1, round(self._delay_s()))
        await self._stopgap.start(self._failure)

    def _on_asked(self) -> None:
        self._was_asked = True
        self._news.set()

    async def _until_exit(self, served: Instance) -> None:
        """Wait for the end of an instance that serves, and have it replaced if nobody asked for it."""
        exit_, lines = await served.exit()
        if served.is_draining or served not in self._serving:
            return
        self._serving.remove(served)
        now = self._clock.monotonic()
        self._deaths.append(now)
        recent = [at for at in self._deaths if now - at <= DEATHS_WITHIN_S]
        failure = instances.failure_of(exit_, lines, root=served.root, before_ready=False)
        if len(recent) > 1:
            self._retry_at = now + min(MAX_DELAY_S, FIRST_DELAY_S * 2 ** (len(recent) - 2))
        if len(recent) >= DEATHS:
            await self._crash_loop(failure)
        else:
            self._house.failed(failure, is_repeat=False)
        self._house.changed()
        self._news.set()

    async def _crash_loop(self, last: Failure) -> None:
        self._retry_at = self._clock.monotonic() + MAX_DELAY_S
        words = f"{instances.SUBJECT} died {DEATHS} times in {DEATHS_WITHIN_S:g}s, last: {last.reason}"
        looping = Failure(words, last.short, last.traceback, last.lines, last.exit_code, last.signal, DEATHS)
        is_repeat = self._failure is not None
        self._failure = looping
        self._house.failed(looping, is_repeat=is_repeat)
        if not self._serving:
            await self._answer()

    # --- idle -------------------------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        """All is well: wait for news, or until it is time to sleep."""
        if self.config.idle_timeout_s is None:
            await self._wait(None)
            return
        idle_at = max(each.active_at for each in self._serving) + self.config.idle_timeout_s
        is_busy = any(each.inflight for each in self._serving)
        left_s = idle_at - self._clock.monotonic()
        if is_busy or left_s > 0:
            await self._wait(None if is_busy else left_s)
            return
        # Paused first: as long as they accept, a connection in the queue does not mean that somebody is wanted.
        await asyncio.gather(*(each.pause() for each in self._serving))
        for old in self._serving:
            self._let_go(old, None)
        self._serving = []
        self._is_asleep = True
        self._house.log("info", "web app scaled to zero", idle_timeout_s=self.config.idle_timeout_s)
        self._house.changed()

    async def _sleep(self) -> None:
        """Wait until a connection is in the queue, or for other news."""
        wanted = asyncio.ensure_future(self._listener.when_wanted())
        news = asyncio.ensure_future(self._news.wait())
        try:
            await asyncio.wait({wanted, news}, return_when=asyncio.FIRST_COMPLETED)
            if wanted.done():
                self._is_asleep = False
                self._reason = "request"
        finally:
            wanted.cancel()
            news.cancel()
            await asyncio.gather(wanted, news, return_exceptions=True)

    # --- leaving ----------------------------------------------------------------------------------------------------

    def _let_go(self, old: Instance, timeout_s: float | None) -> None:
        """Drain it, beside everything else."""
        old.is_draining = True
        self._keep(self._leaving, self._drain(old, self.config.drain_timeout_s if timeout_s is None else timeout_s))

    async def _drain(self, old: Instance, timeout_s: float) -> None:
        try:
            await old.drain(timeout_s)
        except asyncio.CancelledError:
            await old.kill_and_wait()
            raise

    def _keep(self, tasks: set[asyncio.Task[None]], work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    def _tell(self) -> None:
        self._settled.set()
        self._house.changed()
