"""Web instances as rows: written before each is started, so that the next daemon knows what there is."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tako.server.state import State
from tako.supervisor.instance import Instance


@dataclass(frozen=True, slots=True)
class Recorded:
    """An instance that an earlier daemon has written down. `roll` names the change that booted it."""

    id: str
    release: str
    roll: str
    intent: str
    record: dict[str, Any] | None


class Records:
    """The rows of one app."""

    def __init__(
        self, state: State, *, app: str, env: str, now_ms: Callable[[], int], on_end: Callable[[str], None]
    ) -> None:
        self._state = state
        self._app, self._env = app, env
        self._now_ms = now_ms
        self._on_end = on_end
        self.releases: dict[str, str] = {}  # by instance, for its lines in the log

    def new_id(self) -> str:
        """A name that no instance here has had."""
        return f"w{self._state.number('instance')}"

    def intend(self, new: Instance) -> None:
        """It is about to be started."""
        self.releases[new.id] = new.release
        self._state.run(
            "intend_instance", id=new.id, app=self._app, env=self._env, release=new.release,
            roll=new.roll, now_ms=self._now_ms(),
        )  # fmt: skip

    def started(self, new: Instance) -> None:
        """It is ready."""
        self._set(new.id, "ready", json.dumps(new.record()))

    def leaving(self, old: Instance) -> None:
        """It finishes, and ends."""
        self._set(old.id, "leaving", None)

    def ended(self, gone: Instance) -> None:
        """There is no such process any more."""
        self.forget(gone.id)

    def forget(self, instance_id: str) -> None:
        """Nor such a row."""
        self.releases.pop(instance_id, None)
        if self._state.run("delete_instance", id=instance_id):
            self._on_end(instance_id)

    def all(self) -> list[Recorded]:
        """What is written down."""
        rows = self._state.all("instances_of", app=self._app, env=self._env)
        self.releases = {row["id"]: row["release"] for row in rows}
        return [
            Recorded(
                row["id"],
                row["release"],
                row["roll"],
                row["intent"],
                json.loads(row["record"]) if row["record"] else None,
            )
            for row in rows
        ]

    def _set(self, instance_id: str, intent: str, record: str | None) -> None:
        self._state.run("set_instance", id=instance_id, intent=intent, record=record, now_ms=self._now_ms())
