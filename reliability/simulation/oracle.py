"""The judge: it keeps its own books of what was promised to whom, and compares. It knows the contract, not the code.

Rules are named as in the contract: D1 to D9, E1 to E12, I1 to I9, L1 to L4, S1 to S6, C1 to C3, O4.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from reliability.simulation.counters import count
from reliability.simulation.deaths import Deaths
from reliability.simulation.families import Families
from reliability.simulation.groups import GroupWatch
from reliability.simulation.mirror import REACHABLE, Change, Mirror, Row, Step
from reliability.simulation.releases import Releases
from tako.supervisor import events
from tako.supervisor.turn import Turn

if TYPE_CHECKING:
    from reliability.simulation.machine import Life, SimulatedStore
    from reliability.simulation.network import Message, ServerSide
    from reliability.simulation.worker import Attempt, Worker
    from reliability.simulation.world import World
    from tako.host.app import AppHost

# What a refusal may be; anything else is a bug of ours.
REFUSALS = frozenset(
    {
        "worker_unhealthy", "unknown_workflow", "payload", "queue_full", "duplicate_run", "store_unavailable",
        "run_not_found", "run_finished", "unknown_signal", "stale", "illegal_move", "step", "invalid_request",
        "unauthorized", "enqueue_failed", "store_damaged", "error",
    }
)  # fmt: skip


class Violation(Exception):
    """A promise was broken. `rule` is its name in the contract."""

    def __init__(self, rule: str, words: str) -> None:
        super().__init__(f"{rule}: {words}")
        self.rule = rule


class Oracle:
    """Sees every request, reply, commit and end of a process."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.violations: list[Violation] = []
        self.mirror = Mirror(self.fail)
        self.deaths = Deaths(world, self.fail)
        self.groups = GroupWatch(world, self.fail)
        self.families = Families(world, self.fail)
        self.releases = Releases(world, self.fail)
        self.operations = 0
        self._set_at = float("-inf")
        # enqueues
        self._open: defaultdict[str, int] = defaultdict(int)  # copies of an enqueue that have no answer yet
        self._acked: set[str] = set()
        self._refused: set[str] = set()
        self._unknown: set[str] = set()
        self._deadline: dict[str, float] = {}
        self._run_at_ms: dict[str, int] = {}
        # runs and steps
        self._acked_steps: dict[tuple[str, int, str], str] = {}
        self._answers: dict[tuple[Any, ...], tuple[int, Any]] = {}
        self._last_said: dict[tuple[Any, ...], tuple[Any, ...]] = {}  # by run and epoch: what was answered last
        self._holders: dict[tuple[str, int], str | None] = {}
        self._parked: dict[tuple[str, int, str, int], int] = {}
        self._retries: defaultdict[str, int] = defaultdict(int)
        self._retried_at: dict[str, float] = {}
        self._retries_asked: defaultdict[str, int] = defaultdict(int)
        self._own_retries: defaultdict[str, int] = defaultdict(int)  # without those that came with a parent's
        self._cancels_asked: set[str] = set()
        self._fired: set[tuple[str, int]] = set()
        # signals: by run and signal_id
        self._signals: dict[tuple[str, str], tuple[str, str]] = {}
        self._taken: set[tuple[str, str]] = set()

    # --- verdicts ---------------------------------------------------------------------------------------------------

    def fail(self, rule: str, words: str) -> None:
        """A promise was broken."""
        self.violations.append(Violation(rule, f"at {self.world.timeline.now - 1000:.3f}s: {words}"))

    def raise_any(self) -> None:
        """Raise the first violation, if there is one."""
        if self.violations:
            raise self.violations[0]

    def loop_error(self, context: dict[str, Any]) -> None:
        """An exception that nobody caught, in a callback or a task of the daemon."""
        where = context.get("task") or context.get("future") or context.get("handle")
        self.fail("internal", f"{context.get('message')}: {context['exception']!r} {where!r}")

    # --- requests and replies ---------------------------------------------------------------------------------------

    def asked(self, side: ServerSide, message: Message) -> None:
        """A request has reached the daemon."""
        self.operations += 1
        number = message.get("request")
        message["asked_at"] = self.world.timeline.now
        if isinstance(number, int):
            if number in side.asked:  # a copy: the answer that comes may be the first one's
                message["asked_at"] = side.asked[number]["asked_at"]
            side.asked[number] = message
        command = message.get("command")
        if command == "enqueue_runs":
            for run in _runs(message):
                self._open[run["id"]] += 1
                deadline = message.get("deadline_mono_ms")
                known = self._deadline.get(run["id"], 0.0)
                self._deadline[run["id"]] = max(known, float("inf") if deadline is None else deadline)
        elif command == "retry":
            self._retries_asked[message["id"]] += 1
        elif command == "cancel":
            self._cancels_asked.add(message["id"])
        elif command in ("heartbeat", "hello"):
            self.deaths.heard(message, side)

    def answered(self, side: ServerSide, reply: Message) -> None:
        """A reply leaves the daemon."""
        asked = side.asked.get(reply.get("request", -1))
        if asked is None:
            return
        if reply["status"] == "error":
            self._refused_with(asked, reply)
        else:
            judge = _JUDGES.get(asked["command"])
            if judge is not None:
                judge(self, asked, reply["data"])
        if asked["command"] == "enqueue_runs":
            for run in _runs(asked):
                self._open[run["id"]] -= 1

    def _refused_with(self, asked: Message, reply: Message) -> None:
        code, command = reply["code"], asked["command"]
        if code not in REFUSALS:
            self.fail("internal", f"{command} was answered with {reply['code']}: {reply['message']}")
        if command == "enqueue_runs":
            whether = self._unknown if code == "store_damaged" else self._refused
            whether.update(run["id"] for run in _runs(asked))
            self.groups.refused(asked, reply)
            return
        if code == "stale" and command in _WRITES:
            count("stale write rejected")
            self._stale_is_right(asked)

    def _stale_is_right(self, asked: Message) -> None:
        """E5: who was told yes for this epoch is not told STALE when it says so again, unless the run has moved on."""
        said = _said(asked)
        before = self._answers.get(said)
        if self._last_said.get(said[1:3]) != said:
            return  # it has gone on since: a copy that comes late
        row = self.mirror.by_id.get(asked["id"])
        if before is not None and row is not None and row.epoch == asked["epoch"] \
                and before[0] == self._retries[row.id] and row.id not in self._cancels_asked:  # fmt: skip
            self.fail("E5", f"{asked['command']} of {asked['id']} was answered {before[1]}, and now with STALE")

    # --- judges of good news ----------------------------------------------------------------------------------------

    def _enqueued(self, asked: Message, data: Any) -> None:
        for run, answer in zip(asked["runs"], data["runs"], strict=True):
            row = self.mirror.by_id.get(answer["id"])
            if row is None:
                self.fail("D3", f"{answer['id']} was acknowledged before it was stored")
                continue
            if row.id != run["id"] and (row.key is None or row.key != run.get("key")):
                self.fail("E10", f"{run['id']} was answered with {row}")
            self._acked.add(row.id)
            if answer["is_new"] and row.id == run["id"]:
                self.groups.accepted(asked, run)

    def _claimed(self, asked: Message, data: Any) -> None:
        for run in data["runs"]:
            row = self.mirror.by_id[run["id"]]
            if row.epoch == run["epoch"] and row.generation == run["generation"]:
                for (run_id, generation, name), value in self._acked_steps.items():
                    if run_id == row.id and generation == row.generation and run["steps"].get(name) != value:
                        self.fail("D5", f"{run_id} was claimed with {name} = {run['steps'].get(name)}, not {value}")
            if run["solo"]:
                count("suspect run alone")

    def _saved(self, asked: Message, data: Any) -> None:
        row = self.mirror.by_id[asked["id"]]
        step = self._step_for(asked, row.seq)
        if step is None:
            self.fail("D3", f"step {asked['step_name']} of {row.id} was acknowledged before it was stored")
            return
        if step.result != data:
            self.fail("D5", f"step {step.name} of {row.id} is {step.result}, and was answered with {data}")
        if step.epoch != asked["epoch"] and (row.epoch != asked["epoch"] or row.status != "running"):
            self.fail("E2", f"{asked} was accepted, the run is {row}")
        self._acked_steps.setdefault((row.id, step.generation, step.name), data)
        self._same_again(asked, data)

    def _step_for(self, asked: Message, seq: int) -> Step | None:
        """The step that an answer is about; the run may be in a new generation by now."""
        found = [
            step for (run, _, name), step in self.mirror.steps.items() if run == seq and name == asked["step_name"]
        ]
        of_epoch = [step for step in found if step.epoch == asked["epoch"]]
        return (of_epoch or found or [None])[-1]  # type: ignore[list-item]

    def _park_answered(self, asked: Message, data: Any) -> None:
        row = self.mirror.by_id[asked["id"]]
        if data["parked"] and "runs" not in asked:
            key = (row.id, row.generation, asked["step_name"], self._retries[row.id])
            epoch = self._parked.setdefault(key, asked["epoch"])
            if epoch != asked["epoch"]:
                self.fail("E9", f"{row.id} parked at {asked['step_name']!r} at epoch {epoch} and at {asked['epoch']}")
        if "runs" in asked:
            self.families.parked(asked, data)
        else:
            self._same_again(asked, data["parked"])

    def _finished(self, asked: Message, data: Any) -> None:
        row = self.mirror.by_id[asked["id"]]
        if row.epoch == asked["epoch"] and row.status == "running":
            self.fail("D3", f"{row.id} was told that it is {data['status']}, and is running")
        self._same_again(asked, data)

    def _same_again(self, asked: Message, data: Any) -> None:
        said = _said(asked)
        before = self._answers.setdefault(said, (self._retries[asked["id"]], data))
        # A copy that comes late, when its sender has had the first answer and has gone on from there, is not a repeat.
        is_last = self._last_said.setdefault(said[1:3], said) == said or before[1] is data
        if before[1] is data:
            self._last_said[said[1:3]] = said
        if before[1] != data and is_last and before[0] == self._retries[asked["id"]]:
            self.fail("E5", f"{said} was answered {before[1]}, then {data}")

    def _signalled(self, asked: Message, data: Any) -> None:
        if not data["delivered"] and not data["kept"]:
            self.fail("E8", f"{asked} was neither delivered nor kept")
        if data["kept"]:
            count("mailbox used")
        self._signals[asked["id"], asked["signal_id"]] = (asked["signal"], asked["payload_json"])

    def _retried(self, asked: Message, data: Any) -> None:
        count("run retried by a person")

    # --- commits ----------------------------------------------------------------------------------------------------

    def committed(self, store: SimulatedStore) -> None:
        """After each COMMIT."""
        self.operations += 1
        before = dict(self.mirror.rows)
        changes, steps = self.mirror.look(store)
        begun_again = {row.seq for old, row in changes if old is not None and old.has_ended}
        for change in changes:
            if change.after.seq in begun_again:
                self._check_retry(change, begun_again)
            self._check_change(change)
        for step in steps:
            self._check_step(step, before.get(step.run))
        for change in changes:
            self.families.check_change(change)
        self.deaths.committed(store, changes, before)
        self.releases.committed(store, changes)

    def _check_change(self, change: Change) -> None:
        before, row = change
        if before is None:
            self._check_new(change)
            before = row._replace(status="pending", epoch=0, ended_ms=None)
        if not before.has_ended and row.status not in REACHABLE[before.status]:
            self.fail("states", f"{before} became {row}")
        if row.status == "cancelled" and row.reason == "as planned" and not before.has_ended \
                and row.id not in self._cancels_asked and row.workflow != "quits":  # fmt: skip
            self.fail("states", f"{row} was cancelled, and nobody asked")
        if row.epoch > before.epoch:
            self._check_claim(change)
        if row.has_ended and not before.has_ended:
            # What its mailbox still held is told in a warning of the run; nobody will take it (E8).
            for key in [key for key in self._signals if key[0] == row.id]:
                del self._signals[key]

    def _check_retry(self, change: Change, begun_again: set[int]) -> None:
        """E6: only people's retry ends an end: the run's own, or its parent's in the same commit, if it had failed."""
        before, row = change
        assert before is not None
        self._retries[row.id] += 1
        self._retried_at[row.id] = self.world.timeline.now
        self._run_at_ms.pop(row.id, None)  # E11 speaks of the caller's time; who retries it means now
        if row.parent in begun_again and before.status != "succeeded":
            return
        self._own_retries[row.id] += 1
        if self._own_retries[row.id] > self._retries_asked[row.id]:
            self.fail("E6", f"{before} became {row}")

    def has_been_retried(self, row: Row, *, since: float) -> bool:
        """Whether people's retry has changed it since then."""
        return self._retried_at.get(row.id, -1.0) >= since

    def _check_new(self, change: Change) -> None:
        row = change.after
        now_ms = self.world.clock.now_ms()
        deadline = self._deadline.get(row.id)
        if deadline is not None and self.world.timeline.now * 1000 > deadline + 1:
            self.fail("D4", f"{row.id} was stored after its deadline")
        self._run_at_ms[row.id] = row.run_at_ms if row.run_at_ms is not None else now_ms
        if row.key is not None:
            twins = [other.id for other in self.mirror.rows.values()
                     if other.key == row.key and other.workflow == row.workflow and not other.has_ended]  # fmt: skip
            if len(twins) > 1:
                self.fail("E10", f"{twins} have the key {row.key} of {row.workflow}")
        if row.scheduled_for_ms is not None:
            count("schedule fired")
            if (row.workflow, row.scheduled_for_ms) in self._fired:
                self.fail("E7", f"{row.workflow} fired twice for {row.scheduled_for_ms}")
            self._fired.add((row.workflow, row.scheduled_for_ms))
            late_ms = now_ms - row.scheduled_for_ms
            if row.workflow == "tick" and late_ms > 21_000 and self.world.timeline.now - self._set_at > 1:
                self.fail("E7", f"{row.workflow} fired for a time {late_ms} ms ago, which was not the newest")

    def _check_claim(self, change: Change) -> None:
        row = change.after
        holder = self._holders.setdefault((row.id, row.epoch), row.worker_id)
        if holder != row.worker_id:
            self.fail("E3", f"epoch {row.epoch} of {row.id} belonged to {holder}, and to {row.worker_id}")
        if self._run_at_ms.get(row.id, 0) > self.world.clock.latest_ms and not self._may_be_retried_unseen(row):
            self.fail("E11", f"{row.id} was claimed before {self._run_at_ms[row.id]}")

    def _may_be_retried_unseen(self, row: Row) -> bool:
        """Whether a cancel and a retry of it may have been one commit, of which only the retry can be seen."""
        return row.id in self._cancels_asked and self._retries_asked[row.id] > self._own_retries[row.id]

    def _check_step(self, step: Step, before: Any) -> None:
        row = self.mirror.rows[step.run]
        if before is None or step.generation > before.generation:
            return  # copied by a retry from a step
        if step.kind in ("step", "child") and (before.status != "running" or before.epoch != step.epoch):
            self.fail("E2", f"{step} was saved, the run was {before}")
        if step.kind == "signal" and not step.result.startswith("{"):
            self._signal_taken(row.id, step)
        if step.kind == "timeout":
            self._check_timeout(row.id, step)

    def _signal_taken(self, run_id: str, step: Step) -> None:
        key = (run_id, step.result)
        if key in self._taken:
            self.fail("E8", f"the signal {step.result} was given to two waits of {run_id}")
        self._taken.add(key)
        count("signal taken")

    def _check_timeout(self, run_id: str, step: Step) -> None:
        count("wait timed out")
        event = next((line[2] for line in self.world.script_of(run_id, "") if line[:2] == ("wait", step.name)), None)
        for (of_run, _), (name, payload) in self._signals.items():
            if of_run == run_id and name == event and (run_id, payload) not in self._taken:
                self.fail("E8", f"{run_id} timed out at {step.name!r}, and the signal {payload} was there")

    # --- processes --------------------------------------------------------------------------------------------------

    def body_starts(self, attempt: Attempt, name: str) -> None:
        """A worker begins the body of a step."""
        self.operations += 1
        row = self.mirror.by_id.get(attempt.run_id)
        if row is not None and row.epoch == attempt.epoch and (row.id, row.generation, name) in self._acked_steps:
            self.fail("E1", f"the body of {name!r} of {row.id} runs again after it was acknowledged")

    def process_starts(self, worker: Worker) -> None:
        """The daemon starts a worker."""
        self.operations += 1
        self.groups.process_starts(worker)
        self.releases.process_starts(worker)

    def process_ended(self, life: Life) -> None:
        """A process is gone."""
        self.operations += 1
        self.deaths.process_ended(life)
        self.groups.process_ended(life)

    def process_signalled(self, life: Life, number: int) -> None:
        """The daemon sends a signal."""
        self.deaths.process_signalled(life)

    def supervisor_hears(self, turn: Turn, event: events.Event, row: str) -> None:
        """An event goes through the table of a group, and a row answers it."""
        self.operations += 1
        if isinstance(event, events.LeaseExpired):
            self.deaths.lease_expired(event.worker_id, self.mirror.rows_of_worker(event.worker_id))
        elif isinstance(event, events.ReconnectTimer):
            self.deaths.silent(event.worker_id)
        elif isinstance(event, events.Exited):
            self.groups.exit_judged(turn, event, row)

    def daemon_started(self, host: AppHost) -> None:
        """Recovery is done: nothing that was acknowledged may be missing."""
        self.operations += 1
        count("daemon started")
        self.groups.daemon_started()
        self.releases.daemon_started(host.store)  # type: ignore[arg-type]
        self.mirror._changes = -1
        changes, _ = self.mirror.look(host.store)  # type: ignore[arg-type]
        for change in changes:
            self.fail("D1", f"after a restart {change.before} is {change.after}")
        self.mirror.check_all(host.store)  # type: ignore[arg-type]
        for run_id in sorted(self._acked - self.mirror.by_id.keys()):
            self.fail("D1", f"{run_id} was acknowledged and is gone")

    def daemon_died(self) -> None:
        """Whoever waits for an answer will not get it from this one."""
        for run_id, n in self._open.items():
            if n:
                self._unknown.add(run_id)
        self._open.clear()
        self.groups.daemon_died()

    def daemon_freezes(self) -> None:
        """SIGSTOP."""
        self.deaths.daemon_freezes()

    def daemon_thaws(self) -> None:
        """SIGCONT."""
        self.deaths.daemon_thaws()

    def power_cut(self) -> None:
        """Nobody is to blame for what ends now."""
        self.deaths.power_cut()

    def clock_set(self) -> None:
        """The wall clock jumps."""
        self._set_at = self.world.timeline.now

    def code_saved(self) -> None:
        """Row 18."""
        self.groups.code_saved()

    # --- the end ----------------------------------------------------------------------------------------------------

    def unfinished(self) -> list[str]:
        """Runs that have not ended, schedules' ones left out: they go on for ever."""
        return [row.id for row in self.mirror.rows.values() if not row.has_ended and row.scheduled_for_ms is None]

    def at_the_end(self) -> None:
        """Everything healed long ago."""
        daemon = self.world.daemon
        assert daemon is not None
        if not daemon.is_listening:
            self.fail("L1", "the daemon does not answer")
            return
        self.mirror.check_all(daemon.host.store)  # type: ignore[arg-type]
        for run_id in self.unfinished():
            self.fail("L1", f"{self.mirror.by_id[run_id]} has not ended")
        for run_id in sorted(self._acked - self.mirror.by_id.keys()):
            self.fail("D1", f"{run_id} was acknowledged and is gone")
        for run_id in sorted(self._refused - self._acked - self._unknown):
            if run_id in self.mirror.by_id and not self._open[run_id]:
                self.fail("S1", f"{run_id} was refused, and is stored")
        for row in self.mirror.rows.values():
            self._check_end(row)

    def _check_end(self, row: Any) -> None:
        wanted = self.world.plan.runs.get(row.id)
        if wanted is None or not row.has_ended:
            return
        if row.status == "dead" and row.reason.startswith("worker died"):
            self.deaths.check_dead(row)
            if wanted.is_poison:
                count("poison run dead")
            return
        if row.status == "cancelled" and (row.id in self._cancels_asked or wanted.ends == "either"):
            return
        if wanted.ends not in (row.status, "either") and not self._retries[row.id]:
            self.fail("ends", f"{row} should be {wanted.ends}")


def _runs(message: Message) -> list[dict[str, Any]]:
    runs = message.get("runs")
    return [run for run in runs if isinstance(run.get("id"), str)] if isinstance(runs, list) else []


_WRITES = ("save_step", "park", "finish")


def _said(asked: Message) -> tuple[Any, ...]:
    return asked["command"], asked["id"], asked["epoch"], asked.get("step_name")


_JUDGES: dict[str, Any] = {
    "enqueue_runs": Oracle._enqueued,
    "claim_runs": Oracle._claimed,
    "save_step": Oracle._saved,
    "park": Oracle._park_answered,
    "start_child": lambda self, asked, data: self.families.started(asked, data),
    "load_outcomes": lambda self, asked, data: self.families.told(asked, data),
    "finish": Oracle._finished,
    "signal_run": Oracle._signalled,
    "retry": Oracle._retried,
}
