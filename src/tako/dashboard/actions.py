"""What the buttons do. Each form goes back to the page that it stood on, which then says what was done."""

from __future__ import annotations

import json

from tako.dashboard.http import Response
from tako.dashboard.runs_page import BULK, matching
from tako.dashboard.site import View
from tako.errors import InvalidRequest, PayloadError

FILTERS = ("workflow", "status", "group", "key", "since")


async def retry(view: View) -> Response:
    """From its first unfinished step, or from a named one."""
    run_id, step = view.parts[0], view.request.form.get("from_step") or None
    await view.app.ask("retry", id=run_id, from_step=step)
    words = f"It runs again from step {step}." if step else "It runs again; saved steps are kept."
    return view.done(f"runs/{run_id}", words)


async def cancel(view: View) -> Response:
    """No further step starts."""
    run_id = view.parts[0]
    await view.app.ask("cancel", id=run_id, reason=view.request.form.get("reason") or "cancelled in the dashboard")
    return view.done(f"runs/{run_id}", "Cancelled: no further step of it starts, and no result is saved.")


async def signal(view: View) -> Response:
    """Deliver it, or keep it for a wait to come."""
    run_id, form = view.parts[0], view.request.form
    value = form.get("value", "").strip() or "null"
    try:
        json.loads(value)
    except ValueError:
        raise PayloadError(
            "The value of a signal is JSON, and this is not; nothing was sent.",
            cure='A text needs its quotes: "yes".',
        ) from None
    sent = await view.app.ask("signal_run", id=run_id, signal=form.get("signal", ""), payload_json=value)
    words = (
        "the run was waiting for it and goes on" if sent.get("delivered") else "it is kept until the run waits for it"
    )
    return view.done(f"runs/{run_id}", f"Sent {form.get('signal', '')}: {words}.")


async def ack(view: View) -> Response:
    """Somebody has seen it."""
    run_id = view.parts[0]
    await view.app.ask("ack", ids=[run_id])
    return view.done(f"runs/{run_id}", "Acknowledged: `tako status` does not speak of it any more.")


async def bulk(view: View) -> Response:
    """Do it to all that the filter lets through. One that refuses does not stop the others."""
    form = view.request.form
    action = form.get("action", "")
    if action not in BULK:
        raise InvalidRequest(f"There is no action {action[:40]!r}; nothing was done.")
    done, refused = 0, []
    # All ids first: what is done changes what the filter lets through, and a page would be skipped.
    for ids in [ids async for ids in matching(view, action)]:
        answer = await view.app.ask(action, ids=ids)
        done += answer["count"] if action == "ack" else len(answer["runs"])
        refused += answer.get("refused", [])
    verb = {"retry": "run again", "cancel": "are cancelled", "ack": "are acknowledged"}[action]
    words = f"{done} runs {verb}."
    if refused:
        words += f" {len(refused)} refused, the first because {refused[0]['error']}"
    given = {name: form.get(name) for name in FILTERS}
    return view.done("runs", words, kind="warn" if refused else "done", **given)


async def schedule(view: View) -> Response:
    """Pause, resume, run now."""
    form = view.request.form
    workflow, action = form.get("workflow", ""), form.get("action", "")
    if action == "run":
        started = await view.app.ask("run_schedule", workflow=workflow)
        if not started["is_new"]:
            return view.done(f"runs/{started['id']}", "Its key belongs to this run, which has not ended.", kind="warn")
        return view.done(f"runs/{started['id']}", "Enqueued, as its schedule would.")
    if action not in ("pause", "resume"):
        raise InvalidRequest(f"There is no action {action[:40]!r}; nothing was done.")
    await view.app.ask(f"{action}_schedules", workflow=workflow)
    words = "is paused: it fires no more" if action == "pause" else "fires again, from now on"
    return view.done("schedules", f"The schedule of {workflow} {words}.")


async def pause(view: View) -> Response:
    """Hold back a workflow, a group or a key, or let it go on."""
    form = view.request.form
    action = form.get("action", "")
    if action not in ("pause", "resume"):
        raise InvalidRequest(f"There is no action {action[:40]!r}; nothing was done.")
    target = {name: form[name] for name in ("workflow", "group", "key") if form.get(name)}
    await view.app.ask(action, **target)
    words = " ".join(f"{name} {value}" for name, value in target.items())
    then = "is paused; what runs goes on" if action == "pause" else "goes on"
    return view.done("workflows", f"The {words} {then}.")
