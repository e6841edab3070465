"""The heartbeat: one thread that renews the leases of all runs in hand, whatever their handlers do.

A heartbeat that fails is an error in the log, never swallowed (loud.md 9); a run that the engine says is not ours any
more is stopped (E4).
"""

from __future__ import annotations

import time
from threading import Event, Thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from tako.protocol.messages import RunEpoch
    from tako.worker.connection import Connection

    Message = dict[str, Any]


class Heart:
    """`in_flight` tells what is in hand; `on_stale` gets what the engine says is not ours. Starts at the first run."""

    def __init__(
        self,
        *,
        worker_id: str,
        connection: Connection,
        in_flight: Callable[[], list[RunEpoch]],
        on_stale: Callable[[Sequence[Message]], None],
        log: Callable[..., None],
    ) -> None:
        self._worker_id = worker_id
        self._connection = connection
        self._in_flight = in_flight
        self._on_stale = on_stale
        self._log = log
        self._has_work = Event()
        self._stopped = Event()
        self._thread: Thread | None = None
        self._waiting_since: float | None = None
        self.every_s = 10.0

    def wake(self) -> None:
        """There is a run to keep. In the reader's thread."""
        if not self._has_work.is_set():
            self._has_work.set()
            if self._thread is None:
                self._thread = Thread(target=self._beat_for_ever, name="tako-heart", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """Beat no more. Twice, or before the first beat, is harmless."""
        self._stopped.set()
        self._has_work.set()

    def _beat_for_ever(self) -> None:
        while not self._stopped.is_set():
            self._has_work.wait()
            # Runs that came since the last beat have a full lease: the first beat is due an interval later.
            if self._stopped.wait(self.every_s):
                return
            try:
                self.beat()
            except Exception as error:  # without a heart every run of this worker would be lost
                self._log("error", f"heartbeat failed: {type(error).__name__}: {error}")

    def beat(self) -> None:
        """Renew all leases once."""
        self._has_work.clear()
        runs = self._in_flight()
        if not runs:
            return  # a run that came since the clear has set it again
        self._has_work.set()
        if self._waiting_since is not None:
            waited_s = time.monotonic() - self._waiting_since
            self._log("error", f"the engine has not answered heartbeats for {waited_s:.0f}s; leases may run out")
        else:
            self._waiting_since = time.monotonic()
        self._connection.ask({"command": "heartbeat", "worker_id": self._worker_id, "runs": runs}, self._answered)
        self._connection.flush()

    def _answered(self, reply: Message) -> None:
        self._waiting_since = None
        if reply["status"] == "ok":
            self._on_stale(reply["data"]["stale"])
        elif reply.get("code") != "connection_lost":  # that one is logged where it is noticed
            self._log("error", f"heartbeat failed: {reply.get('message', '')}")
