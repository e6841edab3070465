"""Protocol v0: eleven commands that exist in the wild, with their names, fields, replies and error texts.

A v0 client sends JSON values where ours sends JSON text, no epoch, and often one request a connection. Its guard is
`worker_id` and the run's status. What it says goes through the same rules as ours.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any

from tako.engine import steps, waiters
from tako.engine.store import Store
from tako.errors import InvalidRequest, LeaseLost, TakoError
from tako.host import fields, timetable
from tako.host.fields import flag, integer, json_text, optional_integer, optional_text, text, texts
from tako.protocol import ids
from tako.protocol.messages import ClaimedRun, NewRun
from tako.rpc.connection import Connection, Handler, Message

if TYPE_CHECKING:
    from tako.host.app import AppHost

WORKER_COMMANDS = frozenset(
    {"claim_run", "heartbeat_run", "complete_run", "cancel_run", "fail_run", "defer_run", "wait_for_event"}
)
STALE = "stale worker: run is no longer owned by this worker"


def commands(host: AppHost) -> dict[str, Handler]:
    """The table of v0's commands."""
    return {
        "enqueue_run": _prefixed("enqueue failed: ", lambda c, m: _enqueue(host, m), bare=("worker unhealthy",)),
        "register_schedules": _prefixed("register_schedules failed: ", lambda c, m: _register_schedules(host, m)),
        "claim_run": _prefixed("claim failed: ", lambda c, m: _claim(host, c, m)),
        "heartbeat_run": _prefixed("heartbeat failed: ", lambda c, m: _heartbeat(host, c, m)),
        "complete_run": _prefixed("complete failed: ", lambda c, m: _finish(host, c, m, outcome="succeeded")),
        "cancel_run": _prefixed("cancel failed: ", lambda c, m: _finish(host, c, m, outcome="stopped")),
        "fail_run": _prefixed("fail failed: ", lambda c, m: _fail(host, c, m)),
        "defer_run": _prefixed("defer failed: ", lambda c, m: _defer(host, c, m)),
        "wait_for_event": _prefixed("wait_for_event failed: ", lambda c, m: _wait_for_event(host, c, m)),
        "signal": _prefixed("signal failed: ", lambda c, m: _signal(host, m)),
    }


def _prefixed(
    prefix: str, handler: Callable[[Connection, Message], Awaitable[Any]], *, bare: tuple[str, ...] = ()
) -> Handler:
    """Error texts begin as v0's do; the code and the detail stay ours."""

    async def run(connection: Connection, message: Message) -> Any:
        try:
            return await handler(connection, message)
        except InvalidRequest:
            raise
        except TakoError as error:
            shown = STALE if error.code == "stale" else error.message
            if shown.startswith((*bare, "workflow runtime is draining")):
                raise
            renamed = type(error)(prefix + shown, cure=error.cure, detail=error.detail)
            raise renamed from error

    def start(connection: Connection, message: Message) -> Coroutine[Any, Any, Any]:
        return run(connection, message)

    return start


async def _enqueue(host: AppHost, message: Message) -> dict[str, Any]:
    options = fields.table(message, "opts")
    new: NewRun = {
        "id": ids.uuid7(),
        "workflow": text(message, "name"),
        "payload_json": json_text(message, "payload"),
    }
    if (run_at_ms := optional_integer(options, "run_at_ms")) is not None:
        new["run_at_ms"] = run_at_ms
    if (max_attempts := optional_integer(options, "max_attempts")) is not None:
        new["retries"] = max(0, max_attempts - 1)
    if (key := optional_text(options, "unique_key")) is not None:
        new["key"] = key
    (enqueued,) = await host.enqueue([new], deadline_mono_ms=None)
    return {"id": enqueued["id"], "deduplicated": not enqueued["is_new"]}


async def _register_schedules(host: AppHost, message: Message) -> dict[str, int]:
    if not isinstance(message.get("schedules"), list):
        raise InvalidRequest("invalid request: `schedules` is a list")
    wanted = [(text(entry, "name"), text(entry, "cron")) for entry in fields.tables(message, "schedules")]
    count = await host.writer.do(timetable.replace_v0, wanted, now_ms=host.clock.now_ms())
    host.ticker.look()
    return {"count": count}


async def _claim(host: AppHost, connection: Connection, message: Message) -> dict[str, Any] | None:
    claimed = await host.holding.claim_v0(
        worker_of(connection),
        names=texts(message, "names"),
        lease_s=integer(message, "lease_ms") / 1000,
    )
    return None if claimed is None else _as_v0(claimed)


