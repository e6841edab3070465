"""What the tasks of every stack do: the same bodies, and a ledger of when each began and ended."""

import json
import os
import signal
import threading
import time

SLOW_S = 3.0
STEPS = (0.05, SLOW_S, 0.05)


def note(*words: object) -> None:
    """One line, in one write, so that no two are mixed."""
    line = json.dumps([time.monotonic(), os.getpid(), *words]) + "\n"
    ledger = os.open(os.environ["PEERS_LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(ledger, line.encode())
    os.close(ledger)


def step(key: str, number: int) -> int:
    """One of three: short, long, short."""
    note("begin", key, number)
    time.sleep(STEPS[number])
    note("end", key, number)
    return number


def quick(key: str) -> str:
    """Nothing much."""
    note("begin", key, 0)
    note("end", key, 0)
    return key


def poison(key: str) -> None:
    """Kills whoever runs it, as the kernel does when memory is short."""
    note("begin", key, 0)
    os.kill(os.getpid(), signal.SIGKILL)


def unstorable(key: str) -> object:
    """Returns what no serializer takes."""
    note("begin", key, 0)
    note("end", key, 0)
    return threading.Lock()


def tick() -> None:
    """What a schedule starts each minute."""
    note("begin", "tick", 0)
    note("end", "tick", 0)
