"""The handlers of Restate, as an ASGI app that its server calls."""

from typing import Any

import restate
from common import mark

bench = restate.Service("bench")


async def value() -> int:
    return 1


@bench.handler()
async def steps_0(context: restate.Context, content: dict[str, Any]) -> None:
    mark(content["number"])


@bench.handler()
async def steps_1(context: restate.Context, content: dict[str, Any]) -> None:
    await context.run_typed("a", value)
    mark(content["number"])


@bench.handler()
async def steps_3(context: restate.Context, content: dict[str, Any]) -> None:
    for name in "abc":
        await context.run_typed(name, value)
    mark(content["number"])


app = restate.app([bench])
