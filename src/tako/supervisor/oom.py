"""Whether the kernel killed something for want of memory: the evidence behind the words "out of memory".

SIGKILL alone proves nothing, since anybody may send it. The kernel counts its own kills per cgroup (`memory.events` in
version 2, `memory.oom_control` in version 1) and for the machine (`/proc/vmstat`). The cgroup's count is preferred,
because it covers our processes only; the machine's is for where the cgroup's files cannot be read.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_SELF = Path("/proc/self/cgroup")
_VMSTAT = Path("/proc/vmstat")


@dataclass(frozen=True, slots=True)
class Evidence:
    """The kernel's count of OOM kills at one moment, and where it was read. No count is no evidence."""

    source: Path | None
    count: int

    @classmethod
    def now(cls, *, sources: tuple[Path, ...] | None = None) -> Evidence:
        """Read the count from the first of `sources` (default: this machine's) that has one."""
        for source in counters() if sources is None else sources:
            count = _read(source)
            if count is not None:
                return cls(source, count)
        return cls(None, 0)

    def has_risen(self) -> bool:
        """Whether the kernel has killed something for want of memory since."""
        if self.source is None:
            return False
        count = _read(self.source)
        return count is not None and count > self.count


def counters(*, own: Path = _SELF, cgroups: Path = _CGROUPS, vmstat: Path = _VMSTAT) -> tuple[Path, ...]:
    """The files that count OOM kills of this process's group and its children, the most telling first."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return (vmstat,)
    found = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            found.append(cgroups / path.lstrip("/") / "memory.events")
        elif "memory" in controllers.split(","):
            found.append(cgroups / "memory" / path.lstrip("/") / "memory.oom_control")
            # In a container the path may be the host's, while what is mounted begins at our own group.
            found.append(cgroups / "memory" / "memory.oom_control")
    return (*found, vmstat)


def _read(source: Path) -> int | None:
    try:
        for line in source.read_text().splitlines():
            name, _, value = line.partition(" ")
            if name == "oom_kill":
                return int(value)
    except (OSError, ValueError):
        return None
    return None
