"""The commands of workers: their own runs only, each write with the epoch of the claim it belongs to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tako.engine import children, runs, steps, waiters
from tako.engine.wakers import Branch
from tako.errors import InvalidRequest, LeaseLost, VersionMismatch
from tako.host import v0
from tako.host.admission import check_new_runs
from tako.host.fields import (
    body,
    escaped,
    integer,
    number,
    optional_integer,
    optional_text,
    table,
    tables,
    text,
    texts,
    words,
)
from tako.protocol import PROTOCOL_VERSION
from tako.protocol.messages import RemoteError, RetryPolicy
from tako.rpc.connection import Connection, Handler, Message

if TYPE_CHECKING:
    from tako.host.app import AppHost

COMMANDS = frozenset(
    {
        "hello", "claim_runs", "load_steps", "save_step", "start_child", "load_outcomes", "park", "finish",
        "in_steps", "heartbeat", "release_runs", "cancelled", "idle", "leaving", "log",
    }
)  # fmt: skip


def commands(host: AppHost) -> dict[str, Handler]:
    """The table of worker commands."""
    own = WorkerCommands(host)
    return {
        "hello": own.hello,
        "claim_runs": own.claim_runs,
        "load_steps": own.load_steps,
        "save_step": own.save_step,
        "start_child": own.start_child,
        "load_outcomes": own.load_outcomes,
        "park": own.park,
        "finish": own.finish,
        "in_steps": own.in_steps,
        "heartbeat": own.heartbeat,
        "release_runs": own.release_runs,
        "cancelled": own.cancelled,
        "idle": own.idle,
        "leaving": own.leaving,
        "log": own.log,
    }


class WorkerCommands:
    """What a worker says. `connection.principal.worker_id` is who it is; the message cannot claim to be another."""

    def __init__(self, host: AppHost) -> None:
        self._host = host

    async def hello(self, connection: Connection, message: Message) -> Any:
        """A worker has imported its files. The second of one worker is a reconnection."""
        host, worker_id = self._host, own_id(connection, message)
        if message.get("protocol", PROTOCOL_VERSION) != PROTOCOL_VERSION:
            raise VersionMismatch(
                f"the worker's tako speaks protocol {message.get('protocol')}, this engine {PROTOCOL_VERSION}",
                cure="Install the same version of tako-py in the app's environment and for `tako dev`.",
            )
        registry = message.get("registry")
        if not isinstance(registry, dict):
            raise InvalidRequest("invalid request: `registry` is an object")
        return await host.groups.hello(connection, worker_id, registry, _pairs(message, "in_flight"))

    def claim_runs(self, connection: Connection, message: Message) -> Any:
        """Runs, as soon as there are some."""
        host, worker_id = self._host, own_id(connection, message)
        wait_s = max(0, optional_integer(message, "wait_ms") or 0) / 1000
        return host.holding.claim(worker_id, max_runs=max(1, integer(message, "max")), wait_s=wait_s)

    async def load_steps(self, connection: Connection, message: Message) -> Any:
        """A further page of saved steps."""
        async with connection.turn():
            page, after = await self._host.writer.read(
                steps.load,
                run_id=text(message, "id"),
                worker_id=own_id(connection, message),
                epoch=integer(message, "epoch"),
                after=text(message, "after"),
            )
        return {"steps": page, "next": after}

    def save_step(self, connection: Connection, message: Message) -> Any:
        """Save a step's result. Durable when answered."""
        if "result_json" not in message:
            return v0.save_step(self._host, connection, message)
        run_id = text(message, "id")
        step = {
            "run_id": run_id,
            "worker_id": own_id(connection, message),
            "epoch": integer(message, "epoch"),
            "name": text(message, "step_name"),
            "result_json": body(message, "result_json"),
            "started_ms": optional_integer(message, "started_ms"),
            "attempt": optional_integer(message, "attempt") or 1,
        }
        saved = self._host.writer.ask_with_others(runs.save_all, step, now_ms=self._host.clock.now_ms())
        if self._host.listeners:
            saved.then(lambda _: self._host.tell_listeners("runs", (run_id,)))
        return saved

    async def start_child(self, connection: Connection, message: Message) -> Any:
        """Enqueue a child of a run, once for each name. Broken workers do not refuse it: it is stored, as `blocked`."""
        host, worker_id = self._host, own_id(connection, message)
        (new,) = check_new_runs([message.get("run")])
        host.admission.adopt(new)
        host.view.note_stored(new["workflow"])
        run_id = text(message, "id")
        started = await host.writer.do(
            children.start,
            run_id=run_id,
            worker_id=worker_id,
            epoch=integer(message, "epoch"),
            step_name=text(message, "step_name"),
            new=new,
            now_ms=host.clock.now_ms(),
        )
        if host.listeners:
            host.tell_listeners("runs", (run_id,))
        return started

    async def load_outcomes(self, connection: Connection, message: Message) -> Any:
        """How runs ended: as many of them, from the first on, as go into one answer."""
        own_id(connection, message)
        return {"outcomes": await self._host.writer.read(children.outcomes, texts(message, "runs"))}

    async def park(self, connection: Connection, message: Message) -> Any:
        """Let go of a run until a time or a signal; not parked when the value is there already."""
        host, run_id = self._host, text(message, "id")
        parked = await host.writer.do(
            waiters.park,
            run_id=run_id,
            worker_id=own_id(connection, message),
            epoch=integer(message, "epoch"),
            step_name=text(message, "step_name"),
            wake_at_ms=optional_integer(message, "wake_at_ms"),
            event_name=optional_text(message, "event_name"),
            timeout_at_ms=optional_integer(message, "timeout_at_ms"),
            runs=texts(message, "runs") if "runs" in message else None,
            branches=_branches(message),
            spent_ms=optional_integer(message, "spent_ms"),
            now_ms=host.clock.now_ms(),
        )
        if parked["parked"]:
            host.holding.let_go(run_id, own_id(connection, message), epoch=integer(message, "epoch"))
        return parked

    def finish(self, connection: Connection, message: Message) -> Any:
        """How an attempt ended."""
        outcome = message.get("outcome")
        if outcome not in ("succeeded", "failed", "fatal", "stopped"):
            raise InvalidRequest("invalid request: `outcome` is succeeded, failed, fatal or stopped")
        return self._host.holding.finish(
            run_id=text(message, "id"),
            worker_id=own_id(connection, message),
            epoch=integer(message, "epoch"),
            outcome=outcome,
            result_json=None if message.get("result_json") is None else body(message, "result_json"),
            error=_error(message),
            reason=words(message, "reason") or None,
            retry=_retry(message),
            warnings=_warnings(message),
        )

    def in_steps(self, connection: Connection, message: Message) -> Any:
        """Which steps of a run are being executed now, all of them: it has killed a worker, and may do it again."""
        worker_id, names = own_id(connection, message), texts(message, "steps")
        self._host.holding.executes(text(message, "id"), worker_id, epoch=integer(message, "epoch"), steps=names)
        return {}

    def heartbeat(self, connection: Connection, message: Message) -> Any:
        """Renew leases; tells which runs the worker holds no more, and why."""
        return {"stale": self._host.holding.heartbeat(own_id(connection, message), _pairs(message, "runs"))}

    async def release_runs(self, connection: Connection, message: Message) -> Any:
        """Hand runs back: no attempt and no crash is counted."""
        host, worker_id = self._host, own_id(connection, message)
        spent = {text(run, "id"): integer(run, "spent_ms") for run in tables(message, "runs") if "spent_ms" in run}
        await host.holding.hand_back(worker_id, _pairs(message, "runs"), spent_ms=spent)
        return {}

    def cancelled(self, connection: Connection, message: Message) -> Any:
        """The handlers of these runs have stopped."""
        for run_id, _ in _pairs(message, "runs"):
            self._host.stopped_watch.tell(run_id)
        return {}

    async def idle(self, connection: Connection, message: Message) -> Any:
        """May the worker exit?"""
        return {"exit": await self._host.groups.asks_idle(own_id(connection, message))}

    def leaving(self, connection: Connection, message: Message) -> Any:
        """The worker takes nothing new and ends itself; another takes its place meanwhile."""
        worker_id = own_id(connection, message)
        if pool := self._host.groups.pool_of_worker(worker_id):
            pool.leaving(worker_id)
        return {}

    def log(self, connection: Connection, message: Message) -> Any:
        """A line of the worker runtime itself."""
        self._host.view.worker_log(own_id(connection, message), message)
        return {}


