"""The one who tells: groups alerts, delivers them beside the engine's work, and shows what could not be delivered.

Deliveries block, so each runs in a thread of its own that nobody waits for at exit; without an alert there is no
thread, no timer and no task. Each channel delivers one notice after the other, so that a slow one holds up itself only.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tako.alerts.alert import Alert, Notice, Sender
from tako.alerts.channels import Channel, Undelivered, channels_of
from tako.alerts.grouping import Grouper
from tako.clock import Clock
from tako.config.model import Alerts

RETRY_DELAYS_S = (2.0, 10.0, 30.0)
# Notices that wait for one channel. A receiver that is gone for a day must not fill our memory.
MAX_WAITING = 100
LAST_PATIENCE_S = 5.0
TEST = Alert(
    kind="test",
    cause="test",
    what="this is a test of alerts; nothing is wrong",
    cure="It was sent by `tako alerts test`.",
)


@dataclass(frozen=True, slots=True)
class Failure:
    """What a channel could not deliver: why the last one failed, since when, and how many notices are lost."""

    channel: str
    why: str
    since_ms: int
    lost: int


@dataclass(slots=True)
class _Line:
    """One channel, what waits for it, and what it has lost."""

    channel: Channel
    waiting: deque[Notice] = field(default_factory=deque)
    task: asyncio.Task[None] | None = None
    failure: Failure | None = None


class Alerter:
    """`tell` it what happened. `log(level, message)` hears of what could not be delivered, once for each series.

    Use it on the event loop's thread. `start` is not needed; `stop` delivers what was gathered, for a few seconds.
    """

    def __init__(
        self,
        settings: Alerts,
        *,
        sender: Sender,
        root: Path,
        clock: Clock,
        log: Callable[[str, str], None],
        redact: Callable[[str], str] = lambda text: text,
        retry_delays_s: tuple[float, ...] = RETRY_DELAYS_S,
    ) -> None:
        self._sender = sender
        self._root = root
        self._clock = clock
        self._log = log
        self._redact = redact
        self._retry_delays_s = retry_delays_s
        self._settings = settings
        self._grouper = Grouper()
        self._timer: asyncio.TimerHandle | None = None
        self._is_stopping = asyncio.Event()
        self._lines = [_Line(channel) for channel in channels_of(settings, root=root)]

    @property
    def is_used(self) -> bool:
        """Whether anybody would be told: without a channel nothing need be gathered."""
        return bool(self._lines)

    def reconfigure(self, settings: Alerts) -> None:
        """Take changed settings; what waits for the channels of before is still delivered by them."""
        if settings != self._settings:
            self._settings = settings
            self._lines = [_Line(channel) for channel in channels_of(settings, root=self._root)]

    def tell(self, alert: Alert) -> None:
        """Tell people, now or in the next summary of its cause. Returns at once."""
        if not self._lines or self._is_stopping.is_set():
            return
        notice = self._grouper.add(alert, now=self._clock.monotonic(), now_ms=self._clock.now_ms())
        if notice is not None:
            self._deliver(notice)
        self._arm()

    def failures(self) -> list[Failure]:
        """Channels whose last delivery failed for good."""
        return [line.failure for line in self._lines if line.failure is not None]

    async def test(self) -> list[tuple[str, str | None]]:
        """Try each channel once, at once; by its name None, or why it failed. A success mends a failure."""
        now_ms = self._clock.now_ms()
        notice = Notice(alert=TEST, count=1, first_ms=now_ms, last_ms=now_ms)
        lines = list(self._lines)
        found = await asyncio.gather(*(self._try(line, notice) for line in lines))
        for line, why in zip(lines, found, strict=True):
            if why is None:
                line.failure = None
        return [(line.channel.name, why) for line, why in zip(lines, found, strict=True)]

    async def stop(self) -> None:
        """Deliver what was gathered, one try each and a few seconds in all. Twice is harmless."""
        if self._is_stopping.is_set():
            return
        for notice in self._grouper.flush():
            self._deliver(notice)
        self._is_stopping.set()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        tasks = [line.task for line in self._lines if line.task is not None]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=LAST_PATIENCE_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    # --- summaries --------------------------------------------------------------------------------------------------

    def _arm(self) -> None:
        due = self._grouper.next_due()
        if self._timer is None and due is not None:
            delay_s = max(0.0, due - self._clock.monotonic())
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._summarise)

    def _summarise(self) -> None:
        self._timer = None
        for notice in self._grouper.due(now=self._clock.monotonic()):
            self._deliver(notice)
        self._arm()

    # --- deliveries -------------------------------------------------------------------------------------------------

    def _deliver(self, notice: Notice) -> None:
        for line in self._lines:
            line.waiting.append(notice)
            if len(line.waiting) > MAX_WAITING:
                line.waiting.popleft()
                self._lose(line, "its receiver takes them too slowly")
            if line.task is None:
                line.task = asyncio.get_running_loop().create_task(self._work_off(line))

    async def _work_off(self, line: _Line) -> None:
        try:
            while line.waiting:
                why = await self._try_again(line, line.waiting.popleft())
                if why is not None:
                    self._lose(line, why)
                elif line.failure is not None:
                    self._log("info", f"alerts reach their {line.channel.name} again")
                    line.failure = None
        finally:
            line.task = None

    async def _try_again(self, line: _Line, notice: Notice) -> str | None:
        """Deliver with a few tries; why the last one failed, None when one succeeded."""
        why = await self._try(line, notice)
        for delay_s in self._retry_delays_s:
            if why is None or self._is_stopping.is_set():
                break
            try:
                await asyncio.wait_for(self._is_stopping.wait(), delay_s)
            except TimeoutError:
                why = await self._try(line, notice)
        return why

    async def _try(self, line: _Line, notice: Notice) -> str | None:
        try:
            await _in_thread(lambda: line.channel.send(notice, self._sender))
        except Undelivered as error:
            return self._redact(str(error))
        except Exception as error:  # a channel's surprise must end neither the engine nor the other channels
            return self._redact(f"{type(error).__name__}: {error}")
        return None

    def _lose(self, line: _Line, why: str) -> None:
        before = line.failure
        since_ms = before.since_ms if before is not None else self._clock.now_ms()
        line.failure = Failure(line.channel.name, why, since_ms, (before.lost if before else 0) + 1)
        if before is None or before.why != why:
            self._log("error", f"an alert was not delivered by {line.channel.name}: {why}")


async def _in_thread(work: Callable[[], None]) -> None:
    """Do it in a thread that does not keep the process alive, as those of an executor would."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def settle(error: BaseException | None) -> None:
        if done.done():
            return
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

    def run() -> None:
        error: BaseException | None = None
        try:
            work()
        except BaseException as found:  # the one who waits gets it, whatever it is
            error = found
        with suppress(RuntimeError):  # the loop is closed: nobody is left to be told
            loop.call_soon_threadsafe(settle, error)

    threading.Thread(target=run, name="tako-alert", daemon=True).start()
    await done
