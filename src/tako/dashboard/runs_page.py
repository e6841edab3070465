"""The list of runs: filters, search, pages, and what can be done to all that a filter lets through."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tako.dashboard.http import Response, redirect
from tako.dashboard.site import View
from tako.errors import RunNotFound

PAGE = 50
STATUSES = ("pending", "running", "sleeping", "waiting", "limited", "blocked", "succeeded", "cancelled", "dead")
UNFINISHED = ("pending", "running", "sleeping", "waiting", "limited", "blocked")
SINCE = {"15m": 15, "1h": 60, "24h": 1_440, "7d": 10_080}  # minutes

# What can be done to many: which statuses it applies to, and how it is said.
BULK = {
    "retry": (("dead", "cancelled"), "Run again", "run again from their first unfinished step"),
    "cancel": (UNFINISHED, "Cancel", "cancelled: no further step of them starts"),
    "ack": (("dead",), "Acknowledge", "marked as seen"),
}
AT_ONCE = 500
COUNTED = 5_000  # more than these are counted as "more than"

_ID = re.compile(r"[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}", re.ASCII | re.IGNORECASE)


async def runs(view: View) -> Response:
    """A page of runs, newest first."""
    query = view.request.query
    # What cannot be printed is in no id, and the engine refuses a text that cannot be stored.
    sought = "".join(char for char in query.get("q", "") if char.isprintable()).strip()
    if _ID.fullmatch(sought):
        try:
            return redirect(view.url(f"runs/{(await view.app.ask('get_run', id=sought))['id']}"))
        except RunNotFound:
            pass  # it may be a key that looks like one
    if sought:
        found = await view.app.ask("search_runs", text=sought, limit=PAGE)
        page = {"runs": found["runs"], "next": None}
    else:
        page = await view.app.ask("list_runs", limit=PAGE, after=query.get("after") or None, **filters(view))
    status = await view.app.ask("list_workflows")
    groups = sorted({info["group"] for info in status["workflows"] if info["group"]})
    given = {name: query[name] for name in ("workflow", "status", "group", "key", "since") if query.get(name)}
    return view.page(
        "runs.html", here="runs", runs=page["runs"], next=page["next"], given=given, sought=sought,
        workflows=[info["name"] for info in status["workflows"]], groups=groups, statuses=STATUSES, since=SINCE,
        after=query.get("after", ""), bulk=_possible(given), live={},
    )  # fmt: skip


def filters(view: View) -> dict[str, Any]:
    """The fields of `list_runs` that the address, or the form, asks for."""
    asked = view.request.form if view.request.method == "POST" else view.request.query
    since = SINCE.get(asked.get("since", ""))
    status = asked.get("status")
    return {
        "workflow": asked.get("workflow") or None,
        "status": status if status in STATUSES else None,
        "group": asked.get("group") or None,
        "key": asked.get("key") or None,
        "since_ms": view.now_ms - since * 60_000 if since else None,
    }


def _possible(given: Mapping[str, str]) -> list[tuple[str, str]]:
    """The actions that can apply to what is shown."""
    status = given.get("status")
    return [(name, words) for name, (statuses, words, _) in BULK.items() if status is None or status in statuses]


async def confirm(view: View) -> Response:
    """Say how many runs it would be, and ask."""
    action = view.request.query.get("action", "")
    if action not in BULK:
        return redirect(view.url("runs"))
    count = 0
    async for ids in matching(view, action):
        count += len(ids)
        if count >= COUNTED:
            break
    _, verb, words = BULK[action]
    given = {
        name: value
        for name, value in view.request.query.items()
        if name in ("workflow", "status", "group", "key", "since")
    }
    return view.page(
        "confirm.html", here="runs", action=action, verb=verb, words=words, count=count, is_more=count >= COUNTED,
        given=given,
    )  # fmt: skip


async def matching(view: View, action: str) -> Any:
    """The ids of all runs that the filter lets through and the action applies to, some hundreds at a time."""
    statuses, _, _ = BULK[action]
    wanted = filters(view)
    chosen = [wanted.pop("status")] if wanted["status"] else list(statuses)
    for status in chosen:
        if status not in statuses:
            continue
        after: str | None = None
        while True:
            page = await view.app.ask("list_runs", limit=AT_ONCE, after=after, status=status, **_without_status(wanted))
            if ids := [run["id"] for run in page["runs"] if action != "ack" or not run["acknowledged"]]:
                yield ids
            if (after := page["next"]) is None:
                break


def _without_status(wanted: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in wanted.items() if name != "status"}