def own_id(connection: Connection, message: Message) -> str:
    """The worker that the connection belongs to.

    Raises:
        LeaseLost: the message names another one.
    """
    assert connection.principal is not None
    worker_id = connection.principal.worker_id
    if worker_id is None or message.get("worker_id", worker_id) != worker_id:
        raise LeaseLost("stale worker: this connection belongs to another worker")
    return worker_id


def _branches(message: Message) -> list[Branch]:
    """What other branches of a handler wait for; hardly ever anything."""
    return [
        {"runs": texts(one, "runs")} if "runs" in one else {"event": text(one, "event")}
        for one in tables(message, "branches")
    ]


def _pairs(message: Message, name: str) -> list[tuple[str, int]]:
    return [(text(entry, "id"), integer(entry, "epoch")) for entry in tables(message, name)]


def _error(message: Message) -> RemoteError | None:
    if not (error := table(message, "error")):
        return None
    return {
        "type": words(error, "type") or "Error",
        "message": words(error, "message"),
        "traceback": words(error, "traceback"),
    }


def _retry(message: Message) -> RetryPolicy | None:
    if not (policy := table(message, "retry")):
        return None
    return {
        "first_ms": integer(policy, "first_ms"),
        "factor": number(policy, "factor"),
        "max_ms": integer(policy, "max_ms"),
        "jitter": number(policy, "jitter"),
        "retries": integer(policy, "retries"),
    }


def _warnings(message: Message) -> list[str]:
    found = message.get("warnings") or []
    if not isinstance(found, list) or not all(isinstance(warning, str) for warning in found):
        raise InvalidRequest("invalid request: `warnings` is a list of texts")
    return [escaped(warning) for warning in found]
