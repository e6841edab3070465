"""Apps and people: they ask the daemon, repeat what got no answer, and give up in time."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from reliability.simulation.counters import count
from reliability.simulation.network import Message, Wire

if TYPE_CHECKING:
    from reliability.simulation.world import World

DIAL_AGAIN_S = 0.25
ENQUEUE_DEADLINE_S = 5.0
PATIENCE_S = 15.0


class Caller:
    """One client process, with one connection."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.rng = random.Random(f"{world.plan.seed} caller")
        self.wire: Wire | None = None
        self._number = 0
        self._waiting: dict[int, tuple[Message, float, Callable[[Message], None]]] = {}
        self._is_dialling = False

    def ask(self, message: Message, on_reply: Callable[[Message], None] | None = None) -> None:
        """Ask, and repeat it after each lost connection until there is an answer or no time left."""
        self._number += 1
        patience_s = ENQUEUE_DEADLINE_S if message["command"] == "enqueue_runs" else PATIENCE_S
        give_up_at = self.world.timeline.now + patience_s
        if message["command"] == "enqueue_runs":
            message = {**message, "deadline_mono_ms": round(give_up_at * 1000)}
        message = {**message, "request": self._number, "app": "shop"}
        self._waiting[self._number] = (message, give_up_at, on_reply or _ignore)
        if self.wire is not None and self.wire.is_up:
            self.wire.send(message)
        else:
            self._dial()

    def enqueue(self, ids: list[str]) -> None:
        """Enqueue planned runs, all in one."""
        self.ask({"command": "enqueue_runs", "runs": [self._new_run(run_id) for run_id in ids]})

    def _new_run(self, run_id: str) -> dict[str, Any]:
        wanted = self.world.plan.runs[run_id]
        fields = dict(wanted.fields)
        if "expires" in fields:
            fields["expires_at_ms"] = self.world.clock.now_ms() + fields.pop("expires")
        return {"id": run_id, "workflow": wanted.workflow, "payload_json": '{"n": 1}', **fields}

    # --- connection -------------------------------------------------------------------------------------------------

    def _dial(self) -> None:
        if self._is_dialling:
            return
        self._is_dialling = True
        self.world.timeline.later(0.001, self._connect)

    def _connect(self) -> None:
        now = self.world.timeline.now
        for number in [number for number, (_, give_up_at, _) in self._waiting.items() if give_up_at < now]:
            count("caller cannot know")
            del self._waiting[number]
        daemon = self.world.daemon
        if not self._waiting:
            self._is_dialling = False
        elif daemon is None or not daemon.is_listening:
            self.world.timeline.later(DIAL_AGAIN_S, self._connect)
        else:
            self._is_dialling = False
            self.wire = Wire(self.world, kind="caller", rng=self.rng, on_message=self._got, on_cut=self._cut)
            for message, _, _ in list(self._waiting.values()):
                self.wire.send(message)

    def _cut(self) -> None:
        if self._waiting and (self.wire is None or not self.wire.is_up):
            self._dial()

    def _got(self, message: Message) -> None:
        found = self._waiting.pop(message.get("request", -1), None)
        if found is not None:
            if message["status"] == "error":
                count(f"error {message['code']}")
            found[2](message)


def _ignore(message: Message) -> None:
    pass
