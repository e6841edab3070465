"""The oracle's books of children: started once for each name, never without their parent, and told truly."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from reliability.simulation.counters import count
from reliability.simulation.mirror import Change, Row

if TYPE_CHECKING:
    from reliability.simulation.network import Message
    from reliability.simulation.world import World


class Families:
    """E1 for children: a start under a name is one run, whatever is lost, repeated or begun again."""

    def __init__(self, world: World, fail: Callable[[str, str], None]) -> None:
        self._world = world
        self._fail = fail
        self._answered: set[tuple[str, int, str]] = set()

    def started(self, asked: Message, data: Any) -> None:
        """A start is acknowledged."""
        mirror = self._world.oracle.mirror
        row = mirror.by_id[asked["id"]]
        named = {
            json.loads(step.result)["id"]: step.epoch
            for (run, _, name), step in mirror.steps.items()
            if run == row.seq and name == asked["step_name"] and step.kind == "child"
        }
        if data["id"] not in named or data["id"] not in mirror.by_id:
            self._fail("D3", f"{asked['step_name']} of {row.id} was answered with {data['id']}, stored are {named}")
        said = (row.id, asked["epoch"], asked["step_name"])
        count("child start said again" if said in self._answered else "child started")
        self._answered.add(said)

    def parked(self, asked: Message, data: Any) -> None:
        """A gather is answered: only what has ended is not waited for."""
        if data["parked"]:
            return
        rows = [self._world.oracle.mirror.by_id[run_id] for run_id in asked["runs"]]
        left = [row for row in rows if not row.has_ended and not self._begun_again(row, asked)]
        if left:
            self._fail("gather", f"{asked['id']} need not wait, and {left} have not ended")

    def told(self, asked: Message, data: Any) -> None:
        """How children ended."""
        count("outcomes told")
        for outcome in data["outcomes"]:
            row = self._world.oracle.mirror.by_id[outcome["id"]]
            if self._begun_again(row, asked):
                continue
            if outcome["status"] != row.status or (row.status == "succeeded") is not ("result_json" in outcome):
                self._fail("gather", f"{asked['id']} was told {outcome}, and it is {row}")
            elif row.status == "succeeded" and json.loads(outcome["result_json"]) != row.id:
                self._fail("gather", f"{row.id} returned its id, and {asked['id']} was told {outcome}")
            elif row.status != "succeeded" and row.has_ended:
                count("parent told of a failure")

    def _begun_again(self, row: Row, asked: Message) -> bool:
        """A retry may come between an answer's rule and its departure."""
        return self._world.oracle.has_been_retried(row, since=asked["asked_at"])

    def check_change(self, change: Change) -> None:
        """After a commit: no child without its step; none that goes on under a parent that people have cancelled."""
        before, row = change
        mirror = self._world.oracle.mirror
        if before is None and row.parent is not None:
            parent = mirror.rows[row.parent]
            starts = [step for (run, _, _), step in mirror.steps.items() if run == row.parent and step.kind == "child"]
            if not any(json.loads(step.result)["id"] == row.id for step in starts):
                self._fail("D6", f"{row.id} is a child of {parent.id}, which does not know of it")
        if row.status == "cancelled" and row.reason == "as planned" and (before is None or not before.has_ended):
            left = [child.id for child in mirror.rows.values() if child.parent == row.seq and not child.has_ended]
            if left and row.workflow != "quits":
                self._fail("E6", f"{row.id} was cancelled, and its children {left} go on")
            if any(child.parent == row.seq and child.status == "cancelled" for child in mirror.rows.values()):
                count("children cancelled")
