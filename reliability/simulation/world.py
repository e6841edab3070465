"""One seed, lived through: the plan's events happen, then everything heals, and what was begun must end (L1)."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

from reliability.simulation import shop
from reliability.simulation.callers import Caller
from reliability.simulation.counters import Listener, count
from reliability.simulation.daemon import Daemon
from reliability.simulation.loop import DaemonLoop
from reliability.simulation.machine import Disk, Life, Machine
from reliability.simulation.network import Faults
from reliability.simulation.oracle import Oracle, Violation
from reliability.simulation.plan import Event, Plan
from reliability.simulation.timeline import SimulatedClock, Timeline
from reliability.simulation.worker import Worker
from tako.protocol import env
from tako.supervisor.spawn import SpawnRequest

HEALED_FOR_S = 2_400.0
LOOK_S = 1.5
MOST_STEPS = 60_000
# One file for all seeds of this process: emptying it is much cheaper than making it.
_DISK = Disk()


class World:
    """Everything there is."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.timeline = Timeline()
        self.clock = SimulatedClock(self.timeline)
        self.rng = random.Random(f"{plan.seed} world")
        self.faults = Faults()
        self.oracle = Oracle(self)
        self.disk = _DISK
        self.disk.format()
        self.disk.on_commit = self.oracle.committed
        self.machine = Machine(self.timeline, random.Random(f"{plan.seed} machine"), self._make_worker)
        self.machine.on_end = self.oracle.process_ended
        self.machine.on_signal = self.oracle.process_signalled
        self.version = 1
        self.broken: str | None = None  # how every boot of the default group ends now
        self.is_code_broken = False
        self.next_boots: list[str] = []
        self.daemon: Daemon | None = None
        self.full_until = 0.0
        self.is_code_seen = True  # whether the daemon knows the code that is there
        self.has_healed = False
        self.steps = 0
        self._daemons = 0
        self._workers = 0
        self._releases = 1
        self._dies: str | None = None
        self._dies_for_s = 0.0
        self._signals = 0
        self.caller = Caller(self)

    # --- the whole of it --------------------------------------------------------------------------------------------

    def live(self) -> None:
        """Raises Violation, as soon as one is known."""
        Listener.tell = self.oracle.supervisor_hears
        try:
            self._live()
        finally:
            if self.daemon is not None:
                self.daemon.die()
            self.disk.on_commit = lambda store: None

    def _live(self) -> None:
        begin = self.timeline.now
        self.start_daemon()
        for event in self.plan.events:
            self.timeline.at(begin + event.at, self._happen, event)
        self._run_until(begin + self.plan.duration_s)
        self._heal()
        end = self.timeline.now + HEALED_FOR_S
        while self.timeline.now < end:
            self._run_until(self.timeline.now + LOOK_S)
            left = self.oracle.unfinished()
            if not left and self.timeline.now > begin + self.plan.duration_s + LOOK_S:
                break
            self._help(left)
        self.oracle.at_the_end()
        self.oracle.raise_any()

    def _run_until(self, when: float) -> None:
        step, found = self.timeline.step, self.oracle.violations
        while step(until=when):
            self.steps += 1
            if self.steps > MOST_STEPS:
                self.oracle.fail("L1", "nothing comes to an end: the daemon, or somebody, spins")
            if found:
                self.oracle.raise_any()

    def _happen(self, event: Event) -> None:
        if not self.has_healed:
            _EVENTS[event.what](self, event.args)

    def _heal(self) -> None:
        """No more faults. What people have paused goes on; code that cannot boot is mended."""
        self.has_healed = True
        self.faults.heal()
        self.next_boots.clear()
        self._dies = None
        self.machine.spawn_error = None
        if self.disk.is_full:
            self._disk_has_room()
        self.disk.fsync_fails = None
        if self.daemon is None:
            self.start_daemon()
        else:
            self.daemon.loop.thaw()
        for life in self.machine.lives():
            assert isinstance(life, Worker)
            life.thaw()
        if self.is_code_broken:
            self._mend_code({})
        self.broken = None
        # Runs that were begun under a clock that was ahead wait by it; nobody lives long enough to see an hour pass.
        self.oracle.clock_set()
        self.clock.step_wall(self.clock.latest_ms - self.clock.now_ms())
        self._resume_all()

    def _resume_all(self) -> None:
        for target in ({"group": "default"}, *({"workflow": name} for name in sorted(shop.SCRIPTS)),
                       *({"workflow": "single", "key": key} for key in "xy")):  # fmt: skip
            self.caller.ask({"command": "resume", **target})

    def _help(self, left: list[str]) -> None:
        """Whoever waits for a signal without end is sent one; a daemon that stopped is started."""
        if self.daemon is None:
            self.start_daemon()
        if left:
            self._resume_all()  # a pause may have been under way when everything healed
        for run_id in left:
            wanted = self.plan.runs.get(run_id)
            for line in wanted.script if wanted is not None else ():
                if line[0] == "wait" and line[3] is None:
                    self._signals += 1
                    self._signal({"id": run_id, "signal": line[2], "number": f"help-{self._signals}"})

    def script_of(self, run_id: str, workflow: str) -> shop.Script:
        """What a run does."""
        wanted = self.plan.runs.get(run_id)
        return shop.script_of(workflow) if wanted is None else wanted.script

    # --- daemon and workers -----------------------------------------------------------------------------------------

    def start_daemon(self) -> None:
        """systemd, or a person, starts it."""
        if self.daemon is None:
            self._daemons += 1
            self.is_code_seen = True
            self.daemon = Daemon(self, number=self._daemons)

    def kill_daemon(self, loop: DaemonLoop | None = None, for_s: float = 0.3) -> None:
        """SIGKILL; another one is started after a while."""
        if self.daemon is None or (loop is not None and self.daemon.loop is not loop):
            return
        count("fault: daemon killed")
        daemon, self.daemon = self.daemon, None
        daemon.die()
        self.oracle.daemon_died()
        self._hang_up()
        self.timeline.later(for_s, self.start_daemon)

    def daemon_stopped(self, loop: DaemonLoop) -> None:
        """It has ended by itself."""
        if self.daemon is not None and self.daemon.loop is loop:
            daemon, self.daemon = self.daemon, None
            daemon.die()
            self.oracle.daemon_died()
            self._hang_up()
            self.timeline.later(0.2, self.start_daemon)

    def _hang_up(self) -> None:
        for life in self.machine.lives():
            assert isinstance(life, Worker)
            if life.wire is not None:
                life.wire.cut()
        if self.caller.wire is not None:
            self.caller.wire.cut()

    @property
    def daemon_is_doomed(self) -> bool:
        """Whether the daemon is to be killed at its next transaction."""
        return self._dies is not None

    def daemon_dies(self, moment: str) -> bool:
        """Whether the daemon was to be killed at this moment of a transaction; then it is dead now."""
        if self._dies != moment:
            return False
        self._dies = None
        count(f"fault: daemon killed {moment}")
        self.kill_daemon(for_s=self._dies_for_s)
        return True

    def _make_worker(self, request: SpawnRequest) -> Life:
        self._workers += 1
        boot = "well"
        if request.env[env.GROUP] == "default":
            if self.broken is not None:
                boot = self.broken
            elif self.next_boots:
                boot = self.next_boots.pop(0)
        if boot != "well":
            count(f"fault: boot {boot}")
        worker = Worker(self, request, number=self._workers, boot=boot)
        self.oracle.process_starts(worker)
        return worker

    def _pick(self, which: float) -> Worker | None:
        lives = self.machine.lives()
        if not lives:
            return None
        life = lives[int(which * len(lives))]
        assert isinstance(life, Worker)
        return life

    # --- what callers and people do ---------------------------------------------------------------------------------

    def _enqueue(self, args: dict[str, Any]) -> None:
        self.caller.enqueue(args["ids"])

    def _signal(self, args: dict[str, Any]) -> None:
        message = {
            "command": "signal_run", "id": args["id"], "signal": args["signal"], "signal_id": f"s{args['number']}",
            "payload_json": f'"{args["number"]}"',
        }  # fmt: skip
        self.caller.ask(message)

    def _cancel(self, args: dict[str, Any]) -> None:
        self.caller.ask({"command": "cancel", "id": args["id"], "reason": "as planned"})

    def _retry(self, args: dict[str, Any]) -> None:
        more = {} if args["from_step"] is None else {"from_step": args["from_step"]}
        self.caller.ask({"command": "retry", "id": args["id"], **more})

    def _ack(self, args: dict[str, Any]) -> None:
        self.caller.ask({"command": "ack", "all": True})

    def _look(self, args: dict[str, Any]) -> None:
        self.caller.ask({"command": "get_run", "id": args["id"], "with": ["steps", "attempts", "result"]})
        self.caller.ask({"command": "status"})

    def _pause(self, args: dict[str, Any]) -> None:
        self.caller.ask({"command": "pause", **args["target"]})

    def _resume(self, args: dict[str, Any]) -> None:
        self.caller.ask({"command": "resume", **args["target"]})

    def _unknown(self, args: dict[str, Any]) -> None:
        self.caller.ask(_enqueueing("wrong-name", "chrage", {"n": 1}))

    def _misfit(self, args: dict[str, Any]) -> None:
        self.caller.ask(_enqueueing("misfit", "charge", {"m": 1}))

    def _nonsense(self, args: dict[str, Any]) -> None:
        self.caller.ask({"command": "enqueue_runs", "runs": [{"id": "nonsense", "workflow": 7}]})

    def _intruder(self, args: dict[str, Any]) -> None:
        self.caller.ask({"command": "claim_runs", "max": 1, "wait_ms": 0})

    def _duplicate(self, args: dict[str, Any]) -> None:
        for at in range(2):
            run_id = f"twin-{at}"
            self.caller.ask(_enqueueing(run_id, "single", {"n": 1}, key="x", on_duplicate="raise"))

    def _strange_signal(self, args: dict[str, Any]) -> None:
        self._signal({"id": args["id"], "signal": "nonesuch", "number": "strange"})

    # --- what breaks ------------------------------------------------------------------------------------------------

    def _message(self, args: dict[str, Any]) -> None:
        self.faults.arm(args["fault"], kind=args["kind"], command=args["command"], is_reply=args["is_reply"])

    def _kill_worker(self, args: dict[str, Any]) -> None:
        worker = self._pick(args["which"])
        if worker is not None:
            count("fault: worker killed")
            worker.end(signal_name="SIGKILL", oom=args["oom"])

    def _exit_0(self, args: dict[str, Any]) -> None:
        worker = self._pick(args["which"])
        if worker is not None and worker.has_said_hello:
            count("fault: exit 0")
            self.oracle.groups.trouble(worker.group)
            worker.end(code=0)

    def _freeze_worker(self, args: dict[str, Any]) -> None:
        worker = self._pick(args["which"])
        if worker is not None:
            count("fault: worker frozen")
            worker.freeze(args["for_s"])

    def _deaf_worker(self, args: dict[str, Any]) -> None:
        worker = self._pick(args["which"])
        if worker is not None:
            count("fault: worker deaf")
            worker.is_deaf = True

    def _bad_boot(self, args: dict[str, Any]) -> None:
        self.next_boots += args["how"]

    def _kill_daemon_when(self, args: dict[str, Any]) -> None:
        if args["when"] == "now":
            self.kill_daemon(for_s=args["for_s"])
        else:
            self._dies, self._dies_for_s = args["when"], args["for_s"]

    def _stop_daemon(self, args: dict[str, Any]) -> None:
        if self.daemon is not None and self.daemon.is_listening:
            count("fault: daemon stopped")
            self.daemon.stop()

    def _freeze_daemon(self, args: dict[str, Any]) -> None:
        if self.daemon is not None and not self.daemon.loop.is_frozen:
            count("fault: daemon frozen")
            self.daemon.loop.freeze()
            self.oracle.daemon_freezes()
            self.timeline.later(args["for_s"], self._thaw_daemon, self.daemon)

    def _thaw_daemon(self, daemon: Daemon) -> None:
        self.oracle.daemon_thaws()
        daemon.loop.thaw()

    def _power_cut(self, args: dict[str, Any]) -> None:
        count("fault: power cut")
        self.oracle.power_cut()
        self.kill_daemon(for_s=args["for_s"])
        self.machine.power_cut()
        self.disk.cut()

    def _disk_full(self, args: dict[str, Any]) -> None:
        self.disk.is_full = True
        self.timeline.later(args["for_s"], self._disk_has_room)

    def _disk_has_room(self) -> None:
        self.disk.is_full, self.full_until = False, self.timeline.now

    def _fsync(self, args: dict[str, Any]) -> None:
        self.disk.fsync_fails = args["is_lost"]

    def _clock(self, args: dict[str, Any]) -> None:
        count("fault: clock set forward" if args["ms"] > 0 else "fault: clock set back")
        self.oracle.clock_set()
        self.clock.step_wall(args["ms"])

    def _break_code(self, args: dict[str, Any]) -> None:
        count("fault: code broken")
        self.broken, self.is_code_broken = args["how"], True
        self._save_code()

    def _mend_code(self, args: dict[str, Any]) -> None:
        if self.is_code_broken:
            self.broken, self.is_code_broken = None, False
            self._save_code()

    def _break_outside(self, args: dict[str, Any]) -> None:
        """What workers need to boot is away; it comes back by itself, and nobody saves a file."""
        if self.broken is None:
            count("fault: what boots need is away")
            self.broken = args["how"]
            self.timeline.later(args["for_s"], self._mend_outside)

    def _mend_outside(self) -> None:
        if not self.is_code_broken:
            self.broken = None

    def _recycle_worker(self, args: dict[str, Any]) -> None:
        worker = self._pick(args["which"])
        if worker is not None and worker.has_greeted:
            count("fault: worker recycles itself")
            worker.recycle()

    def _roll(self, args: dict[str, Any]) -> None:
        """A release that a gate has proven takes over, on a server that is not about to stop."""
        if self.daemon is not None and self.daemon.host.has_begun and not self.daemon.loop.is_frozen:
            count("fault: release rolled")
            self._releases += 1
            self.daemon.roll(self._releases, dies=args["dies"])

    def doom(self, moment: str | None) -> None:
        """Have the daemon killed at this moment of the transaction that comes."""
        if moment is not None:
            self._dies, self._dies_for_s = moment, 0.3

    def rolled(self) -> None:
        """The daemon follows: the code that counts is another."""
        assert self.daemon is not None
        self.version = self.daemon.host.version
        self.oracle.code_saved()
        self.oracle.releases.followed()

    def _deploy(self, args: dict[str, Any]) -> None:
        count("fault: deploy")
        self._save_code()

    def _save_code(self) -> None:
        self.version += 1
        self.is_code_seen = False
        if self.daemon is not None and self.daemon.is_listening:
            self.oracle.code_saved()
            self.daemon.loop.enter(self.daemon.host.code_saved)
            self.is_code_seen = not self.daemon.loop.is_frozen

    def _spawn_error(self, args: dict[str, Any]) -> None:
        for group in shop.GROUPS:
            self.oracle.groups.trouble(group)
        self.machine.spawn_error = "[Errno 11] Resource temporarily unavailable: python"
        self.timeline.later(args["for_s"], self._spawns_again)

    def _spawns_again(self) -> None:
        self.machine.spawn_error = None


