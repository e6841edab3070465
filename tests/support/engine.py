"""The engine's rules on a fake clock: each call is a transaction, and after each every invariant is asked."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from tako.engine import children, invariants, leases, registry, runs, steps, waiters, wakers
from tako.engine.events import Event
from tako.engine.store import Store
from tako.protocol.messages import ClaimedRun, NewRun, RetryPolicy, RunInfo
from tests.support.clock import FakeClock

T = TypeVar("T")

NO_JITTER: RetryPolicy = {"first_ms": 1_000, "factor": 2.0, "max_ms": 60_000, "jitter": 0.0, "retries": 2}
BOOM = {"type": "ValueError", "message": "boom", "traceback": "Traceback: boom"}


class Rig:
    """Short words for the rules. What a worker says is said as the worker that holds the run, unless told otherwise."""

    def __init__(self, store: Store, clock: FakeClock) -> None:
        self.store = store
        self.clock = clock
        self.rng = random.Random(7)
        self.leases = leases.Leases(clock.monotonic)
        self.seen = invariants.Seen()
        self.events: list[Event] = []
        self.declared: dict[str, dict[str, Any]] = {}
        self._ids = itertools.count(1)

    # --- machinery --------------------------------------------------------------------------------------------------

    def do(self, fn: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Run a rule in a transaction; then ask all invariants."""
        try:
            with self.store.transaction():
                found = fn(self.store, *args, **kwargs)
            self.events = self.store.take_events()
        finally:
            self.check()
        return found

    def check(self) -> None:
        problems = invariants.check(self.store, seen=self.seen)
        assert not problems, "\n".join(problems)

    @property
    def now_ms(self) -> int:
        return self.clock.now_ms()

    def row(self, run_id: str) -> dict[str, Any]:
        """The stored row itself."""
        found = self.store.connection.execute("SELECT * FROM runs WHERE id = ?", (run_id,)).fetchone()
        assert found is not None
        return dict(found)

    def status(self, run_id: str) -> str:
        return str(self.row(run_id)["status"])

    # --- callers ----------------------------------------------------------------------------------------------------

    def new(self, workflow: str = "charge", **fields: Any) -> NewRun:
        run: dict[str, Any] = {"id": f"run-{next(self._ids)}", "workflow": workflow, "payload_json": "{}", **fields}
        return run  # type: ignore[return-value]

    def enqueue(self, workflow: str = "charge", **fields: Any) -> str:
        (answer,) = self.do(runs.enqueue, [self.new(workflow, **fields)], now_ms=self.now_ms)
        self.seen.acknowledged.add(answer["id"])
        return answer["id"]

    def signal(self, run_id: str, name: str = "shipped", value: Any = None, **fields: Any) -> waiters.Signalled:
        return self.do(
            waiters.signal, run_id=run_id, event_name=name, payload_json=json.dumps(value), now_ms=self.now_ms, **fields
        )

    def cancel(self, run_id: str, reason: str = "not needed") -> list[runs.Held]:
        return self.do(runs.cancel, run_id, reason=reason, now_ms=self.now_ms)

    def retry(self, run_id: str, from_step: str | None = None) -> None:
        self.do(runs.retry, run_id, from_step=from_step, now_ms=self.now_ms)

    def info(self, run_id: str, *wanted: str) -> RunInfo:
        from tako.engine import inspect

        found = inspect.get_run(self.store, run_id, wanted=wanted)
        assert found is not None
        return found

    def obey(self, workflow: str = "charge", *, aliases: tuple[str, ...] = (), **declared: Any) -> None:
        """Let a workflow declare options; with what the others have declared."""
        self.declared[workflow] = {"name": workflow, "aliases": list(aliases), "max_pending": None, "on_dead": None}
        tops = ("max_pending", "on_dead", "key")
        self.declared[workflow] |= {name: declared.pop(name) for name in tops if name in declared}
        self.declared[workflow]["options"] = declared
        found: Any = {"default": {"group": "default", "files": [], "workflows": list(self.declared.values())}}
        self.do(registry.obey, found)

    # --- workers ----------------------------------------------------------------------------------------------------

    def claim(
        self, worker_id: str = "w1", *, names: tuple[str, ...] = ("charge",), n: int = 1, solo: bool = False
    ) -> list[ClaimedRun]:
        return self.do(
            runs.claim, worker_id=worker_id, names=names, max_runs=n, now_ms=self.now_ms, release="r1", solo=solo
        )

    def start(self, workflow: str = "charge", worker_id: str = "w1", **fields: Any) -> str:
        """Enqueue a run and claim it."""
        run_id = self.enqueue(workflow, **fields)
        claimed = self.claim(worker_id, names=(workflow,))
        assert [run["id"] for run in claimed] == [run_id]
        return run_id

    def holder(self, run_id: str) -> dict[str, Any]:
        row = self.row(run_id)
        return {"run_id": run_id, "worker_id": row["worker_id"], "epoch": row["epoch"]}

    def save(self, run_id: str, name: str = "load", value: Any = 1, **holder: Any) -> str:
        return self.do(
            steps.save,
            **(self.holder(run_id) | holder),
            name=name,
            result_json=json.dumps(value),
            started_ms=self.now_ms,
            attempt=1,
            now_ms=self.now_ms,
        )

    def succeed(self, run_id: str, result_json: str | None = None, **holder: Any) -> runs.Finished:
        return self.finish(run_id, "succeeded", result_json=result_json, **holder)

    def fail(self, run_id: str, **fields: Any) -> runs.Finished:
        return self.finish(run_id, "failed", **({"error": BOOM, "retry": NO_JITTER} | fields))

    def finish(self, run_id: str, outcome: str, **fields: Any) -> runs.Finished:
        return self.do(
            runs.finish, **(self.holder(run_id) | fields), outcome=outcome, now_ms=self.now_ms, rng=self.rng
        )  # fmt: skip

    def sleep(self, run_id: str, *, ms: int, step_name: str = "cool-off", **fields: Any) -> waiters.Parked:
        return self.do(
            waiters.park, **(self.holder(run_id) | fields), step_name=step_name, wake_at_ms=self.now_ms + ms,
            now_ms=self.now_ms,
        )  # fmt: skip

    def wait(
        self,
        run_id: str,
        name: str = "shipped",
        *,
        timeout_ms: int | None = None,
        step_name: str | None = None,
        **holder: Any,
    ) -> waiters.Parked:
        return self.do(
            waiters.park, **(self.holder(run_id) | holder), step_name=step_name or f"wait {name}", event_name=name,
            timeout_at_ms=None if timeout_ms is None else self.now_ms + timeout_ms, now_ms=self.now_ms,
        )  # fmt: skip

    def start_child(self, run_id: str, name: str = "refund", workflow: str = "refund", **fields: Any) -> str:
        """Start a child of a run under a name; its id."""
        holder = {key: fields.pop(key) for key in ("worker_id", "epoch") if key in fields}
        new = self.new(workflow, **fields)
        answer = self.do(
            children.start, **(self.holder(run_id) | holder), step_name=name, new=new, now_ms=self.now_ms
        )  # fmt: skip
        self.seen.acknowledged.add(answer["id"])
        return answer["id"]

    def gather(self, run_id: str, *runs: str, branches: Sequence[wakers.Branch] = (), **holder: Any) -> waiters.Parked:
        return self.do(
            waiters.park, **(self.holder(run_id) | holder), step_name="gather", runs=list(runs), branches=branches,
            now_ms=self.now_ms,
        )  # fmt: skip

    # --- the engine's own -------------------------------------------------------------------------------------------

    def promote(self) -> int:
        return self.do(runs.promote_due, now_ms=self.now_ms)

    def die(
        self, worker_id: str = "w1", death: str = "SIGKILL", in_steps: dict[str, list[str]] | None = None
    ) -> leases.Released:
        return self.do(
            leases.release, worker_id=worker_id, counted=True, death=death, in_steps=in_steps, now_ms=self.now_ms
        )

    def drain(self, worker_id: str = "w1") -> leases.Released:
        return self.do(leases.release, worker_id=worker_id, counted=False, death=None, now_ms=self.now_ms)
