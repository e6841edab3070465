"""The commands about schedules: what fires when, pause and resume, run now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tako.cron import schedules
from tako.engine import inspect
from tako.errors import RunNotFound
from tako.host.fields import optional_integer, text
from tako.protocol import ids
from tako.protocol.messages import NewRun
from tako.rpc.connection import Connection, Handler, Message

if TYPE_CHECKING:
    from tako.host.app import AppHost


def commands(host: AppHost) -> dict[str, Handler]:
    """The table of these commands."""

    async def list_schedules(connection: Connection, message: Message) -> Any:
        """When what fired, and is due."""
        return {"schedules": await host.writer.read(inspect.schedules, now_ms=host.clock.now_ms())}

    async def pause_schedules(connection: Connection, message: Message) -> Any:
        """When this answers, the schedules of a workflow fire no more."""
        return await _pause(host, _workflow(host, message), paused=True)

    async def resume_schedules(connection: Connection, message: Message) -> Any:
        """They fire again, from now on: what was missed in the pause does not."""
        return await _pause(host, _workflow(host, message), paused=False)

    async def run_schedule(connection: Connection, message: Message) -> Any:
        """Enqueue what a schedule of the workflow would, now; nobody scheduled that run."""
        workflow = _workflow(host, message)
        found = [row for row in await host.writer.read(inspect.schedules) if row["workflow"] == workflow]
        if not found:
            raise RunNotFound(f"{workflow} has no schedule.", cure="`tako schedules` lists them.")
        new: NewRun = {
            "id": ids.uuid7(),
            "workflow": workflow,
            "payload_json": found[0]["options"].get("payload_json", "{}"),
        }
        stored = await host.enqueue([new], deadline_mono_ms=optional_integer(message, "deadline_mono_ms"))
        return stored[0]

    return {
        "list_schedules": list_schedules,
        "pause_schedules": pause_schedules,
        "resume_schedules": resume_schedules,
        "run_schedule": run_schedule,
    }


async def _pause(host: AppHost, workflow: str, *, paused: bool) -> dict[str, Any]:
    count = await host.writer.do(schedules.pause, workflow, paused=paused, now_ms=host.clock.now_ms())
    host.ticker.look()
    host.tell_listeners("schedules")
    host.say("info", f"the schedule of {workflow} {'is paused' if paused else 'goes on'}", workflow=workflow)
    return {"count": count}


def _workflow(host: AppHost, message: Message) -> str:
    workflow = text(message, "workflow")
    info = host.registry.find(workflow)
    return workflow if info is None else info["name"]
