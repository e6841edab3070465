"""A group's health as it is stored, shown, and told to somebody whose enqueue is refused."""

from __future__ import annotations

import math
import shlex
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from tako.errors import WorkerUnhealthy
from tako.protocol.messages import GroupHealth
from tako.supervisor.events import Refusal
from tako.supervisor.exits import ExitKind
from tako.supervisor.states import Failure, GroupConfig, GroupState, Health, Now, Slot

CAUSE_LINES = 3

# --- stored ---------------------------------------------------------------------------------------------------------


def stored(state: GroupState, *, now: Now) -> dict[str, Any]:
    """What must survive a restart of the daemon (S3): how often and why the group failed, and when it is next due."""
    failure = None
    if state.failure is not None:
        failure = asdict(state.failure) | {"kind": state.failure.kind.value}
    return {
        "failures": state.failures,
        "since_ms": state.since_ms,
        "retry_at_ms": retry_at_ms(state, now=now),
        "failure": failure,
    }


def restored(record: Mapping[str, Any] | None) -> GroupState:
    """The state to start with (row 23): COOLDOWN, elapsed, if failures were recorded, else UNPROVEN."""
    if not record or not record["failures"]:
        return GroupState()
    kept = record.get("failure")
    failure = None
    if kept is not None:
        failure = Failure(**{**kept, "kind": ExitKind(kept["kind"]), "stderr_tail": tuple(kept["stderr_tail"])})
    return GroupState(health=Health.COOLDOWN, failures=record["failures"], since_ms=record["since_ms"], failure=failure)


# --- shown ----------------------------------------------------------------------------------------------------------


def shown(
    state: GroupState, *, config: GroupConfig, now: Now, pids: Mapping[str, int], since_ms: Mapping[str, int]
) -> GroupHealth:
    """The group as `tako status` shows it. `pids` and `since_ms` (of the current phase) are by worker id."""
    failure = state.failure
    return {
        "group": config.group,
        "state": state.health.value,
        "failing": state.is_failing,
        "failures": state.failures,
        "since_ms": state.since_ms,
        "retry_at_ms": retry_at_ms(state, now=now),
        "reason": failure.words if failure else None,
        "exit_code": failure.exit_code if failure else None,
        "signal": failure.signal if failure else None,
        "ran_ms": failure.ran_ms if failure else None,
        "peak_rss_bytes": failure.peak_rss_bytes if failure else None,
        "traceback_tail": failure.traceback_tail if failure else None,
        "stderr_tail": list(failure.stderr_tail) if failure else [],
        "release": config.release,
        "workers": [_shown_slot(slot, now=now, pids=pids, since_ms=since_ms) for slot in state.slots],
        "held": len(state.held),
        "min": config.min_workers,
        "max": config.max_workers,
    }


def _shown_slot(slot: Slot, *, now: Now, pids: Mapping[str, int], since_ms: Mapping[str, int]) -> dict[str, Any]:
    return {
        "id": slot.id,
        "pid": pids.get(slot.id),
        "state": slot.phase.value,
        "why": slot.why.value if slot.why else None,
        "since_ms": since_ms.get(slot.id),
        "in_flight": now.in_flight.get(slot.id, 0),
        "solo": slot.solo,
    }


def retry_at_ms(state: GroupState, *, now: Now) -> int | None:
    """When the next start is due, in Unix milliseconds; None when nothing is waited for."""
    if state.until is None:
        return None
    return now.unix_ms + max(0, round((state.until - now.mono) * 1000))


# --- told -----------------------------------------------------------------------------------------------------------


def refused(refusal: Refusal, state: GroupState, *, config: GroupConfig, now: Now) -> WorkerUnhealthy:
    """The error for an enqueue that is refused: how the last worker ended, where, since when, what comes next."""
    failure = state.failure
    reason = _reason(refusal, state, now=now)
    retry_after = _retry_after_s(state, now=now)
    lines = [f"worker unhealthy: {reason}"]
    if failure is not None and refusal is not Refusal.STOPPED:
        lines += [f"  {line}" for line in cause_lines(failure)]
    lines.append(f"  {_circumstances(refusal, state, config=config, retry_after=retry_after)}; nothing was enqueued")
    detail: dict[str, object] = {
        "reason": reason,
        "exit_code": failure.exit_code if failure else None,
        "signal": failure.signal if failure else None,
        "ran_ms": failure.ran_ms if failure else None,
        "traceback_tail": failure.traceback_tail if failure else None,
        "stderr_tail": list(failure.stderr_tail[-20:]) if failure else [],
        "group": config.group,
        "release": failure.release if failure else config.release,
        "failures": state.failures,
        "since": state.since_ms,
        "retry_after": retry_after,
    }
    return WorkerUnhealthy("\n".join(lines), detail=detail)


def cause_lines(failure: Failure) -> list[str]:
    """The traceback's two lines; without one, the last that a worker said which ended by itself."""
    if failure.traceback_tail:
        return failure.traceback_tail.splitlines()
    if failure.exit_code is None:
        return []
    return [line for line in failure.stderr_tail if line.strip()][-CAUSE_LINES:]


def _reason(refusal: Refusal, state: GroupState, *, now: Now) -> str:
    if refusal is Refusal.STOPPED:
        return "workers are paused" if state.paused else "workers are stopped"
    words = state.failure.words if state.failure else None
    if refusal is Refusal.STARTING:
        asked = min((slot.asked_at for slot in state.booting()), default=now.mono)
        starting = f"worker has been starting since {_clock_time(now.unix_ms - round((now.mono - asked) * 1000))}"
        return f"{starting}; last failure: {words}" if words else starting
    return words or "the last worker failed"


def _circumstances(refusal: Refusal, state: GroupState, *, config: GroupConfig, retry_after: int | None) -> str:
    parts = [f'group "{config.group}"']
    if refusal is Refusal.STOPPED:
        resume = f"tako workflows resume --group {shlex.quote(config.group)}"
        return f"{parts[0]} is paused (`{resume}`)" if state.paused else f"{parts[0]} is shutting down"
    if state.failures:
        starts = "1 failed start" if state.failures == 1 else f"{state.failures} failed starts"
        parts.append(f"{starts} since {_clock_time(state.since_ms or 0)}")
    parts.append("a start is being tried" if state.until is None else f"next start in {retry_after}s")
    return ", ".join(parts)


def _retry_after_s(state: GroupState, *, now: Now) -> int | None:
    """Whole seconds, at least 1, as `Retry-After` wants them; None for a stopped group."""
    if state.health is Health.STOPPED:
        return None
    if state.until is None:
        return 1
    return max(1, math.ceil(state.until - now.mono))


def _clock_time(unix_ms: int) -> str:
    return time.strftime("%H:%M:%S", time.localtime(unix_ms / 1000))
