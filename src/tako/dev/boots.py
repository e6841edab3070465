"""What a booting process prints, held back for a moment: if the boot fails, the box shows it, and once is enough."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tako.protocol.messages import LogLine

HELD_S = 1.0


class BootLines:
    """Lines on their way to the screen. `is_booting(pid)` says whether a process has not said HELLO yet."""

    def __init__(self, *, show: Callable[[LogLine], None], is_booting: Callable[[int], bool]) -> None:
        self._show = show
        self._is_booting = is_booting
        self._held: dict[int, list[LogLine]] = {}
        self._timers: dict[int, asyncio.TimerHandle] = {}

    def line(self, line: LogLine) -> None:
        """Show a line, or hold it while its process boots; not for longer than a moment, since a boot may hang."""
        pid = line.get("pid", 0)
        if pid in self._held:
            self._held[pid].append(line)
        elif line["scope"] in ("worker", "web") and pid and self._is_booting(pid):
            self._held[pid] = [line]
            self._timers[pid] = asyncio.get_running_loop().call_later(HELD_S, self._release, pid)
        else:
            self._show(line)

    def settle(self) -> None:
        """Something changed: show what processes printed that have booted."""
        for pid in list(self._held):
            if not self._is_booting(pid):
                self._release(pid)

    def drop(self, *, scope: str, group: str | None = None) -> None:
        """A boot of this group, or of the web app, has failed, and what it printed is shown elsewhere."""
        for pid, lines in list(self._held.items()):
            is_meant = lines[0]["scope"] == scope and lines[0].get("group") == group
            if is_meant and (scope == "web" or not self._is_booting(pid)):
                self._forget(pid)

    def _release(self, pid: int) -> None:
        for line in self._forget(pid):
            self._show(line)

    def _forget(self, pid: int) -> list[LogLine]:
        self._timers.pop(pid).cancel()
        return self._held.pop(pid)
