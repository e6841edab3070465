"""How an async handler parks whose branches wait side by side, as in `asyncio.gather`.

A run has one place to wait in, so one branch parks it for all: the one that is due first. What the others wait for
travels with it, and whichever ends first wakes the run. Nobody parks while a step is being executed, since its result
would be lost with the run. All of it happens in the loop.
"""

from __future__ import annotations

import asyncio

from tako.worker.attempt import NEVER
from tako.worker.connection import FINAL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from tako.worker.async_steps import AsyncAttempt

    Message = dict[str, Any]


class Branches:
    """The waits of one attempt that are under way, and whose turn it is to park the run."""

    __slots__ = ("_attempt", "_quiet", "_ready", "_waits")

    def __init__(self, attempt: AsyncAttempt) -> None:
        self._attempt = attempt
        # When each is due, and what it waits for.
        self._waits: dict[str, tuple[int | None, Message]] = {}
        self._ready: str | None = None  # the one whose wait is over, as the engine said
        self._quiet: asyncio.Event | None = None  # set when somebody should look again

    async def park(self, name: str, due_ms: int | None, fields: Message) -> str | None:
        """Park the run once every branch waits; the value instead, if there is nothing to wait for."""
        attempt = self._attempt
        self._waits[name] = due_ms, fields
        try:
            await asyncio.sleep(0)  # the branches behind this one have not begun yet
            while True:
                while attempt.busy or name != self._whose_turn():
                    if self._quiet is None:
                        self._quiet = asyncio.Event()
                    await self._quiet.wait()
                    attempt.check()
                answer = await self._ask(name, fields)
                if self._ready is None:
                    break
                self.look_again()  # another branch need not wait: it is its turn
        finally:
            del self._waits[name]
            self.look_again()
        return attempt.parked(answer)

    def look_again(self) -> None:
        """A step has ended, or a wait: somebody's turn may have come."""
        if not self._attempt.busy and self._quiet is not None:
            self._quiet.set()
            self._quiet = None

    async def _ask(self, name: str, fields: Message) -> Message:
        attempt = self._attempt
        attempt.busy += 1  # a second branch that wants to park waits for the answer
        self._ready = None
        try:
            others = {other: wait for other, wait in self._waits.items() if other != name}
            if others:  # whichever ends first, the run goes on, and the rest of them must not begin anew
                for wait, (due_ms, _) in list(self._waits.items()):
                    await attempt.remember(wait, due_ms)
            message = {**attempt.message("park"), "step_name": name}
            more = {**fields, "spent_ms": attempt.spent_ms()}
            message.update((key, value) for key, value in more.items() if value is not None)
            branches = {other: branch for other, (_, waits) in others.items() if (branch := _branch(waits))}
            if branches:
                message["branches"] = list(branches.values())
            attempt.is_leaving = True
            answer: Message = await attempt.ask(message, keep=FINAL)
        finally:
            attempt.busy -= 1
        if "branch" in answer:
            attempt.is_leaving = False
            self._ready = list(branches)[answer["branch"]]
        return answer

    def _whose_turn(self) -> str:
        if self._ready in self._waits:
            return self._ready
        return min(self._waits, key=lambda name: NEVER if (due := self._waits[name][0]) is None else due)


def _branch(waits: Message) -> Message | None:
    """What wakes a branch besides its time, as `park` says it."""
    if "runs" in waits:
        return {"runs": waits["runs"]}
    return {"event": waits["event_name"]} if "event_name" in waits else None
