"""What people have paused, as data: the rows of `pauses`, and the same in memory by what is asked. See `pausing.py`."""

from __future__ import annotations

import shlex
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

WORKFLOW, GROUP, KEY = "workflow", "group", "key"


class Target(NamedTuple):
    """What is paused: `name` of the workflow or the group; `key` is "" but for a key."""

    kind: str
    name: str
    key: str = ""

    def words(self) -> str:
        """As a person would say it."""
        return f"key {self.key!r} of {self.name}" if self.kind == KEY else f"{self.kind} {self.name}"

    def holds(self) -> str:
        """What is said of a run that waits because of it."""
        return f"paused: `{self.resume_command()}` lets it go on"

    def resume_command(self) -> str:
        """What ends the pause."""
        name, key = shlex.quote(self.name), shlex.quote(self.key)
        of = {WORKFLOW: name, GROUP: f"--group {name}", KEY: f"{name} --key {key}"}
        return f"tako workflows resume {of[self.kind]}"


@dataclass(frozen=True, slots=True)
class Pauses:
    """All pauses, by what is asked of them. `since_ms` has them all."""

    since_ms: dict[Target, int] = field(default_factory=dict)
    workflows: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()
    keys: dict[str, frozenset[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, rows: Iterable[sqlite3.Row]) -> Pauses:
        """From the rows of the table."""
        since_ms = {Target(row["kind"], row["name"], row["key"]): row["since_ms"] for row in rows}
        keys: dict[str, frozenset[str]] = {}
        for kind, name, key in since_ms:
            if kind == KEY:
                keys[name] = keys.get(name, frozenset()) | {key}
        workflows, groups = (frozenset(t.name for t in since_ms if t.kind == kind) for kind in (WORKFLOW, GROUP))
        return cls(since_ms, workflows, groups, keys)
