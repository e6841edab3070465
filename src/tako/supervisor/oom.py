"""Whether the kernel killed something for want of memory: the evidence behind the words "out of memory".

SIGKILL alone proves nothing, since anybody may send it. The kernel counts its own kills per cgroup (`memory.events` in
version 2, `memory.oom_control` in version 1) and for the whole machine (`/proc/vmstat`); a count that rose while the
process lived is evidence. A process may be put into a cgroup of its own after its start: there each kill counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_SELF = Path("/proc/self/cgroup")
_VMSTAT = Path("/proc/vmstat")


@dataclass(frozen=True, slots=True)
class Evidence:
    """The kernel's counts of OOM kills at one moment, by the file that has them. No count is no evidence."""

    counts: dict[Path, int]

    @classmethod
    def now(cls, *, sources: tuple[Path, ...] | None = None) -> Evidence:
        """Read the counts of `sources` (default: those of this process)."""
        found = {source: _read(source) for source in (counters() if sources is None else sources)}
        return cls({source: count for source, count in found.items() if count is not None})

    def has_risen(self, *, sources: tuple[Path, ...] = ()) -> bool:
        """Whether the kernel has killed something since. `sources` are those of the process in question."""
        return any((_read(source) or 0) > self.counts.get(source, 0) for source in {*self.counts, *sources})


def counters_of(pid: int) -> tuple[Path, ...]:
    """The files that count OOM kills around this process, which may be a zombie but not reaped.

    Of a zombie, version 1 of cgroups names the root only, whose count is of no use.
    """
    roots = (_CGROUPS / "memory" / "memory.oom_control", _CGROUPS / "memory.events", _VMSTAT)
    return tuple(source for source in counters(own=Path(f"/proc/{pid}/cgroup")) if source not in roots)


def counters(*, own: Path = _SELF, cgroups: Path = _CGROUPS, vmstat: Path = _VMSTAT) -> tuple[Path, ...]:
    """The files that count OOM kills in the cgroup that `own` names, and on the machine."""
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
