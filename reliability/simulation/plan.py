"""From a seed to a history's outline: settings, and the events that callers, people and faults bring about, in order.

Everything that comes from outside is in this list, a lost message as much as an enqueue; what the machine answers by
itself (how long a boot takes) follows from the seed and the name of who asks. So an event can be left out without
changing all the others, which is what makes a failure small (`shrink.py`).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from reliability.simulation.shop import SCRIPTS, SIGNALS, Line, Script, Wanted

# Each knows what those before it knew, and more. What they drew stays as it was, so a seed that has failed under an
# earlier one is still that history. 2 has what 1 has not: families that gather, servers to which releases are rolled.
EDITIONS = (1, 2)
LATEST = EDITIONS[-1]


@dataclass(frozen=True, slots=True)
class Settings:
    """What `tako.toml` says, and which faults this seed knows."""

    min_workers: int
    max_workers: int
    concurrency: int
    idle_timeout_s: float
    boot_timeout_s: float
    drain_timeout_s: float
    faults: tuple[str, ...]
    is_server: bool = False  # code comes as releases that a gate has proven, and not from files that are saved


@dataclass(frozen=True, slots=True)
class Event:
    """Something that comes from outside, `at` so many seconds after the beginning."""

    at: float
    what: str
    args: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        """As a person reads it."""
        said = " ".join(f"{name}={value}" for name, value in self.args.items())
        return f"{self.at:8.3f}s  {self.what:16} {said}"


@dataclass(frozen=True, slots=True)
class Plan:
    """One seed's history, before it happens."""

    seed: int
    settings: Settings
    duration_s: float
    events: tuple[Event, ...]
    runs: dict[str, Wanted]


def plan(seed: int, *, edition: int = LATEST) -> Plan:
    """The plan of a seed."""
    planner = _Planner(seed)
    settings, duration_s = planner.first()
    if edition >= 2:
        settings = planner.second(settings, duration_s)
    planner.events.sort(key=lambda event: event.at)
    return Plan(seed, settings, duration_s, tuple(planner.events), planner.runs)


MESSAGE_FAULTS = ("lose", "double", "delay")
WORKER_COMMANDS = ("save_step", "park", "finish", "claim_runs", "hello", "heartbeat", "enqueue_runs", None)
CALLER_COMMANDS = ("enqueue_runs", "signal_run", "cancel", "retry")
FAULTS = (
    "lose", "double", "delay", "kill worker", "exit 0", "freeze worker", "deaf worker", "bad boot", "kill daemon",
    "stop daemon", "freeze daemon", "power cut", "disk full", "fsync", "clock", "break code", "deploy", "spawn error",
    "break outside", "recycle worker",
)  # fmt: skip


