"""Listening to a run until it ends."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tako.cli.engine import Engine
from tako.cli.output import Output
from tako.cli.run_page import ENDED
from tako.logs import render

LOOK_AGAIN_MS = 10_000
WITH = ["payload", "result", "steps"]


def to_the_end(engine: Engine, events: Iterator[dict[str, Any]], run_id: str, *, output: Output) -> dict[str, Any]:
    """Show what the run says on stderr, and return it as it is when it has ended.

    The events began before this: what ends between the two is seen here at once. Events that are cut off, by an engine
    that restarts, lose lines but not the end: then the engine is asked.
    """
    run: dict[str, Any] = engine.call("get_run", {"id": run_id, "with": WITH})
    if run["status"] not in ENDED:
        _show_until_it_ends(events, run_id, output=output)
        run = engine.call("get_run", {"id": run_id, "with": WITH})
    while run["status"] not in ENDED:
        run = engine.call("wait_run", {"id": run_id, "timeout_ms": LOOK_AGAIN_MS}, deadline_s=LOOK_AGAIN_MS / 1000 + 5)
    if "result_json" not in run:
        run = engine.call("get_run", {"id": run_id, "with": WITH})
    return run


def _show_until_it_ends(events: Iterator[dict[str, Any]], run_id: str, *, output: Output) -> None:
    for event in events:
        if event.get("event") == "log":
            if not output.json:
                output.say(render.render(event["line"], colour=output.colour_err))
        elif event.get("event") == "run" and event["run"]["id"] == run_id and event["run"]["status"] in ENDED:
            return
