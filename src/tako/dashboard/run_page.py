"""One run: what became of it, as a picture and in words, and what can be done."""

from __future__ import annotations

from typing import Any

from tako.dashboard import shown
from tako.dashboard.http import Response
from tako.dashboard.site import View
from tako.dashboard.timeline import timeline
from tako.errors import RunNotFound

LINES = 200
CHILDREN = 50
STEPS = 300  # more are not drawn, the newest stay


async def run(view: View) -> Response:
    """The page. Payload, result and results of steps only when `show` asks for them."""
    run_id, show = view.parts[0], view.request.query.get("show", "")
    wanted = ["steps", "attempts", "interventions", *([show] if show in ("payload", "result") else [])]
    found: dict[str, Any] = await view.app.ask("get_run", id=run_id, **{"with": wanted})
    logs = await view.app.ask("logs", run=run_id, limit=LINES, since_ms=found["created_ms"])
    children = await view.app.ask("list_runs", parent_id=run_id, limit=CHILDREN)
    found["steps"], left_out = found["steps"][-STEPS:], max(0, len(found["steps"]) - STEPS)
    info = await _workflow(view, found["workflow"])
    return view.page(
        "run.html",
        here="runs",
        run=found,
        show=show,
        value=_value(view, found, show),
        timeline=timeline(found, now_ms=view.now_ms, children=children["runs"]),
        left_out=left_out,
        took_ms=shown.took_ms(found, view.now_ms),
        is_ended=found["status"] in shown.ENDED,
        lines=logs["lines"],
        children=children["runs"],
        signals=[signal["name"] for signal in (info.get("signals") or [])],
        info=info,
        with_run=False,
        live={"run": run_id, "logs": "1", "tick": "fast" if _is_under_way(found, children["runs"]) else None},
    )


def _is_under_way(run: dict[str, Any], children: list[dict[str, Any]]) -> bool:
    """Whether bars grow though nothing of the run itself changes."""
    return run["status"] == "running" or any(child["status"] not in shown.ENDED for child in children)


async def text(view: View) -> Response:
    """A value whole, as text: `what` is payload, result, or `step:NAME`."""
    run_id, what = view.parts[0], view.request.query.get("what", "")
    wanted = ["steps"] if what.startswith("step:") else [what] if what in ("payload", "result") else []
    found = await view.app.ask("get_run", id=run_id, **{"with": wanted})
    value = _stored(found, what)
    if value is None:
        raise RunNotFound(f"the run {run_id[:64]} has no {shown.clean(what)[:64]}")
    return Response(view.app.redact(value) + "\n", content_type="text/plain; charset=utf-8")


def _value(view: View, found: dict[str, Any], show: str) -> tuple[str, bool] | None:
    """The value that is asked for, indented, and whether the end of it is left out."""
    value = _stored(found, show)
    if value is None:
        return None
    pretty = shown.pretty(view.app.redact(value))
    return pretty[: shown.SHOWN_CHARS], len(pretty) > shown.SHOWN_CHARS


def _stored(found: dict[str, Any], what: str) -> str | None:
    if what in ("payload", "result"):
        value: str | None = found.get(f"{what}_json")
        return value
    steps = {f"step:{step['name']}": step.get("result_json") for step in found.get("steps", ())}
    return steps.get(what)


async def _workflow(view: View, name: str) -> dict[str, Any]:
    """What its code declares of it, {} when none does."""
    found = await view.app.ask("list_workflows")
    for info in found["workflows"]:
        if name == info["name"] or name in info.get("aliases", ()):
            known: dict[str, Any] = info
            return known
    return {}
