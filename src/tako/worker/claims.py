"""Places, and the claims that fill them.

A place is taken by a run that has begun and free again when its handler has returned; the engine's answer to `finish`
is not waited for. A claim asks for all free places at once and waits in the engine until there is something: a claim is
a push. Few claims are under way at a time, and places that get free meanwhile make up the next one: so batches grow
with the load. The claim is made when things are sent, so all that has ended until then makes up one claim, which
travels with the news of its end.

While handlers return within a few milliseconds, runs are claimed *ahead*: they begin as soon as others have ended,
without a way to the engine in between. As many as will have begun a few milliseconds later, and at most three times as
many as there are places: half of all make up a batch, on which the engine works while the other half runs. What a
handler waits for the engine is not counted as its own time: that is the same for whoever would run it. If places do
not get free as quickly as was thought, runs ahead are given back at once, uncounted, for whoever has a place.
"""

from __future__ import annotations

from _thread import allocate_lock
from collections import deque
from time import monotonic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from tako.protocol.messages import ClaimedRun
    from tako.worker.attempt import Attempt
    from tako.worker.connection import Connection

    Message = dict[str, Any]

# Two, so that one can be answered while the other is on its way.
MAX_CLAIMS = 2
# A claim that found nothing for so long is asked anew: should the engine ever forget one, the worker is not deaf.
WAIT_MS = 60_000
_AGAIN_S = 0.5
# Runs are claimed ahead while handlers take less than this on average, and given back when nothing moves for as long,
# or when no place gets free for ten times as long, unless all that run wait for the engine.
_QUICK_S = 0.005
_STUCK_S = 0.05
_MOST_AHEAD = 3  # times as many as there are places
_WEIGHT = 0.1  # of the newest handler in that average


