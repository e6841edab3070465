"""Runs as people and programs see them. Reads only, on the reading connection; nothing here counts rows.

Whether a run is `blocked` can depend on workers, which the store does not know: the host adds that, and the group.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

from tako.engine import children, documents, pausing, retry, waiters
from tako.engine.store import STRETCH, Reader
from tako.protocol.messages import AttemptInfo, RunInfo, ShownStatus, StepInfo

# A list by status reads the rows of that status if there are no more than this, and walks all runs from the newest on
# if there are: then it soon has a page full.
_FEW = 2_000

# After every row: SQLite's largest number.
_NEWEST = 2**63 - 1

# Rows stand in the order of arrival, so in that of their times, too: but for a clock that was wrong, by less than this.
_WRONG_MS = 24 * 3_600_000

# So far back an id is looked for by its end.
_LOOK_AT = 100_000

_PENDING = ("later", "ready", "solo", "limited", "paused")
_HELD = {"sleeping": "sleep", "waiting": "wait", "limited": "limited", "blocked": "blocked"}


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a list. `next` is the `after` of the next one, None at the end."""

    runs: list[RunInfo]
    next: str | None


@dataclass(frozen=True, slots=True)
class Overview:
    """What `tako status` must know at a glance, by workflow: dead runs that nobody has seen, how long the oldest due
    run has waited, and schedules that are late (each with workflow, spec, late_ms)."""

    unseen_dead: dict[str, int]
    oldest_ready_ms: dict[str, int]
    late_schedules: list[dict[str, Any]]


def get_run(reader: Reader, run_id: str, *, wanted: Collection[str] = ()) -> RunInfo | None:
    """One run, None when there is none of this id. `wanted`: of payload, result, steps, attempts, interventions."""
    row = reader.one("shown_run", id=run_id)
    return None if row is None else _with_details(reader, row, wanted)


def find_run(reader: Reader, *, workflows: Sequence[str], key: str, wanted: Collection[str] = ()) -> RunInfo | None:
    """The newest run that has this key, ended ones too. `workflows` are all names of the one workflow."""
    rows = [row for name in workflows if (row := reader.one("newest_with_key", workflow=name, key=key)) is not None]
    newest = max(rows, key=lambda row: int(row["seq"]), default=None)
    return None if newest is None else get_run(reader, newest["id"], wanted=wanted)


def list_runs(
    reader: Reader,
    *,
    workflow: str | None = None,
    workflows: Collection[str] | None = None,
    status: str | None = None,
    key: str | None = None,
    since_ms: int | None = None,
    until_ms: int | None = None,
    parent_id: str | None = None,
    blocked: Collection[str] = (),
    limit: int = 100,
    after: str | None = None,
) -> Page:
    """A page of runs, newest first. `status` is stored or shown ("sleeping", "limited"…); times are of creation.

    `workflows` are all the names that will do, such as those of a group; `blocked` those whose due runs cannot start
    now. `after` is `next` of the page before.
    """
    names = [workflow] if workflow is not None else None if workflows is None else sorted(workflows)
    stored, held = _stored(status)
    before = int(after) if after is not None else _NEWEST
    filters = {
        "names": None if names is None else json.dumps(names),
        "status": stored,
        "held": held,
        "blocked": json.dumps(sorted(blocked)),
        "key": key,
        "since_ms": since_ms,
        "until_ms": until_ms,
    }
    among = _among(reader, names=names, status=stored, key=key, parent_id=parent_id)
    if among is not None:
        rows = reader.all("list_runs_among", among=json.dumps(among), before=before, limit=limit + 1, **filters)
    else:
        rows = []
        begin = _row_of(reader, since_ms - _WRONG_MS) if since_ms is not None else 0
        if until_ms is not None:
            before = min(before, _row_of(reader, until_ms + _WRONG_MS))
        for first, end in _ranges(reader, names, begin=begin, before=before):
            rows += reader.all("list_runs", first=first, before=end, limit=limit + 1 - len(rows), **filters)
            if len(rows) > limit:
                break
    shown = [_shown(reader, row) for row in rows[:limit]]
    return Page(shown, str(rows[limit - 1]["seq"]) if len(rows) > limit else None)


