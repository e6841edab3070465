"""Any order of work, processes, people, time and restarts: what the supervisor promises is true after each event.

The walk next door looks at states; this keeps the books of a whole history, as somebody would who sees only what goes
in and what comes out: S1 to S4, S6, and L4's part of the supervisor. Hypothesis chooses the order, and makes it short.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.supervisor.group import Group
from tests.supervisor.walker import ENDS, check
from tests.support.model import sized

from tako.supervisor import events, records
from tako.supervisor.exits import Exit
from tako.supervisor.states import Health, Phase, next_due

RESTARTS = ("restart", "death and restart", "reboot")
PICK = st.integers(0, 3)  # which of those that are there, counted from the oldest


@dataclass
class Process:
    """A worker as the machine sees it, from the decision to start it until its end was told."""

    worker_id: str
    solo: bool
    is_spawned: bool = False
    has_said_hello: bool = False
    has_claimed: bool = False
    is_told_to_end: bool = False
    runs: int = 0


class Supervisor(RuleBasedStateMachine):
    """One group, its processes, its callers, and the books about them."""

    def __init__(self) -> None:
        super().__init__()
        self.group = Group()
        self.processes: dict[str, Process] = {}
        self.tickets: set[int] = set()  # enqueues that wait for an answer
        self.failed_at: float | None = None  # of the last failure, while nobody has said HELLO since
        self.failures = 0  # in a row

    @initialize(
        min_workers=st.sampled_from([0, 0, 1, 2]), max_workers=st.sampled_from([1, 2, 4]), seed=st.integers(0, 9)
    )
    def begin(self, min_workers: int, max_workers: int, seed: int) -> None:
        self.group = Group(min_workers=min_workers, max_workers=max_workers, concurrency=2, seed=seed)

    def teardown(self) -> None:
        self.is_served_again()

    # --- callers and work -------------------------------------------------------------------------------------------

    @rule(wait_s=st.sampled_from([1.0, 5.0]))
    def enqueue(self, wait_s: float) -> None:
        ticket = len(self.group.rows) + 1
        self.tickets.add(ticket)
        self.feed(events.Enqueue(ticket, deadline=self.group.now.mono + wait_s))

    @precondition(lambda self: self.tickets)
    @rule()
    def the_caller_goes(self) -> None:
        ticket = self.tickets.pop()
        self.feed(events.GaveUp(ticket))

    @rule(waiting=st.sampled_from([0, 1, 5]), suspects=st.sampled_from([0, 0, 2]))
    def work(self, waiting: int, suspects: int) -> None:
        self.group.queue(waiting, suspects=suspects)
        self.feed(events.Work())

    # --- processes --------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.those(is_spawned=False))
    @rule(which=PICK, works=st.sampled_from([True, True, True, False]))
    def start(self, which: int, works: bool) -> None:
        process = self.one(which, is_spawned=False)
        if works:
            process.is_spawned = True
            self.feed(events.Spawned(process.worker_id))
        else:
            del self.processes[process.worker_id]
            self.feed(events.SpawnError(process.worker_id, "[Errno 11] Resource temporarily unavailable"))

    @precondition(lambda self: self.processes)
    @rule(which=PICK)
    def goes_on(self, which: int) -> None:
        """It starts, says HELLO, claims a run and another, or ends if it was asked to."""
        self.go_on(self.one(which))

    @precondition(lambda self: any(process.runs for process in self.processes.values()))
    @rule(which=PICK)
    def a_run_ends(self, which: int) -> None:
        busy = [process for process in self.processes.values() if process.runs]
        busy[which % len(busy)].runs -= 1
        self.count_runs()

    @precondition(lambda self: self.those(is_spawned=True))
    @rule(which=PICK, how=st.sampled_from(ENDS))
    def exit(self, which: int, how: Exit) -> None:
        self.end(self.one(which, is_spawned=True), how)

    @precondition(lambda self: self.those(has_said_hello=True))
    @rule(which=PICK, idle_s=st.sampled_from([0.0, 400.0]))
    def ask_idle(self, which: int, idle_s: float) -> None:
        self.feed(events.IdleAsked(self.one(which, has_said_hello=True).worker_id, idle_s=idle_s))

    @precondition(lambda self: self.those(has_said_hello=True))
    @rule(which=PICK, what=st.sampled_from(["lost", "back", "lease", "deaf", "leaving"]))
    def something_happens_to(self, which: int, what: str) -> None:
        worker_id = self.one(which, has_said_hello=True).worker_id
        self.feed(
            {
                "lost": events.ConnectionLost(worker_id),
                "back": events.Reconnected(worker_id),
                "lease": events.LeaseExpired(worker_id),
                "deaf": events.Deaf(worker_id, quiet_s=30.0),
                "leaving": events.Leaving(worker_id),
            }[what]
        )

    # --- people, time, and the engine itself ------------------------------------------------------------------------

    @rule(what=st.sampled_from(["new code", "proven code", "retry", "pause", "restart", "death and restart", "reboot"]))
    def people(self, what: str) -> None:
        if what == "pause":
            self.feed(events.Shutdown(timeout_s=30.0, paused=True))
            return
        if what in RESTARTS:
            self.start_again(what)
            return
        self.failed_at, self.failures = None, 0  # what was before says nothing any more
        self.feed(events.OperatorRetry() if what == "retry" else events.NewCode(proven=what == "proven code"))

    @rule(seconds=st.sampled_from([0.3, 2.0, 20.0, 70.0]))
    def time_passes(self, seconds: float) -> None:
        end = self.group.now.mono + seconds
        while (due := next_due(self.group.state)) is not None and due <= end:
            self.move_to(max(due, self.group.now.mono))
            self.feed(events.Tick())
        self.move_to(end)

    def start_again(self, how: str) -> None:
        """S3: what it knew of the group's health is there; who lives is adopted, who does not is reclaimed of."""
        before = self.group.state
        self.group.state = records.restored(records.stored(before, now=self.group.now))
        assert (self.group.state.failures, self.group.state.failure) == (before.failures, before.failure)
        if self.failed_at is not None:
            self.failed_at = self.group.now.mono - 60.0  # its wait is over: row 23 tries as soon as there is work
        self.tickets.clear()
        recorded = self.those(is_spawned=True)
        living = [] if how == "reboot" else recorded[1:] if how == "death and restart" else recorded
        self.processes = {process.worker_id: process for process in living}
        for process in recorded:
            slot = before.slot(process.worker_id)
            assert slot is not None
            self.feed(
                events.Recorded(
                    process.worker_id,
                    alive=process in living,
                    same_boot=how != "reboot",
                    ready=process.has_said_hello,
                    claimed=process.has_claimed,
                    solo=process.solo,
                    why=slot.why,
                )
            )
            for effect in self.group.effects:
                if isinstance(effect, events.Reclaim):
                    assert not effect.counted or (how != "reboot" and slot.is_live), (
                        "L4: we asked for it, or nobody did"
                    )

    # --- what goes in, and what comes out ---------------------------------------------------------------------------

    def feed(self, event: events.Event) -> None:
        """One event through the table; its effects are done, and compared with the books."""
        before, told = self.group.state, {each.worker_id for each in self.processes.values() if each.is_told_to_end}
        effects = self.group.do(event)
        check(before, event, self.group.state, effects, now=self.group.now, config=self.group.config)
        for effect in effects:
            match effect:
                case events.Spawn():
                    self.spawns(effect)
                case events.Withdraw():
                    del self.processes[effect.worker_id]
                case events.Kill():
                    self.processes[effect.worker_id].is_told_to_end = True
                case events.AnswerIdle(may_exit=True) if effect.worker_id in self.processes:
                    self.processes[effect.worker_id].is_told_to_end = True
                case events.Accept():
                    self.accepts(effect)
                case events.Reject():
                    self.tickets.remove(effect.ticket)
                case events.Reclaim():
                    assert not (effect.counted and effect.worker_id in told), "L4: charged with an end we asked for"
                    assert effect.counted is (effect.death is not None)
                    if effect.worker_id in self.processes:
                        self.processes[effect.worker_id].runs = 0
        self.count_failures()
        self.count_runs()

    def spawns(self, effect: events.Spawn) -> None:
        assert effect.worker_id not in self.processes
        self.processes[effect.worker_id] = Process(effect.worker_id, solo=effect.solo)
        if self.failed_at is not None and not effect.solo:
            waited_s, least_s = self.group.now.mono - self.failed_at, 0.9 * min(60.0, 2.0 ** (self.failures - 1))
            assert waited_s >= least_s - 1e-6, f"S3: tried {waited_s:.2f}s after failure {self.failures}"

    def accepts(self, effect: events.Accept) -> None:
        self.tickets.remove(effect.ticket)
        assert self.failed_at is None, "S2: accepted, and nobody has said HELLO since the failure"

    def count_failures(self) -> None:
        """A failure counts while nobody serves; a HELLO or a claim ends that (S2)."""
        state = self.group.state
        if state.failures > self.failures and not state.serving():
            self.failed_at = self.group.now.mono
        self.failures = state.failures
        assert state.failures == 0 or state.failure is not None, "S1: a failure without its reason"
        is_broken = state.health in (Health.COOLDOWN, Health.PROBING, Health.DEGRADED)
        assert state.is_failing is (state.failures >= 10 and is_broken), "S6"

    def count_runs(self) -> None:
        in_flight = {process.worker_id: process.runs for process in self.processes.values() if process.runs}
        self.group.now = replace(self.group.now, in_flight=in_flight)

    def move_to(self, mono: float) -> None:
        passed_ms = round((mono - self.group.now.mono) * 1000)
        self.group.now = replace(self.group.now, mono=mono, unix_ms=self.group.now.unix_ms + passed_ms)

    def those(self, **facts: Any) -> list[Process]:
        return [each for each in self.processes.values() if all(getattr(each, name) is facts[name] for name in facts)]

    def one(self, which: int, **facts: Any) -> Process:
        found = self.those(**facts)
        return found[which % len(found)]

    def end(self, process: Process, how: Exit) -> None:
        before, slot = self.group.state, self.group.state.slot(process.worker_id)
        assert slot is not None
        is_early = slot.phase in (Phase.BOOTING, Phase.READY) and not slot.solo
        self.feed(events.Exited(process.worker_id, how))
        del self.processes[process.worker_id]
        forgotten = [effect for effect in self.group.effects if isinstance(effect, events.ForgetWorker)]
        assert [effect.worker_id for effect in forgotten] == [process.worker_id]
        reclaimed = [effect for effect in self.group.effects if isinstance(effect, events.Reclaim)]
        assert [effect.worker_id for effect in reclaimed] == [process.worker_id]
        if is_early and how.code == 0 and before.health in (Health.UNPROVEN, Health.HEALTHY, Health.DEGRADED):
            assert self.group.state.failures > before.failures, "S4: exit 0 before a claim was taken for idleness"
        self.count_runs()

    # --- what is always true ----------------------------------------------------------------------------------------

    @invariant()
    def slots_are_the_processes_that_have_not_ended(self) -> None:
        assert {slot.id for slot in self.group.state.slots} == self.processes.keys()

    @invariant()
    def whoever_waits_for_an_answer_is_held(self) -> None:
        assert {held.ticket for held in self.group.state.held} == self.tickets

    def is_served_again(self) -> None:
        """S6, L1: nothing goes wrong any more, and within a few minutes everybody is answered and work is claimed."""
        if self.group.health is Health.STOPPED:
            self.people("retry")
        self.group.queue(1)
        for _ in range(60):
            self.feed(events.Work())
            for _ in ("start", "hello", "claim"):
                self.everybody_goes_on()
            if self.group.health is Health.HEALTHY and not self.tickets and self.those(has_claimed=True):
                return
            due = next_due(self.group.state)
            self.time_passes(70.0 if due is None else max(0.0, due - self.group.now.mono))
        raise AssertionError(f"never served again: {self.group.state}")

    def everybody_goes_on(self) -> None:
        for process in list(self.processes.values()):
            if process.worker_id in self.processes:  # not withdrawn by what happened to one before it
                self.go_on(process)

    def go_on(self, process: Process) -> None:
        slot = self.group.state.slot(process.worker_id)
        assert slot is not None
        if not process.is_spawned:
            process.is_spawned = True
            self.feed(events.Spawned(process.worker_id))
        elif not slot.is_live:
            self.end(process, Exit(0, None, 100))
        elif slot.phase is Phase.BOOTING or slot.reconnect_by is not None:
            process.has_said_hello = True
            self.failed_at = None
            self.feed(events.Hello(process.worker_id))
        else:  # the engine gives runs to these, and to no others
            process.has_claimed = True
            self.failed_at = None
            process.runs += 1
            self.count_runs()
            self.feed(events.Claim(process.worker_id))


Supervisor.TestCase.settings = sized(examples=200, steps=50)
TestSupervisor = Supervisor.TestCase
