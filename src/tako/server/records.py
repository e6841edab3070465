"""Web instances as rows: written before each is started, so that the next daemon knows what there is."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from tako.errors import StoreUnavailable
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
        self,
        state: State,
        *,
        app: str,
        env: str,
        now_ms: Callable[[], int],
        on_end: Callable[[str], None],
        on_token_end: Callable[[str], None],
    ) -> None:
        self._state = state
        self._app, self._env = app, env
        self._now_ms = now_ms
        self._on_end = on_end
        self._on_token_end = on_token_end
        self.releases: dict[str, str] = {}  # by instance, for its lines in the log
        self.tokens: dict[str, str] = {}  # their hashes, by instance

    def new_id(self) -> str:
        """A name that no instance here has had; on a full disk one of chance, since the app must go on."""
        try:
            return f"w{self._state.number('instance')}"
        except StoreUnavailable:
            return f"w{secrets.token_hex(8)}"

    def intend(self, new: Instance) -> None:
        """It is about to be started."""
        self.releases[new.id] = new.release
        intend = partial(
            self._state.run, "intend_instance", id=new.id, app=self._app, env=self._env, release=new.release,
            roll=new.roll, now_ms=self._now_ms(),
        )  # fmt: skip
        # On a full disk the app goes on: a daemon that dies meanwhile sweeps what it has not written down.
        self._state.at_last(intend)

    def started(self, new: Instance) -> None:
        """It is ready."""
        # With its token's hash: what it enqueues must be let in by the next daemon too.
        self._set(new.id, "ready", json.dumps({**new.record(), "token_hash": self.tokens.get(new.id)}))

    def leaving(self, old: Instance) -> None:
        """It finishes, and ends."""
        self._set(old.id, "leaving", None)

    def ended(self, gone: Instance) -> None:
        """There is no such process any more."""
        self.forget(gone.id)

    def forget(self, instance_id: str) -> None:
        """Nor such a row."""
        self.releases.pop(instance_id, None)
        if hashed := self.tokens.pop(instance_id, None):
            self._on_token_end(hashed)
        self._state.at_last(partial(self._forget, instance_id))

    def _forget(self, instance_id: str) -> None:
        if self._state.run("delete_instance", id=instance_id):
            self._on_end(instance_id)

    def all(self) -> list[Recorded]:
        """What is written down."""
        rows = self._state.all("instances_of", app=self._app, env=self._env)
        self.releases = {row["id"]: row["release"] for row in rows}
        found = [
            Recorded(
                row["id"],
                row["release"],
                row["roll"],
                row["intent"],
                json.loads(row["record"]) if row["record"] else None,
            )
            for row in rows
        ]
        for each in found:
            if each.record is not None and each.record.get("token_hash"):
                self.tokens[each.id] = each.record["token_hash"]
        return found

    def _set(self, instance_id: str, intent: str, record: str | None) -> None:
        fields = {"id": instance_id, "intent": intent, "record": record, "now_ms": self._now_ms()}
        self._state.at_last(partial(self._state.run, "set_instance", **fields))
