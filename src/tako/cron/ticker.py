"""What is due makes a run: at most one per boundary, in the transaction that says so (E7).

After downtime the newest missed boundary fires, if it is not older than the schedule's `catch_up_window`; those before
it are counted as skipped. A clock that was put back fires nothing twice; a mark that lies more than an interval ahead
of the clock is reset, with a warning (C3).
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import logging
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tako.clock import Clock
from tako.cron import expression, schedules
from tako.engine import runs
from tako.engine.events import Ended, Event
from tako.engine.intake import Scheduled, derived_id
from tako.engine.options import keys
from tako.engine.store import Store
from tako.engine.writer import Writer
from tako.errors import PayloadError, QueueFull, TakoError
from tako.protocol.messages import NewRun

log = logging.getLogger("tako.cron")

# Counting what was missed ends here: a minutely schedule after a month off would hold up the writer for a second.
_COUNT_LIMIT = 1_000
_LOOK_AGAIN_S = 60.0
_RETRY_S = 1.0

_DAY_MS = 86_400_000
_GRACE_MS = 300_000


class Skip(NamedTuple):
    """Boundaries of a schedule that made no run, and why, in words."""

    workflow: str
    spec: str
    words: str


@dataclass(slots=True)
class Ticked:
    """What a tick did. `lines` are for the log, as (level, text), and `skips` the boundaries among them that made no
    run; `told` are runs that workers must be told to stop."""

    fired: list[str] = field(default_factory=list)
    lines: list[tuple[str, str]] = field(default_factory=list)
    skips: list[Skip] = field(default_factory=list)
    told: list[runs.Held] = field(default_factory=list)
    next_ms: int | None = None

    def say(self, level: str, row: sqlite3.Row, words: str) -> None:
        """Add a line about a schedule."""
        self.lines.append((level, f"schedule {row['spec']} of {row['workflow']}: {words}"))

    def skip(self, level: str, row: sqlite3.Row, words: str) -> None:
        """Add a line about boundaries that make no run."""
        self.say(level, row, words)
        self.skips.append(Skip(row["workflow"], row["spec"], words))


def tick(store: Store, *, now_ms: int) -> Ticked:
    """Fire what is due. Everything it does is one transaction; a second tick at the same time does nothing."""
    ticked = Ticked()
    for row in store.all("marks_ahead", now_ms=now_ms):
        _reset_if_too_far(store, row, ticked, now_ms=now_ms)
    for row in store.all("queued_schedules"):
        _fire_queued(store, row, ticked, now_ms=now_ms)
    for row in store.all("due_schedules", now_ms=now_ms):
        _fire_due(store, row, ticked, now_ms=now_ms)
    ticked.next_ms = schedules.next_due_ms(store)
    return ticked


class Ticker:
    """Ticks when a schedule is due. `on_ticked` hears of what happened; `start` and `stop`, twice is harmless."""

    def __init__(self, writer: Writer, *, clock: Clock, on_ticked: Callable[[Ticked], None] | None = None) -> None:
        self._writer = writer
        self._clock = clock
        self._on_ticked = on_ticked
        self._timer: asyncio.TimerHandle | None = None
        self._round: asyncio.Task[None] | None = None
        self._again = False
        self._awaited: set[str] = set()
        self._running = False

    def start(self) -> None:
        """Tick from now on, what was missed first."""
        if not self._running:
            self._running = True
            self.look()

    async def stop(self) -> None:
        """Tick no more; a round that is under way ends first."""
        self._running = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._round is not None:
            await asyncio.gather(self._round, return_exceptions=True)

    def look(self) -> None:
        """Schedules changed, or may be due: tick soon."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._running:
            return
        if self._round is None:
            self._round = asyncio.get_running_loop().create_task(self._rounds())
        else:
            self._again = True

    def tell(self, events: list[Event]) -> None:
        """What a commit emitted: a run that ended may be the one that a queued boundary waits for."""
        if self._awaited and any(type(event) is Ended and event.run_id in self._awaited for event in events):
            self.look()

    async def run_once(self, now_ms: int) -> Ticked:
        """Fire what is due at `now_ms`."""
        ticked = await self._writer.do(tick, now_ms=now_ms)
        self._awaited = await self._writer.do(_awaited_runs)
        for level, text in ticked.lines:
            log.log(logging.getLevelName(level), text)
        if self._on_ticked is not None:
            self._on_ticked(ticked)
        return ticked

    async def _rounds(self) -> None:
        next_ms: int | None = None
        try:
            next_ms = (await self.run_once(self._clock.now_ms())).next_ms
        except TakoError as error:
            # Disk full or locked: what is due stays due, and the next round finds it.
            log.warning("schedules could not fire: %s", error.message)
            next_ms = self._clock.now_ms() + round(_RETRY_S * 1000)
        except Exception as error:  # a mistake of ours in one round: schedules must not stand still for good
            log.error("schedules could not fire, by a mistake of Tako's: %r", error)
            words = {"message": "a round of the ticker failed", "exception": error}
            asyncio.get_running_loop().call_exception_handler(words)
            next_ms = self._clock.now_ms() + round(_RETRY_S * 1000)
        finally:
            self._round = None
        if self._again:
            self._again = False
            self.look()
        elif self._running and next_ms is not None:
            # Due times are of the wall clock, the timer is not: look again before a step of it could matter.
            delay_s = min(max(0.0, (next_ms - self._clock.now_ms()) / 1000), _LOOK_AGAIN_S)
            self._timer = asyncio.get_running_loop().call_later(delay_s, self.look)


