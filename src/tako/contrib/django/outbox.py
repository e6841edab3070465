"""Enqueues inside `atomic()`: written in the same transaction, sent after its commit.

Health, name and payload are checked by the engine at once, so a refusal raises where the transaction can still roll
back. What is accepted becomes a row of `tako_outbox`: a rollback takes it along, a commit makes it certain. After the
commit it is sent and deleted. A process that dies in between leaves the row, and the Sweeper of any other process of
the app sends it. Sending twice is harmless, since a run's id was chosen when it was enqueued.

From the commit on there is nobody left to raise to, so runs are sent with `if_unhealthy="hold"`: when workers broke
meanwhile they are stored as `blocked`. What the engine refuses all the same stays in the table, with the error, is
logged and tried again.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from django.apps import apps
from django.db import DatabaseError, connections, router, transaction
from django.db.models import F

from tako.contrib.django.models import OutboxRow
from tako.errors import EnqueueError, NoEngine, StoreUnavailable, TakoError
from tako.sdk import runtime, spans
from tako.sdk.engine import mark_new

if TYPE_CHECKING:
    from tako.protocol.messages import Enqueued, NewRun
    from tako.sdk.engine import Engine

log = logging.getLogger("tako.contrib")

SEND_DEADLINE_S = 5.0
SWEEP_FIRST_S = 1.0
SWEEP_EVERY_S = 30.0
_BATCH = 500


class Outbox:
    """The engine, behind the app's own transactions."""

    def __init__(self, inner: Engine) -> None:
        self._inner = inner
        self._has_written = False

    def enqueue(self, runs: Sequence[NewRun], *, deadline_s: float, immediate: bool = False) -> list[Enqueued]:
        """Store runs: now, or inside of `atomic()` with its commit. `immediate` is now in any case."""
        alias = _alias()
        if immediate or not _is_in_transaction(alias):
            return self._inner.enqueue(runs, deadline_s=deadline_s, immediate=immediate)
        return self._write(alias, runs, deadline_s)

    async def aenqueue(self, runs: Sequence[NewRun], *, deadline_s: float, immediate: bool = False) -> list[Enqueued]:
        """As `enqueue`, awaited. Django has no transaction that spans an `await`, so it is always now."""
        return await self._inner.aenqueue(runs, deadline_s=deadline_s, immediate=immediate)

    def call(self, command: str, fields: Mapping[str, Any], *, deadline_s: float) -> Any:
        """Any other command."""
        return self._inner.call(command, fields, deadline_s=deadline_s)

    async def acall(self, command: str, fields: Mapping[str, Any], *, deadline_s: float) -> Any:
        """Any other command, awaited."""
        return await self._inner.acall(command, fields, deadline_s=deadline_s)

    def sweep(self) -> int:
        """Send what lies in the outbox; how many rows were. The engine's absence ends it early."""
        alias = _alias()
        sent = 0
        for row in OutboxRow.objects.using(alias).order_by("pk")[:_BATCH]:
            try:
                sent += self._send(alias, row.pk, json.loads(row.runs), tries=row.tries)
            except (StoreUnavailable, NoEngine):
                break
        return sent

    def settle(self) -> None:
        """Send what was committed, in a test whose own transaction never commits. `tako.testing` calls it."""
        if self._has_written and not _is_in_transaction(_alias()):
            self.sweep()

    # --- in the transaction ---

    def _write(self, alias: str, runs: Sequence[NewRun], deadline_s: float) -> list[Enqueued]:
        if any(run.get("confirm") for run in runs):
            raise EnqueueError(
                "confirm=True waits for a worker, and inside atomic() the run is sent only after the commit.",
                cure="Leave out confirm=True, or say using(confirm=True, immediate=True).",
            )
        spans.carry(runs)  # who sends them after the commit may be another process
        told = self._inner.call("check_runs", {"runs": list(runs)}, deadline_s=deadline_s)["runs"]
        text = json.dumps([_to_be_sent(run) for run in runs], ensure_ascii=False)
        row = _insert(alias, text)
        self._has_written = True
        # robust: what goes wrong here must not keep other callbacks of the app from being called.
        transaction.on_commit(partial(self._committed, alias, row.pk, text), using=alias, robust=True)
        return mark_new(told, runs)

    # --- after the commit ---

    def _committed(self, alias: str, key: int, text: str) -> None:
        try:
            self._send(alias, key, json.loads(text))
        except (StoreUnavailable, NoEngine) as error:
            log.error("enqueue %d is committed and not sent yet; it will be tried again: %s", key, error)

    def _send(self, alias: str, key: int, runs: list[NewRun], *, tries: int = 0) -> bool:
        """Send a row and delete it. Raises StoreUnavailable when no engine takes anything at all."""
        row = OutboxRow.objects.using(alias).filter(pk=key)
        try:
            self._inner.enqueue(runs, deadline_s=SEND_DEADLINE_S)
        except TakoError as error:
            row.update(tries=F("tries") + 1, error=str(error)[:4_000])
            if isinstance(error, StoreUnavailable | NoEngine):
                raise
            if tries & (tries + 1) == 0:  # said the first time, and after each doubling
                names = ", ".join(sorted({run["workflow"] for run in runs}))
                log.error("enqueue %d of %s is committed and refused; it will be tried again: %s", key, names, error)
            return False
        row.delete()
        return True


