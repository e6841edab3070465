"""What an open page is told as things happen: server-sent events, few and small.

A change is not sent, only the fact that there was one, by the kind of thing that changed; the page then asks for itself
again. So what waits for a browser that reads slowly is a set of a few words, however much happens meanwhile. Log lines
are sent as they are to be shown, from a queue that loses its oldest.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection

from tako.dashboard.apps import App
from tako.logs.hub import Subscription
from tako.protocol.messages import LogLine

PACE_S = 0.3  # between two events of a page: changes in between become one
QUIET_S = 25.0  # then a comment is sent, so that a tunnel with nobody at its end is noticed
LINES_AT_ONCE = 200


class Live:
    """The events of one open page. `run_id`: only changes of this run. `tick_s`: also when nothing has changed.

    `since` is the app's number of changes when the page was made: what happened before it listened is news, too.
    """

    def __init__(
        self, app: App, *, run_id: str | None = None, tick_s: float | None = None, since: str | None = None
    ) -> None:
        self._run_id = run_id
        self._tick_s = tick_s
        self._news: set[str] = set()
        self._lines = ""  # as HTML
        self._taken = asyncio.Event()  # they were
        self._taken.set()
        self._wake = asyncio.Event()
        self._closed = False
        if since is not None and since != str(app.changes):
            self._news.add("missed")
            self._wake.set()
        self._leave = app.listen(self._changed)
        self._logs: Subscription | None = None
        self._reading: asyncio.Task[None] | None = None

    def follow(self, logs: Subscription, render: Callable[[list[LogLine]], str]) -> None:
        """Send these log lines, too, as the HTML that `render` makes of them."""
        self._logs = logs
        self._reading = asyncio.get_running_loop().create_task(self._read(logs, render))

    def close(self) -> None:
        """End the stream. Twice is harmless."""
        self._closed = True
        self._wake.set()

    async def events(self) -> AsyncGenerator[bytes, None]:
        """The stream itself."""
        try:
            yield b"retry: 1000\n\n"
            while await self._something():
                yield self._take()
                await asyncio.sleep(PACE_S)
        finally:
            self._leave()
            if self._reading is not None:
                self._reading.cancel()
            if self._logs is not None:
                self._logs.close()

    def _changed(self, what: str, run_ids: Collection[str]) -> None:
        if self._run_id is None or what != "runs" or self._run_id in run_ids:
            self._news.add(what)
            self._wake.set()

    async def _something(self) -> bool:
        """Wait until there is something to send; False when the stream is to end."""
        try:
            await asyncio.wait_for(self._wake.wait(), self._tick_s or QUIET_S)
        except TimeoutError:
            if self._tick_s is not None:
                self._news.add("tick")
        return not self._closed

    def _take(self) -> bytes:
        self._wake.clear()
        news, self._news = sorted(self._news), set()
        lines, self._lines = self._lines, ""
        self._taken.set()
        text = f"event: lines\n{_data(lines)}\n\n" if lines else ""
        if news:
            text += f"event: change\ndata: {' '.join(news)}\n\n"
        return (text or ": nothing new\n\n").encode("utf-8", "replace")

    async def _read(self, logs: Subscription, render: Callable[[list[LogLine]], str]) -> None:
        # What is not sent yet holds this up, and the subscription then loses its oldest lines and says so.
        while batch := await logs.batch(LINES_AT_ONCE):
            await self._taken.wait()
            self._taken.clear()
            self._lines = render(batch)
            self._wake.set()


def _data(text: str) -> str:
    return "\n".join(f"data: {line}" for line in text.splitlines())
