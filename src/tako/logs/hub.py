"""The place where log lines meet those who want them: a ring of the newest, and subscribers that never hold it up.

`publish` is called on the event loop's thread and never waits. A subscriber that reads too slowly loses its oldest
lines and is told how many: the engine must not grow, or stop, because a terminal is paused.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Self

from tako.logs.filters import EVERYTHING, Filter
from tako.logs.redact import Redact, keep, redacted
from tako.protocol.messages import LogLine

RING_LINES = 10_000
QUEUE_LINES = 2_000


class Hub:
    """Publish, keep the newest lines, hand them to subscribers.

    `sinks` are called with every line, in order, before subscribers: the files. They must not raise.
    """

    def __init__(
        self,
        *,
        capacity: int = RING_LINES,
        redact: Redact = keep,
        sinks: tuple[Callable[[LogLine], None], ...] = (),
    ) -> None:
        self.redact = redact
        self._ring: deque[LogLine] = deque(maxlen=capacity)
        self._sinks = sinks
        self._subscribers: set[Subscription] = set()

    def publish(self, line: LogLine) -> None:
        """Keep the line and hand it out, secrets taken out."""
        line = redacted(line, self.redact)
        self._ring.append(line)
        for sink in self._sinks:
            sink(line)
        for subscriber in self._subscribers:
            subscriber.offer(line)

    def recent(self, wanted: Filter = EVERYTHING, *, limit: int | None = None) -> list[LogLine]:
        """The newest lines that pass the filter, oldest first; at most `limit`."""
        found: list[LogLine] = []
        for line in reversed(self._ring):
            if limit is not None and len(found) >= limit:
                break
            if wanted.wants(line):
                found.append(line)
        found.reverse()
        return found

    def last_crash(self, *, group: str | None = None, limit: int = 200) -> list[LogLine]:
        """The last lines of the worker that crashed last, oldest first; [] when none did.

        A crash is told by a line with `fields: {"crash": true}` and the worker's `pid`.
        """
        return crash_lines(list(self._ring), group=group, limit=limit)

    def subscribe(self, wanted: Filter = EVERYTHING, *, tail: int = 0, queue_lines: int = QUEUE_LINES) -> Subscription:
        """Lines from now on, after the `tail` newest. Close it, or use it in a `with`."""
        subscription = Subscription(wanted, forget=self._subscribers.discard, queue_lines=queue_lines)
        for line in self.recent(wanted, limit=tail) if tail else []:
            subscription.offer(line)
        self._subscribers.add(subscription)
        return subscription

    def close(self) -> None:
        """End every subscription. Twice is harmless."""
        for subscriber in list(self._subscribers):
            subscriber.close()


class Subscription:
    """An async iterator over lines. Ends when it, or the hub, is closed and what was queued has been read."""

    def __init__(self, wanted: Filter, *, forget: Callable[[Subscription], None], queue_lines: int) -> None:
        self._wanted = wanted
        self._forget = forget
        self._queue: deque[LogLine] = deque(maxlen=queue_lines)
        self._dropped = 0
        self._arrived = asyncio.Event()
        self._closed = False

    def offer(self, line: LogLine) -> None:
        """Queue the line if it is wanted; a full queue loses its oldest."""
        if self._closed or not self._wanted.wants(line):
            return
        if len(self._queue) == self._queue.maxlen:
            self._dropped += 1
        self._queue.append(line)
        self._arrived.set()

    def close(self) -> None:
        """No more lines. Twice is harmless."""
        self._closed = True
        self._forget(self)
        self._arrived.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> LogLine:
        while not self._queue:
            if self._closed:
                raise StopAsyncIteration
            self._arrived.clear()
            await self._arrived.wait()
        return self._next()

    def _next(self) -> LogLine:
        if self._dropped:
            dropped, self._dropped = self._dropped, 0
            return dropped_notice(dropped, ts_ms=self._queue[0]["ts_ms"])
        return self._queue.popleft()

    def take(self) -> list[LogLine]:
        """All lines that are there already."""
        found = []
        while self._queue:
            found.append(self._next())
        return found

    async def batch(self, limit: int) -> list[LogLine]:
        """The next line and those that are there already, at most `limit`; [] at the end."""
        try:
            found = [await anext(self)]
        except StopAsyncIteration:
            return []
        while self._queue and len(found) < limit:
            found.append(await anext(self))
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def dropped_notice(count: int, *, ts_ms: int) -> LogLine:
    """The line that stands where lines were lost."""
    return {
        "ts_ms": ts_ms,
        "level": "warning",
        "scope": "tako",
        "message": f"{count} lines were left out here: they came faster than they were read",
        "fields": {"dropped": count},
    }


def crash_lines(lines: list[LogLine], *, group: str | None, limit: int) -> list[LogLine]:
    """Of `lines`, oldest first, those of the worker that crashed last."""
    for index in range(len(lines) - 1, -1, -1):
        line = lines[index]
        if not line.get("fields", {}).get("crash") or (group is not None and line.get("group") != group):
            continue
        mine = Filter(pid=line.get("pid"))
        return [candidate for candidate in lines[: index + 1] if line is candidate or mine.wants(candidate)][-limit:]
    return []
