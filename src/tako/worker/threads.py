"""Threads for `def` handlers: one is started when there is a run more than there are threads, and kept for reuse."""

from __future__ import annotations

from _queue import SimpleQueue
from _thread import allocate_lock, get_ident
from contextvars import Context
from threading import Thread

from tako.worker import execute

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from tako.worker.steps import SyncAttempt


class Threads:
    """`freed` is called by the thread whose handler has returned, before it takes the next run."""

    def __init__(self, *, freed: Callable[[SyncAttempt], None]) -> None:
        self._freed = freed
        self._jobs: SimpleQueue[SyncAttempt] = SimpleQueue()
        self._lock = allocate_lock()
        self._in_hand = 0  # given and not ended; a handler that hangs stays one of them
        self._count = 0

    def run(self, attempt: SyncAttempt) -> None:
        """Run it, in a free thread or in a new one."""
        with self._lock:
            self._in_hand += 1
            needs_another = self._in_hand > self._count
            self._count += needs_another
        self._jobs.put(attempt)
        if needs_another:
            # Not from `_thread`: debuggers, coverage and profilers hook themselves into threading's.
            Thread(target=self._work, name=f"tako-run-{self._count}", daemon=True).start()

    def _work(self) -> None:
        while True:
            attempt = self._jobs.get()
            attempt.thread_id = get_ident()
            try:
                # An empty context for each: what one run sets must not be seen by the next one.
                Context().run(execute.run, attempt)
            except BaseException as error:  # ours: the handler's own are judged inside. The next run must go on
                execute.rescue(attempt, error)
            with self._lock:
                self._in_hand -= 1
            self._freed(attempt)
            del attempt  # a thread that waits must not keep the last payload alive
