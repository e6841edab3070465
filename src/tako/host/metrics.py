"""An engine's metrics, by name: what the meter has counted, and what the store and the groups say when asked.

The names, with what they mean, are in `docs/howto/metrics.md`; the dashboard of Grafana asks for them. Each series says
of which app and environment it is: a server has several of both.
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from tako.engine import inspect
from tako.host import pausing, status
from tako.metrics.exposition import Family, of_counter, of_histogram

if TYPE_CHECKING:
    from tako.host.app import AppHost

LANES = ("ready", "solo", "limited", "paused", "later")
STATUSES = ("running", "succeeded", "cancelled", "dead")
GROUP_STATES = ("unproven", "healthy", "degraded", "cooldown", "probing", "stopped")
WORKER_STATES = ("booting", "ready", "active", "draining", "killing")


async def families(host: AppHost) -> list[Family]:
    """Everything, for one page of `/metrics`."""
    now_ms = host.clock.now_ms()
    facts = await host.writer.read(inspect.overview, now_ms=now_ms, paused=pausing.paused_workflows(host))
    schedules = await host.writer.read(inspect.schedules, now_ms=now_ms)
    report = await status.report(host)
    return [
        *_runs(host),
        *_queues(host, facts),
        *_counted(host),
        *_workers(host),
        *_schedules(host, schedules, now_ms=now_ms),
        *_store(host),
        _problems(host, report),
        _build(host),
    ]


def labels(host: AppHost) -> dict[str, str]:
    """What each series of this engine has."""
    return {"app": host.config.name, "env": host.environment}


def _runs(host: AppHost) -> list[Family]:
    own = labels(host)
    runs = Family("tako_runs", "gauge", "Runs in the store, by status. Ended ones until their retention is over.")
    unseen = Family("tako_dead_runs_unseen", "gauge", "Dead runs that nobody has acknowledged.")
    for (workflow, state), n in sorted(host.store.counts.items()):
        if state in STATUSES:
            runs.add(n, **own, workflow=workflow, status=state)
    for workflow in sorted({workflow for workflow, _ in host.store.counts}):
        unseen.add(host.store.counts.get((workflow, "unseen"), 0), **own, workflow=workflow)
    return [runs, unseen]


def _queues(host: AppHost, facts: Any) -> list[Family]:
    own = labels(host)
    depth = Family(
        "tako_queue_depth",
        "gauge",
        "Unfinished runs that nobody runs, by lane: ready, solo (re-run alone), limited, paused, later (not due).",
    )
    oldest = Family("tako_queue_oldest_seconds", "gauge", "For how long the oldest due run has waited for a worker.")
    for (workflow, state), n in sorted(host.store.counts.items()):
        if state in LANES:
            depth.add(n, **own, workflow=workflow, lane=state)
    for workflow in sorted({workflow for workflow, _ in host.store.counts}):
        oldest.add(facts.oldest_ready_ms.get(workflow, 0) / 1000, **own, workflow=workflow)
    return [depth, oldest]


def _counted(host: AppHost) -> list[Family]:
    meter, own = host.meter, labels(host)
    return [
        of_counter("tako_runs_enqueued_total", "Runs that were stored.", meter.enqueued, ("workflow",), **own),
        of_counter("tako_runs_ended_total", "Runs that ended.", meter.ended, ("workflow", "status"), **own),
        of_counter(
            "tako_enqueues_refused_total", "Enqueues that were refused, by the error's code.", meter.refused,
            ("code",), **own,
        ),
        of_histogram(
            "tako_run_wait_seconds", "From when a run was due to its claim by a worker; each claim counts.",
            meter.waits, ("workflow",), **own,
        ),
        of_histogram(
            "tako_run_duration_seconds", "From a run's first claim to its end, sleeps and waits included.",
            meter.durations, ("workflow", "status"), **own,
        ),
        of_histogram("tako_store_commit_seconds", "What a COMMIT took, sync included.", meter.commits, (), **own),
    ]  # fmt: skip


def _workers(host: AppHost) -> list[Family]:
    own = labels(host)
    starts = Family("tako_worker_starts_total", "counter", "Worker processes that were started.")
    exits = Family(
        "tako_worker_exits_total",
        "counter",
        "Worker processes that are gone: asked for, cold (before the first claim), warm (after it).",
    )
    workers = Family("tako_workers", "gauge", "Worker processes, by state.")
    in_flight = Family("tako_runs_in_flight", "gauge", "Runs that workers hold.")
    state = Family("tako_group_state", "gauge", "1 for the state that the group is in, else 0.")
    healthy = Family("tako_group_healthy", "gauge", "1 when enqueues of the group are accepted, else 0.")
    failures = Family("tako_group_failed_starts", "gauge", "Failed starts in a row.")
    held = Family("tako_enqueues_held", "gauge", "Enqueues that wait for a booting worker.")
    for name, pool in sorted(host.groups.pools.items()):
        health = pool.snapshot()
        counted = host.meter.workers.values
        starts.add(counted.get((name, "started"), 0), **own, group=name)
        for kind in ("asked", "cold", "warm"):
            exits.add(counted.get((name, kind), 0), **own, group=name, kind=kind)
        states = [str(worker["state"]) for worker in health["workers"]]
        for each in WORKER_STATES:
            workers.add(states.count(each), **own, group=name, state=each)
        in_flight.add(sum(int(worker["in_flight"]) for worker in health["workers"]), **own, group=name)
        for each in GROUP_STATES:
            state.add(float(health["state"] == each), **own, group=name, state=each)
        healthy.add(float(health["state"] in ("unproven", "healthy", "degraded")), **own, group=name)
        failures.add(health["failures"], **own, group=name)
        held.add(health["held"], **own, group=name)
    return [starts, exits, workers, in_flight, state, healthy, failures, held]


def _schedules(host: AppHost, schedules: list[dict[str, Any]], *, now_ms: int) -> list[Family]:
    own = labels(host)
    overdue = Family("tako_schedule_lateness_seconds", "gauge", "For how long a schedule should have fired.")
    due = Family("tako_schedule_next_timestamp_seconds", "gauge", "When a schedule fires next.")
    skipped = Family("tako_schedule_skipped_total", "counter", "Times of a schedule that made no run.")
    paused = Family("tako_schedule_paused", "gauge", "1 when somebody has paused the schedule.")
    for schedule in schedules:
        of_it = own | {"workflow": schedule["workflow"], "spec": schedule["spec"]}
        is_waiting = schedule["next_ms"] is not None and not schedule["paused"]
        overdue.add(max(0, now_ms - schedule["next_ms"]) / 1000 if is_waiting else 0, **of_it)
        if schedule["next_ms"] is not None:
            due.add(schedule["next_ms"] / 1000, **of_it)
        skipped.add(schedule["skipped"], **of_it)
        paused.add(float(schedule["paused"]), **of_it)
    return [overdue, due, skipped, paused]


def _store(host: AppHost) -> list[Family]:
    own, path = labels(host), host.places.database
    size = Family("tako_store_bytes", "gauge", "Size of the store and of its log.")
    for file, part in ((path, "database"), (path.with_name(f"{path.name}-wal"), "wal")):
        size.add(file.stat().st_size if file.exists() else 0, **own, part=part)
    writable = Family("tako_store_writable", "gauge", "0 while the store takes no writes, or the disk is short.")
    writable.add(float(host.rounds.store_error is None and host.rounds.disk_error is None), **own)
    return [size, writable]


def _problems(host: AppHost, report: dict[str, Any]) -> Family:
    problems = Family("tako_problems", "gauge", "What `tako status` lists, by severity.")
    for severity in ("error", "warning"):
        n = sum(problem["severity"] == severity for problem in report["problems"])
        problems.add(n, **labels(host), severity=severity)
    return problems


def _build(host: AppHost) -> Family:
    info = Family("tako_build_info", "gauge", "Always 1; what runs stands in its labels.")
    info.add(
        1, **labels(host), version=version("tako-py"), release=host.release,
        python=".".join(map(str, sys.version_info[:3])),
    )  # fmt: skip
    return info
