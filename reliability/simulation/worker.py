"""A worker process, simulated: it boots, says HELLO, claims, heartbeats, follows scripts, drains, and can be frozen.

It keeps to the protocol as `tako.worker` does: what must reach the engine is sent again after a reconnect and while
the store takes no writes; who is told STALE lets go.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from reliability.simulation.counters import count
from reliability.simulation.machine import Life
from reliability.simulation.network import Message, Wire
from reliability.simulation.shop import Script, registry
from reliability.simulation.timeline import Due
from tako.protocol import env
from tako.supervisor.exits import RECYCLED_STATUS
from tako.supervisor.spawn import SpawnRequest

if TYPE_CHECKING:
    from reliability.simulation.world import World

HEARTBEAT_S = 10.0
RECONNECT_S = 15.0
DIAL_AGAIN_S = 0.4
AGAIN_S = 0.5
CLAIM_WAIT_MS = 60_000
KEPT = frozenset({"save_step", "park", "finish", "release_runs", "start_child", "load_outcomes"})
# Which code it runs: of the release that was active, or in the folder, when it was started.
VERSION = "SIMULATED_VERSION"
OnReply = Callable[[Message], None]


class Worker(Life):
    """One process. `boot` is how its start will go: "well", or one of the ways of `world.next_boot`."""

    def __init__(self, world: World, request: SpawnRequest, *, number: int, boot: str) -> None:
        super().__init__(world.machine, request)
        self.world = world
        self.rng = random.Random(f"{world.plan.seed} worker {number}")
        envelope = json.loads(request.envelope)
        self.worker_id: str = envelope["worker_id"]
        self.token: str = envelope["token"]
        self.group = request.env[env.GROUP]
        self.places = int(request.env[env.CONCURRENCY])
        self.idle_timeout_s = int(request.env[env.IDLE_TIMEOUT_MS]) / 1000
        self.drain_timeout_s = int(request.env[env.DRAIN_TIMEOUT_MS]) / 1000
        self.version = int(request.env[VERSION])
        self.boot = boot
        self.wire: Wire | None = None
        self.has_greeted = False
        self.has_said_hello = False
        self.is_draining = False
        self.is_deaf = False
        self.exit_code = 0  # with which it ends by itself
        self.lost_at: float | None = None
        self.attempts: dict[str, Attempt] = {}
        self.claiming = False
        self.idle_since = 0.0
        self._number = 0
        self._requests: dict[int, tuple[Message, OnReply]] = {}
        self._frozen: list[tuple[Callable[..., None], tuple[Any, ...]]] | None = None
        self._handing_back = False
        self.later(self.rng.uniform(0.02, 0.3), self._booted)

    # --- time -------------------------------------------------------------------------------------------------------

    def later(self, delay_s: float, call: Callable[..., None], *args: Any) -> Due:
        """Do something after a while, if it still lives and is not frozen."""
        return self.machine.timeline.later(delay_s, self._do, call, *args)

    def _do(self, call: Callable[..., None], *args: Any) -> None:
        if not self.is_alive:
            return
        if self._frozen is not None:
            self._frozen.append((call, args))
        else:
            call(*args)

    def freeze(self, for_s: float) -> None:
        """SIGSTOP, and SIGCONT after a while."""
        if self._frozen is None:
            self._frozen = []
            self.machine.timeline.later(for_s, self.thaw)

    def thaw(self) -> None:
        """It goes on where it was, and knows of nothing."""
        if self._frozen is None or not self.is_alive:
            return
        waiting, self._frozen = self._frozen, None
        if self.has_said_hello:
            count("worker thawed")
        for call, args in waiting:
            self._do(call, *args)

    @property
    def is_frozen(self) -> bool:
        """Whether it is stopped at present."""
        return self._frozen is not None

    # --- life -------------------------------------------------------------------------------------------------------

    def _booted(self) -> None:
        if self.boot == "hang":
            return
        if self.boot == "killed":
            self.end(signal_name="SIGKILL")
        elif self.boot == "oom":
            self.end(signal_name="SIGKILL", oom=True)
        elif self.boot != "well":
            self.end(code=int(self.boot))
        else:
            self._connect()

    def end(self, *, code: int | None = None, signal_name: str | None = None, oom: bool = False) -> None:
        """The process is gone, and its connection with it."""
        super().end(code=code, signal_name=signal_name, oom=oom)
        if self.wire is not None:
            self.wire.hang_up()

    def terminated(self) -> None:
        """SIGTERM: drain. A second one: hand back at once."""
        self._do(self._drain)

    def recycle(self) -> None:
        """It holds code that will not end: it tells so, takes nothing new, and exits."""
        if not self.is_draining:
            self.exit_code = RECYCLED_STATUS
            self.ask({"command": "leaving", "worker_id": self.worker_id}, _ignore)
            self._do(self._drain)

    def _drain(self) -> None:
        if self.is_draining:
            self._hand_back()
            return
        self.is_draining = True
        if not self.has_said_hello:
            self.end(code=0)
            return
        self.later(self.drain_timeout_s, self._hand_back)
        self._leave_if_done()

    def _hand_back(self) -> None:
        if self._handing_back:
            return
        runs = [{"id": one.run_id, "epoch": one.epoch} for one in self.attempts.values()]
        if not runs:
            self._leave_if_done()
            return
        self._handing_back = True
        for attempt in list(self.attempts.values()):
            attempt.is_over = True
        self.attempts.clear()
        self.ask({"command": "release_runs", "worker_id": self.worker_id, "runs": runs}, self._handed_back)

    def _handed_back(self, reply: Message) -> None:
        if reply["status"] == "ok":
            count("runs handed back")
        self.end(code=self.exit_code)

    def _leave_if_done(self) -> None:
        if self.is_draining and not self.attempts and not self._handing_back and not self._owes():
            self.end(code=self.exit_code)

    def _owes(self) -> bool:
        return any(message["command"] in KEPT for message, _ in self._requests.values())

    # --- the connection ---------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        """Dial, and say HELLO."""
        if self.wire is not None and self.wire.is_up:
            return
        now = self.machine.timeline.now
        if self.lost_at is None:
            self.lost_at = now
        if now - self.lost_at > RECONNECT_S:
            self.end(code=1)
            return
        if self.world.daemon is None or not self.world.daemon.is_listening:
            self.later(DIAL_AGAIN_S, self._connect)
            return
        self.has_greeted = False
        self.wire = Wire(
            self.world,
            kind="worker",
            rng=self.rng,
            on_message=lambda message: self._do(self._got, message),
            on_cut=lambda: self._do(self._cut),
        )
        in_flight = [{"id": one.run_id, "epoch": one.epoch} for one in self.attempts.values()]
        self.wire.send(
            {
                "command": "hello", "request": 0, "app": "shop", "token": self.token, "worker_id": self.worker_id,
                "registry": registry(self.group, self.version), "in_flight": in_flight,
            }
        )  # fmt: skip
        wire = self.wire
        self.later(RECONNECT_S, lambda: None if self.has_greeted or wire is not self.wire else wire.cut())

    def _cut(self) -> None:
        if self.wire is not None and self.wire.is_up:
            return
        self.lost_at = self.machine.timeline.now
        for number, (message, _) in list(self._requests.items()):
            if message["command"] not in KEPT:
                del self._requests[number]
        self.claiming = False
        self.later(self.rng.uniform(0.01, 0.3), self._connect)

    def ask(self, message: Message, on_reply: OnReply) -> None:
        """Send a request; `on_reply` gets the whole reply, once."""
        self._number += 1
        self._requests[self._number] = ({**message, "request": self._number}, on_reply)
        if self.wire is not None and self.has_greeted:
            self.wire.send(self._requests[self._number][0])

    def _got(self, message: Message) -> None:
        number = message.get("request")
        if number is None:
            self._pushed(message)
        elif number == 0:
            self._greeted(message)
        elif number in self._requests:
            asked, on_reply = self._requests[number]
            if message.get("code") in ("store_unavailable", "store_damaged") and asked["command"] in KEPT:
                self.later(AGAIN_S, self._again, number)
                return
            if message["status"] == "error":
                count(f"error {message['code']}")
            del self._requests[number]
            on_reply(message)
            self._leave_if_done()

    def _again(self, number: int) -> None:
        if number in self._requests and self.wire is not None and self.has_greeted:
            self.wire.send(self._requests[number][0])

    def _greeted(self, message: Message) -> None:
        if self.has_greeted:
            return
        if message["status"] != "ok":
            if message.get("code") in ("store_unavailable", "store_damaged"):
                assert self.wire is not None
                self.wire.cut()
                return
            # The engine does not know us any more: another has our place.
            self.end(code=1)
            return
        is_back = self.has_said_hello
        self.has_greeted = self.has_said_hello = True
        self.lost_at = None
        for run_id in message["data"]["stale"]:
            self._let_go(run_id, keep_finish=True)
        assert self.wire is not None
        for asked, _ in list(self._requests.values()):
            self.wire.send(asked)
        if not is_back:
            self.idle_since = self.machine.timeline.now
            self.later(HEARTBEAT_S, self._heartbeat)
        self._claim(first=not is_back)

    def _pushed(self, message: Message) -> None:
        if message.get("push") == "cancel":
            for run in message["runs"]:
                attempt = self.attempts.get(run["id"])
                if attempt is not None and attempt.epoch == run["epoch"]:
                    self._let_go(run["id"])
            self.ask({"command": "cancelled", "runs": message["runs"]}, _ignore)

    def _let_go(self, run_id: str, *, keep_finish: bool = False) -> None:
        """The run is ours no more."""
        attempt = self.attempts.get(run_id)
        if attempt is None or (keep_finish and attempt.is_finishing):
            return
        attempt.over()

    # --- runs -------------------------------------------------------------------------------------------------------

    def _heartbeat(self) -> None:
        self.later(HEARTBEAT_S, self._heartbeat)
        runs = [{"id": one.run_id, "epoch": one.epoch} for one in self.attempts.values()]
        if self.has_greeted:
            self.ask({"command": "heartbeat", "worker_id": self.worker_id, "runs": runs}, self._heard)

    def _heard(self, reply: Message) -> None:
        if reply["status"] == "ok":
            for stale in reply["data"]["stale"]:
                self._let_go(stale["id"], keep_finish=True)

    def _claim(self, *, first: bool = False) -> None:
        free = self.places - len(self.attempts)
        if self.claiming or self.is_draining or self.is_deaf or free <= 0 or not self.has_greeted:
            return
        self.claiming = True
        idle_s = self.machine.timeline.now - self.idle_since
        wait_ms = 0 if first else CLAIM_WAIT_MS
        if not first and not self.attempts:
            wait_ms = max(100, min(wait_ms, round((self.idle_timeout_s - idle_s) * 1000)))
        message = {"command": "claim_runs", "worker_id": self.worker_id, "max": free, "wait_ms": wait_ms}
        self.ask(message, self._claimed)

    def _claimed(self, reply: Message) -> None:
        self.claiming = False
        if reply["status"] != "ok":
            self.later(AGAIN_S, self._claim)
            return
        for run in reply["data"]["runs"]:
            if self.is_draining and self._handing_back:
                continue
            self._begin(run)
        if not reply["data"]["runs"] and not self.attempts and not self.is_draining:
            self.ask({"command": "idle", "worker_id": self.worker_id}, self._may_leave)
        else:
            self._claim()

    def _may_leave(self, reply: Message) -> None:
        if reply["status"] == "ok" and reply["data"]["exit"]:
            self.end(code=0)
        elif self.idle_timeout_s > self.machine.timeline.now - self.idle_since:
            self._claim()
        else:
            self.later(0.5, self._claim)

    def _begin(self, run: dict[str, Any]) -> None:
        before = self.attempts.get(run["id"])
        if before is not None:
            before.is_over = True
        attempt = Attempt(self, run)
        self.attempts[run["id"]] = attempt
        self.later(self.rng.uniform(0.001, 0.01), attempt.go_on)

    def done(self, attempt: Attempt) -> None:
        """A handler has returned, or was let go."""
        if self.attempts.get(attempt.run_id) is attempt:
            del self.attempts[attempt.run_id]
            self.idle_since = self.machine.timeline.now
        self._claim()
        self._leave_if_done()


class Attempt:
    """One run in a worker's hands: its script, followed line by line, what is saved given back."""

    def __init__(self, worker: Worker, run: dict[str, Any]) -> None:
        self.worker = worker
        self.run_id: str = run["id"]
        self.epoch: int = run["epoch"]
        self.number: int = run["attempt"]
        self.memo: dict[str, str] = dict(run["steps"])
        self.script: Script = worker.world.script_of(run["id"], run["workflow"])
        self.workflow: str = run["workflow"]
        self.retries: int = run["retries"]
        self.at = 0
        self.is_over = False
        self.is_finishing = False
        self._gathers = 0

    def over(self) -> None:
        """It is ours no more."""
        if not self.is_over:
            self.is_over = True
            self.worker.done(self)

    def go_on(self) -> None:
        """The next line that is not saved yet."""
        while not self.is_over:
            if self.at >= len(self.script):
                self._finish("succeeded", result_json=json.dumps(self.run_id))
                return
            line = self.script[self.at]
            if line[0] in ("step", "sleep", "wait", "start") and line[1] in self.memo:
                self.at += 1
                continue
            self._LINES[line[0]](self, line)
            return

    # --- lines ------------------------------------------------------------------------------------------------------

    def _step(self, line: tuple[Any, ...]) -> None:
        self.worker.world.oracle.body_starts(self, line[1])
        takes_s = line[2] if len(line) > 2 else self.worker.rng.uniform(0.001, 0.4)
        self.worker.later(takes_s, self._save, line[1])

    def _save(self, name: str) -> None:
        if self.is_over:
            return
        value = json.dumps(f"{name} of {self.run_id} by {self.worker.worker_id} at {self.epoch}")
        self._ask({"command": "save_step", "step_name": name, "result_json": value, "attempt": self.number},
                  lambda data: self._saved(name, data))  # fmt: skip

    def _saved(self, name: str, stored: Any) -> None:
        self.memo[name] = stored
        self.worker.later(0.001, self.go_on)

    def _sleep(self, line: tuple[Any, ...]) -> None:
        wake_at_ms = self.worker.world.clock.now_ms() + line[2]
        self._park(line[1], wake_at_ms=wake_at_ms)

    def _wait(self, line: tuple[Any, ...]) -> None:
        _, name, event, timeout_ms = line
        fields = {"event_name": event}
        if timeout_ms is not None:
            fields["timeout_at_ms"] = self.worker.world.clock.now_ms() + timeout_ms
        self._park(name, **fields)

    def _park(self, name: str, **fields: Any) -> None:
        def answered(data: Any) -> None:
            if data["parked"]:
                self.over()
            else:
                self._saved(name, data["value_json"])

        self._ask({"command": "park", "step_name": name, **fields}, answered)

    def _child(self, line: tuple[Any, ...]) -> None:
        """Start a child, once under this name, then wait for its end, which is not saved with us."""
        name = line[1]
        if name in self.memo:
            self._join(name, json.loads(self.memo[name])["id"])
            return
        new = {"id": f"{self.run_id}.{name}", "workflow": "child", "payload_json": "{}"}

        def started(data: Any) -> None:
            self.memo[name] = json.dumps(data)
            self._join(name, data["id"])

        self._ask({"command": "start_child", "step_name": name, "run": new}, started)

    def _start(self, line: tuple[Any, ...]) -> None:
        """Start a child, and go on. As the SDK does, each attempt makes up an id; the first one counts."""
        _, name, workflow = line
        new = {"id": f"{self.run_id}.{name}@{self.epoch}", "workflow": workflow, "payload_json": "{}"}
        self._ask({"command": "start_child", "step_name": name, "run": new},
                  lambda data: self._saved(name, json.dumps(data)))  # fmt: skip

    def _gather(self, line: tuple[Any, ...]) -> None:
        """Park until all have ended, then ask how; again if one has begun anew meanwhile."""
        _, names, is_strict = line
        ids = [json.loads(self.memo[name])["id"] for name in names]
        self._gathers += 1

        def parked(data: Any) -> None:
            if data["parked"]:
                count("gather parked")
                self.over()
            else:
                self._ask({"command": "load_outcomes", "runs": ids}, ended)

        def ended(data: Any) -> None:
            ends = [outcome["status"] for outcome in data["outcomes"]]
            if any(status in ("pending", "running") for status in ends):
                self._gather(line)
            elif is_strict and ends != ["succeeded"] * len(ids):
                self._fatal(line)
            else:
                count("gather done")
                self.at += 1
                self.worker.later(0.001, self.go_on)

        self._ask({"command": "park", "step_name": f"gather#{self._gathers}", "runs": ids}, parked)

    def _join(self, name: str, child_id: str) -> None:
        def answered(data: Any) -> None:
            if data["parked"]:
                self.over()
            else:
                self.at += 1
                self.worker.later(0.001, self.go_on)

        self._ask({"command": "park", "step_name": f"join {name}", "runs": [child_id]}, answered)

    def _fail(self, line: tuple[Any, ...]) -> None:
        if self.number > line[1]:
            self.at += 1
            self.worker.later(0.001, self.go_on)
        else:
            self._finish("failed", error={"type": "ValueError", "message": "as planned", "traceback": ""})

    def _fatal(self, line: tuple[Any, ...]) -> None:
        self._finish("fatal", error={"type": "Fatal", "message": "as planned", "traceback": ""})

    def _stop(self, line: tuple[Any, ...]) -> None:
        self._finish("stopped", reason="as planned")

    def _die(self, line: tuple[Any, ...]) -> None:
        """Poison: whoever runs this is killed by it."""
        self.worker.world.oracle.body_starts(self, line[1])
        self.worker.later(self.worker.rng.uniform(0.001, 0.2), self._kill_worker)

    def _kill_worker(self) -> None:
        if not self.is_over:
            count("fault: poison")
            self.worker.end(signal_name="SIGKILL", oom=True)

    _LINES: ClassVar[dict[str, Callable[[Attempt, tuple[Any, ...]], None]]] = {}

    # --- what it says -----------------------------------------------------------------------------------------------

    def _finish(self, outcome: str, **fields: Any) -> None:
        from reliability.simulation.shop import NO_JITTER

        self.is_finishing = True
        retry = {**NO_JITTER, "retries": self.retries}
        self._ask({"command": "finish", "outcome": outcome, "retry": retry, **fields}, lambda data: self.over())

    def _ask(self, message: Message, on_data: Callable[[Any], None]) -> None:
        def answered(reply: Message) -> None:
            if self.is_over:
                return
            if reply["status"] == "ok":
                on_data(reply["data"])
            elif reply["code"] in ("stale", "run_not_found"):
                self.over()
            else:
                self.worker.world.oracle.fail("protocol", f"{message['command']} of {self.run_id}: {reply}")
                self.over()

        own = {"worker_id": self.worker.worker_id, "id": self.run_id, "epoch": self.epoch}
        self.worker.ask({**message, **own}, answered)


Attempt._LINES = {
    "step": Attempt._step, "sleep": Attempt._sleep, "wait": Attempt._wait, "child": Attempt._child,
    "fail": Attempt._fail, "fatal": Attempt._fatal, "stop": Attempt._stop, "die": Attempt._die,
    "start": Attempt._start, "gather": Attempt._gather,
}  # fmt: skip


def _ignore(message: Message) -> None:
    pass
