"""What this process costs, under the names that every Prometheus client uses."""

from __future__ import annotations

import os
import resource

from tako.metrics.exposition import Family


def families() -> list[Family]:
    """CPU time, memory and open files."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    cpu = Family("process_cpu_seconds_total", "counter", "CPU time of the engine's process.")
    cpu.add(usage.ru_utime + usage.ru_stime)
    memory = Family("process_resident_memory_bytes", "gauge", "Resident memory of the engine's process.")
    memory.add(_resident_bytes(usage))
    files = Family("process_open_fds", "gauge", "Open files of the engine's process.")
    files.add(_open_files())
    return [cpu, memory, files]


def _resident_bytes(usage: resource.struct_rusage) -> int:
    try:
        with open("/proc/self/statm") as file:  # noqa: PTH123 - a file of the kernel's, read at each scrape
            return int(file.read().split()[1]) * resource.getpagesize()
    except OSError:  # not Linux: the peak is what it can tell, in bytes there
        return usage.ru_maxrss


def _open_files() -> int:
    try:
        return len(os.listdir("/dev/fd"))  # noqa: PTH208
    except OSError:
        return 0
