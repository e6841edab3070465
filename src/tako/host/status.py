"""The one page of `tako status`: groups, counts, and every problem with its cause and its cure."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from tako.engine import inspect
from tako.engine.intake import UNFINISHED
from tako.host import pausing
from tako.host.rounds import backlog_severity
from tako.protocol.messages import GroupHealth, WorkflowInfo
from tako.supervisor import records

if TYPE_CHECKING:
    from tako.host.app import AppHost

SICK = ("cooldown", "probing", "degraded", "stopped")


async def report(host: AppHost) -> dict[str, Any]:
    """Everything at a glance. `ok` is false when a person is needed."""
    now_ms, paused = host.clock.now_ms(), pausing.paused_workflows(host)
    facts = await host.writer.read(inspect.overview, now_ms=now_ms, paused=paused)
    groups = [pool.snapshot() for pool in host.groups.pools.values()]
    problems = [
        *(problem for group in groups for problem in _group_problems(host, group)),
        *_settings_problems(host),
        *_code_problems(host),
        *_dead_problems(facts),
        *_blocked_problems(host, groups),
        *_backlog_problems(facts),
        *_schedule_problems(facts),
        *_store_problems(host),
        *_alert_problems(host),
        *await host.misfits.problems(),
        *await pausing.problems(host),
        *host.recent.problems(now_ms=now_ms),
    ]
    counts = dict(host.store.counts)  # the writer's thread changes it
    return {
        "app": host.config.name,
        "environment": host.environment,
        "release": host.release,
        "version": version("tako-py"),
        "pid": host.pid,
        "ok": not any(problem["severity"] == "error" for problem in problems),
        "problems": problems,
        "groups": groups,
        "counts": totals(counts),
        "queue": host.meter.depth(),
        "workflows": workflows(host),
        "pauses": await pausing.listed(host),
        "store": {
            "path": str(host.places.database),
            "durability": host.config.durability,
            "bytes": host.places.database.stat().st_size if host.places.database.exists() else 0,
        },
    }


def totals(counts: dict[tuple[str, str], int]) -> dict[str, int]:
    """Runs by status, all workflows together."""
    found = dict.fromkeys(("pending", "running", "succeeded", "cancelled", "dead"), 0)
    for (_, state), n in counts.items():
        shown = "pending" if state in UNFINISHED and state != "running" else state
        if shown in found:  # "unseen" counts dead runs a second time
            found[shown] += n
    return found


def workflows(host: AppHost) -> list[dict[str, Any]]:
    """What exists, with how many runs of it there are; what was only scanned (no worker has told yet) included."""
    told = {info["name"]: info for info in host.registry.workflows()}
    names = sorted(
        {*told, *(name for names in host.registry.scanned.values() for name in names if name not in _aliases(told))}
    )
    return [_workflow(host, name, told.get(name)) for name in names]


def _aliases(told: dict[str, WorkflowInfo]) -> set[str]:
    return {alias for info in told.values() for alias in info["aliases"]}


def _workflow(host: AppHost, name: str, info: WorkflowInfo | None) -> dict[str, Any]:
    group = host.registry.group_of(name)
    pool = host.groups.pools.get(group) if group else None
    shown: dict[str, Any] = dict(info) if info else {"name": name, "file": None, "line": None, "parameters": []}
    shown["group"] = group
    shown["health"] = pool.snapshot()["state"] if pool else None
    shown["paused"] = pausing.why(host, name, group)
    names = (name, *shown.get("aliases", ()))
    counts = totals({key: n for key, n in list(host.store.counts.items()) if key[0] in names})
    shown["counts"] = {status: n for status, n in counts.items() if n}
    return shown


def _problem(severity: str, kind: str, what: str, cure: str, **more: Any) -> dict[str, Any]:
    return {"severity": severity, "kind": kind, "what": what, "cure": cure, **more}


def _group_problems(host: AppHost, group: GroupHealth) -> list[dict[str, Any]]:
    if group["state"] not in SICK or not group["reason"] or group["group"] in host.store.pauses.groups:
        return []
    name = group["group"]
    what = f'group "{name}" is unhealthy: {group["reason"]}'
    failure = host.groups.pools[name].state.failure
    if failure is not None:
        what = "\n".join([what, *records.cause_lines(failure)])
    cure = f"See its last lines with `tako logs --group {name} --last-crash`, mend the cause and save."
    return [_problem("error", "unhealthy_group", what, cure, group=name, failing=group["failing"])]


def _settings_problems(host: AppHost) -> list[dict[str, Any]]:
    error = host.settings_error
    return [] if error is None else [_problem("error", "settings", error.message, error.cure or "Mend tako.toml.")]


def _code_problems(host: AppHost) -> list[dict[str, Any]]:
    return [
        _problem("error", "code", error, "Mend the file and save; it is read again at once.")
        for error in host.code.scan.errors()
    ]


def _dead_problems(facts: Any) -> list[dict[str, Any]]:
    if not facts.unseen_dead:
        return []
    n = sum(facts.unseen_dead.values())
    by_workflow = ", ".join(f"{name} ({count})" for name, count in sorted(facts.unseen_dead.items()))
    return [
        _problem(
            "error",
            "dead_runs",
            f"{n} dead run{'' if n == 1 else 's'} nobody has seen: {by_workflow}",
            "`tako runs list --status dead` shows them; retry them (`tako runs retry ID`) or say that you have seen "
            "them (`tako runs ack --all`).",
        )
    ]


def _blocked_problems(host: AppHost, groups: list[GroupHealth]) -> list[dict[str, Any]]:
    found = []
    for group in groups:
        waiting = host.groups.runnable(group["group"]) + host.groups.suspects(group["group"])
        if group["state"] in ("cooldown", "probing", "stopped") and waiting and group["reason"]:
            what = f'{waiting} run{"" if waiting == 1 else "s"} blocked: group "{group["group"]}" cannot start a worker'
            found.append(_problem("error", "blocked_runs", what, "They run when the group is mended; nothing is lost."))
    for name, n in sorted(host.view.unroutable().items()):
        what = f"{n} unfinished run{'' if n == 1 else 's'} of {name!r}: no code declares this workflow any more"
        cure = (
            f'Declare it again, or give its successor `aliases=["{name}"]`; or cancel them: '
            f"`tako runs cancel --all --workflow {name}`."
        )
        found.append(_problem("error", "unroutable_runs", what, cure, workflow=name))
    return found


def _backlog_problems(facts: Any) -> list[dict[str, Any]]:
    found = []
    for workflow, age_ms in sorted(facts.oldest_ready_ms.items()):
        if severity := backlog_severity(age_ms):
            what = f"the oldest waiting run of {workflow} has waited for {age_ms // 60_000} min"
            cure = "Raise `concurrency` or `max_workers` of its group, or look for what is slow (`tako runs list`)."
            found.append(_problem(severity, "old_backlog", what, cure, workflow=workflow))
    return found


def _schedule_problems(facts: Any) -> list[dict[str, Any]]:
    return [
        _problem(
            "error",
            "late_schedule",
            f"schedule {late['spec']!r} of {late['workflow']} is {late['late_ms'] // 1000} s late",
            "See `tako schedules` and the engine's log.",
        )
        for late in facts.late_schedules
    ]


def _store_problems(host: AppHost) -> list[dict[str, Any]]:
    host.rounds.look_at_disk()
    found = [error for error in (host.rounds.store_error, host.rounds.disk_error) if error is not None]
    return [_problem("error", "store_unavailable", error.message, error.cure) for error in found]


def _alert_problems(host: AppHost) -> list[dict[str, Any]]:
    return [
        _problem(
            "error",
            "undelivered_alerts",
            f"{failure.lost} alert{'' if failure.lost == 1 else 's'} not delivered by {failure.channel}: {failure.why}",
            "Mend `[alerts]` in tako.toml or its receiver; `tako alerts test` tries it and clears this.",
        )
        for failure in host.alarms.alerter.failures()
    ]
