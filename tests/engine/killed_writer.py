"""A process that writes to a store as fast as it can and prints what was acknowledged, until it is killed."""

from __future__ import annotations

import asyncio
import itertools
import random
import sys
from typing import Any

from tako.cron import schedules, ticker
from tako.engine import runs, steps, waiters
from tako.engine.store import Store
from tako.engine.writer import Writer
from tako.protocol.messages import NewRun


async def main(path: str, round_number: int) -> None:
    writer = Writer(Store.open(path), on_commit=lambda events: None, loop=asyncio.get_running_loop())
    prefix = f"round{round_number}"
    numbers = itertools.count()
    rng = random.Random(prefix)

    async def caller(name: str) -> None:
        while True:
            number = next(numbers)
            run_id = f"{prefix}-{number}"
            payload = '"' + "x" * rng.choice([10, 200, 9_000]) + '"'
            new: NewRun = {"id": run_id, "workflow": name, "payload_json": payload}
            await writer.do(runs.enqueue, [new], now_ms=number)
            print("run", run_id, flush=True)
            box: NewRun = {"id": f"{run_id}-box", "workflow": "never claimed", "payload_json": "{}"}
            await writer.do(runs.enqueue, [box], now_ms=number)
            await writer.do(waiters.signal, run_id=box["id"], event_name="news", payload_json="1", now_ms=number)
            print("signal", box["id"], flush=True)
            doomed: NewRun = {"id": f"{run_id}-doomed", "workflow": "never claimed", "payload_json": "{}"}
            await writer.do(runs.enqueue, [doomed], now_ms=number)
            await writer.do(runs.cancel, doomed["id"], reason="not needed", now_ms=number)
            print("cancel", doomed["id"], flush=True)
            if number % 2:
                await writer.do(runs.retry, doomed["id"], now_ms=number)
                print("retry", doomed["id"], flush=True)
            claimed = await writer.do(
                runs.claim, worker_id=f"{prefix}{name}", names=[name], max_runs=1, now_ms=number, release="r"
            )
            for run in claimed:
                holder: dict[str, Any] = {"run_id": run["id"], "worker_id": f"{prefix}{name}", "epoch": run["epoch"]}
                await writer.do(
                    steps.save, **holder, name="only", result_json=f'"{run["id"]}"', started_ms=number, now_ms=number
                )
                print("step", run["id"], flush=True)
                await writer.do(runs.finish, **holder, outcome="succeeded", now_ms=number, rng=rng)
                print("end", run["id"], flush=True)

    async def schedule() -> None:
        every = {"workflow": "report", "kind": "every", "interval_ms": 1_000, "overlap": "allow"}
        await writer.do(schedules.replace, [every], now_ms=0)
        for now_ms in itertools.count(round_number * 1_000_000_000, 1_000):
            ticked = await writer.do(ticker.tick, now_ms=now_ms)
            for run_id in ticked.fired:
                print("fire", run_id, flush=True)

    await asyncio.gather(schedule(), *(caller(f"w{number}") for number in range(8)))


asyncio.run(main(sys.argv[1], int(sys.argv[2])))