def search(reader: Reader, *, text: str, limit: int = 50) -> list[RunInfo]:
    """Runs whose id begins or ends with the text (or does both, as in `0198…4f2a1c`), or whose key begins with it."""
    text = text.strip().replace("...", "…")
    begin, is_shortened, ending = text.lower().partition("…")
    found: list[sqlite3.Row] = []
    if not is_shortened:
        ending = begin
        found += reader.all("seqs_by_id", low=begin, high=_after(begin), limit=limit)
        found += _by_key(reader, text, limit=limit)
    if ending:
        found += reader.all("seqs_by_end_of_id", ending=ending, look_at=_LOOK_AT, limit=limit)
    among = sorted({row["seq"] for row in found}, reverse=True)[:limit]
    everything = dict.fromkeys(("names", "status", "held", "key", "since_ms", "until_ms"))
    rows = reader.all(
        "list_runs_among", among=json.dumps(among), before=_NEWEST, blocked="[]", limit=limit, **everything
    )
    return [_shown(reader, row) for row in rows if not is_shortened or row["id"].startswith(begin)]


def _by_key(reader: Reader, text: str, *, limit: int) -> list[sqlite3.Row]:
    workflows = sorted({row["workflow"] for row in reader.all("all_counts")})
    return [
        row
        for workflow in workflows
        for row in reader.all("seqs_by_key", workflow=workflow, low=text, high=_after(text), limit=limit)
    ]


def _after(text: str) -> str:
    """The first text that comes after all that begin with this one."""
    return text + "\U0010ffff"


def overview(reader: Reader, *, now_ms: int, paused: Collection[str] = ()) -> Overview:
    """Facts for `tako status`. Runs of `paused` workflows wait because somebody wants it, not because nobody comes."""
    counts = reader.all("all_counts")
    ready = [row["workflow"] for row in counts if row["state"] == "ready" and row["n"] > 0]
    ages = {name: oldest_ready_ms(reader, name, now_ms=now_ms) for name in ready if name not in paused}
    return Overview(
        unseen_dead={row["workflow"]: row["n"] for row in counts if row["state"] == "unseen" and row["n"] > 0},
        oldest_ready_ms={name: age for name, age in ages.items() if age is not None},
        late_schedules=[schedule for schedule in schedules(reader, now_ms=now_ms) if schedule["late_ms"] > 0],
    )


def oldest_ready_ms(reader: Reader, workflow: str, *, now_ms: int) -> int | None:
    """For how long the run of a workflow that has been due longest has waited; None when none waits."""
    row = reader.one("oldest_ready", workflow=workflow)
    if row is None or row["run_at_ms"] is None:
        return None
    age_ms: int = now_ms - row["run_at_ms"]
    return max(0, age_ms)


def counts(reader: Reader) -> dict[str, dict[str, int]]:
    """Numbers of runs by workflow and by lane or status; "unseen" are dead runs that nobody has acknowledged."""
    found: dict[str, dict[str, int]] = {}
    for row in reader.all("all_counts"):
        if row["n"]:
            found.setdefault(row["workflow"], {})[row["state"]] = row["n"]
    return found


def schedules(reader: Reader, *, now_ms: int | None = None) -> list[dict[str, Any]]:
    """Every schedule: workflow, spec, options, when it fired last and is due next, and by how much it is late."""
    found = []
    for row in reader.all("all_schedules"):
        options = json.loads(row["options"])
        due_ms = row["next_ms"]
        late_ms = 0
        if now_ms is not None and due_ms is not None and not row["paused"]:
            late_ms = max(0, now_ms - due_ms - int(options.get("grace_ms", 0)))
        found.append(
            {
                "workflow": row["workflow"],
                "spec": row["spec"],
                "options": options,
                "fired_ms": row["fired_ms"],
                "next_ms": due_ms,
                "skipped": row["skipped"],
                "paused": bool(row["paused"]),
                "late_ms": late_ms,
            }
        )
    return found


