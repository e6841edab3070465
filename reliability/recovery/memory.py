"""Memory that runs out: a control group with a limit, as systemd makes one for each scope of a server."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from reliability.daemon import until

ROOTS = (Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup"))  # of version 1, and of version 2
LIMITS = ("memory.limit_in_bytes", "memory.max")


@contextmanager
def limited(*, most_bytes: int) -> Iterator[Path | None]:
    """A group whose processes may have so much together; None where this user or this kernel cannot make one."""
    group = _make(f"tako-recovery-{os.getpid()}", most_bytes)
    try:
        yield group
    finally:
        if group is not None:
            until(lambda: not (group / "cgroup.procs").read_text(), what="the group is empty", timeout_s=30)
            group.rmdir()


def _make(name: str, most_bytes: int) -> Path | None:
    for root in ROOTS:
        group = root / name
        with suppress(OSError):
            group.mkdir()
            for limit in LIMITS:
                if (group / limit).exists():
                    (group / limit).write_text(str(most_bytes))
                    return group
            group.rmdir()
    return None


def ended_at(pidfd: int, *, timeout_s: float) -> float:
    """When this process ended, as soon as the kernel says so."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    if not poll.poll(timeout_s * 1000):
        raise AssertionError(f"the process has not ended within {timeout_s:g} s")
    return time.monotonic()
