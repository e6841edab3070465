"""A process that writes to a store as fast as it can and prints what was acknowledged, until it is killed."""

from __future__ import annotations

import asyncio
import itertools
import random
import sys
from typing import Any

from tako.engine import runs, steps
from tako.engine.store import Store
from tako.engine.writer import Writer
from tako.protocol.messages import NewRun


async def main(path: str, prefix: str) -> None:
    writer = Writer(Store.open(path), on_commit=lambda events: None, loop=asyncio.get_running_loop())
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

    await asyncio.gather(*(caller(f"w{number}") for number in range(8)))


asyncio.run(main(sys.argv[1], sys.argv[2]))