def _awaited_runs(store: Store) -> set[str]:
    return {row["last_run"] for row in store.all("queued_schedules")}


# --- one schedule ---------------------------------------------------------------------------------------------------


def _fire_due(store: Store, row: sqlite3.Row, ticked: Ticked, *, now_ms: int) -> None:
    options = json.loads(row["options"])
    times = expression.parse(options)
    newest = times.at_or_before(now_ms)
    if newest <= row["mark_ms"]:
        # `next_ms` was worked out under other rules of the time zone, or the clock stands a little behind the mark.
        _mark(store, row, mark_ms=row["mark_ms"], next_ms=times.after(max(now_ms, row["mark_ms"])))
        return
    missed = _count(times, row["mark_ms"], newest) - 1
    if missed > 0:
        more = " or more" if missed >= _COUNT_LIMIT else ""
        times_were = "time was" if missed == 1 else "times were"
        ticked.skip("WARNING", row, f"{missed}{more} missed {times_were} skipped")
    limit_ms = options.get("catch_up_window_ms", _DAY_MS)
    if options.get("catch_up", "latest") == "none":
        limit_ms = options.get("grace_ms", _GRACE_MS)
    if now_ms - newest > limit_ms:
        missed += 1
        ticked.skip("WARNING", row, "its last time is too long ago to be caught up")
        _mark(store, row, mark_ms=newest, next_ms=times.after(newest), skipped=missed)
        return
    _mark(store, row, mark_ms=newest, next_ms=times.after(newest), skipped=max(0, missed))
    _fire(store, row, options, newest, ticked, now_ms=now_ms)


def _fire(
    store: Store, row: sqlite3.Row, options: dict[str, Any], boundary_ms: int, ticked: Ticked, *, now_ms: int
) -> None:
    """Make the run of a boundary, unless the run before has not ended and the schedule says to mind that."""
    overlap = options.get("overlap", "skip")
    before = store.one("held_run", id=row["last_run"]) if row["last_run"] is not None else None
    if before is not None and before["status"] in ("pending", "running") and overlap != "allow":
        if overlap == "queue":
            # At most one waits; a boundary that comes meanwhile takes its place.
            skipped = int(row["queued_ms"] is not None)
            _queue(store, row, boundary_ms, skipped=skipped)
            return
        if overlap == "skip":
            store.run("skip_boundary", workflow=row["workflow"], spec=row["spec"])
            ticked.skip("WARNING", row, f"skipped, the run before ({before['id']}) has not ended")
            return
        reason = "replaced by the next run of its schedule"
        ticked.told += runs.cancel(store, before["id"], reason=reason, now_ms=now_ms)
    _enqueue(store, row, options, boundary_ms, ticked, now_ms=now_ms)