def held_by_key(reader: Reader, *, names: Collection[str], key: str) -> int:
    """How many due runs of a workflow, by all its names, wait because this key is paused."""
    row = reader.one("held_by_key", names=json.dumps(list(names)), key=key)
    assert row is not None
    return int(row["n"])


def interventions(reader: Reader, run_id: str) -> list[dict[str, Any]]:
    """What people did to a run: each with at_ms, what, detail."""
    return [dict(row) for row in reader.all("interventions_of", id=run_id)]


# --- details of one run ---------------------------------------------------------------------------------------------


def _with_details(reader: Reader, row: sqlite3.Row, wanted: Collection[str]) -> RunInfo:
    seq = row["seq"]
    info = _shown(reader, row)
    failed = reader.one("last_traceback", run=seq)
    info["traceback"] = None if failed is None else failed["traceback"]
    waiting = reader.one("waiter", run=seq)
    if waiting is not None:
        info["waiting"] = {
            "step": waiting["step"],
            "signal": waiting["event"],
            "until_ms": waiting["wake_at_ms"],
            "since_ms": waiting["parked_ms"],
        }
        if waiting["event"] == waiters.GATHER:
            runs = [waker["id"] for waker in reader.all("gathered_runs", run=seq)]
            info["waiting"] |= {"signal": None, "runs": runs}
    kept = reader.all("mailbox_of", run=seq)
    if kept:
        info["signals"] = [{"name": mail["event"], "sent_ms": mail["sent_ms"]} for mail in kept]
    if "payload" in wanted:
        payload = reader.one("payload", run=seq)
        assert payload is not None, "a run has a payload from its first transaction on"
        info["payload_json"] = payload["payload"]
    if "result" in wanted:
        info["result_json"] = _result(reader, row)
    if "steps" in wanted:
        info["steps"] = _steps(reader, row)
    if "attempts" in wanted:
        info["attempts"] = [_attempt(attempt) for attempt in reader.all("attempts_of", run=seq)]
        info["attempt_ms"] = row["attempt_ms"] if row["attempt_open"] else None
        info["claimed_ms"] = row["claimed_ms"] if row["status"] == "running" else None
    if "interventions" in wanted:
        info["interventions"] = interventions(reader, row["id"])
    return info


def _result(reader: Reader, row: sqlite3.Row) -> str | None:
    if row["status"] != "succeeded":
        return None
    result = reader.one("result", run=row["seq"])
    return "null" if result is None else str(result["result"])


_STEP_STATUS = {
    "step": "succeeded", "sleep": "slept", "signal": "received", "timeout": "timed_out", "child": "started",
}  # fmt: skip


def _steps(reader: Reader, row: sqlite3.Row) -> list[StepInfo]:
    found: list[StepInfo] = []
    for step in reader.all("steps_of", run=row["seq"], generation=row["generation"]):
        info: StepInfo = {
            "name": step["name"],
            "status": _STEP_STATUS[step["kind"]],
            "attempt": step["attempt"],
            "started_ms": step["started_ms"],
            "ended_ms": step["ended_ms"],
        }
        if step["kind"] == "child":
            info["child_id"] = children.read(step["result"])["id"]
        elif step["result"] != waiters.TIMED_OUT:
            info["result_json"] = step["result"]
        found.append(info)
    return found


def _attempt(row: sqlite3.Row) -> AttemptInfo:
    return {
        "attempt": row["attempt"],
        "epoch": row["epoch"],
        "worker_id": row["worker_id"],
        "release": row["release"],
        "started_ms": row["started_ms"],
        "ended_ms": row["ended_ms"],
        "outcome": row["outcome"],
        "error": row["error"],
        "traceback": row["traceback"],
    }


# --- one line of a list ---------------------------------------------------------------------------------------------


