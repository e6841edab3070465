"""What a user writes, read by mypy --strict in test_typing.py and never run.

Each `type: ignore` is a mistake that must be found: strict mypy complains of those that are not needed.
"""

from collections.abc import Coroutine
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, assert_type

import tako
from tako import AsyncContext, Context, Fatal, Retry, Run, Signal, Workflow, secrets, workflow


@dataclass
class Shipment:
    parcel: str


shipped = Signal("shipped", Shipment)
untyped = Signal("untyped")


def load_address(user_id: int) -> str: ...  # type: ignore[empty-body]


def smtp_send(address: str, template: str = "welcome") -> bool: ...  # type: ignore[empty-body]


async def fetch(url: str) -> bytes: ...  # type: ignore[empty-body]


@workflow
def plain(ctx: Context, user_id: int, template: str = "welcome") -> str:
    address = ctx.step("load", load_address, user_id)
    assert_type(address, str)
    assert_type(ctx.step("send", smtp_send, address, retries=2, timeout="30s"), bool)
    assert_type(ctx.step("send", smtp_send, address, "other"), bool)
    assert_type(ctx.step("lambda", lambda: 3), int)
    assert_type(ctx.step("typed", lambda: 3, returns=str), str)
    assert_type(ctx.map("all", load_address, [1, 2], limit=3), list[str])
    assert_type(ctx.map("all", load_address, [1], return_exceptions=True), list[str | Exception])
    assert_type(ctx.wait_for(shipped, timeout=None), Shipment)
    assert_type(ctx.wait_for(shipped, timeout="1d", default=None), Shipment | None)
    assert_type(ctx.wait_for(untyped, timeout=3), Any)
    child = ctx.start("child", options, order_id=1)
    assert_type(child, Run[Shipment])
    assert_type(ctx.gather(child, child), list[Shipment])
    ctx.sleep("nap", timedelta(days=1))
    ctx.step("load", load_address, "1")  # type: ignore[arg-type]
    ctx.step("send", smtp_send)  # type: ignore[call-arg, arg-type]
    ctx.start("child", options)  # type: ignore[call-arg]
    ctx.sleep("nap", None)  # type: ignore[arg-type]
    if not address:
        raise ctx.stop("nobody there")
    raise Fatal("never")


@workflow(retries=Retry(3), signals=[shipped], key="order:{order_id}")
async def options(ctx: AsyncContext, order_id: int) -> Shipment:
    assert_type(await ctx.step("load", load_address, order_id), str)
    assert_type(await ctx.step("fetch", fetch, "https://"), bytes)
    assert_type(await ctx.step("typed", fetch, "https://", returns=str), str)
    assert_type(await ctx.map("all", fetch, ["a"]), list[bytes])
    assert_type(await ctx.map("all", load_address, [1]), list[str])
    assert_type(await ctx.wait_for(shipped, timeout="1d"), Shipment)
    assert_type(await ctx.wait_for(shipped, timeout="1d", default=3), Shipment | int)
    run = await ctx.start("child", plain, 3, template="x")
    assert_type(run, Run[str])
    assert_type(await ctx.gather(run), list[str])
    assert_type(await ctx.start("other", plain.using(delay="1h"), 3), Run[str])
    assert_type(await ctx.gather(run, return_exceptions=True), list[str | Exception])
    several: list[Run[object]] = [run, await ctx.start("third", options, 4)]
    assert_type(await ctx.gather(*several), list[object])
    await ctx.sleep("nap", "10m")
    await ctx.step("fetch", fetch, 3)  # type: ignore[arg-type]
    return await ctx.wait_for(shipped, timeout=None)


assert_type(plain.enqueue(1), Run[str])
assert_type(plain.enqueue(user_id=1, template="x").result(), str)
assert_type(plain.using(delay="10m").enqueue(1), Run[str])
assert_type(plain.enqueue_many([{"user_id": 1}]), list[Run[str]])
assert_type(plain.run_inline(1), str)
assert_type(options.run_inline(1), Shipment)
assert_type(plain.find(key="x"), Run[str])
assert_type(options.enqueue(1), Run[Shipment])
assert_type(tako.enqueue("plain", {"user_id": 1}), Run[Any])
assert_type(secrets["A"], str)
assert_type(secrets.get("A", None), str | None)
plain.enqueue("1")  # type: ignore[arg-type]
plain.enqueue()  # type: ignore[call-arg]
plain.enqueue(1, colour="red")  # type: ignore[call-arg]
plain.using(delai="10m")  # type: ignore[call-arg]
plain.using(priority="high")  # type: ignore[arg-type]
options.enqueue(order_id="x")  # type: ignore[arg-type]
options.signal("key", shipped, Shipment("p"))
options.signal("key", shipped, 3)  # type: ignore[misc]


async def in_a_web_app() -> None:
    run = await options.aenqueue(order_id=1)
    assert_type(run, Run[Shipment])
    assert_type(await run.aresult(timeout="5s"), Shipment)
    assert_type(await plain.using(key="x").aenqueue(1), Run[str])
    assert_type([one async for one in tako.aruns(status="dead")], list[Run[Any]])
    await options.aenqueue("x")  # type: ignore[arg-type]


@workflow(retires=3)  # type: ignore[call-overload, untyped-decorator]
def misspelt(ctx: Context) -> None: ...


def not_a_handler(user_id: int) -> None: ...


workflow(not_a_handler)  # type: ignore[arg-type]


def takes_a_workflow(flow: Workflow[[int], str]) -> Run[str]:
    return flow.enqueue(1)


def takes_a_coroutine(awaitable: Coroutine[Any, Any, str]) -> None: ...


async def steps_can_be_gathered(ctx: AsyncContext) -> None:
    takes_a_coroutine(ctx.step("load", load_address, 1))
