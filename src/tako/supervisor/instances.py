"""The instances of the web app: new code is booted beside the old and takes over, and what dies is replaced.

One task, `_run`, decides everything, one step after the other, so that no two changes cross: boot what is missing,
switch, sleep when idle, wait. `replace`, exits and the clock only wake it.

The switch is strict: the old instances stop accepting, then the new ones begin; in between, requests wait in the
listener's queue. So code of two versions never answers at the same time, and none is refused. When a boot fails and
nothing else serves, the daemon answers itself (`stopgap.py`), and tries again after 0.5 s, 1 s, … 60 s; in development
only when somebody has asked meanwhile, or when the code has changed.

On a server it is a deploy that boots, switches and switches back (`roll.py`); it acts in turn with this task. Instances
that an earlier daemon had started are adopted, and are asked every second whether they are well.
"""

from __future__ import annotations

import asyncio
import dataclasses
import traceback
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from tako.clock import Clock
from tako.protocol import control
from tako.supervisor import instance as instances
from tako.supervisor.instance import BootFailed, Failure, Instance
from tako.supervisor.listener import Listener
from tako.supervisor.stopgap import Stopgap
from tako.supervisor.web_house import InstanceRecords, Make, NoRecords, Ready, WebConfig, WebHouse

__all__ = ["InstancePool", "InstanceRecords", "Ready", "WebConfig", "WebHouse"]

FIRST_DELAY_S = 0.5
MAX_DELAY_S = 60.0
DEATHS = 5
DEATHS_WITHIN_S = 60.0
HEALTH_TIMEOUT_S = 5.0
HEALTH_EVERY_S = 1.0
LOOP_TIMEOUT_S = 3.0  # for a word that costs the instance nothing
SICK_AFTER = 3


_Line = tuple[str, int, str]
T = TypeVar("T")


def _unheard() -> asyncio.Future[Any]:
    """For an order whose outcome nobody waits for."""
    return asyncio.get_running_loop().create_future()


