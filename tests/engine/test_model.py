"""Any order of callers, workers, deaths, signals, people and clocks: every invariant holds after each, and all ends.

Hypothesis chooses the order. What each rule must do is said in the other files; here only what must always be true.
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tako.engine import invariants, leases, pausing, runs, wakers
from tako.engine.pauses import KEY, WORKFLOW, Target
from tako.engine.store import Store
from tako.errors import LeaseLost, TakoError
from tests.support.clock import FakeClock
from tests.support.engine import NO_JITTER, Rig
from tests.support.model import sized

WORKERS = ["w1", "w2", "w3", "solo"]
WORKFLOWS = ["charge", "refund"]
LEASE_S = 30.0


class Engine(RuleBasedStateMachine):
    """One store; three workers and a solo one, which may also write about runs that they lost."""

    def __init__(self) -> None:
        super().__init__()
        self.rig = Rig(Store.memory(), FakeClock())
        self.rig.obey("charge", on_dead="refund")
        # Every claim that was ever made, with what its worker was told last: most of them are stale.
        self.claims: list[dict[str, Any]] = []
        self.ids: list[str] = []

    def teardown(self) -> None:
        try:
            self.everything_ends()
        finally:
            self.rig.store.close()

    # --- callers ----------------------------------------------------------------------------------------------------

    @rule(
        workflow=st.sampled_from(WORKFLOWS),
        key=st.sampled_from([None, None, "a", "b"]),
        delay_ms=st.sampled_from([None, None, 500, 90_000]),
        expires_ms=st.sampled_from([None, None, None, 1_000]),
        priority=st.sampled_from([0, 0, 1]),
        tenant=st.sampled_from(["a", "b"]),
        twice=st.booleans(),
    )
    def enqueue(
        self,
        workflow: str,
        key: str | None,
        delay_ms: int | None,
        expires_ms: int | None,
        priority: int,
        tenant: str,
        twice: bool,
    ) -> None:
        fields: dict[str, Any] = {"priority": priority, "concurrency_key": tenant, "rate_key": tenant}
        fields |= {} if key is None else {"key": key}
        fields |= {} if delay_ms is None else {"delay_ms": delay_ms}
        fields |= {} if expires_ms is None else {"expires_at_ms": self.rig.now_ms + expires_ms}
        new = self.rig.new(workflow, **fields)
        first = self.rig.do(runs.enqueue, [new], now_ms=self.rig.now_ms)
        if twice:
            again = self.rig.do(runs.enqueue, [new], now_ms=self.rig.now_ms)
            assert again[0]["id"] == first[0]["id"]
            assert not again[0]["is_new"]
        self.rig.seen.acknowledged.add(first[0]["id"])
        if first[0]["id"] not in self.ids:
            self.ids.append(first[0]["id"])

    @rule(
        workflow=st.sampled_from(WORKFLOWS),
        concurrency=st.sampled_from([None, 1, 2]),
        rate=st.sampled_from([None, {"count": 1, "per_ms": 700}, {"count": 3, "per_ms": 60_000}]),
    )
    def deploy(self, workflow: str, concurrency: int | None, rate: dict[str, int] | None) -> None:
        self.rig.obey(workflow, on_dead="refund", concurrency=concurrency, rate=rate)

    @precondition(lambda self: self.ids)
    @rule(data=st.data(), signal_id=st.sampled_from([None, "e1"]))
    def signal(self, data: st.DataObject, signal_id: str | None) -> None:
        run_id = data.draw(st.sampled_from(self.ids))
        ended = self.rig.row(run_id)["ended_ms"] is not None
        try:
            answer = self.rig.signal(run_id, "go", 1, signal_id=signal_id)
        except TakoError:
            assert ended
        else:
            assert not ended
            assert answer["delivered"] != answer["kept"]

    @precondition(lambda self: self.ids)
    @rule(data=st.data(), what=st.sampled_from(["cancel", "retry", "retry from", "ack"]))
    def intervene(self, data: st.DataObject, what: str) -> None:
        run_id = data.draw(st.sampled_from(self.ids))
        before = self.rig.row(run_id)
        try:
            if what == "cancel":
                self.rig.cancel(run_id)
            elif what == "ack":
                self.rig.do(runs.ack, [run_id], now_ms=self.rig.now_ms)
            else:
                self.rig.retry(run_id, "step 1" if what == "retry from" else None)
        except TakoError:
            assert self.rig.row(run_id) == before
        self.drop_ended_leases()

    @rule(workflow=st.sampled_from(WORKFLOWS), key=st.sampled_from(["", "a", "b"]), paused=st.booleans())
    def pause(self, workflow: str, key: str, paused: bool) -> None:
        target = Target(KEY if key else WORKFLOW, workflow, key)
        if paused:
            self.rig.do(pausing.pause, target, now_ms=self.rig.now_ms)
        else:
            self.rig.do(pausing.resume, target)

    # --- workers ----------------------------------------------------------------------------------------------------

    @rule(worker_id=st.sampled_from(WORKERS), n=st.integers(1, 4))
    def claim(self, worker_id: str, n: int) -> None:
        for run in self.rig.claim(worker_id, names=tuple(WORKFLOWS), n=n, solo=worker_id == "solo"):
            row = self.rig.row(run["id"])
            assert row["workflow"] not in self.rig.store.pauses.workflows
            paused = self.rig.store.pauses.keys.get(row["workflow"], frozenset())
            assert paused.isdisjoint((row["key"], row["concurrency_key"], row["rate_key"]))
            assert row["run_at_ms"] is None
            assert run["epoch"] == row["epoch"]
            self.claims.append({"run_id": run["id"], "worker_id": worker_id, "epoch": run["epoch"]})
            self.rig.leases.grant(run["id"], run["epoch"], worker_id, LEASE_S)
            if run["id"] not in self.ids:
                self.ids.append(run["id"])  # what a death enqueued

    @precondition(lambda self: self.claims)
    @rule(
        data=st.data(),
        what=st.sampled_from(
            [
                "save",
                "save",
                "start",
                "start",
                "gather",
                "gather-or-go",
                "succeeded",
                "failed",
                "fatal",
                "stopped",
                "sleep",
                "wait",
                "wait-briefly",
            ]
        ),
        step=st.integers(1, 3),
        twice=st.booleans(),
    )
    def write(self, data: st.DataObject, what: str, step: int, twice: bool) -> None:
        claim = data.draw(st.sampled_from(self.claims[-12:]))
        before = self.rig.row(claim["run_id"])
        holds = before["status"] == "running" and before["epoch"] == claim["epoch"]
        try:
            first = self.say(claim, what, step)
        except LeaseLost:
            assert not holds
            assert self.rig.row(claim["run_id"]) == before
            return
        if not holds:
            # Not stale, so it was the first answer again; nothing may have moved.
            assert self.rig.row(claim["run_id"]) == before
        if twice:
            now = self.rig.row(claim["run_id"])
            assert self.say(claim, what, step) == first
            assert self.rig.row(claim["run_id"]) == now
        self.drop_ended_leases()

    def say(self, claim: dict[str, Any], what: str, step: int) -> Any:
        if what == "save":
            return self.rig.save(**claim, name=f"step {step}", value=claim["epoch"])
        if what == "sleep":
            return self.rig.sleep(**claim, ms=2_000, step_name=f"sleep {step}")
        if what == "wait":
            return self.rig.wait(**claim, name="go", step_name=f"wait {step}")
        if what == "wait-briefly":
            return self.rig.wait(**claim, name="go", timeout_ms=3_000, step_name=f"wait {step}")
        if what == "start":
            run_id = self.rig.start_child(**claim, name=f"child {step}", workflow=WORKFLOWS[step % 2])
            if run_id not in self.ids:
                self.ids.append(run_id)
            return run_id
        if what in ("gather", "gather-or-go"):
            branches: list[wakers.Branch] = [{"event": "go"}] if what == "gather-or-go" else []
            seq = self.rig.row(claim["run_id"])["seq"]
            rows = self.rig.store.connection.execute("SELECT id FROM runs WHERE parent = ? ORDER BY seq", (seq,))
            children = [row["id"] for row in rows.fetchall()]
            holder = {"worker_id": claim["worker_id"], "epoch": claim["epoch"]}
            return self.rig.gather(claim["run_id"], *children, **holder, branches=branches)
        return self.rig.finish(**claim, outcome=what, retry=NO_JITTER)

    @rule(worker_id=st.sampled_from(WORKERS), counted=st.booleans())
    def lose(self, worker_id: str, counted: bool) -> None:
        alone = len(self.rig.leases.of_worker(worker_id)) == 1
        released = self.rig.die(worker_id) if counted else self.rig.drain(worker_id)
        assert not (released.dead and not (counted and alone))
        self.rig.leases.drop_worker(worker_id)

    @rule(recorded=st.sets(st.sampled_from(WORKERS)))
    def restart(self, recorded: set[str]) -> None:
        self.rig.do(leases.recover, recorded=recorded, now_ms=self.rig.now_ms)
        self.rig.leases = leases.Leases(self.rig.clock.monotonic)
        for run_id, epoch, worker_id in leases.running(self.rig.store):
            self.rig.leases.grant(run_id, epoch, worker_id, LEASE_S)

    # --- time -------------------------------------------------------------------------------------------------------

    @rule(ms=st.sampled_from([1, 400, 2_000, 60_000, 8 * 86_400_000]))
    def wait(self, ms: int) -> None:
        self.rig.clock.advance(ms=ms)
        self.rig.promote()
        self.rig.do(leases.clear_suspects, now_ms=self.rig.now_ms)

    @rule(ms=st.sampled_from([-3_600_000, 3_600_000]))
    def step_the_clock(self, ms: int) -> None:
        self.rig.clock.step_wall(ms=ms)
        self.rig.promote()

    # --- what must be true ------------------------------------------------------------------------------------------

    def drop_ended_leases(self) -> None:
        """As the host does when a run ends or parks."""
        for run_id in self.ids:
            if self.rig.row(run_id)["status"] != "running":
                self.rig.leases.drop_run(run_id)

    @invariant()
    def leases_and_running_runs_are_the_same(self) -> None:
        assert invariants.check(self.rig.store, self.rig.leases) == []

    @invariant()
    def nothing_waits_for_a_time_that_is_not_known(self) -> None:
        due_ms = runs.next_due_ms(self.rig.store)
        later = self.rig.store.connection.execute("SELECT min(run_at_ms) FROM runs WHERE lane = 'later'").fetchone()[0]
        assert later is None or (due_ms is not None and due_ms <= later)

    def everything_ends(self) -> None:
        """L1: faults have stopped; whoever waits gets what it waits for, and every run reaches an end."""
        rig = self.rig
        for target in rig.store.pauses.since_ms:
            rig.do(pausing.resume, target)
        for worker_id in WORKERS:
            rig.drain(worker_id)
        for _ in range(400):
            rig.clock.advance(ms=3_600_000)
            rig.promote()
            for row in rig.store.connection.execute("SELECT id FROM runs WHERE parked = 'wait'").fetchall():
                rig.signal(row["id"], "go", 1)
            claimed = rig.claim("w1", names=tuple(WORKFLOWS), n=5) + rig.claim(
                "solo", names=tuple(WORKFLOWS), solo=True
            )
            for run in claimed:
                rig.succeed(run["id"])
            left = rig.store.connection.execute("SELECT count(*) FROM runs WHERE ended_ms IS NULL").fetchone()[0]
            if left == 0:
                return
        raise AssertionError("runs are stuck")


Engine.TestCase.settings = sized(examples=200, steps=50)
TestEngine = Engine.TestCase
