"""The thread that reads: each call on one snapshot of the store, by a connection that cannot write."""

from __future__ import annotations

import queue
import sqlite3
import threading
from collections.abc import Callable

from tako.engine import faults
from tako.engine.call import Call
from tako.engine.store import Reader, Store


class ReadingThread(threading.Thread):
    """A slow list in it holds up other lists, and never an enqueue. `on_read` is called in it."""

    def __init__(self, store: Store, *, on_read: Callable[[Call], None]) -> None:
        super().__init__(name="tako-reader", daemon=True)
        self._store = store
        self._on_read = on_read
        self._calls: queue.SimpleQueue[Call | None] = queue.SimpleQueue()

    def read(self, call: Call) -> None:
        """Run it when those before it are done."""
        self._calls.put(call)

    def stop(self) -> None:
        """End when all are done; `join` waits for that."""
        self._calls.put(None)

    def run(self) -> None:
        """The thread itself."""
        reader: Reader | None = None
        while (call := self._calls.get()) is not None:
            try:
                reader = reader or self._store.reader()
                reader.connection.execute("BEGIN")
                try:
                    call.result = call.fn(reader, *call.args, **call.kwargs)
                finally:
                    reader.connection.execute("COMMIT")
            except sqlite3.Error as error:
                call.error = faults.explain(error, path=self._store.path) or error
            except Exception as error:  # the caller gets it; the thread goes on for the others
                call.error = error
            self._on_read(call)
        if reader is not None:
            reader.close()