class Claims:
    """`begin` gets each claimed run; `on_empty` is called if the first claim finds none. Both by the reader.

    `start` gets a run that has a place, `give_back` those that were claimed ahead and find none.
    """

    def __init__(
        self,
        *,
        worker_id: str,
        places: int,
        connection: Connection,
        begin: Callable[[ClaimedRun], None],
        start: Callable[[Attempt], None],
        give_back: Callable[[list[Attempt]], None],
        on_empty: Callable[[], None],
        later: Callable[[float, Callable[[], None]], None],
        log: Callable[..., None],
    ) -> None:
        self._worker_id = worker_id
        self._connection = connection
        self._begin = begin
        self._start = start
        self._give_back = give_back
        self._on_empty = on_empty
        self._later = later
        self._log = log
        self._lock = allocate_lock()
        self._places = places
        self._half = places * (1 + _MOST_AHEAD) // 2
        self._free = places  # less what is claimed or asked for; below zero while there are runs ahead
        self._running = 0
        self._ahead: deque[Attempt] = deque()
        self._ended = 0
        self._took_s = 1.0  # a handler, on average, without its waits for the engine
        self._freed_at = 0.0
        self._moved_at = 0.0  # when a run began or ended, or the engine answered
        self._under_way = 0
        self._is_paused = True
        self._failures = 0

    def first(self) -> None:
        """Ask without waiting: who finds nothing learns first whether it is needed at all (a probe is not)."""
        self._send(self._take_all(), wait_ms=0)
        self._connection.flush()

    def resume(self) -> None:
        """From now on ask for whatever is free."""
        self._is_paused = False
        self.flush()

    def flush(self) -> None:
        """Claim for what is free, and send that with all else that was asked."""
        self._ended = 0
        self.ask()
        self._connection.flush()

    def pause(self) -> None:
        """Ask no more, and hold nothing that has not begun. What is under way may still bring runs. Twice is harmless.

        After it, a run that is claimed is not for `place`.
        """
        self._is_paused = True
        self._give_up_ahead()

    def place(self, attempt: Attempt) -> None:
        """A claimed run: it starts if a place is free, else when one gets free."""
        with self._lock:
            has_place = self._running < self._places
            if has_place:
                self._running += 1
            else:
                self._ahead.append(attempt)
        if has_place:
            self._freed_at = self._moved_at = attempt.began = monotonic()
            self._start(attempt)

    def freed(self, attempt: Attempt) -> None:
        """A handler has returned: the next run ahead begins, and at the next `flush` its place is claimed for."""
        now = monotonic()
        with self._lock:
            self._free += 1
            self._running -= 1
            own_s = max(0.0, now - attempt.began - attempt.waited_s)  # branches may have waited side by side
            self._took_s += _WEIGHT * (own_s - self._took_s)
            self._freed_at = self._moved_at = now
            self._ended += 1
            following = self._ahead.popleft() if self._ahead else None
            if following is not None:
                self._running += 1
        if following is None:
            return
        if self._ended >= self._half:
            self.flush()  # the engine works on these while we work on the next ones
        following.began = now
        self._start(following)

    def refused(self) -> None:
        """A claimed run is none that can begin here."""
        with self._lock:
            self._free += 1

    def answered(self) -> bool:
        """The engine has answered handlers. Whether to `look` in a millisecond: there are runs ahead."""
        self._moved_at = monotonic()
        return self.look()

    def look(self) -> bool:
        """Called a millisecond after the last answer or look. Whether to look again."""
        if self._ahead:
            now = monotonic()
            is_stuck = now - self._moved_at > _QUICK_S or now - self._freed_at > _STUCK_S
            if is_stuck and not self._connection.owes(self._running):  # else nobody else could run them sooner
                self._give_up_ahead()
        return bool(self._ahead)

    def _give_up_ahead(self) -> None:
        with self._lock:
            ahead = list(self._ahead)
            self._ahead.clear()
            self._free += len(ahead)
            if ahead:
                self._took_s = 1.0
        if ahead:
            self._give_back(ahead)

    def took(self) -> None:
        """A run came in another way than by a claim; it needs a place all the same."""
        with self._lock:
            self._free -= 1

    def ask(self) -> None:
        """Claim for the free places, unless enough claims are under way. The caller flushes."""
        if self._is_paused:
            return
        places = self._take_all()
        if places:
            self._send(places, wait_ms=WAIT_MS)

    def _take_all(self) -> int:
        with self._lock:
            ahead = self._places * self._times_ahead()
            places = self._free + ahead
            if places <= 0 or self._under_way >= MAX_CLAIMS:
                return 0
            if self._under_way and ahead and places < self._half:
                return 0  # a small claim would make small batches of all that follow
            self._free -= places
            self._under_way += 1
            return places

    def _times_ahead(self) -> int:
        """How many runs to claim ahead, in times of places. None for who had nothing to do: others may be idle too."""
        if self._places == 1 or monotonic() - self._moved_at > _QUICK_S:
            return 0
        return min(_MOST_AHEAD, int(_QUICK_S / max(self._took_s, 1e-6)))

    def _send(self, places: int, *, wait_ms: int) -> None:
        fields = {"command": "claim_runs", "worker_id": self._worker_id, "max": places, "wait_ms": wait_ms}
        self._connection.ask(fields, lambda reply: self._answered(places, wait_ms, reply))

    def _answered(self, places: int, wait_ms: int, reply: Message) -> None:
        runs = reply["data"]["runs"] if reply["status"] == "ok" else ()
        with self._lock:
            self._under_way -= 1
            self._free += places - len(runs)
        for run in runs:
            self._begin(run)
        if reply["status"] != "ok":
            self._failed(reply)
        elif wait_ms == 0 and not runs:
            self._failures = 0
            self._on_empty()
        elif wait_ms == 0:
            self._is_paused = False
        # The reader asks for what is free when it is through with this batch of replies.

    def _failed(self, reply: Message) -> None:
        if reply.get("code") == "connection_lost":
            return  # asked anew after the reconnect
        self._failures += 1
        if self._failures in (1, 10, 100, 1000):
            self._log("error", f"claim failed ({self._failures} times in a row): {reply.get('message', '')}")
        if not self._is_paused or self._failures == 1:
            self.pause()
            self._later(_AGAIN_S, self.resume)
