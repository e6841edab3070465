"""Waiting runs whose stored arguments do not fit the parameters that the code has now (loud.md 7).

Such a run is dead as soon as a worker claims it. Whoever saved or deployed the change can still act: so it is said now,
and stands in `tako status` until the parameters fit again or the runs are gone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tako.engine import payloads
from tako.errors import PayloadError
from tako.host.registry import check_payload

if TYPE_CHECKING:
    from tako.host.app import AppHost
    from tako.protocol.messages import WorkflowInfo


@dataclass(frozen=True, slots=True)
class Misfit:
    """The runs of one workflow that do not fit, and what is wrong with the first."""

    ids: list[str]
    problem: str


class Misfits:
    """Looks when a worker has told of a changed signature."""

    def __init__(self, host: AppHost) -> None:
        self._host = host
        self._found: dict[str, Misfit] = {}

    async def look(self, names: Iterable[str]) -> None:
        """The parameters of these workflows have changed: do the waiting runs still fit?"""
        for name in names:
            info = self._host.registry.find(name)
            if info is None:
                continue
            before = self._found.pop(info["name"], None)
            stored_as = [info["name"], *info["aliases"]]
            found = await self._host.writer.read(
                payloads.that_do_not_fit, names=stored_as, problem_of=lambda text, info=info: _problem(info, text)
            )
            if found:
                self._found[info["name"]] = misfit = Misfit([run_id for run_id, _ in found], found[0][1])
                self._host.say("warning", _words(info["name"], len(misfit.ids), misfit.problem), workflow=info["name"])
            elif before is not None:
                self._host.say("info", f"the waiting runs of {info['name']} fit its parameters again")

    async def problems(self) -> list[dict[str, Any]]:
        """As `tako status` lists problems: of the runs that wait still."""
        problems = []
        for name, misfit in sorted(self._found.items()):
            waiting = await self._host.writer.read(payloads.still_waiting, misfit.ids)
            if not waiting:
                del self._found[name]
                continue
            problems.append(
                {
                    "severity": "warning",
                    "kind": "misfit_runs",
                    "what": _words(name, len(waiting), misfit.problem),
                    "cure": "Give a new parameter a default, or take the change back; or cancel the runs "
                    f"(`tako runs list --workflow {name} --status pending`).",
                    "workflow": name,
                }
            )
        return problems


def _words(name: str, n: int, problem: str) -> str:
    runs = f"1 waiting run of {name} does" if n == 1 else f"{n} waiting runs of {name} do"
    return f"{runs} not fit its parameters any more and will be dead when claimed: {problem}"


def _problem(info: WorkflowInfo, payload_json: str) -> str | None:
    try:
        check_payload(info, payload_json)
    except PayloadError as error:
        # Names and types; never a value.
        return error.message.removeprefix(f"enqueue {info['name']}: ")
    return None
