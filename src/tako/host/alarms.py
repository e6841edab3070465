"""Which news of the house a person must hear who is not looking: what becomes an alert, and in which words.

Our own words and the types of exceptions are told. What an exception of the app says may quote a payload, so it stays
in the store, and the alert names the command that shows it.
"""

from __future__ import annotations

import re
import socket
from typing import TYPE_CHECKING, Any

from tako.alerts.alert import Alert, Sender
from tako.alerts.alerter import Alerter
from tako.errors import StoreUnavailable, TakoError
from tako.logs import render
from tako.supervisor import records
from tako.supervisor.exits import ExitKind

if TYPE_CHECKING:
    from tako.host.app import AppHost

# Reasons that we word ourselves, and how much of them may be told; all others begin with the type of an exception.
_OURS = re.compile(r"worker died .*|the stored payload does not fit")
_TYPE = re.compile(r"[A-Za-z_][\w.]*")


class Alarms:
    """Turns news into alerts. Without a channel in `[alerts]` it costs a look at a flag."""

    def __init__(self, host: AppHost) -> None:
        self._host = host
        self.alerter = Alerter(
            host.config.alerts,
            sender=Sender(app=host.config.name, environment=host.environment, machine=socket.gethostname()),
            root=host.config.root,
            clock=host.clock,
            log=host.say,
            redact=lambda text: host.hub.redact(text),
        )
        self._failures: dict[str, int] = {}  # by group, as they were when it was last looked at
        self._failing: set[str] = set()

    def begin(self) -> None:
        """What the last engine told already is not news."""
        for name, pool in self._host.groups.pools.items():
            self._failures[name] = pool.state.failures
            if pool.state.is_failing:
                self._failing.add(name)

    # --- runs -------------------------------------------------------------------------------------------------------

    def dead(self, run_id: str, workflow: str, reason: str) -> None:
        """A run became dead."""
        if not self.alerter.is_used:
            return
        why = cause_of(reason)
        cure = f"See `tako runs show {run_id}`; run it again with `tako runs retry {run_id}`."
        self._tell("dead_run", f"{workflow} {why}", f"{workflow} is dead: {why}", detail=f"run {run_id}", cure=cure)

    # --- groups -----------------------------------------------------------------------------------------------------

    def health_changed(self, group: str) -> None:
        """A group's first failure in a row is told, and again when it has failed so often that it is called failing."""
        pool = self._host.groups.pools.get(group)
        if pool is None:
            return
        state = pool.state
        before = self._failures.get(group, 0)
        self._failures[group] = state.failures
        was_failing = group in self._failing
        (self._failing.add if state.is_failing else self._failing.discard)(group)
        if state.failure is None:
            return
        cure = f"See its last lines with `tako logs --group {group} --last-crash`, mend the cause and save or deploy."
        # What a worker prints may quote payloads once it has claimed; the sentence of one that refuses to boot is ours.
        is_ours = state.failure.kind is ExitKind.MISCONFIGURED
        lines = records.cause_lines(state.failure) if is_ours else []
        detail = state.failure.traceback_tail or "\n".join(lines)
        words = state.failure.words
        if state.failures and not before:
            what = f'group "{group}" is unhealthy: {words}'
            self._tell("unhealthy_group", group, what, detail=detail, cure=cure)
        elif state.is_failing and not was_failing:
            what = f'group "{group}" is failing, {state.failures} failed starts in a row: {words}'
            self._tell("failing_group", group, what, detail=detail, cure=cure)

    # --- schedules and the store ------------------------------------------------------------------------------------

    def late(self, schedule: dict[str, Any]) -> None:
        """A schedule should have fired and has not."""
        name = f"{schedule['spec']} of {schedule['workflow']}"
        what = f"schedule {name} is {schedule['late_ms'] // 1000} s late"
        self._tell("late_schedule", name, what, cure="See `tako schedules` and `tako status`.")

    def unavailable(self, error: StoreUnavailable) -> None:
        """The store takes no writes."""
        cause = str(error.detail.get("reason", ""))
        self._tell("store_unavailable", cause, f"the store is unavailable: {error.message}", cure=error.cure)

    def fatal(self, error: TakoError) -> None:
        """The engine ends because of this."""
        self._tell("store_unavailable", error.code, f"the engine stops: {error.message}", cure=error.cure)

    def _tell(self, kind: str, cause: str, what: str, *, detail: str = "", cure: str = "") -> None:
        redact = self._host.hub.redact
        self.alerter.tell(
            Alert(
                kind=kind,
                cause=cause,
                what=render.clean(redact(what)),
                detail="\n".join(render.clean_lines(redact(detail))),
                cure=cure,
            )
        )


def cause_of(reason: str) -> str:
    """What may be told of why a run is dead: our own words whole, of anything else the type of the exception."""
    first = reason.split("\n", 1)[0]
    if ours := _OURS.match(first):
        return ours.group()
    kind = first.split(":", 1)[0]
    return kind if _TYPE.fullmatch(kind) else "its handler failed"