class _Planner:
    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.rng = random.Random(f"plan {seed}")
        self.events: list[Event] = []
        self.runs: dict[str, Wanted] = {}
        self.signals = 0

    def first(self) -> tuple[Settings, float]:
        """All that the first edition knows."""
        rng = self.rng
        # Most histories are short, since most defects show in a few seconds; what needs a lease to run out gets longer.
        is_long = rng.random() < 0.08
        faults = tuple(name for name in FAULTS if rng.random() < 0.2)
        settings = Settings(
            min_workers=rng.choice((0, 0, 0, 1, 2)),
            max_workers=rng.choice((1, 1, 2, 3)),
            concurrency=rng.choice((1, 2, 2, 4)),
            idle_timeout_s=rng.choice((2.0, 10.0, 30.0)),
            boot_timeout_s=rng.choice((5.0, 10.0, 30.0)),
            drain_timeout_s=rng.choice((2.0, 5.0, 30.0)),
            faults=faults,
        )
        duration_s = rng.uniform(20, 60) if is_long else rng.uniform(3, 9)
        kinds = rng.sample(list(_RUNS), rng.randint(2, 5))
        for _ in range(rng.randint(6, 12) if is_long else rng.randint(1, 4)):
            self._enqueue(rng.uniform(0, duration_s * 0.8), rng.choice(kinds))
        for _ in range(rng.randint(0, 2)):
            self._ask(rng.uniform(0, duration_s))
        for name in faults:
            for _ in range(rng.randint(1, 3) if is_long else rng.randint(1, 2)):
                self._fault(name, rng.uniform(0.5, duration_s))
        if rng.random() < 0.12:
            settings, duration_s = self._scenario(settings, duration_s)
        return settings, duration_s

    def second(self, settings: Settings, duration_s: float) -> Settings:
        """Families that gather their children, and servers, beside all that was there before."""
        self.rng = rng = random.Random(f"second plan {self.seed}")
        if rng.random() < 0.3:
            for _ in range(rng.randint(1, 2)):
                at = rng.uniform(0, duration_s * 0.6)
                self._enqueue(at, "gather")
                if rng.random() < 0.25:
                    self._event(at + rng.uniform(0.2, 3), "cancel", id=f"run-{len(self.runs) - 1}")
            for _ in range(rng.randint(0, 3)):
                command = rng.choice(("start_child", "park", "load_outcomes"))
                self._event(rng.uniform(0, duration_s), "message", fault=rng.choice(MESSAGE_FAULTS[:2]), kind="worker",
                            command=command, is_reply=rng.random() < 0.7)  # fmt: skip
        if rng.random() < 0.03:
            self._hang_up(rng.uniform(0.5, duration_s))
        if rng.random() < 0.2:
            settings = replace(settings, is_server=True)
            self.events = [_on_a_server(event) for event in self.events if event.what != "mend code"]
            for _ in range(rng.randint(1, 2)):
                dies = rng.choice((None, None, None, "before commit", "after commit"))
                self._event(rng.uniform(0.5, duration_s), "roll", dies=dies)
        return settings

    def _event(self, at: float, what: str, **args: Any) -> None:
        self.events.append(Event(round(at, 3), what, args))

    def _scenario(self, settings: Settings, duration_s: float) -> tuple[Settings, float]:
        """Something rare, set up so that it happens: chance alone would need a thousand seeds for it."""
        return self.rng.choice(_SCENARIOS)(self, settings, duration_s)

    def _slow_runs(self, n: int, seconds: float, *, at: float = 0.3) -> list[str]:
        ids = []
        for _ in range(n):
            run_id = f"run-{len(self.runs)}"
            self.runs[run_id] = Wanted("charge", (("step", "a"), ("step", "slow", seconds), ("step", "c")))
            ids.append(run_id)
        self._event(at, "enqueue", ids=ids)
        return ids

    def _suspects(self, settings: Settings, duration_s: float) -> tuple[Settings, float]:
        """Long runs whose worker dies with several of them: they are run alone, and cleared of suspicion."""
        self._slow_runs(2, 32.0)
        self._event(self.rng.uniform(1.5, 5), "kill worker", which=0.0, oom=False)
        return replace(settings, concurrency=4, max_workers=1), max(duration_s, 60.0)

    def _zombie(self, settings: Settings, duration_s: float) -> tuple[Settings, float]:
        """A worker that is frozen until its lease has run out, and then goes on where it was."""
        self._slow_runs(2, self.rng.uniform(1, 4))
        self._event(self.rng.uniform(1, 4), "freeze worker", which=0.0, for_s=self.rng.uniform(28, 36))
        return settings, max(duration_s, 45.0)

    def _stall(self, settings: Settings, duration_s: float) -> tuple[Settings, float]:
        """A daemon that stands still for longer than a lease, over workers that do not."""
        self._slow_runs(2, 50.0)
        self._event(self.rng.uniform(3, 12), "freeze daemon", for_s=self.rng.uniform(31, 40))
        return settings, max(duration_s, 60.0)

    def _failing(self, settings: Settings, duration_s: float) -> tuple[Settings, float]:
        """Code that stays broken until its group is called failing."""
        self.runs[run_id := f"run-{len(self.runs)}"] = _nap(self.rng)
        self._event(0.3, "break code", how=self.rng.choice(("1", "0")))
        self._event(0.6, "enqueue", ids=[run_id])
        return settings, 300.0

    def _siblings(self, settings: Settings, duration_s: float) -> tuple[Settings, float]:
        """Several boots at once, and all fail."""
        self._event(2.0, "bad boot", how=["1"] * 4)
        self._slow_runs(4, 1.0, at=2.1)
        return replace(settings, concurrency=1, max_workers=3), max(duration_s, 8.0)

    def _echo(self, settings: Settings, duration_s: float) -> tuple[Settings, float]:
        """A run fails and is tried again by the same worker, and what was said of the first attempt comes once more."""
        for at in range(3):
            self.runs[run_id := f"run-{len(self.runs)}"] = Wanted(
                "shaky", (("step", "a"), ("fail", 1), ("step", "b", 6.0)), {"retries": 3}
            )
            self._event(0.3 + at / 10, "enqueue", ids=[run_id])
            self._event(0.2 + at / 1000, "message", fault="double", kind="worker", command="finish", is_reply=False)
        return replace(settings, concurrency=4, max_workers=1), max(duration_s, 12.0)

    def _late_end(self, settings: Settings, duration_s: float) -> tuple[Settings, float]:
        """The end of a run is on its way when somebody cancels it."""
        for at in range(3):
            (run_id,) = self._slow_runs(1, 0.2, at=0.3 + at)
            self._event(0.3 + at, "message", fault="delay 4", kind="worker", command="finish", is_reply=False)
            self._event(2.5 + at, "cancel", id=run_id)
        return settings, max(duration_s, 12.0)

    def _hang_up(self, at: float) -> None:
        """The connection of a caller is lost whose enqueue waits for the first worker of new code."""
        self._event(at, "deploy")
        self.runs[run_id := f"run-{len(self.runs)}"] = Wanted("charge", SCRIPTS["charge"])
        self._event(at + 0.003, "enqueue", ids=[run_id])
        self._event(at + 0.008, "message", fault="lose", kind="caller", command=None, is_reply=False)
        self._event(at + 0.009, "look", id=run_id)

    # --- callers ----------------------------------------------------------------------------------------------------

    def _enqueue(self, at: float, kind: str) -> None:
        rng = self.rng
        many = rng.randint(2, 4) if rng.random() < 0.2 else 1
        ids = []
        for _ in range(many):
            run_id = f"run-{len(self.runs)}"
            self.runs[run_id] = wanted = (_RUNS | _RUNS_OF_FAMILIES)[kind](rng)
            if rng.random() < 0.1:
                wanted.fields["delay_ms"] = rng.choice((500, 5_000))
            if rng.random() < 0.05:
                wanted.fields["priority"] = rng.randint(1, 9)
            ids.append(run_id)
        self._event(at, "enqueue", ids=ids)
        for run_id in ids:
            self._follow_up(at, run_id)

    def _follow_up(self, at: float, run_id: str) -> None:
        """What callers do about a run later on: signals above all."""
        rng = self.rng
        for line in self.runs[run_id].script:
            if line[0] == "wait" and rng.random() < 0.75:
                self.signals += 1
                self._event(at + rng.uniform(0, 12), "signal", id=run_id, signal=line[2], number=self.signals)
        if rng.random() < 0.12:
            self._event(at + rng.uniform(0, 10), "cancel", id=run_id)
        if rng.random() < 0.15:
            from_step = rng.choice((None, "a", "b", "no such step"))
            self._event(at + rng.uniform(1, 30), "retry", id=run_id, from_step=from_step)

    def _ask(self, at: float) -> None:
        rng = self.rng
        what = rng.choice(
            ("unknown", "misfit", "nonsense", "intruder", "duplicate", "strange signal", "pause", "look", "look", "ack")
        )
        if what == "pause":
            kind = rng.choice(("workflow", "group", "key"))
            target: dict[str, Any] = {"workflow": rng.choice(sorted(SCRIPTS))}
            if kind == "group":
                target = {"group": "default"}
            elif kind == "key":
                target = {"workflow": "single", "key": rng.choice("xy")}
            self._event(at, "pause", target=target)
            self._event(at + rng.uniform(0.1, 20), "resume", target=target)
        elif what in ("look", "strange signal"):
            self._event(at, what, id=rng.choice(sorted(self.runs) or ["run-0"]))
        else:
            self._event(at, what)

    # --- faults -----------------------------------------------------------------------------------------------------

    def _fault(self, name: str, at: float) -> None:
        rng = self.rng
        if name in MESSAGE_FAULTS:
            kind = rng.choice(("worker", "worker", "caller"))
            command = rng.choice(WORKER_COMMANDS if kind == "worker" else CALLER_COMMANDS)
            what = name
            if name == "delay":
                what = f"delay {rng.choice((0.05, 0.5, 4.0, 12.0, 33.0)):g}"
            for each in range(rng.randint(1, 3)):
                self._event(at + each / 1000, "message", fault=what, kind=kind, command=command,
                            is_reply=rng.random() < 0.5)  # fmt: skip
        elif name == "kill worker":
            for each in range(rng.choice((1, 1, 1, 2, 7))):
                self._event(at + each * rng.uniform(0.05, 4), name, which=rng.random(), oom=rng.random() < 0.3)
        elif name == "freeze worker":
            self._event(at, name, which=rng.random(), for_s=rng.choice((0.2, 3.0, 12.0, 31.0, 33.5, 40.0)))
        elif name in ("exit 0", "deaf worker", "recycle worker"):
            self._event(at, name, which=rng.random())
        elif name == "bad boot":
            self._event(at, name, how=[rng.choice(("1", "0", "78", "hang", "killed", "oom"))
                                       for _ in range(rng.choice((1, 1, 2, 4)))])  # fmt: skip
        elif name == "kill daemon":
            when = rng.choice(("now", "before commit", "after commit", "after commit"))
            self._event(at, name, when=when, for_s=rng.choice((0.1, 0.3, 2.0, 20.0)))
        elif name in ("stop daemon", "power cut"):
            self._event(at, name, for_s=rng.choice((0.1, 2.0)))
        elif name in ("freeze daemon", "disk full"):
            self._event(at, name, for_s=rng.choice((0.3, 2.0, 8.0, 35.0)))
        elif name == "fsync":
            self._event(at, name, is_lost=rng.random() < 0.5, for_s=0.3)
        elif name == "clock":
            self._event(at, name, ms=rng.choice((-3_600_000, 3_600_000, -15_000, 15_000, 70_000, -70_000)))
        elif name == "break code":
            self._event(at, name, how=rng.choice(("1", "1", "0", "78", "hang")))
            self._event(at + rng.choice((0.2, 2.0, 15.0, 60.0)), "mend code")
        elif name == "break outside":
            self._event(at, name, how=rng.choice(("1", "killed")), for_s=rng.choice((2.0, 20.0)))
        elif name == "deploy":
            self._event(at, name)
        elif name == "spawn error":
            self._event(at, name, for_s=rng.choice((0.5, 5.0)))


