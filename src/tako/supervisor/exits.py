"""How a process ended, and the one sentence that says so to people. Pure.

The sentences are part of the product: they are what `str(WorkerUnhealthy)` begins with, what `tako status` shows and
what stands in the log. The K numbers are the exit words of the supervisor's table (`health.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class ExitKind(Enum):
    """Why a process is gone, judged with what was asked of it."""

    ASKED = "K0"  # we drained or killed it, or it had to end itself (recycled)
    IDLE = "K1"  # it idled out, with permission or as a v0 worker does
    EARLY_ZERO = "K2"  # status 0 before any claim, or with runs in flight
    STATUS = "K3"  # a status other than 0
    SIGNAL = "K4"  # a signal we did not send
    BOOT_HANG = "K5"  # no HELLO within the boot timeout
    SPAWN_ERROR = "K6"  # the operating system could not start it
    OUT_OF_MEMORY = "K7"  # SIGKILL we did not send, and the kernel counted an OOM kill
    MISCONFIGURED = "K8"  # status 78: only new code or configuration can mend it
    DEAF = "K9"  # it said HELLO and then claimed nothing, although runs waited: we ended it


MISCONFIGURED_STATUS = 78
RECYCLED_STATUS = 75  # the worker ended itself, since a thread of it would not end; its runs were handed back


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended. Neither `code` nor `signal` is known of an adopted process, which was not our child."""

    code: int | None
    signal: str | None
    ran_ms: int
    peak_rss_bytes: int | None = None
    oom: bool = False

    @property
    def is_known(self) -> bool:
        """Whether the operating system told us how it ended."""
        return self.code is not None or self.signal is not None

    def words(self, *, subject: str = "worker", claimed: bool | None = None) -> str:
        """The sentence for this exit. `claimed=False` adds that it had not claimed any runs."""
        return f"{subject} {self._verb()} after {duration(self.ran_ms)}{_claims(claimed)}"

    def cause(self) -> str:
        """How it ended, for the inside of a sentence: `SIGKILL, out of memory, peak 1.9 GiB`."""
        if self.signal is not None:
            return self.signal + self._memory(", ", "")
        if self.code is not None:
            return f"status {self.code}"
        return "nobody saw how"

    def _verb(self) -> str:
        if self.signal is not None:
            return f"was killed by {self.signal}{self._memory(' (', ')')}"
        if self.code is not None:
            return f"exited with status {self.code}"
        return "ended in a way nobody saw (the engine that had started it was gone)"

    def _memory(self, before: str, after: str) -> str:
        if not self.oom:
            return ""
        peak = f", peak {size(self.peak_rss_bytes)}" if self.peak_rss_bytes else ""
        return f"{before}out of memory{peak}{after}"


def hang_words(*, timeout_s: float, frame: str | None, subject: str = "worker") -> str:
    """The sentence for a boot that reached its timeout; `frame` is where it hung, if the dump told."""
    where = f" ({frame})" if frame else ""
    return f"{subject} did not become ready within {timeout_s:g}s{where}"


def spawn_error_words(error: str, *, subject: str = "worker") -> str:
    """The sentence for a process that could not be started; `error` is the operating system's text and the path."""
    return f"{subject} could not be spawned: {error}"


def deaf_words(quiet_s: float, *, subject: str = "worker") -> str:
    """The sentence for a worker that lives and takes no work."""
    return f"{subject} claimed nothing for {quiet_s:.0f}s although runs waited and it had room"


def crash_loop_words(count: int, *, window_s: float, last: str, subject: str = "worker") -> str:
    """The sentence for a group whose workers start well and then die again and again."""
    return f"{subject} crashed {count} times in {window_s:g}s, last: {last}"


def duration(ms: int) -> str:
    """Milliseconds below a minute, as the founding note shows them; above, what a person would say."""
    if ms < 60_000:
        return f"{ms}ms"
    minutes, seconds = divmod(ms // 1000, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h {minutes}m" if hours else f"{minutes}m {seconds}s"


def size(count: int) -> str:
    """Bytes as people read them: `812 MiB`, `1.9 GiB`."""
    if count < 1 << 20:
        return f"{max(1, count >> 10)} KiB"
    if count < 1 << 30:
        return f"{count >> 20} MiB"
    return f"{count / (1 << 30):.1f} GiB"


def _claims(claimed: bool | None) -> str:
    return " without claiming any runs" if claimed is False else ""
