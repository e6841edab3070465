"""The commands of the socket, answered in process: each calls the rule that the daemon would call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tako.engine import children, inspect, runs, steps, waiters
from tako.errors import EnqueueError, InvalidRequest, RunFinished, RunNotFound
from tako.testing.core import Core

Message = dict[str, Any]
_PAGE = 100


class Commands:
    """`answer` is what the daemon would answer. `stop` hears of runs that were taken from a handler that has begun."""

    def __init__(self, core: Core, *, stop: Callable[[str, int], None]) -> None:
        self._core = core
        self._stop = stop
        self._table: Mapping[str, Callable[[Message], Any]] = {
            "enqueue_runs": self._enqueue_runs,
            "check_runs": lambda message: {"runs": core.check(message["runs"])},
            "get_run": lambda message: core.run(message["id"], message.get("with", ())),
            "find_run": self._find_run,
            "list_runs": self._list_runs,
            "cancel": self._cancel,
            "retry": self._retry,
            "ack": self._ack,
            "signal_run": self._signal_run,
            "load_steps": self._load_steps,
            "save_step": self._save_step,
            "start_child": self._start_child,
            "load_outcomes": lambda message: {"outcomes": core.read(children.outcomes, message["runs"])},
            "park": self._park,
            "finish": self._finish,
            "in_steps": lambda message: {},
        }

    def answer(self, message: Message) -> Any:
        """The data of the reply; raises the error that it would be."""
        try:
            command = self._table[message["command"]]
        except KeyError:
            raise InvalidRequest(f"`{message['command']}` is not there in tests") from None
        return command(message)

    # --- apps ---

    def _enqueue_runs(self, message: Message) -> Any:
        stored = self._core.admit(message["runs"])
        for run, new in zip(stored, message["runs"], strict=True):
            if new.get("confirm") and run["is_new"]:
                self._confirm(run["id"])
        return {"runs": stored}

    def _confirm(self, run_id: str) -> None:
        """`confirm=True`: in a test a worker is there at once, for what can be claimed at all."""
        info = self._core.run(run_id)
        if info["status"] != "pending" or (info["run_at_ms"] or 0) > self._core.clock.now_ms():
            self._core.do(runs.withdraw, run_id, now_ms=self._core.clock.now_ms())
            raise EnqueueError(
                f"no worker claimed the run within its deadline, so it was withdrawn ({run_id})",
                cure="Enqueue without confirm=True to let it wait.",
                detail={"id": run_id},
            )

    def _find_run(self, message: Message) -> Any:
        workflow, key = message["workflow"], message["key"]
        found = self._core.read(inspect.find_run, workflows=self._core.store.names_of(workflow), key=key)
        if found is None:
            raise RunNotFound(f"there is no run of {workflow} with the key {key!r}")
        return self._core.shown(found)

    def _list_runs(self, message: Message) -> Any:
        core, group = self._core, message.get("group")
        core.look()
        page = core.read(
            inspect.list_runs,
            workflow=message.get("workflow"),
            workflows=None if group is None else core.registry.names_of(group),
            status=message.get("status"),
            key=message.get("key"),
            since_ms=message.get("since_ms"),
            until_ms=message.get("until_ms"),
            parent_id=message.get("parent_id"),
            limit=message.get("limit") or _PAGE,
            after=message.get("after"),
        )
        return {"runs": [core.shown(info) for info in page.runs], "next": page.next}

    def _cancel(self, message: Message) -> Any:
        core, run_id = self._core, message["id"]
        reason = message.get("reason") or "cancelled by an operator"
        for held in core.do(runs.cancel, run_id, reason=reason, now_ms=core.clock.now_ms()):
            self._stop(held.id, held.epoch)
        return core.run(run_id)

    def _retry(self, message: Message) -> Any:
        core, run_id = self._core, message["id"]
        core.do(runs.retry, run_id, from_step=message.get("from_step"), now_ms=core.clock.now_ms())
        return core.run(run_id)

    def _ack(self, message: Message) -> Any:
        core = self._core
        count = core.do(runs.ack, message.get("ids"), workflow=message.get("workflow"), now_ms=core.clock.now_ms())
        return {"count": count}

    def _signal_run(self, message: Message) -> Any:
        core, run_id = self._core, message.get("id")
        if run_id is None:
            found = self._find_run(message)
            if found["ended_ms"] is not None:
                raise RunFinished(
                    f"the run of {message['workflow']} with the key {message['key']!r} has ended: {found['id']}"
                )
            run_id = found["id"]
        return core.do(
            waiters.signal,
            run_id=run_id,
            event_name=message["signal"],
            payload_json=message["payload_json"],
            signal_id=message.get("signal_id"),
            now_ms=core.clock.now_ms(),
        )

    # --- workers ---

    def _load_steps(self, message: Message) -> Any:
        page, after = self._core.read(steps.load, **_who(message), after=message["after"])
        return {"steps": page, "next": after}

    def _save_step(self, message: Message) -> Any:
        return self._core.do(
            steps.save,
            **_who(message),
            name=message["step_name"],
            result_json=message["result_json"],
            started_ms=message.get("started_ms"),
            attempt=message.get("attempt") or 1,
            now_ms=self._core.clock.now_ms(),
        )

    def _start_child(self, message: Message) -> Any:
        core = self._core
        return core.do(
            children.start,
            **_who(message),
            step_name=message["step_name"],
            new=core.adopt(message["run"]),
            now_ms=core.clock.now_ms(),
        )

    def _park(self, message: Message) -> Any:
        return self._core.do(
            waiters.park,
            **_who(message),
            step_name=message["step_name"],
            wake_at_ms=message.get("wake_at_ms"),
            event_name=message.get("event_name"),
            timeout_at_ms=message.get("timeout_at_ms"),
            runs=message.get("runs"),
            branches=message.get("branches", ()),
            spent_ms=message.get("spent_ms"),
            now_ms=self._core.clock.now_ms(),
        )

    def _finish(self, message: Message) -> Any:
        finished = self._core.do(
            runs.finish,
            **_who(message),
            outcome=message["outcome"],
            result_json=message.get("result_json"),
            error=message.get("error"),
            reason=message.get("reason"),
            retry=message.get("retry"),
            warnings=message.get("warnings") or (),
            now_ms=self._core.clock.now_ms(),
            rng=self._core.rng,
        )
        return {"status": finished.status, "run_at_ms": finished.run_at_ms}


def _who(message: Message) -> dict[str, Any]:
    return {"run_id": message["id"], "worker_id": message["worker_id"], "epoch": message["epoch"]}
