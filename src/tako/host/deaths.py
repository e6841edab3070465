"""Runs that became dead: each is an error in the log, whoever ended it, and news for the alerts.

A worker logs what its handler raised. But it does not know whether that was the last attempt, and of a run whose
worker was killed it says nothing at all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tako.engine import inspect
from tako.engine.store import Reader
from tako.supervisor import output

if TYPE_CHECKING:
    from tako.host.app import AppHost


class Deaths:
    """`note` is called with each run that a transaction made dead; those of one look are told together."""

    def __init__(self, host: AppHost) -> None:
        self._host = host
        self._untold: list[str] = []

    def note(self, run_id: str) -> None:
        """This run is dead."""
        if not self._untold:
            self._host.in_background(self._tell())
        self._untold.append(run_id)

    async def _tell(self) -> None:
        dead, self._untold = self._untold, []
        output.catch_up()  # what they have printed stands before their end
        for run_id, workflow, reason in await self._host.writer.read(_ends_of, dead):
            why = reason.split("\n", 1)[0]
            words = f"is dead: {why}\nRun it again: tako runs retry {run_id}"
            self._host.say("error", words, run_id=run_id, workflow=workflow, dead=True)
            self._host.alarms.dead(run_id, workflow, reason)


def _ends_of(reader: Reader, run_ids: list[str]) -> list[tuple[str, str, str]]:
    """Id, workflow and reason of those that are still there."""
    infos = [inspect.get_run(reader, run_id) for run_id in run_ids]
    return [(info["id"], info["workflow"], info["reason"] or "") for info in infos if info is not None]
