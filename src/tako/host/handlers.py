"""The commands for apps and tools. One short function each: check the fields, call a rule, shape the answer."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Collection
from typing import TYPE_CHECKING, Any

from tako.engine import inspect, runs, waiters
from tako.engine.answer import Answer
from tako.errors import EnqueueError, InvalidRequest, RunFinished, RunNotFound, TakoError
from tako.host import backup, pausing, scheduling, soundness, status, v0, workers
from tako.host.admission import check_new_runs
from tako.host.fields import body, flag, integer, optional_integer, optional_text, text, texts
from tako.protocol.messages import Enqueued, NewRun, RunInfo
from tako.rpc.connection import Connection, Handler, Message

if TYPE_CHECKING:
    from tako.host.app import AppHost

WORKER_COMMANDS = frozenset({*workers.COMMANDS, *v0.WORKER_COMMANDS})
LIST_LIMIT = 100
LIST_LIMIT_MAX = 1000


def commands(host: AppHost) -> dict[str, Handler]:
    """Every command of the internal socket."""
    own = Commands(host)
    return {
        **v0.commands(host),
        **workers.commands(host),
        **pausing.commands(host),
        **scheduling.commands(host),
        "enqueue_runs": own.enqueue_runs,
        "check_runs": own.check_runs,
        "get_run": own.get_run,
        "find_run": own.find_run,
        "list_runs": own.list_runs,
        "search_runs": own.search_runs,
        "wait_run": own.wait_run,
        "cancel": own.cancel,
        "retry": own.retry,
        "ack": own.ack,
        "signal_run": own.signal_run,
        "list_workflows": own.list_workflows,
        "health": own.health,
        "status": own.status,
        "subscribe": own.subscribe,
        "logs": own.logs,
        "backup": own.backup,
        "check_store": own.check_store,
        "reload": own.reload,
        "test_alerts": own.test_alerts,
    }


class Commands:
    """The commands of apps and tools."""

    def __init__(self, host: AppHost) -> None:
        self._host = host

    def enqueue_runs(self, connection: Connection, message: Message) -> Any:
        """One transaction for all of `runs`. No task is made for the fast way."""
        try:
            return self._enqueue(check_new_runs(message.get("runs")), message)
        except TakoError as error:
            self._host.meter.refused_for(error)
            raise

    def _enqueue(self, news: list[NewRun], message: Message) -> Any:
        deadline = optional_integer(message, "deadline_mono_ms")
        for new in news:
            if new.get("confirm"):
                return self._enqueue_confirmed(news, deadline)
        stored = self._host.admission.enqueue(news, deadline)
        if not isinstance(stored, Answer):
            return self._later(stored)
        return stored.shaped(_as_data, on_error=self._host.meter.refused_for)

    async def check_runs(self, connection: Connection, message: Message) -> Any:
        """What `enqueue_runs` would answer now, or refuse; nothing is stored."""
        news = check_new_runs(message.get("runs"))
        return {"runs": await self._host.admission.check(news, optional_integer(message, "deadline_mono_ms"))}

    async def _later(self, stored: Awaitable[list[Enqueued]]) -> dict[str, Any]:
        with self._host.meter.refusals():
            return _as_data(await stored)

    async def _enqueue_confirmed(self, news: list[NewRun], deadline: int | None) -> dict[str, Any]:
        """Answer when a worker has claimed every run; what nobody claimed in time is withdrawn."""
        host = self._host
        expected = {new["id"]: host.claimed_watch.expect(new["id"]) for new in news}
        try:
            stored = await host.admission.enqueue(news, deadline)
            now = host.clock.monotonic()
            left = max(0.0, deadline / 1000 - now) if deadline is not None else 5.0
            waiting = [expected[run["id"]] for run in stored if run["id"] in expected and run["is_new"]]
            if waiting:
                await asyncio.wait(waiting, timeout=left)
            for run in stored:
                if run["id"] in expected and run["is_new"] and not expected[run["id"]].done():
                    await self._withdraw(run["id"])
            return {"runs": stored}
        except TakoError as error:
            host.meter.refused_for(error)
            raise
        finally:
            for run_id, future in expected.items():
                host.claimed_watch.forget(run_id, future)

    async def _withdraw(self, run_id: str) -> None:
        host = self._host
        withdrawn = await host.writer.do(runs.withdraw, run_id, now_ms=host.clock.now_ms())
        if withdrawn:
            raise EnqueueError(
                f"no worker claimed the run within its deadline, so it was withdrawn ({run_id})",
                cure="See `tako status` for why, or enqueue without confirm=True to let it wait.",
                detail={"id": run_id},
            )

    async def get_run(self, connection: Connection, message: Message) -> Any:
        """One run by id."""
        wanted = texts(message, "with") if "with" in message else []
        async with connection.turn():
            return await self._host.view.run(text(message, "id"), wanted)

    async def find_run(self, connection: Connection, message: Message) -> Any:
        """The newest run of a workflow that has this key."""
        workflow, key = text(message, "workflow"), text(message, "key")
        names = self._host.store.names_of(workflow)
        found = await self._host.writer.read(inspect.find_run, workflows=names, key=key)
        if found is None:
            raise RunNotFound(f"there is no run of {workflow} with the key {key!r}")
        return self._host.view.shown(found)

    async def list_runs(self, connection: Connection, message: Message) -> Any:
        """A page of runs, newest first."""
        limit = max(1, min(optional_integer(message, "limit") or LIST_LIMIT, LIST_LIMIT_MAX))
        async with connection.turn():
            page = await self._host.writer.read(
                inspect.list_runs,
                workflows=self._names(optional_text(message, "workflow"), optional_text(message, "group")),
                status=optional_text(message, "status"),
                key=optional_text(message, "key"),
                since_ms=optional_integer(message, "since_ms"),
                until_ms=optional_integer(message, "until_ms"),
                parent_id=optional_text(message, "parent_id"),
                blocked=self._host.view.blocked_workflows(),
                limit=limit,
                after=_after(message),
            )
        return {"runs": [self._host.view.shown(info) for info in page.runs], "next": page.next}

    async def search_runs(self, connection: Connection, message: Message) -> Any:
        """Runs by a part of their id, or by the beginning of their key."""
        limit = min(optional_integer(message, "limit") or LIST_LIMIT, LIST_LIMIT_MAX)
        wanted = text(message, "text")[:1_000].strip()
        async with connection.turn():
            found = await self._host.writer.read(inspect.search, text=wanted, limit=limit) if wanted else []
        return {"runs": [self._host.view.shown(info) for info in found]}

    def _names(self, workflow: str | None, group: str | None) -> Collection[str] | None:
        """The names that runs of a list may be stored under; None: any. A workflow's old names count as its own."""
        names = None
        if workflow is not None:
            names = self._host.store.names_of(workflow)
            names = names if names[0] == workflow else (workflow,)  # asked for by an old name: by that one alone
        if group is None:
            return names
        of_group = self._host.registry.names_of(group)
        return of_group if names is None else [name for name in names if name in of_group]

    async def wait_run(self, connection: Connection, message: Message) -> Any:
        """The run as soon as it has ended, or as it is at the timeout."""
        host, run_id = self._host, text(message, "id")
        timeout_s = max(0, integer(message, "timeout_ms")) / 1000
        ended = host.ended_watch.expect(run_id)
        try:
            async with connection.turn():
                info = await host.view.run(run_id, ["result"])
            if info["ended_ms"] is None:
                await asyncio.wait([ended], timeout=timeout_s)
                async with connection.turn():
                    info = await host.view.run(run_id, ["result"])
            return info
        finally:
            host.ended_watch.forget(run_id, ended)

    async def cancel(self, connection: Connection, message: Message) -> Any:
        """When this answers, no further step starts and no result is saved."""
        host = self._host
        reason = optional_text(message, "reason") or "cancelled by an operator"

        async def cancel(run_id: str) -> RunInfo:
            await host.holding.cancel(run_id, reason=reason)
            return await host.view.run(run_id)

        return await one_or_each(message, cancel)

    async def retry(self, connection: Connection, message: Message) -> Any:
        """Run an ended run again, from its first unfinished step or from a named one."""
        host, from_step = self._host, optional_text(message, "from_step")

        async def retry(run_id: str) -> RunInfo:
            await host.writer.do(runs.retry, run_id, from_step=from_step, now_ms=host.clock.now_ms())
            return await host.view.run(run_id)

        return await one_or_each(message, retry)

    async def ack(self, connection: Connection, message: Message) -> Any:
        """Somebody has seen these dead runs."""
        host = self._host
        ids = texts(message, "ids") if "ids" in message else None
        if ids is None and not flag(message, "all"):
            raise TakoError("nothing to acknowledge was named", cure="Name runs, or use --all.")
        count = await host.writer.do(
            runs.ack, ids, workflow=optional_text(message, "workflow"), now_ms=host.clock.now_ms()
        )
        host.tell_listeners("runs", ids or ())
        return {"count": count}

    async def signal_run(self, connection: Connection, message: Message) -> Any:
        """Deliver a signal to one run, or keep it in its mailbox. A name that its workflow does not declare is refused:
        no wait would ever take it."""
        host = self._host
        run_id, signal = optional_text(message, "id"), text(message, "signal")
        if run_id is None:
            workflow, key = text(message, "workflow"), text(message, "key")
            found = await host.writer.read(inspect.find_run, workflows=host.store.names_of(workflow), key=key)
            if found is None:
                raise RunNotFound(f"there is no run of {workflow} with the key {key!r}")
            if found["ended_ms"] is not None:
                raise RunFinished(f"the run of {workflow} with the key {key!r} has ended: {found['id']}")
            run_id = found["id"]
        else:
            workflow = (await host.view.run(run_id))["workflow"]
        payload_json = body(message, "payload_json")
        host.registry.check_signal(workflow, signal, payload_json)
        return await host.writer.do(
            waiters.signal,
            run_id=run_id,
            event_name=signal,
            payload_json=payload_json,
            signal_id=optional_text(message, "signal_id"),
            now_ms=host.clock.now_ms(),
        )

    async def list_workflows(self, connection: Connection, message: Message) -> Any:
        """What exists, in which file and group, how many runs of it there are, and what is paused. Who asks `about`
        one of them wants to know what its current code declares, and waits for a boot that is under way."""
        if (about := optional_text(message, "about")) is not None:
            await self._host.admission.know(about)
        return {"workflows": status.workflows(self._host), "pauses": await pausing.listed(self._host)}

    def health(self, connection: Connection, message: Message) -> Any:
        """The health of one group, or of all."""
        wanted = optional_text(message, "group")
        return {"groups": [pool.snapshot() for name, pool in self._host.groups.pools.items() if wanted in (None, name)]}

    async def status(self, connection: Connection, message: Message) -> Any:
        """One page: groups, counts, and every problem with its cure."""
        return await status.report(self._host)

    def subscribe(self, connection: Connection, message: Message) -> Any:
        """Answer, then send lines of events until the connection is closed."""
        self._host.streams.subscribe(connection, message)
        return {}

    async def logs(self, connection: Connection, message: Message) -> Any:
        """Lines that were logged already."""
        async with connection.turn():
            return {"lines": await self._host.view.logs(message)}

    def reload(self, connection: Connection, message: Message) -> Any:
        """Look at code, settings and secrets now; what has changed takes effect."""
        self._host.lookout.look_now()
        return {}

    async def test_alerts(self, connection: Connection, message: Message) -> Any:
        """Try each channel of `[alerts]` now; what failed before and works again is no problem any more."""
        found = await self._host.alarms.alerter.test()
        return {"channels": [{"channel": name, "error": why} for name, why in found]}

    async def backup(self, connection: Connection, message: Message) -> Any:
        """A consistent copy of the store, made while it is in use."""
        return await backup.backup(self._host, text(message, "path"))

    async def check_store(self, connection: Connection, message: Message) -> Any:
        """Read the whole store, and tell what is wrong with it; writing goes on meanwhile."""
        return {"problems": await self._host.writer.read(soundness.problems)}


def _after(message: Message) -> str | None:
    after = optional_text(message, "after")
    if after is not None and not re.fullmatch(r"[0-9]{1,18}", after):
        raise InvalidRequest("invalid request: `after` is the `next` of the page before")
    return after


async def one_or_each(message: Message, act: Callable[[str], Awaitable[RunInfo]]) -> Any:
    """Act on the run `id`; or on each of `ids` at once, where one that refuses does not stop the others."""
    if "ids" not in message:
        return await act(text(message, "id"))
    wanted = list(dict.fromkeys(texts(message, "ids")))
    found = await asyncio.gather(*(act(run_id) for run_id in wanted), return_exceptions=True)
    done, refused = [], []
    for run_id, outcome in zip(wanted, found, strict=True):
        if isinstance(outcome, TakoError):
            refused.append({"id": run_id, "code": outcome.code, "error": outcome.message, "cure": outcome.cure})
        elif isinstance(outcome, BaseException):
            raise outcome
        else:
            done.append(outcome)
    return {"runs": done, "refused": refused}


def _as_data(stored: list[Enqueued]) -> dict[str, Any]:
    return {"runs": stored}