def _fire_queued(store: Store, row: sqlite3.Row, ticked: Ticked, *, now_ms: int) -> None:
    before = store.one("held_run", id=row["last_run"]) if row["last_run"] is not None else None
    if before is None or before["status"] not in ("pending", "running"):
        _queue(store, row, None)
        _enqueue(store, row, json.loads(row["options"]), row["queued_ms"], ticked, now_ms=now_ms)


def _enqueue(
    store: Store, row: sqlite3.Row, options: dict[str, Any], boundary_ms: int, ticked: Ticked, *, now_ms: int
) -> None:
    seed = f"schedule {row['workflow']} {row['spec']} {boundary_ms}"
    # The id follows from the boundary, so even a repeated tick of a lost transaction makes the same run.
    new: NewRun = {
        "id": derived_id(boundary_ms, seed),
        "workflow": row["workflow"],
        "payload_json": options.get("payload_json", "{}"),
        "run_at_ms": boundary_ms + _shift_ms(seed, options.get("jitter_ms", 0)),
    }
    if "key" in options:
        new["key"] = options["key"]
    if "retries" in options:
        new["retries"] = options["retries"]
    if "priority" in options:
        new["priority"] = options["priority"]
    try:
        found = keys(store.options.get(row["workflow"]), new["payload_json"])
        new.update({**found, **new})  # type: ignore[typeddict-item]
        scheduled = Scheduled(boundary_ms, options.get("tz", "UTC"))
        (enqueued,) = runs.enqueue(store, [new], now_ms=now_ms, scheduled=scheduled)
    except (QueueFull, PayloadError) as error:
        store.run("skip_boundary", workflow=row["workflow"], spec=row["spec"])
        ticked.skip("ERROR", row, f"skipped, {error.message}")
        return
    if not enqueued["is_new"]:
        store.run("skip_boundary", workflow=row["workflow"], spec=row["spec"])
        ticked.skip("WARNING", row, f"skipped, its key belongs to {enqueued['id']}")
        return
    store.run(
        "fired_schedule", workflow=row["workflow"], spec=row["spec"], fired_ms=now_ms, last_run=enqueued["id"]
    )  # fmt: skip
    ticked.fired.append(enqueued["id"])


def _reset_if_too_far(store: Store, row: sqlite3.Row, ticked: Ticked, *, now_ms: int) -> None:
    """The clock was put back by more than an interval: waiting for it to come round again could take years."""
    times = expression.parse(json.loads(row["options"]))
    if times.after(now_ms) >= row["mark_ms"]:
        return
    mark_ms = times.at_or_before(now_ms)
    _mark(store, row, mark_ms=mark_ms, next_ms=times.after(mark_ms))
    ticked.say("WARNING", row, "the clock was put back; it goes on from now")


def _mark(store: Store, row: sqlite3.Row, *, mark_ms: int, next_ms: int, skipped: int = 0) -> None:
    store.run(
        "mark_schedule", workflow=row["workflow"], spec=row["spec"], mark_ms=mark_ms, next_ms=next_ms, skipped=skipped
    )


def _queue(store: Store, row: sqlite3.Row, queued_ms: int | None, *, skipped: int = 0) -> None:
    store.run("queue_schedule", workflow=row["workflow"], spec=row["spec"], queued_ms=queued_ms, skipped=skipped)


def _count(times: expression.Times, mark_ms: int, newest_ms: int) -> int:
    """Boundaries after the mark up to the newest, as far as they are counted."""
    reached = itertools.takewhile(lambda boundary: boundary <= newest_ms, times.boundaries(mark_ms))
    return sum(1 for _ in itertools.islice(reached, _COUNT_LIMIT + 1))


def _shift_ms(seed: str, jitter_ms: int) -> int:
    """Spread evenly and always alike for one boundary: chance would make a repeated tick another one."""
    if jitter_ms <= 0:
        return 0
    return int.from_bytes(hashlib.sha256(b"jitter " + seed.encode()).digest()[:8], "big") % (jitter_ms + 1)
