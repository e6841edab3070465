"""The set of schedules in the store: replaced as a whole when code changes, paused and resumed by people.

A schedule that is new, reworded or resumed begins now and never fires for the past (its *mark* is the newest boundary
that was dealt with). One that is unchanged keeps its mark, so a deploy neither repeats nor loses a boundary.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from tako.cron import expression
from tako.engine.store import Reader, Store
from tako.errors import DefinitionError, RunNotFound

# workflow; what the SDK declares (kind, expression or interval_ms, tz, catch_up, catch_up_window_ms, overlap, grace_ms,
# jitter_ms); and, if its runs are to have them, payload_json, key, retries, priority.
Schedule = dict[str, Any]


class Replaced(NamedTuple):
    """What changed, as (workflow, name of the schedule)."""

    added: list[tuple[str, str]]
    removed: list[tuple[str, str]]
    total: int


def replace(store: Store, wanted: Sequence[Schedule], *, now_ms: int) -> Replaced:
    """Make `wanted` the full set.

    Raises:
        DefinitionError: `invalid cron 'C' for 'N': …`. Nothing was changed.
    """
    parsed = {}
    for schedule in wanted:
        try:
            times = expression.parse(schedule)
        except DefinitionError as error:
            raise DefinitionError(_for_workflow(error.message, schedule["workflow"]), cure=error.cure) from error
        parsed[schedule["workflow"], expression.name(schedule)] = (schedule, times)
    before = {(row["workflow"], row["spec"]): row for row in store.all("all_schedules")}
    # A person paused the workflow's schedules, not this wording of them.
    paused = {row["workflow"] for row in before.values()} - {
        row["workflow"] for row in before.values() if not row["paused"]
    }
    removed = sorted(before.keys() - parsed.keys())
    for workflow, spec in removed:
        store.run("delete_schedule", workflow=workflow, spec=spec)
    for (workflow, spec), (schedule, times) in parsed.items():
        kept = before.get((workflow, spec))
        options = {name: value for name, value in schedule.items() if name != "workflow"}
        mark_ms = now_ms if kept is None else kept["mark_ms"]
        store.run(
            "insert_schedule", workflow=workflow, spec=spec, options=json.dumps(options, sort_keys=True),
            mark_ms=mark_ms, next_ms=times.after(mark_ms),
            paused=int(workflow in paused if kept is None else kept["paused"]),
        )  # fmt: skip
    return Replaced(sorted(parsed.keys() - before.keys()), removed, len(parsed))


def cron(workflow: str, line: str) -> Schedule:
    """A plain cron line in UTC, as v0 registers it."""
    return {"workflow": workflow, "kind": "cron", "expression": line}


def pause(store: Store, workflow: str, *, paused: bool, now_ms: int) -> int:
    """Pause or resume the schedules of a workflow; how many. What was missed in a pause does not fire.

    Raises:
        RunNotFound: the workflow has no schedule.
    """
    rows = [row for row in store.all("all_schedules") if row["workflow"] == workflow]
    if not rows:
        raise RunNotFound(f"{workflow} has no schedule.", cure="`tako schedules` lists them.")
    for row in rows:
        if paused and row["queued_ms"] is not None:
            store.run("queue_schedule", workflow=workflow, spec=row["spec"], queued_ms=None, skipped=1)
        times = expression.parse(json.loads(row["options"]))
        mark_ms = row["mark_ms"] if paused or not row["paused"] else max(now_ms, row["mark_ms"])
        store.run(
            "pause_schedule", workflow=workflow, spec=row["spec"], paused=int(paused), mark_ms=mark_ms,
            next_ms=times.after(mark_ms),
        )  # fmt: skip
    return len(rows)


def next_due_ms(store: Reader) -> int | None:
    """When a schedule is due next; None without any."""
    row = store.one("next_schedule")
    assert row is not None
    due_ms: int | None = row["next_ms"]
    return due_ms


def _for_workflow(message: str, workflow: str) -> str:
    """`invalid cron 'C': why` becomes `invalid cron 'C' for 'N': why`, as v0 words it."""
    head, colon, why = message.partition("': ")
    return f"{head}' for {workflow!r}: {why}" if colon else f"{message} (schedule of {workflow!r})"