# --- what runs there are --------------------------------------------------------------------------------------------


def _plain(workflow: str) -> Callable[[random.Random], Wanted]:
    return lambda rng: Wanted(workflow, SCRIPTS[workflow])


def _shaky(rng: random.Random) -> Wanted:
    times = rng.randint(1, 4)
    retries = rng.choice((0, 1, 2, 3))
    script: Script = (("step", "a"), ("fail", times), ("step", "b"))
    return Wanted("shaky", script, {"retries": retries}, "dead" if times > retries else "succeeded")


def _order(rng: random.Random) -> Wanted:
    script: Script = (("step", "a"),)
    for at in range(rng.randint(1, 3)):
        script += (("wait", f"wait {at}", rng.choice(SIGNALS), rng.choice((None, 3_000, 20_000))),)
    return Wanted("order", (*script, ("step", "b")))


def _nap(rng: random.Random) -> Wanted:
    script: Script = (("step", "a"), ("sleep", "rest", rng.choice((100, 4_000, 30_000))), ("step", "b"))
    return Wanted("nap", script)


def _poison(rng: random.Random) -> Wanted:
    script: Script = (("step", "a"),) if rng.random() < 0.5 else ()
    return Wanted("poison", (*script, ("die", "b")), ends="dead")


def _family(rng: random.Random) -> Wanted:
    script: Script = (("step", "a"), *(("child", f"c{at}") for at in range(rng.randint(1, 2))), ("step", "b"))
    return Wanted("family", script)


