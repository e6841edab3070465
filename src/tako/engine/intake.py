"""How runs come in: `enqueue`, all or none, each id once, one unfinished run per key."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from tako.engine import guard, limits, line
from tako.engine.events import Came, Changed, Later, Ready
from tako.engine.store import Store
from tako.errors import DuplicateRun, QueueFull, RunFinished
from tako.protocol.messages import Enqueued, NewRun

# The lanes, and running.
UNFINISHED = ("ready", "later", "solo", "limited", "paused", "running")
# What a plain run does not have: see `insert_plain_run`.
_RARE = frozenset({"key", "expires_at_ms", "parent_id", "concurrency_key", "rate_key"})


class Scheduled(NamedTuple):
    """What a schedule knows of a run that it makes: the boundary, and the time zone that it was meant in."""

    for_ms: int
    tz: str = "UTC"


def enqueue(store: Store, new: Sequence[NewRun], *, now_ms: int, scheduled: Scheduled | None = None) -> list[Enqueued]:
    """Store runs, all or none, and answer in order.

    An id that is there already is not stored twice, and neither is a run whose key an unfinished run has: both are
    answered with the run that is there, and `is_new` False.

    Raises:
        DuplicateRun: `on_duplicate` is "raise" and the key is taken.
        QueueFull: the workflow has `max_pending` unfinished runs.
        RunFinished: `parent_id` names a run that has ended.
    """
    answers, wanted = _resolve(store, new)
    if not wanted:
        return answers
    _check_room(store, wanted)
    fresh = insert(store, wanted, now_ms=now_ms, scheduled=scheduled)
    if len(fresh) == len(wanted):
        return answers
    return [answer if answer["id"] in fresh else {"id": answer["id"], "is_new": False} for answer in answers]


def check(store: Store, new: Sequence[NewRun]) -> list[Enqueued]:
    """What `enqueue` would answer now, or refuse; nothing is stored, and a moment later it may be otherwise."""
    answers, wanted = _resolve(store, new)
    _check_room(store, wanted)
    return answers


def insert(store: Store, wanted: Sequence[NewRun], *, now_ms: int, scheduled: Scheduled | None = None) -> set[str]:
    """Store runs whose keys are known to be free and whose number is known to be allowed; the ids that were new."""
    if store.options and any(limits.is_limited(store, run["workflow"]) for run in wanted):
        # A run that is there already must not take a permit.
        known = {row["id"] for row in store.all("run_seqs", ids=json.dumps([run["id"] for run in wanted]))}
        wanted = [run for run in wanted if run["id"] not in known]
    parents = {run["parent_id"]: _parent(store, run["parent_id"]) for run in wanted if "parent_id" in run}
    rows = _rows(store, wanted, parents, now_ms=now_ms, scheduled=scheduled)
    stored = store.many("insert_plain_run", rows.plain) if rows.plain else 0
    stored += store.many("insert_run", rows.full) if rows.full else 0
    payloads = rows.payloads
    lanes = rows.lanes
    if stored != len(wanted):
        fresh = _fresh(store, rows.plain + rows.full)
        is_fresh = [run["id"] in fresh for run in wanted]
        lanes = list(itertools.compress(lanes, is_fresh))
        payloads = list(itertools.compress(payloads, is_fresh))
        wanted = list(itertools.compress(wanted, is_fresh))
    if payloads:
        store.note_stretches({run["workflow"] for run in wanted}, payloads[0][0], payloads[-1][0])
    if traced := [row for row in payloads if len(row) == 3]:
        store.many("insert_traced_payload", traced)
        payloads = [row for row in payloads if len(row) == 2]
    store.many("insert_payload", payloads)
    store.bytes_written += sum([len(row[1]) for row in payloads])
    _tell(store, wanted, lanes, rows.due_ms)
    return {run["id"] for run in wanted}


def unfinished(store: Store, workflow: str) -> int:
    """How many runs of a workflow have not ended."""
    return sum(store.count(workflow, state) for state in UNFINISHED)


def tell_pending(store: Store, run_id: str, workflow: str, lane: str, run_at_ms: int | None) -> None:
    """Emit what the house must know of a run that is pending now."""
    store.emit(Changed(run_id, workflow, "pending"))
    if lane in ("ready", "solo"):
        store.emit(Ready(workflow, lane))
    elif lane == "later" and run_at_ms is not None:
        store.emit(Later(run_at_ms))


def derived_id(now_ms: int, seed: str) -> str:
    """A UUIDv7 that follows from its seed: asking twice makes one run, and no chance is needed."""
    digest = bytearray(now_ms.to_bytes(6, "big") + hashlib.sha256(seed.encode()).digest()[:10])
    digest[6] = 0x70 | digest[6] & 0x0F
    digest[8] = 0x80 | digest[8] & 0x3F
    text = digest.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _resolve(store: Store, new: Sequence[NewRun]) -> tuple[list[Enqueued], list[NewRun]]:
    """The answers as they will be if every wanted run goes in, and the wanted runs. Writes nothing."""
    answers: list[Enqueued] = []
    wanted: list[NewRun] = []
    keys: dict[tuple[str, str], str] = {}
    ids: set[str] = set()
    for run in new:
        key = run.get("key")
        if run["id"] in ids:
            answers.append({"id": run["id"], "is_new": False})
            continue
        if key is not None:
            holder = keys.get((run["workflow"], key)) or _holder(store, run, key)
            if holder is not None:
                if holder != run["id"] and run.get("on_duplicate") == "raise":
                    raise _duplicate(run, key, holder)
                answers.append({"id": holder, "is_new": False})
                continue
            keys[run["workflow"], key] = run["id"]
        ids.add(run["id"])
        wanted.append(run)
        answers.append({"id": run["id"], "is_new": True})
    return answers, wanted


def _holder(store: Store, run: NewRun, key: str) -> str | None:
    # The id first: an enqueue repeated after a lost reply gets its own run, even if that has ended meanwhile and
    # somebody else has the key now.
    row = store.one("held_run", id=run["id"])
    return holder(store, run["workflow"], key) if row is None else str(row["id"])


def holder(store: Store, workflow: str, key: str) -> str | None:
    """The unfinished run that has this key, under whichever name of its workflow."""
    for name in store.names_of(workflow):
        row = store.one("live_key", workflow=name, key=key)
        if row is not None:
            return str(row["id"])
    return None


def _duplicate(run: NewRun, key: str, holder: str) -> DuplicateRun:
    return DuplicateRun(
        f"A run of {run['workflow']} with the key {key!r} is not finished yet: {holder}; nothing was enqueued.",
        cure='Wait for it, or leave out on_duplicate="raise" to be given that run.',
        detail={"id": holder},
    )


def _check_room(store: Store, wanted: Sequence[NewRun]) -> None:
    """`max_pending`. Repeating an enqueue that filled the queue is not refused: its ids are there already."""
    if not store.options:
        return
    for workflow in sorted({run["workflow"] for run in wanted} & store.options.keys()):
        limit = store.options[workflow].max_pending
        if limit is None:
            continue
        ids = [run["id"] for run in wanted if run["workflow"] == workflow]
        have = sum(unfinished(store, name) for name in store.options[workflow].names)
        if have + len(ids) <= limit:
            continue
        known = len(store.all("run_seqs", ids=json.dumps(ids)))
        if have + len(ids) - known > limit:
            raise QueueFull(
                f"{workflow} has {have} unfinished runs and max_pending is {limit}; nothing was enqueued.",
                cure="Try again when some have ended, raise max_pending, or add workers.",
                detail={"workflow": workflow, "unfinished": have, "max_pending": limit},
            )


def _parent(store: Store, run_id: str) -> int:
    """The row of the run that starts a child."""
    parent = guard.find(store, run_id)
    if parent["status"] not in ("running", "pending"):
        raise RunFinished(f"Run {run_id} has ended ({parent['status']}), so it starts no child.", detail={"id": run_id})
    seq: int = parent["seq"]
    return seq


class _Rows:
    """What to insert for some runs. `lanes` and `payloads` are in the runs' order; a row is in `plain` or in `full`, as
    the statements `insert_plain_run` and `insert_run` take it. `due_ms`: when the first of them must be looked at."""

    __slots__ = ("due_ms", "full", "lanes", "payloads", "plain")

    def __init__(self) -> None:
        self.lanes: list[str] = []
        self.plain: list[tuple[Any, ...]] = []
        self.full: list[tuple[Any, ...]] = []
        self.payloads: list[tuple[Any, ...]] = []  # with a trace or without
        self.due_ms: int | None = None


def _rows(
    store: Store, wanted: Sequence[NewRun], parents: dict[str, int], *, now_ms: int, scheduled: Scheduled | None
) -> _Rows:
    found = _Rows()
    for_ms, tz = scheduled or (None, None)
    due: list[int] = []
    for seq, run in enumerate(wanted, store.take_seqs(len(wanted))):
        get: Callable[..., Any] = run.get
        run_at_ms = _run_at_ms(run, now_ms)
        is_plain = scheduled is None and _RARE.isdisjoint(run)
        lane = "later"
        if run_at_ms > now_ms:
            due.append(run_at_ms)
        else:
            lane = line.enter_new(store, run["workflow"], get("key"), get("concurrency_key"), get("rate_key"))
        found.lanes.append(lane)
        row = (seq, run["id"], run["workflow"], lane, get("priority", 0), run_at_ms, get("retries"), now_ms)
        if is_plain:
            found.plain.append(row)
        else:
            if "expires_at_ms" in run:
                due.append(run["expires_at_ms"])
            found.full.append(
                (
                    *row, get("key"), get("expires_at_ms"), for_ms, tz, parents.get(get("parent_id", "")),
                    get("concurrency_key"), get("rate_key"),
                )
            )  # fmt: skip
        payload = run["payload_json"]
        found.payloads.append((seq, payload, run["trace"]) if "trace" in run else (seq, payload))
    found.due_ms = min(due, default=None)
    return found


def _run_at_ms(run: NewRun, now_ms: int) -> int:
    delay_ms = run.get("delay_ms")
    return run.get("run_at_ms", now_ms) if delay_ms is None else now_ms + delay_ms


def _fresh(store: Store, rows: Sequence[tuple[Any, ...]]) -> set[str]:
    """Of rows that were offered, the ids of those that went in: the others had a row already."""
    offered = {run_id: seq for seq, run_id, *_ in rows}
    found = store.all("run_seqs", ids=json.dumps(list(offered)))
    return {row["id"] for row in found if offered[row["id"]] == row["seq"]}


def _tell(store: Store, new: Sequence[NewRun], lanes: Sequence[str], due_ms: int | None) -> None:
    """Count and announce what came in; by workflow and lane, since a thousand can come at once."""
    came: dict[tuple[str, str], list[str]] = {}
    for run, lane in zip(new, lanes, strict=True):
        place = (run["workflow"], lane)
        if place in came:
            came[place].append(run["id"])
        else:
            came[place] = [run["id"]]
    for (workflow, lane), run_ids in came.items():
        store.emit(Came(workflow, tuple(run_ids)))
        store.move(workflow, None, lane, len(run_ids))
        if lane == "ready":
            store.emit(Ready(workflow, lane))
    if due_ms is not None and new:
        store.emit(Later(due_ms))
