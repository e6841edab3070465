"""The process that calls: `tako run -- python -m tako.bench.caller WORKLOAD OPTIONS`, in the folder of the engine.

Prints one JSON object, name of the figure to value. Rates are a second, times in milliseconds.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tako import Workflow
from tako.bench import app
from tako.bench.marks import Marks
from tako.sdk import runtime

CALLERS = 32
A_CALL = 1_000  # of enqueue_many
RUN_DEADLINE_S = 120.0
# A worker that dies younger than a second, for the second time in a minute, is replaced a second later, on purpose.
GROWN_MS = 1_100

Figures = dict[str, float]


class Caller:
    """The workloads. Each method is one, named as it is asked for."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.seconds = float(options.get("seconds", 2.0))
        self.runs = max(2, round(options.get("runs", 5_000)))
        self.samples = max(1, round(options.get("samples", 200)))
        self.rounds = max(1, round(options.get("rounds", 5)))
        self.rate = float(options.get("rate", 0.0))
        self.engine = runtime.engine()
        self.marks = Marks(Path(os.environ["BENCH_MARKS"]))
        self._number = 0

    # --- enqueue ----------------------------------------------------------------------------------------------------

    def enqueue_1(self) -> Figures:
        """One caller, one after the other."""
        later = app.stored.using(delay="10h")
        later.enqueue()
        began, count = time.perf_counter(), 0
        while time.perf_counter() - began < self.seconds:
            later.enqueue()
            count += 1
        return {"enqueue, 1 caller": count / (time.perf_counter() - began)}

    def enqueue_threads(self) -> Figures:
        """32 threads."""
        later = app.stored.using(delay="10h")
        later.enqueue()
        counts = [0] * CALLERS
        began = time.perf_counter()
        end = began + self.seconds

        def call(index: int) -> None:
            while time.perf_counter() < end:
                later.enqueue()
                counts[index] += 1

        callers = [threading.Thread(target=call, args=(index,)) for index in range(CALLERS)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
        return {"enqueue, 32 threads": sum(counts) / (time.perf_counter() - began)}

    def enqueue_tasks(self) -> Figures:
        """32 asyncio tasks, on uvloop as a web server would have it."""
        import uvloop

        return {"enqueue, 32 tasks": uvloop.run(self._tasks())}

    async def _tasks(self) -> float:
        later = app.stored.using(delay="10h")
        await later.aenqueue()
        began, count = time.perf_counter(), 0
        end = began + self.seconds

        async def call() -> None:
            nonlocal count
            while time.perf_counter() < end:
                await later.aenqueue()
                count += 1

        await asyncio.gather(*(call() for _ in range(CALLERS)))
        return count / (time.perf_counter() - began)

    def enqueue_many(self) -> Figures:
        """A thousand a call, one transaction each."""
        later = app.stored.using(delay="10h")
        later.enqueue()
        began, count = time.perf_counter(), 0
        while time.perf_counter() - began < self.seconds:
            later.enqueue_many([{}] * A_CALL)
            count += A_CALL
        return {"enqueue_many, 1,000 a call": count / (time.perf_counter() - began)}

    # --- drain ------------------------------------------------------------------------------------------------------

    def drain(self) -> Figures:
        """`def` handlers with no step, one, three."""
        return {f"drain, {words}": self._drain(getattr(app, f"steps_{n}")) for n, words in STEPS.items()}

    def drain_async(self) -> Figures:
        """`async def` handlers with no step, one, three."""
        return {f"drain, async, {words}": self._drain(getattr(app, f"async_{n}")) for n, words in STEPS.items()}

    def _drain(self, workflow: Workflow[..., Any]) -> float:
        """Runs a second from the first mark to the last, of runs that are all due before the first one starts."""
        workflow.enqueue(number=self._next()).result(timeout="30s")
        self.engine.call("pause", {"workflow": workflow.name}, deadline_s=10)
        for at in range(0, self.runs, A_CALL):
            workflow.enqueue_many([{"number": self._next()} for _ in range(min(A_CALL, self.runs - at))])
        self.marks.clear()
        self.engine.call("resume", {"workflow": workflow.name}, deadline_s=30)
        times = sorted(ns for _, ns in self.marks.wait(self.runs, timeout_s=RUN_DEADLINE_S))
        self._wait_until(lambda: not self._unfinished(workflow.name))
        return (len(times) - 1) / ((times[-1] - times[0]) / 1e9)

    def _unfinished(self, name: str) -> int:
        found = self.engine.call("list_workflows", {}, deadline_s=10)["workflows"]
        counts = next(each["counts"] for each in found if each["name"] == name)
        return int(counts.get("pending", 0)) + int(counts.get("running", 0))

    # --- latency ----------------------------------------------------------------------------------------------------

    def warm(self) -> Figures:
        """From the call to the handler's first line, one run at a time, on a worker that waits."""
        self._settle(app.first_line)
        return _percentiles("warm", [self._latency_ms(app.first_line) for _ in range(self.samples)])

    def warm_loaded(self) -> Figures:
        """The same, while another process enqueues half as many runs without steps as the worker can run."""
        rate = self._drain(app.steps_0) / 2
        self._settle(app.first_line)
        command = [sys.executable, "-m", "tako.bench.caller", "load", json.dumps({"rate": rate})]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as load:
            try:
                assert load.stdout is not None
                load.stdout.readline()  # it has begun
                found = [self._latency_ms(app.first_line) for _ in range(self.samples)]
            finally:
                load.terminate()
        self._wait_until(lambda: not self._unfinished("steps_0"))
        return _percentiles("warm, half load", found)

    def load(self) -> Figures:
        """`rate` runs a second until it is ended: two hundred small calls, so that runs come one after the other."""
        tick = 0.005
        next_at = time.perf_counter()
        owed = 0.0
        app.steps_0.enqueue(number=0)
        print("begun", flush=True)  # noqa: T201  (to whoever has started this process)
        while True:
            owed += self.rate * tick
            app.steps_0.enqueue_many([{"number": 0}] * int(owed))
            owed -= int(owed)
            next_at += tick
            time.sleep(max(0.0, next_at - time.perf_counter()))

    def cold(self) -> Figures:
        """From the call to the handler's first line, when no worker runs."""
        self._settle(app.first_line)  # a worker that is ended before it has run anything has failed to start
        return {
            "cold start": statistics.median(self._cold_ms(app.first_line) for _ in range(self.rounds)),
            "cold start, async": statistics.median(self._cold_ms(app.first_line_async) for _ in range(self.rounds)),
        }

    def recovery(self) -> Figures:
        """From the SIGKILL of a worker in a step to the next start of that step. The worker has served for a while."""
        return {"recovery after kill -9": statistics.median(self._recovery_ms() for _ in range(self.rounds))}

    def _recovery_ms(self) -> float:
        self._settle(app.first_line)
        self._wait_until(self._is_grown)
        number = self._next()
        self.marks.clear()
        run = app.interrupted.enqueue(number=number)
        self.marks.wait(1, timeout_s=30)
        killed = time.time_ns()
        for pid in self._workers():
            os.kill(pid, signal.SIGKILL)
        second = self.marks.wait(2, timeout_s=30)[1]
        run.result(timeout="30s")
        return (second[1] - killed) / 1e6

    def _cold_ms(self, workflow: Workflow[..., Any]) -> float:
        for pid in self._workers():
            os.kill(pid, signal.SIGTERM)
        self._wait_until(lambda: not self._workers())
        found = self._latency_ms(workflow)
        self._wait_until(lambda: not self._unfinished(workflow.name))
        return found

    def _settle(self, workflow: Workflow[..., Any]) -> None:
        for _ in range(10):
            workflow.enqueue(number=self._next()).result(timeout="30s")

    def _latency_ms(self, workflow: Workflow[..., Any]) -> float:
        number = self._next()
        before = len(self.marks.read())
        called = time.time_ns()
        workflow.enqueue(number=number)
        while True:
            marked, ns = self.marks.wait(before + 1, timeout_s=30)[before]
            if marked == number:
                return (ns - called) / 1e6
            before += 1

    # --- the engine -------------------------------------------------------------------------------------------------

    def _workers(self) -> list[int]:
        return [worker["pid"] for worker in self._shown_workers()]

    def _is_grown(self) -> bool:
        now_ms = time.time_ns() // 1_000_000
        return all(now_ms - worker["since_ms"] >= GROWN_MS for worker in self._shown_workers())

    def _shown_workers(self) -> list[dict[str, Any]]:
        groups = self.engine.call("health", {}, deadline_s=10)["groups"]
        return [worker for group in groups for worker in group["workers"]]

    def _wait_until(self, done: Callable[[], bool]) -> None:
        end = time.monotonic() + RUN_DEADLINE_S
        while not done():
            if time.monotonic() > end:
                raise TimeoutError(f"the engine had not settled after {RUN_DEADLINE_S:g} s")
            time.sleep(0.01)

    def _next(self) -> int:
        self._number += 1
        return self._number


STEPS = {0: "no step", 1: "1 step", 3: "3 steps"}
WORKLOADS = (
    "enqueue_1", "enqueue_threads", "enqueue_tasks", "enqueue_many", "drain", "drain_async", "warm", "warm_loaded",
    "load", "cold", "recovery",
)  # fmt: skip


def _percentiles(name: str, found: list[float]) -> Figures:
    ordered = sorted(found)
    return {f"{name}, p50": ordered[len(ordered) // 2], f"{name}, p99": ordered[int(len(ordered) * 0.99)]}


def main(argv: list[str]) -> None:
    """Run one workload and print what it found."""
    workload, options = argv
    assert workload in WORKLOADS, workload
    figures: Figures = getattr(Caller(json.loads(options)), workload)()
    print(json.dumps(figures))  # noqa: T201  (this is the process's answer)


if __name__ == "__main__":
    main(sys.argv[1:])