def _gather(rng: random.Random) -> Wanted:
    """Several children at once, some of which end badly, and what their parent makes of it."""
    names = [f"c{at}" for at in range(rng.randint(2, 4))]
    kinds = {name: rng.choice(("child", "child", "post", "stillborn", "nap")) for name in names}
    is_strict = rng.random() < 0.4
    starts: list[Line] = [("start", name, kind) for name, kind in kinds.items()]
    if rng.random() < 0.4:
        starts.insert(rng.randint(1, len(starts)), ("step", "between", rng.uniform(0.1, 2.0)))
    script: Script = (("step", "a"), *starts, ("gather", tuple(names), is_strict), ("step", "b"))
    return Wanted("family", script, ends="dead" if is_strict and "stillborn" in kinds.values() else "succeeded")


def _on_a_server(event: Event) -> Event:
    """No file is saved there: new code is a release, and what breaks boots is outside of it."""
    if event.what == "deploy":
        return replace(event, what="roll", args={"dies": None})
    if event.what == "break code":
        return replace(event, what="break outside", args={"how": event.args["how"], "for_s": 300.0})
    return event


def _expiring(rng: random.Random) -> Wanted:
    return Wanted("charge", SCRIPTS["charge"], {"expires": rng.choice((200, 2_000))}, "either")


def _single(rng: random.Random) -> Wanted:
    return Wanted("single", SCRIPTS["single"], {"key": rng.choice("xy")})


# By how often they are drawn.
_SCENARIOS: tuple[Callable[[_Planner, Settings, float], tuple[Settings, float]], ...] = (
    *[_Planner._suspects] * 2, *[_Planner._zombie] * 3, *[_Planner._siblings] * 3, _Planner._stall, _Planner._failing,
    _Planner._echo, _Planner._late_end,
)  # fmt: skip

_RUNS: dict[str, Callable[[random.Random], Wanted]] = {
    "charge": _plain("charge"),
    "post": _plain("post"),
    "narrow": _plain("narrow"),
    "slowly": _plain("slowly"),
    "few": _plain("few"),
    "single": _single,
    "shaky": _shaky,
    "order": _order,
    "order again": _order,
    "nap": _nap,
    "poison": _poison,
    "broken": lambda rng: Wanted("broken", (("step", "a"), ("fatal",)), ends="dead"),
    "quits": lambda rng: Wanted("quits", (("step", "a"), ("stop",)), ends="cancelled"),
    "family": _family,
    "expiring": _expiring,
}
# Of the second edition.
_RUNS_OF_FAMILIES: dict[str, Callable[[random.Random], Wanted]] = {"gather": _gather}
