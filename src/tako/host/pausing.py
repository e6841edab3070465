"""What people hold back, seen from the house: the commands `pause` and `resume`, why a run waits, what status says.

The rules keep the rows (`engine/pausing.py`). A group that is paused also has its supervisor stopped: first the row,
so that a crash in between leaves the pause standing; the next engine stops the group again before it starts anybody.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tako.engine import inspect
from tako.engine import pausing as rules
from tako.engine.pauses import GROUP, KEY, WORKFLOW, Target
from tako.errors import InvalidRequest, TakoError
from tako.host.fields import optional_text
from tako.protocol.messages import PauseInfo
from tako.rpc.connection import Connection, Handler, Message

if TYPE_CHECKING:
    from tako.host.app import AppHost


def commands(host: AppHost) -> dict[str, Handler]:
    """`pause` and `resume`, of a workflow, a group, or a key of a workflow."""

    async def pause(connection: Connection, message: Message) -> Any:
        """When this answers, no run of it is claimed any more; what runs goes on."""
        target = _named(host, message)
        _require_known(host, target)
        changed = await host.writer.do(rules.pause, target, now_ms=host.clock.now_ms())
        if target.kind == GROUP and (pool := host.groups.pools.get(target.name)):
            pool.pause()
        if changed:
            host.say("info", f"{target.words()} is paused; what runs goes on")
            host.tell_listeners("health")
        return {"changed": changed, "pauses": await listed(host)}

    async def resume(connection: Connection, message: Message) -> Any:
        """Let it go on."""
        target = _named(host, message)
        changed = await host.writer.do(rules.resume, target)
        if not changed:
            _require_known(host, target)
        if target.kind == GROUP and (pool := host.groups.pools.get(target.name)) and pool.state.paused:
            pool.operator_retry()
        if changed:
            host.say("info", f"{target.words()} goes on")
            host.tell_listeners("health")
        return {"changed": changed, "pauses": await listed(host)}

    return {"pause": pause, "resume": resume}


async def listed(host: AppHost) -> list[PauseInfo]:
    """All pauses, with how many due runs each holds back."""
    return [await _shown(host, target, since_ms) for target, since_ms in host.store.pauses.since_ms.items()]


async def problems(host: AppHost) -> list[dict[str, Any]]:
    """A warning for each: somebody wanted it, and somebody may have forgotten it."""
    found = []
    for target, since_ms in host.store.pauses.since_ms.items():
        shown = await _shown(host, target, since_ms)
        waiting = shown["waiting"]
        held = "nothing waits" if not waiting else "1 run waits" if waiting == 1 else f"{waiting} runs wait"
        what = f"{target.words()} is paused; {held}"
        cure = f"Let it go on with `{target.resume_command()}`."
        problem = {"severity": "warning", "kind": "paused", "what": what, "cure": cure, "since_ms": since_ms}
        found.append(problem | ({"group": target.name} if target.kind == GROUP else {"workflow": target.name}))
    return found


def why(host: AppHost, workflow: str, group: str | None) -> str | None:
    """Why no run of a workflow is claimed now, if people have paused it or its group; of keys a run knows itself."""
    target: Target | None = None
    if rules.is_paused(host.store, workflow):
        target = Target(WORKFLOW, _own_name(host, workflow))
    elif group in host.store.pauses.groups:
        target = Target(GROUP, group)
    return None if target is None else target.holds()


def paused_workflows(host: AppHost) -> list[str]:
    """All names under which runs wait that no worker will be asked to claim."""
    pauses = host.store.pauses
    found = {name for group in pauses.groups for name in host.registry.names_of(group)}
    for workflow in pauses.workflows:
        found.update(host.store.names_of(workflow))
    return sorted(found)


async def _shown(host: AppHost, target: Target, since_ms: int) -> PauseInfo:
    counts = dict(host.store.counts)
    if target.kind == KEY:
        names = host.store.names_of(target.name)
        waiting = await host.writer.read(inspect.held_by_key, names=names, key=target.key)
    else:
        of_group = target.kind == GROUP
        names = tuple(host.registry.names_of(target.name)) if of_group else host.store.names_of(target.name)
        waiting = sum(counts.get((name, lane), 0) for name in names for lane in ("ready", "solo"))
    return {"kind": target.kind, "name": target.name, "key": target.key, "since_ms": since_ms, "waiting": waiting}


def _named(host: AppHost, message: Message) -> Target:
    workflow, group, key = (optional_text(message, name) for name in ("workflow", "group", "key"))
    if (workflow is None) == (group is None) or (key is not None and workflow is None) or key == "":
        raise InvalidRequest("invalid request: a pause is of a `workflow`, a `group`, or a `workflow` and a `key`")
    if group is not None:
        return Target(GROUP, group)
    assert workflow is not None
    name = _own_name(host, workflow)
    return Target(WORKFLOW, name) if key is None else Target(KEY, name, key)


def _own_name(host: AppHost, workflow: str) -> str:
    info = host.registry.find(workflow)
    return workflow if info is None else info["name"]


def _require_known(host: AppHost, target: Target) -> None:
    """Refuse a name that nothing declares and no run has: it would be a pause of nothing.

    Raises:
        UnknownWorkflow, TakoError: with the names that there are.
    """
    if target.kind == GROUP:
        if target.name not in host.groups.pools:
            there_are = ", ".join(sorted(host.groups.pools)) or "none"
            raise TakoError(f"There is no group {target.name!r}.", cure=f"There are: {there_are}.")
    elif host.registry.group_of(target.name) is None and target.name not in {name for name, _ in host.store.counts}:
        raise host.registry.unknown(target.name, undone="nothing was paused")
