"""Unfinished runs that a release has no code for: they refuse it, unless somebody says what is to become of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tako.engine import payloads, releases
from tako.errors import DeployRefused, PayloadError, TakoError
from tako.host.app import AppHost
from tako.host.registry import check_payload
from tako.protocol.messages import Registry as GroupRegistry
from tako.protocol.messages import WorkflowInfo

if TYPE_CHECKING:
    from tako.server.job import Job

SHOWN = 5
CANCELLED_AT_ONCE = 10_000


async def check(job: Job, host: AppHost, told: Mapping[str, GroupRegistry]) -> None:
    """Hold unfinished runs against what the release declares; `--orphans` decides about those without code.

    Raises:
        DeployRefused: there are some, and nobody has said what is to become of them.
    """
    declared = {name for info in _infos(told) for name in (info["name"], *info["aliases"])}
    found = releases.orphaned(host.store, declared=declared)
    if not found:
        return
    n = sum(found.values())
    by_workflow = ", ".join(f"{workflow} ({count})" for workflow, count in found.items())
    what = f"{n} unfinished run{'' if n == 1 else 's'} would have no code: {by_workflow}"
    wanted = job.options.get("orphans", "keep" if job.kind == "rollback" else "refuse")
    phase = job.phase
    if wanted == "refuse":
        ids = await host.writer.read(releases.ids_of, workflows=list(found), limit=SHOWN)
        raise DeployRefused(
            f"{what}\n" + "\n".join(f"  {name}: {', '.join(some)}" for name, some in ids.items()),
            cure="Keep the workflow until they have ended, or give its successor `aliases=`; or deploy with "
            "`--orphans keep` (they wait for a release that has it) or `--orphans cancel`.",
            detail={"workflows": dict(found), "runs": {name: list(some) for name, some in ids.items()}},
        )
    if wanted == "keep":
        job.events.tell("note", phase, f"{what}; they wait until a release declares it again")
        return
    cancelled = 0
    ids = await host.writer.read(releases.ids_of, workflows=list(found), limit=CANCELLED_AT_ONCE)
    for run_id in (run_id for some in ids.values() for run_id in some):
        try:
            await host.holding.cancel(run_id, reason=f"release {job.release} has no code for it")
            cancelled += 1
        except TakoError:
            continue  # it has ended meanwhile
    job.events.tell("note", phase, f"{cancelled} unfinished runs without code were cancelled: {by_workflow}")


async def misfits(host: AppHost, told: Mapping[str, GroupRegistry]) -> list[str]:
    """Waiting runs whose arguments do not fit the new parameters: a sentence for each workflow that has some."""
    found = []
    for info in _infos(told):
        before = host.registry.find(info["name"])
        if before is None or before["signature"] == info["signature"]:
            continue
        wrong = await host.writer.read(
            payloads.that_do_not_fit,
            names=[info["name"], *info["aliases"]],
            problem_of=lambda text, info=info: _problem(info, text),
        )
        if wrong:
            n = len(wrong)
            runs = f"1 waiting run of {info['name']} does" if n == 1 else f"{n} waiting runs of {info['name']} do"
            found.append(f"{runs} not fit its new parameters and will be dead when claimed: {wrong[0][1]}")
    return found


def _infos(told: Mapping[str, GroupRegistry]) -> list[WorkflowInfo]:
    return [info for registry in told.values() for info in registry["workflows"]]


def _problem(info: WorkflowInfo, payload_json: str) -> str | None:
    try:
        check_payload(info, payload_json)
    except PayloadError as error:
        return error.message.removeprefix(f"enqueue {info['name']}: ")
    return None
