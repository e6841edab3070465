"""The machine below the figures: what a sync of the disk costs, and how fast a core is."""

from __future__ import annotations

import hashlib
import os
import platform
import sqlite3
import statistics
import sys
import tempfile
import time
from typing import Any

import tako

SYNCS = 200
PAGE = b"x" * 4096


def described() -> dict[str, Any]:
    """What a reader needs in order to compare: versions, cores, load, and how fast one core is."""
    return {
        "tako": tako.__version__,
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "calibration_ms": round(calibration_ms(), 1),
    }


def calibration_ms() -> float:
    """Milliseconds for 200 SHA-256 of a megabyte: alike on two days, the cores were alike and free."""
    block = b"x" * 1_000_000
    began = time.perf_counter()
    for _ in range(200):
        hashlib.sha256(block).digest()
    return (time.perf_counter() - began) * 1000


def fsync_ms() -> dict[str, float]:
    """What a durable append of a page costs here. Everything durable is a multiple of it."""
    sync = os.fsync if sys.platform == "darwin" else os.fdatasync
    found = []
    with tempfile.TemporaryFile() as file:
        for _ in range(SYNCS):
            began = time.perf_counter()
            os.write(file.fileno(), PAGE)
            sync(file.fileno())
            found.append((time.perf_counter() - began) * 1000)
    return {"fsync, p50": statistics.median(found), "fsync, p99": sorted(found)[int(SYNCS * 0.99)]}