class Sweeper(threading.Thread):
    """Sends what processes that died have left in the outbox: soon after the start, then twice a minute."""

    def __init__(self) -> None:
        super().__init__(name="tako-outbox", daemon=True)
        self._stopped = threading.Event()
        self._complained = ""

    def stop(self) -> None:
        """Sweep no more. Twice is harmless."""
        self._stopped.set()

    def run(self) -> None:
        """The thread's body."""
        wait_s = SWEEP_FIRST_S
        while not self._stopped.wait(wait_s):
            # Until then Django warns of queries.
            if apps.ready:
                self.run_once()
                wait_s = SWEEP_EVERY_S

    def run_once(self) -> None:
        """Sweep, and give the connection back."""
        try:
            engine = runtime.engine()
            if isinstance(engine, Outbox):
                engine.sweep()
            self._complained = ""
        except (DatabaseError, TakoError) as error:
            # The database or the engine is away, or nobody has migrated yet: the next round finds out.
            if str(error) != self._complained:
                self._complained = str(error)
                cure = "; `python manage.py migrate` makes its table" if "tako_outbox" in str(error) else ""
                log.warning("the outbox could not be looked at: %s%s", error, cure)
        finally:
            connections.close_all()


def _alias() -> str:
    return cast(str, router.db_for_write(OutboxRow))


def _is_in_transaction(alias: str) -> bool:
    """Whether `atomic()` is open. That of Django's TestCase does not count: it never commits."""
    return any(not getattr(block, "_from_testcase", False) for block in connections[alias].atomic_blocks)


def _insert(alias: str, text: str) -> OutboxRow:
    try:
        return cast(OutboxRow, OutboxRow.objects.using(alias).create(runs=text, created_ms=runtime.now_ms()))
    except DatabaseError as error:
        if OutboxRow._meta.db_table not in str(error):
            raise
        raise EnqueueError(
            f"The database has no table {OutboxRow._meta.db_table}, so nothing can be enqueued inside atomic().",
            cure="Run `python manage.py migrate tako`.",
        ) from error


def _to_be_sent(run: NewRun) -> dict[str, Any]:
    found = {**run, "if_unhealthy": "hold", "on_duplicate": "return"}
    delay_ms = found.pop("delay_ms", None)
    if delay_ms is not None:  # from now on, not from the commit on
        found["run_at_ms"] = runtime.now_ms() + cast(int, delay_ms)
    return found
