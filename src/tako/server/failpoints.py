"""`TAKO_CRASH_AT=phase:before` or `phase:after`: the daemon dies there as if it were killed. For tests only."""

from __future__ import annotations

import os
import signal

VARIABLE = "TAKO_CRASH_AT"


def reach(phase: str, moment: str) -> None:
    """Die here if that is asked for."""
    if os.environ.get(VARIABLE) == f"{phase}:{moment}":
        os.kill(os.getpid(), signal.SIGKILL)
