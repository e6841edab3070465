"""The one thread that writes: what queued up while the last transaction was committed goes into the next one together.

It never waits for more to come, and nobody is answered before COMMIT has returned (D3). Reads have a second thread and
a connection that cannot write, so a slow list never holds up an enqueue.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from tako.engine import faults
from tako.engine.events import Event
from tako.engine.store import BUSY_TIMEOUT_MS, Reader, Store
from tako.errors import StoreDamaged, StoreUnavailable, TakoError

T = TypeVar("T")

# So many callers share a transaction at most; the others are not made to wait for all of them.
_MAX_BATCH = 512
# The log is copied into the file when nobody has written for so long, or when it has grown by about so many pages.
_IDLE_S = 1.0
_CHECKPOINT_PAGES = 4_000
_PAGES_A_COMMIT, _PAGES_A_CHANGE, _PAGE_BYTES = 6.0, 0.25, 4096


class Writer:
    """Runs rules in transactions on a thread of its own.

    `on_commit` gets the events of each transaction, on the loop, before its callers are answered. `on_fatal` is called
    once when the storage can no longer be trusted (D9): end the process and answer nobody, since what the failed
    transaction left behind is known only after a restart. `on_unavailable` is called on the loop with the error when
    transactions begin to fail for the storage's sake (disk full, locked), and with None when one succeeds again.
    """

    def __init__(
        self,
        store: Store,
        *,
        on_commit: Callable[[list[Event]], None],
        loop: asyncio.AbstractEventLoop,
        on_fatal: Callable[[TakoError], None] | None = None,
        on_unavailable: Callable[[StoreUnavailable | None], None] = lambda error: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._on_commit = on_commit
        self._on_fatal = on_fatal
        self._on_unavailable = on_unavailable
        self._is_unavailable = False
        self._loop = loop
        self._monotonic = monotonic
        self._incoming: list[_Call] = []
        self._queue: queue.SimpleQueue[tuple[float, list[_Call]] | None] = queue.SimpleQueue()
        self._reads: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._broken: TakoError | None = None
        self._stopping = False
        self._pages = 0.0
        self._threads: list[threading.Thread] = []
        self._start()

    def _start(self) -> None:
        """Start the threads. A simulation has none, and calls `_transact` itself."""
        self._threads.append(threading.Thread(target=self._write_forever, name="tako-writer", daemon=True))
        if self._store.path is not None:
            self._threads.append(threading.Thread(target=self._read_forever, name="tako-reader", daemon=True))
        for thread in self._threads:
            thread.start()

    async def do(self, fn: Callable[..., T], *args: Any, deadline_mono_ms: float | None = None, **kwargs: Any) -> T:
        """Run `fn(store, *args, **kwargs)` in a transaction and return its answer. Durable when this returns.

        `deadline_mono_ms` is on the machine's monotonic clock; nothing is committed after it.

        Raises:
            TakoError: what the rule raised; it changed nothing.
            StoreUnavailable: disk full, locked, or the deadline passed. Nothing was stored.
            StoreDamaged: the storage failed. Whether it was stored is not known.
        """
        return await self.submit(fn, *args, deadline_mono_ms=deadline_mono_ms, **kwargs)

    def submit(
        self, fn: Callable[..., T], *args: Any, deadline_mono_ms: float | None = None, **kwargs: Any
    ) -> asyncio.Future[T]:
        """`do` for callers that gather many answers. Call it on the loop."""
        future: asyncio.Future[T] = self._loop.create_future()
        if self._refuse(future):
            return future
        self._incoming.append(_Call(fn, args, kwargs, deadline_mono_ms, future))
        if len(self._incoming) == 1:
            # At the end of this turn of the loop, so that all it has read goes in one piece to the thread.
            self._loop.call_soon(self._flush)
        return future

    async def read(self, fn: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Run `fn(reader, *args, **kwargs)` on one snapshot of the store, beside the writing thread."""
        future: asyncio.Future[T] = self._loop.create_future()
        if not self._refuse(future):
            call = _Call(fn, args, kwargs, None, future)
            if self._store.path is None:
                self._hand_over([call])
            else:
                self._reads.put(call)
        return await future

    async def stop(self) -> None:
        """Finish what was submitted, checkpoint, end the threads. The store stays open: closing it is its opener's."""
        if not self._stopping:
            self._flush()
            self._stopping = True
            self._queue.put(None)
            self._reads.put(None)
        for thread in self._threads:
            await self._loop.run_in_executor(None, thread.join)
        # The answers of the last batch were posted to the loop before its thread ended: let them be delivered.
        await asyncio.sleep(0)

    def _refuse(self, future: asyncio.Future[Any]) -> bool:
        if self._broken is not None:
            future.set_exception(self._broken)
        elif self._stopping:
            future.set_exception(StoreUnavailable("the engine is stopping.", detail={"reason": "STOPPING"}))
        return future.done()

    def _flush(self) -> None:
        if self._incoming:
            calls, self._incoming = self._incoming, []
            self._hand_over(calls)

    def _hand_over(self, calls: list[_Call]) -> None:
        self._queue.put((self._monotonic(), calls))

    # --- the writing thread -----------------------------------------------------------------------------------------

    def _write_forever(self) -> None:
        waiting: list[_Call] = []
        since = 0.0
        running = True
        while running or waiting:
            if not waiting:
                item = self._wait()
                if item is None:
                    break
                since, waiting = item[0], list(item[1])
            while len(waiting) < _MAX_BATCH and running:
                try:
                    more = self._queue.get_nowait()
                except queue.Empty:
                    break
                if more is None:
                    running = False
                else:
                    waiting += more[1]
            batch, waiting = waiting[:_MAX_BATCH], waiting[_MAX_BATCH:]
            self._transact(batch, since=since)
        self._checkpoint()

    def _wait(self) -> tuple[float, list[_Call]] | None:
        """The next piece of work. An idle store gets its checkpoint once, and then sleeps until there is work."""
        if self._pages >= _CHECKPOINT_PAGES:
            self._checkpoint()
        if self._pages > 0:
            try:
                return self._queue.get(timeout=_IDLE_S)
            except queue.Empty:
                self._checkpoint()
        return self._queue.get()

    def _transact(self, batch: list[_Call], *, since: float) -> None:
        events: list[Event] = []
        if self._broken is not None:
            _fail(batch, self._broken)
        else:
            self._wait_for_lock_until(since)
            events = self._commit_together(batch)
        self._post(self._deliver, batch, events)

    def _commit_together(self, batch: list[_Call]) -> list[Event]:
        """One transaction for all. When one of them breaks it, each gets its own."""
        store = self._store
        changes = store.connection.total_changes
        try:
            store.begin()
            for call in batch:
                self._run(call)
            late = [call for call in batch if call.is_late(self._monotonic())]
            if late:
                store.rollback()
                _fail(late, _too_late())
                return self._commit_together([call for call in batch if call not in late])
            store.commit()
        except Exception as error:
            # Whatever it was, the batch must not stay half done; who caused it is found by running one by one.
            store.rollback()
            return self._recover(batch, error)
        changed = store.connection.total_changes - changes
        if self._is_unavailable and changed:
            self._is_unavailable = False
            self._post(self._on_unavailable, None)
        self._account(changed)
        return store.take_events()

    def _run(self, call: _Call) -> None:
        call.error = None
        if call.is_late(self._monotonic()):
            call.error = _too_late()
            return
        before = self._store.connection.total_changes
        try:
            call.result = call.fn(self._store, *call.args, **call.kwargs)
        except TakoError as error:
            if self._store.connection.total_changes != before:
                raise AssertionError(f"{call.fn.__name__} refused after it had written") from error
            call.error = error

    def _recover(self, batch: list[_Call], error: Exception) -> list[Event]:
        known = faults.explain(error, path=self._store.path) if isinstance(error, sqlite3.Error) else None
        if known is not None:
            self._pages += _PAGES_A_COMMIT  # a checkpoint is due: it may be what makes room
            _fail(batch, known)
            if isinstance(known, StoreDamaged):
                self._break(known)
            elif isinstance(known, StoreUnavailable) and not self._is_unavailable:
                self._is_unavailable = True
                self._post(self._on_unavailable, known)
            return []
        if len(batch) == 1:
            _fail(batch, error)
            return []
        return [event for call in batch for event in self._commit_together([call])]

    def _break(self, error: TakoError) -> None:
        self._broken = error
        if self._on_fatal is not None:
            self._post(self._on_fatal, error)

    def _wait_for_lock_until(self, since: float) -> None:
        """Two seconds from when the callers asked, not from when their turn came: D10 counts from there."""
        waited_ms = int((self._monotonic() - since) * 1000)
        if waited_ms > BUSY_TIMEOUT_MS // 10:
            left_ms = max(1, BUSY_TIMEOUT_MS - waited_ms)
            self._store.connection.execute(f"PRAGMA busy_timeout = {left_ms}").fetchall()
        elif self._short_timeout:
            self._store.connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}").fetchall()
        self._short_timeout = waited_ms > BUSY_TIMEOUT_MS // 10

    _short_timeout = False

    def _account(self, changes: int) -> None:
        self._pages += _PAGES_A_COMMIT + changes * _PAGES_A_CHANGE + self._store.bytes_written / _PAGE_BYTES
        self._store.bytes_written = 0

    def _checkpoint(self) -> None:
        """Copy the log into the file. Ours, not SQLite's automatic one, because that hides a failed fsync."""
        self._pages = 0.0
        if self._store.path is None or self._broken is not None:
            return
        try:
            _copy_log_into_file(self._store)
        except sqlite3.Error as error:
            known = faults.explain(error, path=self._store.path)
            # A full disk or a lock: the log is safe where it is, and the next checkpoint tries again.
            if isinstance(known, StoreDamaged):
                self._break(known)

    # --- the reading thread -----------------------------------------------------------------------------------------

    def _read_forever(self) -> None:
        reader: Reader | None = None
        while (call := self._reads.get()) is not None:
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
            self._post(self._deliver, [call], [])
        if reader is not None:
            reader.close()

    # --- back on the loop -------------------------------------------------------------------------------------------

    def _post(self, fn: Callable[..., None], *args: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(fn, *args)
        except RuntimeError:
            # The loop is closed: nobody is left to be told. What was committed stays committed.
            assert self._loop.is_closed()

    def _deliver(self, batch: list[_Call], events: list[Event]) -> None:
        if events:
            self._on_commit(events)
        for call in batch:
            if call.future.done():  # its caller was cancelled meanwhile
                continue
            if call.error is None:
                call.future.set_result(call.result)
            else:
                call.future.set_exception(call.error)


class _Call:
    """One caller's rule on its way through the thread."""

    __slots__ = ("args", "deadline_mono_ms", "error", "fn", "future", "kwargs", "result")

    def __init__(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        deadline_mono_ms: float | None,
        future: asyncio.Future[Any],
    ) -> None:
        self.fn = fn
        self.args = args
        self.kwargs = kwargs
        self.deadline_mono_ms = deadline_mono_ms
        self.future = future
        self.result: Any = None
        self.error: Exception | None = None

    def is_late(self, now: float) -> bool:
        return self.error is None and self.deadline_mono_ms is not None and now * 1000 > self.deadline_mono_ms


def _copy_log_into_file(store: Store) -> None:
    # PASSIVE: it waits for no reader.
    store.connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()


def _fail(calls: list[_Call], error: Exception) -> None:
    for call in calls:
        call.error = error


def _too_late() -> StoreUnavailable:
    return StoreUnavailable(
        "the deadline passed before the engine could store it; nothing was stored.", detail={"reason": "DEADLINE"}
    )
