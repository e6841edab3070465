"""One started process: when it was started, that it ended and how, signals to its whole group.

An exit is seen through a pidfd on the event loop, within a millisecond or so, and is read with `wait4`, which also
tells the peak of resident memory. Where there are no pidfds (macOS), a thread waits for each child. A process that is
not our child, because the engine that had started it was killed, can be adopted: its exit is seen as well, but nobody
can learn its status, and `Exit` says so.
"""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from tako.supervisor import oom
from tako.supervisor.exits import Exit

_BYTES_PER_MAXRSS = 1 if sys.platform == "darwin" else 1024
_HAS_PROC = sys.platform.startswith("linux")
_POLL_S = 0.5  # looking at a process that is not our child, where there are no pidfds


class Child:
    """A process in a session of its own. `start_time` tells it from a later process with the same pid.

    Make one with `spawn.spawn` or `adopt`, on the event loop's thread. `wait` may be awaited by several and again.
    """

    def __init__(self, pid: int, *, start_time: int | None, began: float, pidfd: int | None, adopted: bool) -> None:
        self.pid = pid
        self.start_time = start_time
        self.adopted = adopted
        self._began = began
        self._pidfd = pidfd
        self._loop = asyncio.get_running_loop()
        self._exit: asyncio.Future[Exit] = self._loop.create_future()
        self._ours: set[int] = set()  # the signals that we sent
        self._memory = oom.Evidence.now()
        self._our_maxrss = 0 if adopted else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        self._watch()

    @classmethod
    def started(cls, pid: int) -> Child:
        """The child of ours with this pid, which has just been spawned and not been waited for."""
        return cls(pid, start_time=start_time(pid), began=time.monotonic(), pidfd=_open_pidfd(pid), adopted=False)

    @property
    def is_alive(self) -> bool:
        """Whether its exit has not been seen yet."""
        return not self._exit.done()

    @property
    def exit(self) -> Exit | None:
        """How it ended; None while it lives."""
        return self._exit.result() if self._exit.done() and not self._exit.cancelled() else None

    async def wait(self) -> Exit:
        """Return when the process has ended and been reaped. Cancelling the wait does it no harm."""
        return await asyncio.shield(self._exit)

    def send(self, number: int) -> None:
        """Send a signal to the process and all in its group. Nothing happens when it has ended."""
        if self.is_alive:
            self._ours.add(number)
            _signal_group(self.pid, number)

    def terminate(self) -> None:
        """SIGTERM: drain, then exit."""
        self.send(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL. Its exit is seen by `wait` as any other."""
        self.send(signal.SIGKILL)

    def release(self) -> None:
        """Stop watching, and let the process live on; the next engine adopts it. `wait` is cancelled."""
        self._unwatch()
        self._exit.cancel()

    # --- seeing the exit --------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        if self._pidfd is not None:
            self._loop.add_reader(self._pidfd, self._ended)
            return
        threading.Thread(target=self._wait_in_thread, name=f"wait-{self.pid}", daemon=True).start()

    def _unwatch(self) -> None:
        pidfd, self._pidfd = self._pidfd, None
        if pidfd is not None:
            self._loop.remove_reader(pidfd)
            os.close(pidfd)

    def _ended(self) -> None:
        self._unwatch()
        if self._exit.done():
            return
        # What it leaves behind would go on with work that its successor is about to begin again. Before the wait, since
        # a zombie still owns its number; that of an adopted process is reserved while its group has a member.
        _signal_group(self.pid, signal.SIGKILL)
        out_of_memory = signal.SIGKILL not in self._ours and self._memory.has_risen(sources=oom.counters_of(self.pid))
        try:
            _, status, usage = os.wait4(self.pid, 0)
        except ChildProcessError:
            self._exit.set_result(Exit(code=None, signal=None, ran_ms=self._ran_ms()))
            return
        code, name = _decode(status)
        # Linux counts the memory of whoever spawned it as its own until exec: up to that, its peak cannot be known.
        peak = usage.ru_maxrss * _BYTES_PER_MAXRSS if usage.ru_maxrss > self._our_maxrss else None
        is_oom = name == "SIGKILL" and out_of_memory
        self._exit.set_result(Exit(code=code, signal=name, ran_ms=self._ran_ms(), peak_rss_bytes=peak, oom=is_oom))

    def _ran_ms(self) -> int:
        return round((time.monotonic() - self._began) * 1000)

    # --- without pidfds ---------------------------------------------------------------------------------------------

    def _wait_in_thread(self) -> None:
        try:
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        except ChildProcessError:
            while start_time(self.pid) == self.start_time and self.is_alive:
                time.sleep(_POLL_S)
        with suppress(RuntimeError):  # the loop has been closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._ended)


def adopt(pid: int, *, started: int, ran_ms: int = 0) -> Child | None:
    """Watch a process that an earlier engine started, or None when it is gone.

    `started` is its recorded `start_time`: a pid that now belongs to somebody else counts as gone. `ran_ms` is how
    long it has been running, for the words of its exit.
    """
    pidfd = _open_pidfd(pid)
    # After the pidfd is open, so that it cannot be that of a process which took the number in between.
    if start_time(pid) != started:
        if pidfd is not None:
            os.close(pidfd)
        return None
    return Child(pid, start_time=started, began=time.monotonic() - ran_ms / 1000, pidfd=pidfd, adopted=True)


def start_time(pid: int) -> int | None:
    """When the process was started, in a unit of the machine's own; None when there is no such process."""
    if _HAS_PROC:
        try:
            stat = Path(f"/proc/{pid}/stat").read_bytes()
        except OSError:
            return None
        # The name in brackets may hold anything, brackets included; field 22 is the twentieth after it.
        fields = stat[stat.rindex(b")") + 2 :].split()
        return int(fields[19])
    shown = subprocess.run(["/bin/ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    with suppress(ValueError):
        return int(time.mktime(time.strptime(shown.stdout.strip(), "%a %b %d %H:%M:%S %Y")))
    return None


def boot_id() -> str:
    """An id of this boot of the machine; when it differs, no recorded process can be alive."""
    if _HAS_PROC:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    command = ["/usr/sbin/sysctl", "-n", "kern.bootsessionuuid"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def _open_pidfd(pid: int) -> int | None:
    if not hasattr(os, "pidfd_open"):
        return None
    try:
        return os.pidfd_open(pid)
    except OSError:  # no such process, or a kernel before 5.3
        return None


def _signal_group(pid: int, number: int) -> None:
    # PermissionError: on macOS a group of zombies only, and everywhere a program that changed its user.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _decode(status: int) -> tuple[int | None, str | None]:
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        try:
            return None, signal.Signals(number).name
        except ValueError:
            return None, f"signal {number}"
    return os.waitstatus_to_exitcode(status), None
