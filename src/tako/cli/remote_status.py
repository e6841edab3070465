"""`tako status --env NAME`: the page of a deployed app, one for each of its servers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tako.cli import deployed, moments
from tako.cli.context import Context
from tako.cli.errors import DONE, REFUSED
from tako.cli.output import DIM
from tako.logs.render import clean


def show(context: Context, *, page: Callable[[str, dict[str, Any]], None]) -> int:
    """Exits 1 when anything is wrong on any server. `page` prints an engine's own status."""
    assert context.where is not None
    target = deployed.target(context, context.where)
    found: dict[str, dict[str, Any]]
    found, failed = deployed.each_there(target, lambda channel: channel.call("app.status", target.ref))
    is_well = not failed and all(_is_well(status) for status in found.values())
    if context.output.json:
        errors = {server: error.message for server, error in failed.items()}
        context.output.document({**target.ref, "ok": is_well, "servers": found, "errors": errors})
        return DONE if is_well else REFUSED
    for error in failed.values():
        context.output.warn(error.message)
    for server, status in found.items():
        if "engine" in status:
            page(f"{target.app} on {server}", status["engine"])
        _web(context, status)
    return DONE if is_well else REFUSED


def _is_well(status: dict[str, Any]) -> bool:
    return status["state"] in ("serving", "asleep", "starting") and bool(status.get("engine", {}).get("ok", True))


def _web(context: Context, status: dict[str, Any]) -> None:
    output = context.output
    instances = len(status["instances"])
    facts = [
        output.shown(status["state"]),
        f"release {status['release']}" if status["release"] else "no release",
        f"{instances} instance{'' if instances == 1 else 's'}",
        ", ".join(status["routes"]),
    ]
    output.result(f"{output.shown('web', DIM)}        {clean(', '.join(fact for fact in facts if fact))}")
    if status["reason"]:
        output.result(f"  {output.shown('✘', '31')} {clean(status['reason'])}")
    if status.get("maintenance"):
        output.result("  ! down for maintenance: visitors get 503. Its end: tako maintenance off")
    if job := status.get("job"):
        since = moments.span(max(0, context.now_ms() - job["started_ms"]))
        output.result(
            f"{output.shown('job', DIM)}        {job['kind']} of {job['release']} by {clean(job['by'])}, {since}"
        )
