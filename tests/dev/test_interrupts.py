from __future__ import annotations

import asyncio
import os
import signal

import pytest

from tako.dev.interrupts import Interrupts

DEADLINE_S = 10


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_stops_in_order_and_the_second_kills(number: signal.Signals) -> None:
    said: list[str] = []

    async def story() -> None:
        stopped, killed = asyncio.Event(), asyncio.Event()

        def stop() -> None:
            said.append("stop")
            stopped.set()

        def kill() -> None:
            said.append("kill")
            killed.set()

        interrupts = Interrupts(asyncio.get_running_loop(), stop=stop, kill=kill)
        try:
            async with asyncio.timeout(DEADLINE_S):
                os.kill(os.getpid(), number)
                await stopped.wait()
                os.kill(os.getpid(), number)
                await killed.wait()
        finally:
            interrupts.close()
            interrupts.close()

    asyncio.run(story())

    assert said == ["stop", "kill"]
