"""Places, and the claims that fill them.

A place is taken by a claimed run and free again when its handler has returned; the engine's answer to `finish` is not
waited for. A claim asks for all free places at once and waits in the engine until there is something: a claim is a
push. Few claims are under way at a time, and places that get free meanwhile make up the next one: so batches grow
with the load. The claim is made when things are sent, so all that has ended until then makes up one claim, which
travels with the news of its end.
"""

from __future__ import annotations

from _thread import allocate_lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from tako.protocol.messages import ClaimedRun
    from tako.worker.connection import Connection

    Message = dict[str, Any]

# Two, so that one can be answered while the other is on its way.
MAX_CLAIMS = 2
# A claim that found nothing for so long is asked anew: should the engine ever forget one, the worker is not deaf.
WAIT_MS = 60_000
_AGAIN_S = 0.5


class Claims:
    """`begin` gets each claimed run; `on_empty` is called if the first claim finds none. Both by the reader."""

    def __init__(
        self,
        *,
        worker_id: str,
        places: int,
        connection: Connection,
        begin: Callable[[ClaimedRun], None],
        on_empty: Callable[[], None],
        later: Callable[[float, Callable[[], None]], None],
        log: Callable[..., None],
    ) -> None:
        self._worker_id = worker_id
        self._connection = connection
        self._begin = begin
        self._on_empty = on_empty
        self._later = later
        self._log = log
        self._lock = allocate_lock()
        self._free = places
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
        self.ask()
        self._connection.flush()

    def pause(self) -> None:
        """Ask no more. What is under way may still bring runs. Twice is harmless."""
        self._is_paused = True

    def freed(self) -> None:
        """A handler has returned: at the next `flush` its place is claimed for."""
        with self._lock:
            self._free += 1

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
            if self._free <= 0 or self._under_way >= MAX_CLAIMS:
                return 0
            places, self._free = self._free, 0
            self._under_way += 1
            return places

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