def _as_v0(claimed: ClaimedRun) -> dict[str, Any]:
    return {
        "id": claimed["id"],
        "name": claimed["workflow"],
        "payload": json.loads(claimed["payload_json"]),
        "status": "running",
        "attempts": claimed["attempt"],
        "max_attempts": claimed["retries"] + 1,
        "run_at_ms": claimed["enqueued_ms"],
        # A wait that timed out is stored as the empty text; v0 knows only values.
        "step_state": {name: json.loads(value or "null") for name, value in claimed["steps"].items()},
    }


async def _heartbeat(host: AppHost, connection: Connection, message: Message) -> dict[str, Any]:
    host.holding.renew_v0(text(message, "id"), worker_of(connection), lease_s=integer(message, "lease_ms") / 1000)
    return {}


async def save_step(host: AppHost, connection: Connection, message: Message) -> dict[str, Any]:
    """v0's `save_step`, told from ours by its `result` field."""
    now_ms = host.clock.now_ms()
    await host.writer.do(
        steps.save,
        run_id=text(message, "id"),
        worker_id=worker_of(connection),
        epoch=None,
        name=text(message, "step_name"),
        result_json=json_text(message, "result"),
        started_ms=now_ms,
        attempt=1,
        now_ms=now_ms,
    )
    return {}


async def _finish(host: AppHost, connection: Connection, message: Message, *, outcome: str) -> dict[str, Any]:
    await host.holding.finish(
        run_id=text(message, "id"),
        worker_id=worker_of(connection),
        epoch=None,
        outcome=outcome,
        reason=fields.words(message, "reason") or ("cancelled by its worker" if outcome == "stopped" else None),
    )
    return {}


async def _fail(host: AppHost, connection: Connection, message: Message) -> dict[str, Any]:
    error = {"type": "Error", "message": fields.words(message, "error"), "traceback": ""}
    final = flag(message, "finalize")
    await host.holding.finish(
        run_id=text(message, "id"),
        worker_id=worker_of(connection),
        epoch=None,
        outcome="fatal" if final else "failed",
        error=error,
        retry_at_ms=None if final else optional_integer(message, "next_run_at_ms"),
    )
    return {}


def worker_of(connection: Connection) -> str:
    """The worker at the other end. v0 chooses a `worker_id` of its own; ours is the one that holds runs."""
    assert connection.principal is not None
    if connection.principal.worker_id is None:
        raise LeaseLost(STALE)
    return connection.principal.worker_id


async def _defer(host: AppHost, connection: Connection, message: Message) -> dict[str, Any]:
    now_ms = host.clock.now_ms()
    wake_at_ms = optional_integer(message, "wake_at_ms")
    run_id, worker_id = text(message, "id"), worker_of(connection)
    await host.writer.do(
        waiters.defer, run_id=run_id, worker_id=worker_id, wake_at_ms=wake_at_ms or now_ms, now_ms=now_ms
    )
    host.holding.let_go(run_id, worker_id, epoch=None)
    return {}


async def _wait_for_event(host: AppHost, connection: Connection, message: Message) -> dict[str, Any]:
    run_id = text(message, "id")
    await host.writer.do(
        _park,
        run_id=run_id,
        worker_id=worker_of(connection),
        step_name=text(message, "step_name"),
        event_name=text(message, "event_name"),
        timeout_at_ms=optional_integer(message, "timeout_at_ms"),
        now_ms=host.clock.now_ms(),
    )
    host.holding.let_go(run_id, worker_of(connection), epoch=None)
    return {}


def _park(store: Store, *, run_id: str, worker_id: str, now_ms: int, **how: Any) -> None:
    """A v0 worker lets go of the run whatever the answer, so a wait that is over at once makes it due at once."""
    parked = waiters.park(store, run_id=run_id, worker_id=worker_id, epoch=None, now_ms=now_ms, **how)
    if not parked["parked"]:
        waiters.defer(store, run_id=run_id, worker_id=worker_id, wake_at_ms=None, now_ms=now_ms)


async def _signal(host: AppHost, message: Message) -> dict[str, Any]:
    woken = await host.writer.do(
        waiters.signal_all,
        event_name=text(message, "event_name"),
        payload_json=json_text(message, "payload"),
        now_ms=host.clock.now_ms(),
    )
    return {"woken": woken}
