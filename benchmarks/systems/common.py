"""What every system's file says to the runner: `python NAME.py COMMAND …`, in the system's own virtual environment.

A system's file makes one object with the methods of `System` and gives it to `main`. Handlers mark the moment of their
last line with `mark`; those of the worker process itself go into the same file. Standard library only.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

STORE = os.environ.get("BENCH_STORE", "")
CONCURRENCY = 10
CALLERS = 32
POSTGRES_SOCKETS = os.environ.get("BENCH_POSTGRES", "")
POSTGRES = f"host={POSTGRES_SOCKETS} user=postgres dbname=bench"
POSTGRES_ADMIN = f"host={POSTGRES_SOCKETS} user=postgres dbname=postgres"
REDIS = os.environ.get("BENCH_REDIS", "")

_marks = -1


class System:
    """What a system's file fills in. `blocks_alone`: a lone caller is a blocking one, though there are awaited ones."""

    blocks_alone = False

    def info(self) -> dict[str, Any]:
        """Versions, and the durability as its store reports it."""
        raise NotImplementedError

    def reset(self) -> None:
        """An empty store."""
        raise NotImplementedError

    def caller(self) -> Callable[[int], object]:
        """One enqueue of the numbered run of the first kind, blocking."""
        raise NotImplementedError

    async def async_caller(self) -> Callable[[int], Awaitable[object]] | None:
        """The same, awaited; None if the system's own way is threads."""
        return None

    def fill(self, count: int, kind: str) -> None:
        """Enqueue so many, by the system's fastest own way; it is not measured."""
        raise NotImplementedError

    def worker(self) -> None:
        """Run a worker until killed. Not asked when the runner knows a command line for it."""
        raise NotImplementedError


def payload(number: int) -> dict[str, Any]:
    """About 200 bytes of JSON."""
    content = {"number": number, "user_id": 123456, "kind": "welcome_email", "locale": "en_US", "tags": ["a", "b", "c"]}
    return {**content, "note": "x" * (200 - len(json.dumps({**content, "note": ""})))}


def mark(number: int) -> None:
    """Append the number and the time in nanoseconds: one write, so lines of many processes never mix."""
    global _marks
    if _marks < 0:
        _marks = os.open(f"{STORE}/marks", os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    os.write(_marks, b"%d %d\n" % (number, time.time_ns()))


def main(system: System) -> None:
    """Do what the runner asked for, and print the answer as JSON."""
    command, *rest = sys.argv[1:]
    answer: Any = None
    if command == "info":
        answer = system.info()
    elif command == "reset":
        system.reset()
    elif command == "rate":
        answer = _rate(system, callers=int(rest[0]), seconds=float(rest[1]))
    elif command == "fill":
        system.fill(int(rest[0]), rest[1])
    elif command == "latency":
        answer = _latency(system, int(rest[0]))
    elif command == "worker":
        system.worker()
    print(json.dumps(answer), flush=True)
    os._exit(0)  # pools and listeners of some systems would keep the process


def run_async(work: Coroutine[Any, Any, Any]) -> Any:
    """On uvloop where the system's environment has it, as its users would."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(work)
    return uvloop.run(work)


# --- rates ----------------------------------------------------------------------------------------------------------


def _rate(system: System, *, callers: int, seconds: float) -> float:
    found = None
    if callers > 1 or not system.blocks_alone:
        found = run_async(_rate_of_tasks(system, callers, seconds))
    if found is not None:
        return float(found)
    return _rate_of_threads(system.caller(), callers, seconds)


async def _rate_of_tasks(system: System, callers: int, seconds: float) -> float | None:
    call = await system.async_caller()
    if call is None:
        return None
    await call(0)
    count = 0
    began = time.perf_counter()

    async def caller() -> None:
        nonlocal count
        while time.perf_counter() - began < seconds:
            await call(count)
            count += 1

    await asyncio.gather(*(caller() for _ in range(callers)))
    return count / (time.perf_counter() - began)


def _rate_of_threads(call: Callable[[int], object], callers: int, seconds: float) -> float:
    counts = [0] * callers
    ready = threading.Barrier(callers + 1)
    began = 0.0

    def caller(index: int) -> None:
        call(0)
        ready.wait()
        while time.perf_counter() - began < seconds:
            call(counts[index])
            counts[index] += 1

    threads = [threading.Thread(target=caller, args=(index,)) for index in range(callers)]
    began = time.perf_counter() + 3600
    for thread in threads:
        thread.start()
    began = time.perf_counter()
    ready.wait()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - began)


# --- latency --------------------------------------------------------------------------------------------------------


def _latency(system: System, count: int) -> list[tuple[int, int]]:
    """Number of each run and the time just before its enqueue call, one every 20 ms."""
    found = run_async(_latency_of_tasks(system, count))
    if found is not None:
        return list(found)
    call = system.caller()
    sent = []
    for number in range(1_000_000, 1_000_000 + count):
        sent.append((number, time.time_ns()))
        call(number)
        time.sleep(0.02)
    return sent


async def _latency_of_tasks(system: System, count: int) -> list[tuple[int, int]] | None:
    call = await system.async_caller()
    if call is None:
        return None
    sent = []
    for number in range(1_000_000, 1_000_000 + count):
        sent.append((number, time.time_ns()))
        await call(number)
        await asyncio.sleep(0.02)
    return sent