def _shown(reader: Reader, row: sqlite3.Row) -> RunInfo:
    status: str = row["status"]
    blocked = None
    if row["parked"] is not None:
        status = "sleeping" if row["parked"] == "sleep" else "waiting"
    elif row["lane"] == "limited":
        status = "limited"
    elif row["lane"] == "paused":
        status, blocked = "blocked", pausing.why_held(reader, row)
    return {
        "id": row["id"],
        "workflow": row["workflow"],
        "status": cast(ShownStatus, status),
        "attempt": row["attempt"],
        "retries": retry.DEFAULT_RETRIES if row["retries"] is None else row["retries"],
        "created_ms": row["created_ms"],
        "run_at_ms": row["run_at_ms"],
        "started_ms": row["started_ms"],
        "ended_ms": row["ended_ms"],
        "key": row["key"],
        "priority": row["priority"],
        "group": None,
        "scheduled_for_ms": row["scheduled_for_ms"],
        "parent_id": row["parent_id"],
        # `reason` of the row is why it ended, or why its last attempt failed.
        "error": None if status == "cancelled" else row["reason"],
        "reason": row["reason"] if status in ("cancelled", "dead") else None,
        "warnings": documents.texts(row["warnings"]),
        "blocked": blocked,
        "acknowledged": bool(row["acknowledged"]),
    }


# --- what to read for a list ----------------------------------------------------------------------------------------


def _stored(status: str | None) -> tuple[str | None, str | None]:
    """The stored status, and what holds the run: "" for nothing, None for whatever."""
    if status in _HELD:
        return "pending", _HELD[status]
    return status, "" if status == "pending" else None


def _among(
    reader: Reader, *, names: list[str] | None, status: str | None, key: str | None, parent_id: str | None
) -> list[int] | None:
    """The rows that can be in the list, when an index tells that they are few; None: walk all from the newest on."""
    if parent_id is not None:
        return [row["seq"] for row in reader.all("children_by_id", id=parent_id)]
    if key is not None:
        if names is None:  # the index is by workflow and key
            names = sorted({row["workflow"] for row in reader.all("all_counts")})
        return [row["seq"] for name in names for row in reader.all("runs_with_key", workflow=name, key=key)]
    states = _PENDING if status == "pending" else (status,) if status is not None else ()
    if not states:
        return None
    expected = 0
    for row in reader.all("all_counts"):
        if row["state"] in states and (names is None or row["workflow"] in names):
            expected += row["n"]
    if expected == 0:
        return []
    if expected > _FEW or status not in _BY_STATUS:
        return None
    return [row["seq"] for row in reader.all(_BY_STATUS[status])]


def _row_of(reader: Reader, at_ms: int) -> int:
    """The row from which on runs were created at this time or later, halving the rows again and again."""
    newest = reader.one("last_seq")
    low, high = 0, 0 if newest is None else newest["seq"] + 1
    while low < high:
        middle = (low + high) // 2
        row = reader.one("created_from", seq=middle)
        if row is None or row["created_ms"] >= at_ms:
            high = middle
        else:
            low = row["seq"] + 1
    return low


def _ranges(reader: Reader, names: list[str] | None, *, begin: int, before: int) -> Iterator[tuple[int, int]]:
    """Where to look for runs of these workflows, the newest first: from a row, to before a row."""
    if names is None:
        yield begin, before
        return
    end: int | None = None
    first = 0
    for row in reader.all("stretches_of", names=json.dumps(names), newest=(before - 1) // STRETCH):
        low = row["stretch"] * STRETCH
        if low + STRETCH <= begin:
            break
        if end is not None and low + STRETCH < first:
            yield first, end
            end = None
        if end is None:
            end = min(before, low + STRETCH)
        first = max(low, begin)
    if end is not None:
        yield first, end


# These statuses have indexes of their own; of succeeded and cancelled runs the newest are found soon enough.
_BY_STATUS = {"pending": "pending_seqs", "running": "running_seqs", "dead": "dead_seqs"}
