"""The one place that writes: what came in while the last transaction was committed goes into the next one together.

It never waits for more to come, and nobody is answered before COMMIT has returned (D3). There is one transaction at a
time, in one of two threads. Short rules (`ask`) run on the loop's own thread as long as the disk commits in
less time than it takes to wake another thread and be woken by it; all others, the checkpoints, and everything on a slow
or locked disk have a thread of their own, so that the loop goes on answering. Reads have another one (reading.py).
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from itertools import groupby
from typing import Any, TypeVar

from tako.engine import faults
from tako.engine.answer import Answer
from tako.engine.call import Call
from tako.engine.events import Event
from tako.engine.reading import ReadingThread
from tako.engine.store import BUSY_TIMEOUT_MS, Store
from tako.errors import StoreDamaged, StoreUnavailable, TakoError

T = TypeVar("T")

# So many callers share a transaction at most; the others are not made to wait for all of them.
_MAX_BATCH = 512
# Commits that take longer, on average, are left to the thread. Waking it and being woken by it takes about 0.1 ms; a
# loop that stands still for so long is not noticed by anybody.
_QUICK_S = 0.002
_WEIGHT = 0.1  # of the newest commit in that average
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
    `on_timed` is told on the loop how many seconds each COMMIT that wrote something took, and `on_answered` is called
    there when the callers of a transaction have been answered.
    """

    def __init__(
        self,
        store: Store,
        *,
        on_commit: Callable[[list[Event]], None],
        loop: asyncio.AbstractEventLoop,
        on_fatal: Callable[[TakoError], None] | None = None,
        on_unavailable: Callable[[StoreUnavailable | None], None] = lambda error: None,
        on_timed: Callable[[float], None] = lambda seconds: None,
        on_answered: Callable[[], None] = lambda: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._on_commit = on_commit
        self._on_fatal = on_fatal
        self._on_unavailable = on_unavailable
        self._on_timed = on_timed
        self._on_answered = on_answered
        self._timed: list[float] = []  # what commits took that nobody has been told of
        self._is_unavailable = False
        self._loop = loop
        self._monotonic = monotonic
        self._incoming: list[Call] = []
        self._since = 0.0  # when the first of them came
        self._is_planned = False  # `_flush` will be called at the end of this turn of the loop
        self._is_away = False  # the store is with the thread
        self._came_back: asyncio.Future[None] | None = None  # for `stop`, which waits for that
        self._queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._reading = ReadingThread(store, on_read=lambda call: self._post(self._deliver, [call], []))
        self._broken: TakoError | None = None
        self._stopping = False
        self._commit_s = 0.0  # how long a commit takes
        self._patience_ms = BUSY_TIMEOUT_MS  # how long SQLite waits for a lock, as it was told last
        self._pages = 0.0
        self._wrote_at = 0.0
        self._idle_timer: asyncio.TimerHandle | None = None
        self._threads: list[threading.Thread] = []
        self._start()

    def _start(self) -> None:
        """Start the threads. A simulation has none."""
        self._threads.append(threading.Thread(target=self._write_forever, name="tako-writer", daemon=True))
        if self._store.path is not None:
            self._threads.append(self._reading)
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
        self._take(Call(fn, args, kwargs, deadline_mono_ms, future, is_short=False))
        return future

    def ask(
        self,
        fn: Callable[..., T],
        *args: Any,
        deadline_mono_ms: float | None = None,
        is_short: bool = True,
        **kwargs: Any,
    ) -> Answer[T]:
        """`do` for what is asked thousands of times a second. A rule that is short, which means that it takes far less
        than a millisecond, may run on the loop's thread."""
        answer: Answer[T] = Answer()
        self._take(Call(fn, args, kwargs, deadline_mono_ms, answer, is_short=is_short))
        return answer

    def ask_with_others(
        self,
        fn: Callable[..., list[T | TakoError]],
        one: Any,
        *,
        deadline_mono_ms: float | None = None,
        is_short: bool = True,
        **kwargs: Any,
    ) -> Answer[T]:
        """`ask` of a rule for many (together.py). It is called once, as `fn(store, [one, …], **kwargs)`, for all whose
        turn comes one after the other, with the keywords of the last."""
        answer: Answer[T] = Answer()
        self._take(Call(fn, (one,), kwargs, deadline_mono_ms, answer, is_short=is_short, is_joint=True))
        return answer

    async def read(self, fn: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Run `fn(reader, *args, **kwargs)` on one snapshot of the store, beside the writing."""
        future: asyncio.Future[T] = self._loop.create_future()
        call = Call(fn, args, kwargs, None, future, is_short=False)
        if self._store.path is None:
            self._take(call)
        elif not self._refuse(call):
            self._reading.read(call)
        return await future

    async def stop(self) -> None:
        """Finish what was submitted, checkpoint, end the threads. The store stays open: closing it is its opener's."""
        if not self._stopping:
            self._stopping = True
            while self._incoming or self._is_away:
                if self._is_away:
                    self._came_back = self._came_back or self._loop.create_future()
                    await self._came_back
                else:
                    self._flush()
            if self._idle_timer is not None:
                self._idle_timer.cancel()
            self._queue.put(self._checkpoint)
            self._queue.put(None)
            self._reading.stop()
        for thread in self._threads:
            await self._loop.run_in_executor(None, thread.join)
        # The answers of the last reads were posted to the loop before their thread ended: let them be delivered.
        await asyncio.sleep(0)

    # --- on the loop ------------------------------------------------------------------------------------------------

    def _take(self, call: Call) -> None:
        if self._refuse(call):
            return
        if not self._incoming:
            self._since = self._monotonic()
        self._incoming.append(call)
        if not self._is_planned and not self._is_away:
            # At the end of this turn of the loop, so that all it has read goes into one transaction.
            self._is_planned = True
            self._loop.call_soon(self._flush)

    def _refuse(self, call: Call) -> bool:
        if self._broken is not None:
            call.answer.set_exception(self._broken)
        elif self._stopping:
            call.answer.set_exception(StoreUnavailable("the engine is stopping.", detail={"reason": "STOPPING"}))
        return call.answer.done()

    def _flush(self) -> None:
        self._is_planned = False
        if self._is_away or not self._incoming:
            return
        batch, self._incoming = self._incoming[:_MAX_BATCH], self._incoming[_MAX_BATCH:]
        self._hand_over(batch)

    def _hand_over(self, batch: list[Call]) -> None:
        """Have it committed, here or in the thread. A simulation does it when it likes, with `_transact`."""
        since = self._since
        if self._commit_s < _QUICK_S and all(call.is_short for call in batch):
            try:
                self._be_patient(0)
                events = self._commit(batch, is_on_loop=True)
            except _Locked:
                pass
            else:
                self._deliver(batch, events)
                self._go_on()
                return
        self._send_away(lambda: self._transact(batch, since=since))

    def _send_away(self, work: Callable[[], None]) -> None:
        self._is_away = True
        self._queue.put(work)

    def _come_back(self, batch: list[Call], events: list[Event]) -> None:
        """The thread is through with this."""
        self._is_away = False
        if self._came_back is not None:
            self._came_back.set_result(None)
            self._came_back = None
        self._deliver(batch, events)
        self._go_on()

    def _go_on(self) -> None:
        """After a transaction or a checkpoint: a checkpoint, what came in meanwhile, or wait."""
        if self._is_away:
            return
        if self._pages >= _CHECKPOINT_PAGES:
            self._send_away(self._checkpoint_away)
        elif self._incoming and not self._is_planned:
            self._is_planned = True
            self._loop.call_soon(self._flush)
        elif self._pages > 0:
            self._wrote_at = self._loop.time()
            if self._idle_timer is None and not self._stopping:
                self._idle_timer = self._loop.call_later(_IDLE_S, self._look_if_idle)

    def _look_if_idle(self) -> None:
        """An idle store gets its checkpoint once, and is then left alone until there is work."""
        self._idle_timer = None
        left_s = self._wrote_at + _IDLE_S - self._loop.time()
        if self._is_away or self._incoming or self._pages == 0:
            return  # whatever comes back sets the timer again
        if left_s > 0:
            self._idle_timer = self._loop.call_later(left_s, self._look_if_idle)
        else:
            self._send_away(self._checkpoint_away)

    def _deliver(self, batch: list[Call], events: list[Event]) -> None:
        if self._timed:
            timed, self._timed = self._timed, []
            for took_s in timed:
                self._on_timed(took_s)
        if events:
            self._on_commit(events)
        for call in batch:
            answer = call.answer
            if answer.done():  # its caller was cancelled meanwhile
                continue
            try:
                if call.error is None:
                    answer.set_result(call.result)
                else:
                    answer.set_exception(call.error)
            except Exception as error:  # a bug in what somebody does with an answer: the others get theirs
                self._loop.call_exception_handler({"message": "an answer could not be given", "exception": error})
        self._on_answered()

    # --- the writing thread -----------------------------------------------------------------------------------------

    def _write_forever(self) -> None:
        while (work := self._queue.get()) is not None:
            work()

    def _transact(self, batch: list[Call], *, since: float) -> None:
        # Two seconds from when the callers asked, not from when their turn came: D10 counts from there.
        waited_ms = int((self._monotonic() - since) * 1000)
        self._be_patient(BUSY_TIMEOUT_MS - waited_ms if waited_ms > BUSY_TIMEOUT_MS // 10 else BUSY_TIMEOUT_MS)
        self._post(self._come_back, batch, self._commit(batch))

    def _checkpoint_away(self) -> None:
        self._checkpoint()
        self._post(self._come_back, [], [])

    # --- a transaction, in either thread ----------------------------------------------------------------------------

    def _commit(self, batch: list[Call], *, is_on_loop: bool = False) -> list[Event]:
        if self._broken is None:
            try:
                return self._commit_together(batch, is_on_loop=is_on_loop)
            except _Locked:
                raise
            except Exception as error:  # a bug of ours. A writer that ended in silence would leave everybody waiting.
                self._break(_unfinished(error))
        if self._broken is not None:
            _fail(batch, self._broken)
        return []

    def _be_patient(self, patience_ms: int) -> None:
        """How long SQLite waits for another process that has locked the file: on the loop not at all."""
        patience_ms = max(0, patience_ms)
        if patience_ms != self._patience_ms:
            self._patience_ms = patience_ms
            self._store.connection.execute(f"PRAGMA busy_timeout = {patience_ms}").fetchall()

    def _commit_together(self, batch: list[Call], *, is_on_loop: bool = False) -> list[Event]:
        """One transaction for all. When one of them breaks it, each gets its own."""
        store = self._store
        changes = store.connection.total_changes
        try:
            store.begin()
            for _, calls in groupby(batch, key=_joins):
                self._run(list(calls))
            now = self._monotonic()
            late = [call for call in batch if call.is_late(now)]
            if late:
                store.rollback()
                _fail(late, _too_late())
                return self._commit_together([call for call in batch if call not in late])
            store.commit()
            took_s = self._monotonic() - now
            self._commit_s += _WEIGHT * (took_s - self._commit_s)
        except Exception as error:
            # Whatever it was, the batch must not stay half done; who caused it is found by running one by one.
            store.rollback()
            if is_on_loop and _is_lock(error):
                raise _Locked from error
            return self._recover(batch, error)
        changed = store.connection.total_changes - changes
        if changed:
            self._timed.append(took_s)
        if self._is_unavailable and changed:
            self._is_unavailable = False
            self._post(self._on_unavailable, None)
        self._account(changed)
        return store.take_events()

    def _run(self, calls: list[Call]) -> None:
        """Several at once only if their rule is one for many."""
        now = self._monotonic()
        for call in calls:
            call.error = None
            if call.is_late(now):
                call.error = _too_late()
        calls = [call for call in calls if call.error is None]
        if not calls:
            return
        call = calls[-1]
        before = self._store.connection.total_changes
        try:
            if call.is_joint:
                results = call.fn(self._store, [one.args[0] for one in calls], **call.kwargs)
                for one, result in zip(calls, results, strict=True):
                    if isinstance(result, TakoError):
                        one.error = result
                    else:
                        one.result = result
            else:
                call.result = call.fn(self._store, *call.args, **call.kwargs)
        except TakoError as error:
            if len(calls) > 1:
                raise AssertionError(f"{call.fn.__name__} is for many, and has refused them all") from error
            if self._store.connection.total_changes != before:
                raise AssertionError(f"{call.fn.__name__} refused after it had written") from error
            call.error = error

    def _recover(self, batch: list[Call], error: Exception) -> list[Event]:
        known = None
        if isinstance(error, sqlite3.Error):
            known = faults.explain(error, path=self._store.path, at_commit=self._store.is_committing)
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
        self._be_patient(BUSY_TIMEOUT_MS)  # what has been committed of a batch must not be sent away with the rest
        return [event for call in batch for event in self._commit_together([call])]

    def _break(self, error: TakoError) -> None:
        self._broken = error
        if self._on_fatal is not None:
            self._post(self._on_fatal, error)

    def _account(self, changes: int) -> None:
        if self._store.path is None:
            return  # there is no log
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

    # --- back on the loop -------------------------------------------------------------------------------------------

    def _post(self, fn: Callable[..., None], *args: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(fn, *args)
        except RuntimeError:
            # The loop is closed: nobody is left to be told. What was committed stays committed.
            assert self._loop.is_closed()


def _joins(call: Call) -> object:
    """What neighbours must have in common to go by one rule together."""
    return call.fn if call.is_joint else call


class _Locked(Exception):
    """Another process has locked the file, and this thread must not wait for it."""


def _is_lock(error: Exception) -> bool:
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _copy_log_into_file(store: Store) -> None:
    # PASSIVE: it waits for no reader.
    store.connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()


def _fail(calls: list[Call], error: Exception) -> None:
    for call in calls:
        call.error = error


def _unfinished(error: Exception) -> StoreDamaged:
    return StoreDamaged(
        f"the engine could not end a transaction ({error!r}), which is a defect of Tako; whether it was stored is not "
        "known. The engine stops. Start it again: what was acknowledged is there."
    )


def _too_late() -> StoreUnavailable:
    return StoreUnavailable(
        "the deadline passed before the engine could store it; nothing was stored.", detail={"reason": "DEADLINE"}
    )