class InstancePool:
    """Keeps the web app served. Make and use it on the event loop; `start` and `stop` twice do no harm."""

    def __init__(
        self,
        app: str,
        config: WebConfig,
        *,
        listener: Listener,
        sockets: Path,
        house: WebHouse,
        clock: Clock,
        records: InstanceRecords | None = None,
    ) -> None:
        self.config = config
        self.make: Make = house.spawn_request
        self.records = records or NoRecords()
        self.release = self.roll = ""  # of what is booted next
        self.on_trial: Callable[[Failure], None] | None = None  # new ones serve, and are not replaced when they end
        self._listener = listener
        self._sockets = sockets
        self._house = house
        self._clock = clock
        self._stopgap = Stopgap(app, listener, development=config.development, on_request=self._on_asked)
        self._news = asyncio.Event()
        self._settled = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._orders: deque[tuple[Callable[[], Awaitable[Any]], asyncio.Future[Any]]] = deque()
        self._examining: asyncio.Task[None] | None = None
        self._sick: dict[str, int] = {}  # how often in a row an instance did not answer, by id
        self._leaving: set[asyncio.Task[None]] = set()
        self._watches: set[asyncio.Task[None]] = set()
        self._serving: list[Instance] = []
        self._booting: list[Instance] = []
        self._count = 0
        self._generation = self._generations = 1
        self._is_detaching = False
        self._reason = "start"
        self._failure: Failure | None = None
        self._failures = 0  # in a row
        self._retry_at = 0.0
        self._was_asked = False
        self._deaths: deque[float] = deque(maxlen=DEATHS)
        self.wakes = self.deaths = 0  # of which metrics tell
        self._done_before = 0  # requests of instances that have ended
        self._is_asleep = False
        self._is_stopping = False

    # --- what a host asks -------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin: boot the first instances."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="web-instances")
            if not self.config.development:
                self._examining = asyncio.get_running_loop().create_task(self._examine())

    def replace(self, reason: str, config: WebConfig | None = None) -> None:
        """The code or the settings have changed: boot new instances, and switch to them when they are ready.

        A boot that is under way is of no use any more and is killed.
        """
        self.config = config or self.config
        self._generation = self.next_generation()
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
        await self._halt()
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

    async def detach(self) -> None:
        """Let go of everything; instances live on and serve, for the next daemon to adopt."""
        self._is_detaching = True
        await self._halt()
        self._stopgap.close()
        for task in (*self._leaving, *self._watches):
            task.cancel()
        await asyncio.gather(*self._leaving, *self._watches, return_exceptions=True)
        for each in self._serving:
            each.detach()
        self._serving = []
        self._settled.set()

    async def _halt(self) -> None:
        self._is_stopping = True
        self._news.set()
        if self._examining is not None:
            self._examining.cancel()
        await asyncio.gather(*filter(None, (self._task, self._examining)), return_exceptions=True)
        for _, answer in self._orders:
            answer.cancel()

    async def drained(self) -> None:
        """Return when all that were let go have ended."""
        while self._leaving:
            await asyncio.wait(self._leaving)

    def wake(self) -> None:
        """Something has changed with an instance: look again."""
        self._news.set()

    def scale(self, instances: int) -> None:
        """Keep so many; those above are drained."""
        self.config = dataclasses.replace(self.config, instances=instances)
        self._news.set()

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
                {
                    "id": each.id,
                    "pid": each.pid,
                    "release": each.release,
                    "inflight": each.inflight,
                    "done": each.done,
                    "boot_ms": each.boot_ms,
                }
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
        while self._orders:
            await self._obey(*self._orders.popleft())
        if self.on_trial is not None:
            await self._wait(None)
            return
        missing = self._missing()
        if missing < 0:
            self._shed(-missing)
            missing = 0
        if self._is_asleep:
            await self._sleep()
        elif not missing:
            await self._watch()
        elif (wait_s := self._delay_s()) > 0 or self._waits_to_be_asked():
            await self._wait(wait_s if wait_s > 0 else None)
        else:
            await self._boot(missing)

    async def _obey(self, act: Callable[[], Awaitable[Any]], answer: asyncio.Future[Any]) -> None:
        try:
            found = await act()
        except Exception as error:
            if not answer.done():
                answer.set_exception(error)
            return
        if not answer.done():
            answer.set_result(found)

    def _shed(self, count: int) -> None:
        """More serve than should, by a lower `scale`: the idlest go."""
        idlest = sorted(self._serving, key=lambda each: each.inflight)[:count]
        self._serving = [each for each in self._serving if each not in idlest]
        for each in idlest:
            self.let_go(each)

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
        return self.instance(self.records.new_id() or f"web-{self._count}", generation, kept)

    def instance(self, instance_id: str, generation: int, kept: list[_Line] | None = None) -> Instance:
        """One that is still to be booted or adopted. What it prints goes to `kept` as long as it boots."""

        def on_line(pid: int, line: str) -> None:
            if kept is not None and any(each.id == instance_id for each in self._booting):
                kept.append((instance_id, pid, line))
            else:
                self._house.output(instance_id, pid, line)

        made = Instance(
            instance_id,
            generation=generation,
            clock=self._clock,
            on_line=on_line,
            on_change=self._news.set,
            redact=self._house.redact,
        )
        made.release, made.roll = self.release, self.roll
        return made

    async def _boot_one(self, new: Instance) -> None:
        await self.start_one(new, self.make, self.config)
        await self.check_one(new, self.config)

    async def start_one(self, new: Instance, make: Make, config: WebConfig) -> None:
        """Start it and wait until it is ready. Raises BootFailed."""
        web = {
            control.PRIVATE_SOCKET: str(self._sockets / f"{new.id}.p"),
            control.CONTROL_SOCKET: str(self._sockets / f"{new.id}.c"),
        }
        self.records.intend(new)
        try:
            await new.boot(lambda: make(new.id, web), self._listener.fileno(), timeout_s=config.start_timeout_s)
        except BaseException:
            self.records.ended(new)
            raise
        self.records.started(new)

    async def check_one(self, new: Instance, config: WebConfig) -> None:
        """Ask it for the health path, if there is one. Raises BootFailed."""
        if config.health is None:
            return
        words = await new.is_healthy(
            config.health, new.private_socket, host=config.health_host, timeout_s=HEALTH_TIMEOUT_S
        )
        if words is not None:
            raise BootFailed(Failure(f"{instances.SUBJECT} {words} (health in tako.toml)"))

    async def _until_done_or_outdated(self, boots: asyncio.Future[Any], generation: int) -> None:
        while not (boots.done() or self._is_stopping or self._orders) and generation == self._generation:
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
            self.watch_exit(each)
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
        self.records.ended(served)
        self._done_before += served.done
        if served.is_draining or served not in self._serving:
            return
        self.deaths += 1
        self._serving.remove(served)
        failure = instances.failure_of(exit_, lines, root=served.root, before_ready=False)
        if self.on_trial is not None:
            self.on_trial(failure)
            return
        now = self._clock.monotonic()
        self._deaths.append(now)
        recent = [at for at in self._deaths if now - at <= DEATHS_WITHIN_S]
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

    # --- health -----------------------------------------------------------------------------------------------------

    async def _examine(self) -> None:
        """Ask every second; one that does not answer three times is replaced first, and then killed."""
        while True:
            await asyncio.sleep(HEALTH_EVERY_S)
            serving = list(self._serving)
            words = await asyncio.gather(*(self._how_is(each) for each in serving))
            for each, wrong in zip(serving, words, strict=True):
                self._sick[each.id] = self._sick.get(each.id, 0) + 1 if wrong else 0
                if wrong and self._sick[each.id] == SICK_AFTER and each in self._serving:
                    self._orders.append((partial(self._replace_sick, each, wrong), _unheard()))
                    self._news.set()
            self._sick = {each.id: self._sick[each.id] for each in serving if each in self._serving}

    async def _how_is(self, served: Instance) -> str | None:
        if not served.is_serving or not served.is_alive:
            return None
        if not await served.answers(timeout_s=LOOP_TIMEOUT_S):
            return f"did not answer within {LOOP_TIMEOUT_S:g}s"
        if self.config.health is None:
            return None
        path, host = self.config.health, self.config.health_host
        return await served.is_healthy(path, served.private_socket, host=host, timeout_s=HEALTH_TIMEOUT_S)

    async def _replace_sick(self, sick: Instance, words: str) -> None:
        if sick not in self._serving or self._is_stopping:
            return
        failure = Failure(f"{instances.SUBJECT} {words}, {SICK_AFTER} times")
        if self.on_trial is not None:
            self.on_trial(failure)
            return
        self._house.failed(failure, is_repeat=False)
        new = self._new_instance(self._generation, None)
        try:
            await self._boot_one(new)
        except BootFailed as error:
            await new.kill_and_wait()
            self._house.failed(error.failure, is_repeat=error.failure.is_like(failure))
            return  # better a sick one than none; it is looked at again
        if await new.serve():
            self._serving.append(new)
            self.watch_exit(new)
        self._serving.remove(sick)
        await sick.pause()
        await sick.kill_and_wait()
        self.records.ended(sick)
        self._house.changed()

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
                self.wakes += 1
        finally:
            wanted.cancel()
            news.cancel()
            await asyncio.gather(wanted, news, return_exceptions=True)

    # --- leaving ----------------------------------------------------------------------------------------------------

    def let_go(self, old: Instance) -> None:
        """Have it finish what is in flight, and end."""
        self._let_go(old, None)

    def watch_exit(self, served: Instance) -> None:
        """Hear of its end, and replace it if nobody asked for that."""
        self._keep(self._watches, self._until_exit(served))

    def _let_go(self, old: Instance, timeout_s: float | None) -> None:
        """Drain it, beside everything else."""
        old.is_draining = True
        self._keep(self._leaving, self._drain(old, self.config.drain_timeout_s if timeout_s is None else timeout_s))

    async def _drain(self, old: Instance, timeout_s: float) -> None:
        self.records.leaving(old)
        try:
            await old.drain(timeout_s)
        except asyncio.CancelledError:
            if not self._is_detaching:
                await old.kill_and_wait()
            raise
        self.records.ended(old)

    def _keep(self, tasks: set[asyncio.Task[None]], work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    def _tell(self) -> None:
        self._settled.set()
        self._house.changed()

    # --- what a roll does, in turn with the rest --------------------------------------------------------------------

    @property
    def serving(self) -> list[Instance]:
        """Those that serve."""
        return list(self._serving)

    async def in_turn(self, act: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Do something between two decisions of the pool's own; what it raises is raised here."""
        if self._task is None or self._task.done():
            return await act()
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._orders.append((act, answer))
        self._news.set()
        return await answer

    def take_over(
        self, serving: Iterable[Instance], *, generation: int, release: str, roll: str, config: WebConfig, make: Make
    ) -> None:
        """Let these be the ones that serve, and their release the one that is kept running. For `in_turn`."""
        self._serving = list(serving)
        self._generation, self.release, self.roll = generation, release, roll
        self.config, self.make = config, make
        self._failure, self._failures, self._retry_at = None, 0, 0.0
        self._deaths.clear()
        self._sick.clear()
        self._is_asleep = False
        self._reason = "exit"
        if self._serving:
            self._stopgap.stop()
        self._tell()

    def next_generation(self) -> int:
        """The number of instances of another release."""
        self._generations += 1
        return self._generations

    @property
    def inflight(self) -> int:
        """How many requests are being answered."""
        return sum(each.inflight for each in self._serving)

    @property
    def requests(self) -> int:
        """How many requests have been answered."""
        return self._done_before + sum(each.done for each in self._serving)

    @property
    def generation(self) -> int:
        """Of those that are kept running."""
        return self._generation

    def answer_nobody(self) -> None:
        """Leave what comes in the queue: somebody is about to serve."""
        self._stopgap.stop()
