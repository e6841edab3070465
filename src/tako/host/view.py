"""Runs as people see them: what the store says, with what only the engine knows (blocked groups, names nobody has)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from tako.engine import inspect
from tako.engine.events import Event, runs_of
from tako.engine.intake import UNFINISHED
from tako.errors import RunNotFound
from tako.host import pausing
from tako.host.fields import flag, optional_integer, optional_text
from tako.host.streams import filter_of
from tako.logs import files
from tako.protocol.messages import LogLine, RunInfo
from tako.rpc.connection import Message

if TYPE_CHECKING:
    from tako.host.app import AppHost

DUE = ("ready", "solo")
BLOCKING = ("cooldown", "probing", "stopped")
NEWEST_FILES = 2  # of the log, each of at most 10 MB
EVENT_FIELDS = ("id", "workflow", "status", "attempt", "created_ms", "error")


class View:
    """What is shown of runs."""

    def __init__(self, host: AppHost) -> None:
        self._host = host
        self._unroutable: set[str] = set()
        self._told_stored: dict[str, tuple[int | None, str]] = {}  # by group: the failure that it was last said of

    async def run(self, run_id: str, wanted: Sequence[str] = ()) -> RunInfo:
        """One run. `wanted` adds payload, result, steps, attempts.

        Raises:
            RunNotFound: it never existed, or its retention is over.
        """
        info = await self._host.writer.read(inspect.get_run, run_id, wanted=wanted)
        if info is None:
            raise RunNotFound(
                f"there is no run {run_id[:64]}",
                cure=f"It never existed, or it ended more than {self._host.config.retention_s / 86_400:g} days ago.",
                detail={"id": run_id[:64]},
            )
        return self.shown(info)

    def shown(self, info: RunInfo) -> RunInfo:
        """The run with its group, and as `blocked` where that is paused or broken, or nothing declares its workflow."""
        group = self._host.registry.group_of(info["workflow"])
        info["group"] = group
        due_ms = info["run_at_ms"]
        if info["status"] == "pending" and due_ms is not None and due_ms <= self._host.clock.now_ms():
            info["blocked"] = self.why_blocked(info["workflow"], group)
            if info["blocked"]:
                info["status"] = "blocked"
        return info

    def blocked_workflows(self) -> list[str]:
        """The workflows whose due runs cannot start now."""
        due = {workflow for (workflow, lane), n in list(self._host.store.counts.items()) if n and lane in DUE}
        return [name for name in due if self.why_blocked(name, self._host.registry.group_of(name))]

    def why_blocked(self, workflow: str, group: str | None) -> str | None:
        """Why a due run of this workflow cannot start now; None when nothing is in its way."""
        if paused := pausing.why(self._host, workflow, group):
            return paused
        pool = self._host.groups.pools.get(group) if group else None
        if pool is None:
            return f"no code declares the workflow {workflow!r}"
        health = pool.snapshot()
        if health["state"] in BLOCKING and health["reason"]:
            return health["reason"]
        return None

    def note_stored(self, workflow: str) -> None:
        """A run is being stored. If no worker of its group can start, that is an error; said once for each failure."""
        group = self._host.registry.group_of(workflow)
        pool = self._host.groups.pools.get(group) if group else None
        if group is None or pool is None or pool.state.is_proven or pool.state.failure is None or pool.state.paused:
            return
        words = pool.state.failure.words
        if self._told_stored.get(group) != (pool.state.since_ms, words):
            self._told_stored[group] = (pool.state.since_ms, words)
            what = f'a run of {workflow} is stored although group "{group}" cannot start a worker, and waits: {words}'
            self._host.say("error", what, group=group, workflow=workflow)

    # --- names that nothing declares --------------------------------------------------------------------------------

    def note_unroutable(self, workflow: str) -> None:
        """There are unfinished runs of a name that nothing declares. Said once, until one does."""
        if workflow not in self._unroutable:
            self._unroutable.add(workflow)
            self._host.say(
                "error",
                f"runs of {workflow!r} wait, but no code declares this workflow: declare it again, or cancel them with "
                f"`tako runs cancel --all --workflow {workflow}`",
                workflow=workflow,
            )

    def unroutable(self) -> dict[str, int]:
        """Unfinished runs by workflow, of those that nothing declares."""
        found: dict[str, int] = {}
        for (workflow, lane), n in list(self._host.store.counts.items()):  # the writer's thread changes it
            if n and lane in UNFINISHED and self._host.registry.group_of(workflow) is None:
                found[workflow] = found.get(workflow, 0) + n
        return found

    def check_names(self) -> None:
        """After news of the code: which waiting runs have lost their workflow. Who has it back may lose it again."""
        lost = self.unroutable()
        self._unroutable &= lost.keys()
        for workflow in lost:
            self.note_unroutable(workflow)

    # --- streams and logs -------------------------------------------------------------------------------------------

    def stream(self, events: list[Event]) -> None:
        """Tell subscribers of every run that these events are about."""
        if ids := runs_of(events):
            self._host.in_background(self._stream(ids))

    async def _stream(self, run_ids: list[str]) -> None:
        for run_id in run_ids:
            info = await self._host.writer.read(inspect.get_run, run_id)
            if info is not None:
                shown = cast(dict[str, Any], self.shown(info))
                run = {name: shown[name] for name in EVENT_FIELDS}
                self._host.streams.tell_run(run, now_ms=self._host.clock.now_ms())

    async def logs(self, message: Message) -> list[LogLine]:
        """The newest lines that a `logs` request asks for, oldest first: of the ring; of the files if it has too few.

        The files are read in a thread, and not all of them: who wants to look further back says since when.
        """
        host, wanted = self._host, filter_of(message)
        limit = min(optional_integer(message, "limit") or 200, 10_000)
        since_ms, group = optional_integer(message, "since_ms"), optional_text(message, "group")
        if flag(message, "last_crash"):
            found = host.hub.last_crash(group=group, limit=limit)
            if found or host.log_folder is None:
                return found
            return await asyncio.to_thread(files.last_crash, host.log_folder, group=group, limit=limit)
        found = [line for line in host.hub.recent(wanted, limit=limit) if line["ts_ms"] >= (since_ms or 0)]
        if len(found) == limit or host.log_folder is None:
            return found
        most = NEWEST_FILES if since_ms is None else None
        kept = await asyncio.to_thread(
            files.read, host.log_folder, wanted, limit=limit, since_ms=since_ms or 0, max_files=most
        )
        return kept if len(kept) > len(found) else found

    def worker_log(self, worker_id: str, message: Message) -> None:
        """A line of the worker runtime itself."""
        pool = self._host.groups.pool_of_worker(worker_id)
        fields = message.get("fields")
        line: dict[str, Any] = {
            "ts_ms": self._host.clock.now_ms(),
            "level": str(message.get("level", "info")),
            "scope": "worker",
            "message": str(message.get("message", "")),
        }
        if pool is not None:
            line["group"] = pool.group
        if isinstance(message.get("id"), str):
            line["run_id"] = message["id"]
        if isinstance(fields, dict):
            line["fields"] = fields
        self._host.hub.publish(cast(LogLine, line))