def _enqueueing(run_id: str, workflow: str, payload: dict[str, int], **fields: Any) -> dict[str, Any]:
    new = {"id": run_id, "workflow": workflow, "payload_json": json.dumps(payload), **fields}
    return {"command": "enqueue_runs", "runs": [new]}


_EVENTS: dict[str, Callable[[World, dict[str, Any]], None]] = {
    "enqueue": World._enqueue, "signal": World._signal, "cancel": World._cancel, "retry": World._retry,
    "ack": World._ack, "look": World._look, "pause": World._pause, "resume": World._resume,
    "unknown": World._unknown, "misfit": World._misfit, "nonsense": World._nonsense, "intruder": World._intruder,
    "duplicate": World._duplicate, "strange signal": World._strange_signal, "message": World._message,
    "kill worker": World._kill_worker, "exit 0": World._exit_0, "freeze worker": World._freeze_worker,
    "deaf worker": World._deaf_worker, "bad boot": World._bad_boot, "kill daemon": World._kill_daemon_when,
    "stop daemon": World._stop_daemon, "freeze daemon": World._freeze_daemon, "power cut": World._power_cut,
    "disk full": World._disk_full, "fsync": World._fsync, "clock": World._clock, "break code": World._break_code,
    "mend code": World._mend_code, "break outside": World._break_outside, "deploy": World._deploy,
    "spawn error": World._spawn_error, "recycle worker": World._recycle_worker, "roll": World._roll,
}  # fmt: skip

__all__ = ["Violation", "World"]
