"""Workers that wait for runs, and runs that wait for workers, brought together.

A claim that finds nothing is parked here and answered by the commit that makes something ready: a claim that waits is
a push. The order of events: the writer tells `ready` of a commit before it answers what was submitted with it, so a
claim that ran just before an enqueue in one transaction would miss it; `_Desk.heard` catches that.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from tako.engine.answer import Answer
from tako.protocol.messages import ClaimedRun

Claim = Callable[[str, str, int, bool], Answer[list[ClaimedRun]]]  # group, worker, max, solo


@dataclass(slots=True, eq=False)
class Want:
    """A worker's wish for at most `max_runs`. `answer` is its reply."""

    group: str
    worker_id: str
    max_runs: int
    solo: bool
    answer: Answer[list[ClaimedRun]]
    timer: asyncio.TimerHandle | None = None


@dataclass(slots=True)
class _Desk:
    """One group and lane."""

    parked: deque[Want] = field(default_factory=deque)
    heard: int = 0  # how often something became ready


class Claims:
    """`claim` submits a claim to the writer; `on_claimed` hears of what was claimed before the worker does."""

    def __init__(self, *, claim: Claim, on_claimed: Callable[[Want, list[ClaimedRun]], None]) -> None:
        self._claim = claim
        self._on_claimed = on_claimed
        self._desks: dict[tuple[str, bool], _Desk] = {}
        self._under_way: set[Want] = set()  # with the writer

    def ask(self, *, group: str, worker_id: str, max_runs: int, wait_s: float, solo: bool) -> Answer[list[ClaimedRun]]:
        """Runs for this worker, as soon as there are some; [] after `wait_s`."""
        want = Want(group, worker_id, max_runs, solo, Answer())
        if wait_s > 0:
            want.timer = asyncio.get_running_loop().call_later(wait_s, self._give_up, want)
        self._try(want)
        return want.answer

    def ready(self, group: str, *, solo: bool) -> bool:
        """Something of the group became ready. False when no worker waits for it: somebody should be woken."""
        desk = self._desk(group, solo)
        desk.heard += 1
        return self._serve_next(desk)

    def hurry(self, group: str) -> None:
        """Runs of the group have just been submitted: let a waiting claim ride in the same transaction."""
        if desk := self._desks.get((group, False)):
            self._serve_next(desk)

    def dismiss(self, worker_id: str) -> None:
        """Answer what this worker waits for with nothing: it drains, or its connection is gone."""
        wants = [*self._under_way, *(want for desk in self._desks.values() for want in desk.parked)]
        for want in wants:
            # Those under way too: one that finds nothing would claim again, for a worker that is gone by then.
            if want.worker_id == worker_id:
                self._give_up(want)

    def is_waiting(self, worker_id: str) -> bool:
        """Whether a claim of this worker is parked."""
        return any(want.worker_id == worker_id for desk in self._desks.values() for want in desk.parked)

    def waiting(self, group: str) -> int:
        """How many claims of the group are parked."""
        return len(self._desk(group, False).parked)

    def stop(self) -> None:
        """Answer all with nothing."""
        for desk in self._desks.values():
            for want in list(desk.parked):
                self._give_up(want)

    def _serve_next(self, desk: _Desk) -> bool:
        if not desk.parked:
            return False
        self._try(desk.parked.popleft())
        return True

    def _try(self, want: Want) -> None:
        heard = self._desk(want.group, want.solo).heard
        self._under_way.add(want)
        claim = self._claim(want.group, want.worker_id, want.max_runs, want.solo)
        claim.then(partial(self._settle, want, heard))

    def _settle(self, want: Want, heard: int, claim: Answer[list[ClaimedRun]]) -> None:
        self._under_way.discard(want)
        desk = self._desk(want.group, want.solo)
        if (error := claim.error()) is not None:
            self._resolve(want, error=error)
        elif claimed := claim.result():
            self._on_claimed(want, claimed)
            self._resolve(want, claimed)
            if len(claimed) == want.max_runs:
                self._serve_next(desk)  # there may be more than this worker could take
        elif want.answer.done() or want.timer is None:
            self._resolve(want, [])
        elif desk.heard != heard:
            self._try(want)
        else:
            desk.parked.append(want)

    def _give_up(self, want: Want) -> None:
        desk = self._desk(want.group, want.solo)
        if want in desk.parked:
            desk.parked.remove(want)
            self._resolve(want, [])
        else:
            self._forget_timer(want)  # its claim is with the writer; the answer follows

    def _resolve(
        self, want: Want, claimed: list[ClaimedRun] | None = None, *, error: BaseException | None = None
    ) -> None:
        self._forget_timer(want)
        if want.answer.done():
            return
        if error is not None:
            want.answer.set_exception(error)
        else:
            want.answer.set_result(claimed or [])

    def _forget_timer(self, want: Want) -> None:
        """A claim without a timer is not parked, nor tried again."""
        if want.timer is not None:
            want.timer.cancel()
            want.timer = None

    def _desk(self, group: str, solo: bool) -> _Desk:
        desk = self._desks.get((group, solo))
        if desk is None:
            desk = self._desks[(group, solo)] = _Desk()
        return desk
