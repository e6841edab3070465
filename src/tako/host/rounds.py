"""What tells nobody when it happens, looked for every few seconds: a clock that jumped, a worker that is deaf, a queue
that grows old, a schedule that is late, a disk that fills.

Each is said once when it begins, once when it is over, and stands in `tako status` in between. A round in which nothing
waits reads two clocks, a few counters and the free space of one disk.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from tako.engine import inspect
from tako.engine.store import Store
from tako.errors import StoreUnavailable, TakoError
from tako.host import pausing, rescue
from tako.host.hearing import Hearing

if TYPE_CHECKING:
    from tako.host.app import AppHost

EVERY_S = 5.0
JUMP_MS = 30_000
OLD_BACKLOG_WARNING_MS = 5 * 60_000
OLD_BACKLOG_ERROR_MS = 30 * 60_000


class Rounds:
    """`run_once` every few seconds, from `start` to `stop`; twice is harmless."""

    def __init__(self, host: AppHost) -> None:
        self._host = host
        self.hearing = Hearing(host)
        self.store_error: StoreUnavailable | None = None  # the last refusal, until a write succeeds again
        self.disk_error: StoreUnavailable | None = None
        self._said: dict[str, str] = {}  # what is going on now, by subject: how grave it was when it was said
        self._wall_ahead_ms = self._ahead_ms()
        self._trouble = ""  # what the last round failed at
        self._timer: asyncio.TimerHandle | None = None
        self._round: asyncio.Task[None] | None = None
        self._is_running = False

    # --- life -------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Look from now on."""
        if not self._is_running:
            self._is_running = True
            self._arm()

    async def stop(self) -> None:
        """Look no more; a round that is under way ends first."""
        self._is_running = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._round is not None:
            await asyncio.gather(self._round, return_exceptions=True)

    def _arm(self) -> None:
        if self._is_running:
            self._timer = asyncio.get_running_loop().call_later(EVERY_S, self._begin)

    def _begin(self) -> None:
        self._round = asyncio.get_running_loop().create_task(self._pass())

    async def _pass(self) -> None:
        try:
            await self.run_once()
            self._trouble = ""
        except Exception as error:  # whatever it is, the rounds after it must go on: they are what notices trouble
            words = error.message if isinstance(error, TakoError) else f"{type(error).__name__}: {error}"
            if words != self._trouble:
                self._trouble = words
                self._host.say("error", f"queues and schedules could not be looked at: {words}")
        self._round = None
        self._arm()

    async def run_once(self) -> None:
        """Look at everything once."""
        self._look_at_clock()
        self.look_at_disk()
        if self.store_error is not None:
            await self._try_store()
        else:
            self.hearing.run_once()
        await self._look_at_queues()

    # --- clock ------------------------------------------------------------------------------------------------------

    def _ahead_ms(self) -> int:
        """How far the wall clock is ahead of the monotonic one. Constant, but for what NTP and people do to it."""
        return self._host.clock.now_ms() - round(self._host.clock.monotonic() * 1000)

    def _look_at_clock(self) -> None:
        ahead_ms = self._ahead_ms()
        jump_ms, self._wall_ahead_ms = ahead_ms - self._wall_ahead_ms, ahead_ms
        if abs(jump_ms) <= JUMP_MS:
            return
        way = "forward" if jump_ms > 0 else "back"
        slept = " (it was set, or this machine slept)" if jump_ms > 0 else ""
        self._host.say(
            "warning",
            f"the machine's clock jumped {way} by {abs(jump_ms) / 1000:.0f}s{slept}; leases and timeouts do not go by "
            "it, due runs and schedules are looked at anew",
        )
        self._host.ticker.look()
        self._host.dispatcher.look()

    # --- store ------------------------------------------------------------------------------------------------------

    def store_changed(self, error: StoreUnavailable | None) -> None:
        """The writer tells that the store takes no writes; None: it does again."""
        self.store_error = error
        if error is not None:
            self._host.alarms.unavailable(error)
            self._host.say("error", f"the store cannot be written: {error.message} {error.cure}".rstrip())
        else:
            self._host.say("info", "the store can be written again")
            for pool in self._host.groups.pools.values():
                pool.remember()

    async def _try_store(self) -> None:
        """Nobody may write for hours: find out whether it would succeed by now."""
        try:
            await self._host.writer.do(_touch, now_ms=self._host.clock.now_ms())
        except TakoError:
            return  # as before; the writer tells when that changes

    def look_at_disk(self) -> None:
        """Say when there is no room any more, and when there is again. Also called by who asks for the status."""
        error = rescue.shortage(self._host.places.state)
        was_short, self.disk_error = self.disk_error is not None, error
        if error is not None and not was_short:
            self._host.alarms.unavailable(error)
            self._host.say("error", f"{error.message} Enqueues are refused until there is room.")
        elif error is None and was_short:
            self._host.say("info", "the disk has room again; enqueues are accepted")

    # --- queues and schedules ---------------------------------------------------------------------------------------

    async def _look_at_queues(self) -> None:
        host = self._host
        now_ms = host.clock.now_ms()
        is_anything_ready = any(n and lane == "ready" for (_, lane), n in list(host.store.counts.items()))
        next_ms = host.next_schedule_ms
        if not self._said and not is_anything_ready and (next_ms is None or next_ms > now_ms):
            return
        facts = await host.writer.read(inspect.overview, now_ms=now_ms, paused=pausing.paused_workflows(host))
        going_on: dict[str, tuple[str, str]] = {}
        for workflow, age_ms in facts.oldest_ready_ms.items():
            if severity := backlog_severity(age_ms):
                minutes = age_ms // 60_000
                words = f"the oldest waiting run of {workflow} has waited for {minutes} min"
                going_on[f"backlog of {workflow}"] = (severity, words)
        for late in facts.late_schedules:
            words = f"schedule {late['spec']} of {late['workflow']} is {late['late_ms'] // 1000} s late"
            going_on[f"schedule {late['spec']} of {late['workflow']}"] = ("error", words)
        self._say_what_is_new(going_on, facts.late_schedules)

    def _say_what_is_new(self, going_on: dict[str, tuple[str, str]], late_schedules: list[dict[str, Any]]) -> None:
        """One line when something begins, one when it becomes graver, one when it is over."""
        for subject, (severity, words) in going_on.items():
            if self._said.get(subject) in (severity, "error"):
                continue
            self._said[subject] = severity
            self._host.say(severity, words)
            for schedule in late_schedules:
                if subject == f"schedule {schedule['spec']} of {schedule['workflow']}":
                    self._host.alarms.late(schedule)
        for subject in [subject for subject in self._said if subject not in going_on]:
            del self._said[subject]
            over = "is not late any more" if subject.startswith("schedule ") else "is short again"
            self._host.say("info", f"{subject} {over}")


def backlog_severity(age_ms: int) -> str | None:
    """How grave it is that a run has been due for so long and nobody has taken it."""
    if age_ms >= OLD_BACKLOG_ERROR_MS:
        return "error"
    return "warning" if age_ms >= OLD_BACKLOG_WARNING_MS else None


def _touch(store: Store, *, now_ms: int) -> None:
    store.set_meta("touched_ms", str(now_ms))
