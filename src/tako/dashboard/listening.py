"""`live`: the stream of events that an open page listens to."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from tako.dashboard.http import Response
from tako.dashboard.live import Live
from tako.dashboard.pages import log_filter
from tako.dashboard.site import View
from tako.protocol.messages import LogLine

# Charts move on although nothing happens.
TICKS_S = {"fast": 2.0, "slow": 10.0}
MAX_OPEN = 100


async def live(view: View) -> Response:
    """Changes; with `logs=1` log lines, too, from the newest `tail` on. `run`: of one run only."""
    query, site = view.request.query, view.site
    if len(site.open) >= MAX_OPEN:
        return Response("Too many pages are open.\n", status=503, content_type="text/plain")
    stream = Live(
        view.app, run_id=query.get("run"), tick_s=TICKS_S.get(query.get("tick", "")), since=query.get("changes")
    )
    site.open.add(stream)
    if query.get("logs"):

        def render(lines: list[LogLine]) -> str:
            return site.render("lines.html", lines=lines, url=view.url, with_run="run" not in query)

        stream.follow(view.app.follow(log_filter(query), tail=0), render)
    return Response(_events(view, stream), content_type="text/event-stream", headers={"x-accel-buffering": "no"})


async def _events(view: View, stream: Live) -> AsyncGenerator[bytes, None]:
    try:
        async for piece in stream.events():
            yield piece
    finally:
        view.site.open.discard(stream)
