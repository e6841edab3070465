"""The engine's rules on a store in memory: one call a transaction, on the test's clock, checked at the door as ever."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Sequence
from threading import RLock
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

from tako.engine import inspect, runs
from tako.engine import registry as registry_rows
from tako.engine.store import Store
from tako.errors import RunNotFound, WorkerUnhealthy
from tako.host import timetable
from tako.host.admission import Admission, check_new_runs
from tako.host.registry import Registry, check_registry
from tako.protocol.messages import Enqueued, NewRun, RunInfo
from tako.protocol.messages import Registry as GroupRegistry
from tako.sdk import workflow as workflows
from tako.sdk.workflow import Workflow
from tako.testing.clock import Clock

P = ParamSpec("P")
T = TypeVar("T")


class Gate:
    """What stands for a group's supervisor: healthy, unless the test says otherwise."""

    is_unproven = False

    def __init__(self) -> None:
        self.refusal: WorkerUnhealthy | None = None

    def admit_now(self) -> bool:
        """True; raises WorkerUnhealthy while the test says that the group is unhealthy."""
        if self.refusal is not None:
            raise self.refusal
        return True

    async def admit(self, deadline: float) -> None:
        """Nothing boots in a test, so there is nothing to wait for."""


class Core:
    """Store, clock, chance and what the code declares. Any thread may call it."""

    def __init__(self) -> None:
        self.store = Store.memory()
        self.clock = Clock()
        self.rng = random.Random(0)  # backoffs of a test are the same each time
        self.registry = Registry()
        self.gates: dict[str, Gate] = {}
        self._lock = RLock()
        self._known: tuple[Workflow[Any, Any], ...] = ()
        self._admission = Admission(
            registry=self.registry,
            gates=self.gates,
            clock=self.clock,
            submit=self._store_runs,
            check=self._check_runs,
            hurry=lambda group: None,
            look=self.look,
        )

    def do(self, rule: Callable[Concatenate[Store, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Carry out a rule of the engine, in a transaction of its own."""
        with self._lock:
            with self.store.transaction():
                result = rule(self.store, *args, **kwargs)
            self.store.take_events()  # nobody waits for news: who wants to know asks
            return result

    def read(self, rule: Callable[Concatenate[Store, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Ask one of the engine's questions."""
        with self._lock:
            return rule(self.store, *args, **kwargs)

    # --- enqueue ---

    def admit(self, news: object) -> list[Enqueued]:
        """Store runs as a daemon would: names, payloads and health are checked first; what is refused is not stored.

        Raises:
            EnqueueError: as `enqueue` says.
        """
        return _answered(self._admission.enqueue(check_new_runs(news), None))

    def adopt(self, new: NewRun) -> NewRun:
        """A child run as a daemon would store it."""
        self.look()
        (checked,) = check_new_runs([new])
        self._admission.adopt(checked)
        return checked

    def check(self, news: object) -> list[Enqueued]:
        """What `admit` would answer or refuse now. Nothing is stored."""
        return _answered(self._admission.check(check_new_runs(news), None))

    def _store_runs(self, news: Sequence[NewRun], deadline_mono_ms: int | None) -> Any:
        return self.do(runs.enqueue, news, now_ms=self.clock.now_ms())

    def _check_runs(self, news: Sequence[NewRun], deadline_mono_ms: int | None) -> Any:
        return self.read(runs.check, news)

    # --- what the code declares ---

    def look(self) -> None:
        """Know the workflows that this process has imported by now.

        Raises:
            DefinitionError: one cannot work. A worker with it would not start.
        """
        found = tuple(workflows.declared().values())
        if found == self._known:
            return
        registries = _registries(found)
        self.registry.new_code({})
        for registry in registries.values():
            timetable.check(registry)
            self.registry.told(check_registry(registry, group=registry["group"]))
            self.gates.setdefault(registry["group"], Gate())
        self.do(_obey, dict(self.registry.stored))
        self._known = found

    def workflow(self, name: str) -> Workflow[Any, Any]:
        """The workflow of this name or alias. Raises UnknownWorkflow."""
        for found in self._known:
            if name in (found.name, *found.aliases):
                return found
        raise self.registry.unknown(name)

    def names_of_healthy_groups(self) -> list[str]:
        """The names of runs that somebody could work on."""
        healthy = [group for group, gate in self.gates.items() if gate.refusal is None]
        return [name for group in healthy for name in self.registry.names_of(group)]

    def refuse(self, group: str, refusal: WorkerUnhealthy | None) -> None:
        """Refuse what is enqueued to a group, and let nobody work on its runs; None ends that."""
        self.gates.setdefault(group, Gate()).refusal = refusal

    # --- runs as they are shown ---

    def run(self, run_id: str, wanted: Sequence[str] = ()) -> RunInfo:
        """One run. Raises RunNotFound."""
        info = self.read(inspect.get_run, run_id, wanted=wanted)
        if info is None:
            raise RunNotFound(f"there is no run {run_id[:64]}", detail={"id": run_id[:64]})
        return self.shown(info)

    def shown(self, info: RunInfo) -> RunInfo:
        """The run with its group, and `blocked` where nobody could work on it."""
        self.look()
        info["group"] = group = self.registry.group_of(info["workflow"])
        if info["status"] == "pending":
            info["blocked"] = self._why_blocked(info["workflow"], group)
            if info["blocked"]:
                info["status"] = "blocked"
        return info

    def _why_blocked(self, workflow: str, group: str | None) -> str | None:
        if group is None:
            return f"no code declares the workflow {workflow!r}"
        refusal = self.gates[group].refusal
        return None if refusal is None else str(refusal.reason)


def _answered(answer: Any) -> list[Enqueued]:
    """What admission answers in a process where nothing boots."""
    if not asyncio.iscoroutine(answer):
        return cast(list[Enqueued], answer)
    # It would wait for workers that boot. None does, so its first step is its last.
    try:
        answer.send(None)
    except StopIteration as done:
        return cast(list[Enqueued], done.value)
    raise AssertionError("admission waits for something, and in a test nothing comes")


def _registries(found: Sequence[Workflow[Any, Any]]) -> dict[str, GroupRegistry]:
    """What workers of all groups would tell, by group."""
    registries: dict[str, GroupRegistry] = {}
    for one in found:
        registry = registries.setdefault(one.group, {"group": one.group, "workflows": [], "files": []})
        # Through JSON, as in HELLO: a default or an option that is no JSON would keep a worker from starting.
        registry["workflows"].append(json.loads(json.dumps(one.info())))
    return registries


def _obey(store: Store, registries: dict[str, GroupRegistry]) -> None:
    registry_rows.obey(store, registries)
