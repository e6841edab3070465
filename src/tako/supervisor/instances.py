"""The instances of the web app: new code is booted beside the old and takes over, and what dies is replaced.

One task, `_run`, decides everything, one step after the other, so that no two changes cross: boot what is missing,
switch, sleep when idle, wait. `replace`, exits and the clock only wake it.

The switch is strict: the old instances stop accepting, then the new ones begin; in between, requests wait in the
listener's queue. So code of two versions never answers at the same time, and none is refused. When a boot fails and
nothing else serves, the daemon answers itself (`stopgap.py`), and tries again later and later (`patience.py`); in
development only when somebody has asked meanwhile, or when the code has changed.

On a server it is a deploy that boots, switches and switches back (`roll.py`); it acts in turn with this task. Instances
that an earlier daemon had started are adopted, and are asked every second whether they are well (`examiner.py`).
"""

from __future__ import annotations

import asyncio
import dataclasses
import traceback
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from tako.clock import Clock
from tako.supervisor import examiner, patience
from tako.supervisor import instance as instances
from tako.supervisor.instance import BootFailed, Failure, Instance
from tako.supervisor.leaving import Leaving
from tako.supervisor.listener import Listener
from tako.supervisor.orders import Orders
from tako.supervisor.patience import Patience
from tako.supervisor.stopgap import Stopgap
from tako.supervisor.web_boots import Boots, Line
from tako.supervisor.web_house import InstanceRecords, Make, NoRecords, Ready, WebConfig, WebHouse

__all__ = ["InstancePool", "InstanceRecords", "Ready", "WebConfig", "WebHouse"]

