"""One pass of the table over one group: its state as it changes, the effects as they gather, the moves rows share."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tako.supervisor import events, states
from tako.supervisor.exits import Exit, ExitKind
from tako.supervisor.states import Failure, GroupConfig, GroupState, Health, Now, Phase, Slot, Why

if TYPE_CHECKING:
    import random

HELD_LIMIT = 64
HELD_S = 4.0
HELD_MARGIN_S = 0.5  # before the caller's deadline, so that the reason still reaches it
MAX_DELAY_S = 60.0
JITTER = 0.1
MISCONFIGURED_DELAY_S = 60.0  # K8: only new code mends it, and new code does not wait for this
SIGTERM_GRACE_S = 5.0
DRAIN_MARGIN_S = 2.0  # a worker hands back at the end of its drain time: SIGKILL must not come in the middle of that


class Turn:
    """What a row may look at (`state`, `now`, `config`) and the moves it may make."""

    def __init__(self, state: GroupState, *, now: Now, rng: random.Random, config: GroupConfig) -> None:
        self.state = state
        self.now = now
        self.rng = rng
        self.config = config
        self.effects: list[events.Effect] = []

    def change(self, **fields: object) -> None:
        """Give the group's state other values."""
        self.state = replace(self.state, **fields)  # type: ignore[arg-type]  # the names are checked at run time

    def emit(self, effect: events.Effect) -> None:
        """Ask the shell for something."""
        self.effects.append(effect)

    def log(self, level: str, message: str, **fields: object) -> None:
        """Tell people, in one line."""
        self.emit(events.Log(level, message, {"group": self.config.group, **fields}))

    @property
    def is_wanted(self) -> bool:
        """Whether there is somebody to start a worker for."""
        return bool(self.now.waiting or self.now.suspects or self.config.min_workers)

    # --- slots ------------------------------------------------------------------------------------------------------

    def put(self, slot: Slot) -> None:
        """Give one slot its new values."""
        self.change(slots=tuple(slot if other.id == slot.id else other for other in self.state.slots))

    def drop(self, slot: Slot) -> None:
        """The slot's process is gone, or will never be."""
        self.change(slots=tuple(other for other in self.state.slots if other.id != slot.id))

    def in_flight(self, slot: Slot) -> int:
        """How many runs the worker holds."""
        return self.now.in_flight.get(slot.id, 0)

    def spawn(self, *, solo: bool = False, probe: bool = False) -> None:
        """Decide to start one worker. Its boot timer begins when the process exists."""
        worker_id = f"{self.config.group}-{self.rng.getrandbits(48):012x}"
        slot = Slot(id=worker_id, phase=Phase.BOOTING, asked_at=self.now.mono, solo=solo, probe=probe)
        self.change(slots=(*self.state.slots, slot))
        self.emit(events.Spawn(worker_id, solo=solo))

    def spawn_missing(self, *, at_most: int | None = None) -> None:
        """Start what work asks for: normal workers up to the target, and one solo slot when there are suspects."""
        if self.state.respawn_at is not None:
            return
        missing = states.target(self.state, now=self.now, config=self.config) - len(self.state.live())
        for _ in range(missing if at_most is None else min(missing, at_most)):
            self.spawn()
        if self.now.suspects and self.state.is_proven and not self.state.live(solo=True):
            self.spawn(solo=True)

    def probe(self) -> None:
        """PROBING: exactly one worker is tried. A sibling that is still booting is that one."""
        self.change(health=Health.PROBING, until=None)
        if not [slot for slot in self.state.booting() if not slot.solo]:
            self.spawn()

    def drain(self, slot: Slot, why: Why, *, within_s: float | None, signal: bool = True) -> None:
        """Give it no more runs and let it end by itself; after `within_s` (None: no limit yet) it is killed."""
        if slot.spawned_at is None:
            self.emit(events.Withdraw(slot.id))
            self.drop(slot)
            return
        kill_by = None if within_s is None else self.now.mono + within_s + min(DRAIN_MARGIN_S, within_s / 10)
        self.put(replace(slot, phase=Phase.DRAINING, why=why, kill_by=kill_by, boot_by=None, reconnect_by=None))
        self.emit(events.StopClaims(slot.id))
        self.emit(events.SaveWorker(slot.id))
        if signal:
            self.emit(events.Kill(slot.id, "SIGTERM"))

    def kill(self, slot: Slot, why: Why, *, after_s: float = 0.0) -> None:
        """End it now; with `after_s`, SIGTERM now and SIGKILL then."""
        if slot.spawned_at is None:
            self.emit(events.Withdraw(slot.id))
            self.drop(slot)
            return
        kill_by = self.now.mono + after_s if after_s else None
        self.put(replace(slot, phase=Phase.KILLING, why=why, kill_by=kill_by, boot_by=None, reconnect_by=None))
        self.emit(events.Kill(slot.id, "SIGTERM" if after_s else "SIGKILL"))

    # --- held enqueues ----------------------------------------------------------------------------------------------

    def hold(self, event: events.Enqueue) -> None:
        """Let the enqueue wait for a HELLO."""
        until = min(self.now.mono + HELD_S, event.deadline - HELD_MARGIN_S)
        self.change(held=(*self.state.held, states.Held(event.ticket, until)))
        self.emit(events.Hold(event.ticket))

    def accept_held(self) -> None:
        """Let all held enqueues be stored, in their order."""
        held = self.state.held
        self.change(held=())
        for each in held:
            self.emit(events.Accept(each.ticket))

    def reject_held(self, refusal: events.Refusal) -> None:
        """Refuse all held enqueues."""
        held = self.state.held
        self.change(held=())
        for each in held:
            self.emit(events.Reject(each.ticket, refusal))

    # --- failures ---------------------------------------------------------------------------------------------------

    def fail(self, failure: Failure, *, worker_id: str) -> None:
        """Count a failed start: COOLDOWN if nobody serves, else DEGRADED. Rows 3, 7, 7b and 10."""
        failures = self.state.failures + 1
        known = failure.is_like(self.state.failure)
        misconfigured = failure.kind is ExitKind.MISCONFIGURED
        delay_s = MISCONFIGURED_DELAY_S if misconfigured else self.delay_s(failures)
        serves = bool(self.state.serving())
        self.change(
            health=Health.DEGRADED if serves else Health.COOLDOWN,
            failures=failures,
            until=self.now.mono + delay_s,
            failure=failure,
            since_ms=self.state.since_ms if self.state.failures else self.now.unix_ms,
            told_queued=False,
        )
        if serves:
            self.accept_held()
        else:
            self.reject_held(events.Refusal.UNHEALTHY)
        self._tell_failure(failure, worker_id, known=known, delay_s=delay_s)

    def delay_s(self, failures: int) -> float:
        """The pause after this many failed starts in a row: 1, 2, 4 … 60 s, ±10 %."""
        exact = min(MAX_DELAY_S, 2.0 ** min(failures - 1, 30))
        return exact * self.rng.uniform(1 - JITTER, 1 + JITTER)

    def _tell_failure(self, failure: Failure, worker_id: str, *, known: bool, delay_s: float) -> None:
        failures = self.state.failures
        if failures >= states.FAILING_FROM:
            if _is_doubling(failures):
                self._tell_failing(failure, worker_id)
            return
        starts = "1 failed start" if failures == 1 else f"{failures} failed starts"
        refused = "other workers serve on" if self.state.serving() else "enqueues are refused until then"
        message = f"{failure.words} ({starts}), next start in {delay_s:.0f}s; {refused}"
        if known:  # the same output again would only fill the log
            self.log("warning", message, worker_id=worker_id)
            return
        self.log("error", message, worker_id=worker_id, traceback_tail=failure.traceback_tail,
                 stderr_tail=list(failure.stderr_tail[-20:]))  # fmt: skip

    def _tell_failing(self, failure: Failure, worker_id: str) -> None:
        self.log(
            "error",
            f'group "{self.config.group}" is failing: {self.state.failures} failed starts in a row, '
            f"tried again every {MAX_DELAY_S:.0f}s; last: {failure.words}",
            failures=self.state.failures,
            worker_id=worker_id,
            since_ms=self.state.since_ms,
            traceback_tail=failure.traceback_tail,
            stderr_tail=list(failure.stderr_tail[-20:]),
        )

    def failure_of(self, exit_: Exit, words: str, kind: ExitKind, event: events.Exited) -> Failure:
        """What is kept of an exit."""
        return Failure(
            words=words,
            kind=kind,
            at_ms=self.now.unix_ms,
            release=self.config.release,
            exit_code=exit_.code,
            signal=exit_.signal,
            ran_ms=exit_.ran_ms,
            peak_rss_bytes=exit_.peak_rss_bytes,
            # What a signal ends has not died of the error that it may have printed before.
            traceback_tail=event.traceback_tail if exit_.signal is None else None,
            stderr_tail=event.stderr_tail,
        )


def _is_doubling(failures: int) -> bool:
    """10, 20, 40, 80 …"""
    times, rest = divmod(failures, states.FAILING_FROM)
    return rest == 0 and times & (times - 1) == 0
