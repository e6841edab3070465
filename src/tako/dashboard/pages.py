"""Overview, schedules, workflows and logs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tako.dashboard import charts
from tako.dashboard.http import Response
from tako.dashboard.site import View
from tako.logs.filters import LEVELS, Filter

RECENT = 8
LINES = 300
NEVER_SHOWN = frozenset({"crash"})


async def overview(view: View) -> Response:
    """How it is, and why."""
    status = await view.app.ask("status")
    recent = await view.app.ask("list_runs", limit=RECENT)
    wanted = charts.RANGES.get(view.request.query.get("range", ""), charts.RANGES["5m"])
    counts = status["counts"]
    errors = [problem for problem in status["problems"] if problem["severity"] == "error"]
    return view.page(
        "overview.html",
        here="overview",
        status=status,
        errors=errors,
        warnings=[problem for problem in status["problems"] if problem["severity"] != "error"],
        counts=counts,
        runs=recent["runs"],
        charts=charts.charts(view.app.ring, wanted, now_ms=view.now_ms, depth=status["queue"]),
        range=wanted,
        ranges=charts.RANGES.values(),
        live={"tick": "fast" if wanted.step_ms < 60_000 else "slow"},
    )


async def schedules(view: View) -> Response:
    """What fires when."""
    found = await view.app.ask("list_schedules")
    return view.page("schedules.html", here="schedules", schedules=found["schedules"], live={"tick": "slow"})


async def workflows(view: View) -> Response:
    """What exists."""
    status = await view.app.ask("status")
    limits = {info["name"]: _limits(info.get("options") or {}, info) for info in status["workflows"]}
    groups = {group["group"]: group for group in status["groups"]}
    return view.page(
        "workflows.html", here="workflows", status=status, workflows=status["workflows"], groups=groups, limits=limits,
        pauses=status["pauses"], live={},
    )  # fmt: skip


def _limits(options: Mapping[str, Any], info: Mapping[str, Any]) -> list[str]:
    """What holds a workflow's runs back, in words."""
    found = []
    if (most := options.get("concurrency")) is not None:
        by = options.get("concurrency_key")
        found.append(f"{most} at a time" + (f" per {by}" if by else ""))
    if rate := options.get("rate"):
        by = rate.get("key")
        found.append(f"{rate.get('count')} per {_seconds(rate.get('per_ms', 0))}" + (f" and {by}" if by else ""))
    if (most := info.get("max_pending")) is not None:
        found.append(f"{most} unfinished at most")
    if (key := info.get("key")) is not None:
        found.append(f"one unfinished per key {key}")
    return found


def _seconds(ms: float) -> str:
    return f"{ms / 1000:g} s"


async def logs(view: View) -> Response:
    """What app, workers and Tako said."""
    query = view.request.query
    wanted = {name: query.get(name) or None for name in ("run", "workflow", "group", "level")}
    last_crash = bool(query.get("last_crash"))
    found = await view.app.ask("logs", limit=LINES, last_crash=last_crash or None, **wanted)
    status = await view.app.ask("status")
    given = {name: value for name, value in wanted.items() if value}
    return view.page(
        "logs.html", here="logs", lines=found["lines"], levels=LEVELS, last_crash=last_crash,
        workflows=[info["name"] for info in status["workflows"]], groups=[group["group"] for group in status["groups"]],
        live={} if last_crash else {"logs": "1", **given}, with_run=not wanted["run"],
    )  # fmt: skip


def log_filter(query: Mapping[str, str]) -> Filter:
    """The filter that a page of logs was asked with."""
    return Filter(
        run=query.get("run") or None,
        workflow=query.get("workflow") or None,
        group=query.get("group") or None,
        level=query.get("level") or None,
    )