T = TypeVar("T")


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
        self.boots = Boots(
            listener=listener, sockets=sockets, house=house, clock=clock, records=self.records, on_change=self.wake
        )
        self._house = house
        self._clock = clock
        self._stopgap = Stopgap(app, listener, development=config.development, on_request=self._on_asked)
        self._news = asyncio.Event()
        self._settled = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._orders = Orders()
        self._examining: asyncio.Task[None] | None = None
        self._examiner = examiner.Examiner(
            serving=lambda: self.serving, config=lambda: self.config, on_sick=self._on_sick
        )
        self._leaving = Leaving(self.records)
        self._watches: set[asyncio.Task[None]] = set()
        self._serving: list[Instance] = []
        self._generation = self._generations = 1
        self._reason = "start"
        self._failure: Failure | None = None
        self._patience = Patience()
        self._was_asked = False
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
                self._examining = asyncio.get_running_loop().create_task(self._examiner.run())

    def replace(self, reason: str, config: WebConfig | None = None) -> None:
        """The code or the settings have changed: boot new instances, and switch to them when they are ready.

        A boot that is under way is of no use any more and is killed.
        """
        self.config = config or self.config
        self._generation = self.next_generation()
        self._reason = reason
        self._patience.begin_anew()
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
        await (self._leaving.gone() if timeout_s is None else self._leaving.gone_within(timeout_s))
        await asyncio.gather(*self._watches, return_exceptions=True)
        self._settled.set()

    async def detach(self) -> None:
        """Let go of everything; instances live on and serve, for the next daemon to adopt."""
        await self._halt()
        self._stopgap.close()
        for task in self._watches:
            task.cancel()
        await asyncio.gather(self._leaving.detach(), *self._watches, return_exceptions=True)
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
        self._orders.cancel()

    async def drained(self) -> None:
        """Return when all that were let go have ended."""
        await self._leaving.gone()

    def wake(self) -> None:
        """Something has changed with an instance: look again."""
        self._news.set()

    def scale(self, instances: int) -> None:
        """Keep so many; those above are drained."""
        self.config = dataclasses.replace(self.config, instances=instances)
        self._news.set()

    def kill(self) -> None:
        """SIGKILL everything, at once: the user presses Ctrl-C again."""
        for each in (*self._serving, *self.boots.under_way):
            each.kill()
        self._leaving.kill()

    def booting_pids(self) -> tuple[int, ...]:
        """The processes that are not ready yet."""
        return tuple(each.pid for each in self.boots.under_way if each.pid)

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
            "failures": self._patience.failures,
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
        await self._orders.obey()
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
        return self._patience.wait_s(self._clock.monotonic())

    def _waits_to_be_asked(self) -> bool:
        """In development a start that failed is tried again only when somebody has asked for the app since."""
        return (
            self.config.development
            and self._failure is not None
            and self._patience.failures > 0
            and not self._was_asked
        )

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
        kept: list[Line] | None = [] if self._patience.failures else None
        new = self.boots.under_way = [self._new_instance(generation, kept) for _ in range(count)]
        self._was_asked = False
        boots = asyncio.gather(*(self._boot_one(each) for each in new), return_exceptions=True)
        try:
            await self._until_done_or_outdated(boots, generation)
        finally:
            self.boots.under_way = []
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

    def _new_instance(self, generation: int, kept: list[Line] | None) -> Instance:
        made = self.boots.instance(self.boots.new_id(), generation, kept)
        made.release, made.roll = self.release, self.roll
        return made

    async def _boot_one(self, new: Instance) -> None:
        await self.boots.start(new, self.make, self.config)
        await self.boots.check(new, self.config)

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
        self._patience.started()
        boot_ms = max(each.boot_ms for each in new)
        self._house.ready(Ready(reason, boot_ms, tuple(each.pid or 0 for each in new), before))
        self._reason = "exit"  # whatever is booted next without a word from outside replaces one that ended
        self._tell()

    # --- failures ---------------------------------------------------------------------------------------------------

    async def _on_failure(self, failure: Failure) -> None:
        self._patience.start_failed(self._clock.monotonic())
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
        if self._patience.died(self._clock.monotonic()):
            await self._crash_loop(failure)
        else:
            self._house.failed(failure, is_repeat=False)
        self._house.changed()
        self._news.set()

    async def _crash_loop(self, last: Failure) -> None:
        deaths, within_s = patience.DEATHS, patience.DEATHS_WITHIN_S
        words = f"{instances.SUBJECT} died {deaths} times in {within_s:g}s, last: {last.reason}"
        looping = Failure(words, last.short, last.traceback, last.lines, last.exit_code, last.signal, deaths)
        is_repeat = self._failure is not None
        self._failure = looping
        self._house.failed(looping, is_repeat=is_repeat)
        if not self._serving:
            await self._answer()

    # --- health -----------------------------------------------------------------------------------------------------

    def _on_sick(self, sick: Instance, words: str) -> None:
        """It is replaced first, and then killed."""
        self._orders.give(partial(self._replace_sick, sick, words))
        self._news.set()

    async def _replace_sick(self, sick: Instance, words: str) -> None:
        if sick not in self._serving or self._is_stopping:
            return
        failure = Failure(f"{instances.SUBJECT} {words}, {examiner.SICK_AFTER} times")
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

    def _let_go(self, old: Instance, timeout_s: float | None) -> None:
        self._leaving.let_go(old, timeout_s=self.config.drain_timeout_s if timeout_s is None else timeout_s)

    def watch_exit(self, served: Instance) -> None:
        """Hear of its end, and replace it if nobody asked for that."""
        task = asyncio.get_running_loop().create_task(self._until_exit(served))
        self._watches.add(task)
        task.add_done_callback(self._watches.discard)

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
        answer = self._orders.give(act)
        self._news.set()
        return await answer

    def take_over(
        self, serving: Iterable[Instance], *, generation: int, release: str, roll: str, config: WebConfig, make: Make
    ) -> None:
        """Let these be the ones that serve, and their release the one that is kept running. For `in_turn`."""
        self._serving = list(serving)
        self._generation, self.release, self.roll = generation, release, roll
        self.config, self.make = config, make
        self._failure = None
        self._patience.begin_anew()
        self._examiner.begin_anew()
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
