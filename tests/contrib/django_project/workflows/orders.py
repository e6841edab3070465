from django.db import connection
from shop.models import Order

from tako import AsyncContext, Context, workflow


@workflow
def fulfil(ctx: Context, order_id: int) -> str:
    return ctx.step("ship", ship, order_id)


def ship(order_id: int) -> str:
    Order.objects.filter(pk=order_id).update(state="shipped")
    return Order.objects.get(pk=order_id).state


@workflow
def connections(ctx: Context) -> list[bool]:
    """Whether the connection is open: in the handler, in a step, and in the handler after it."""
    Order.objects.count()
    before = connection.connection is not None
    inside = ctx.step("query", query)
    return [before, inside, connection.connection is not None]


def query() -> bool:
    Order.objects.count()
    return connection.connection is not None


@workflow
async def afulfil(ctx: AsyncContext, order_id: int) -> str:
    order = await Order.objects.aget(pk=order_id)
    return f"{order.name} {await ctx.step('ship', ship, order_id)}"


@workflow(key="order:{order_id}")
def once(ctx: Context, order_id: int) -> None: ...


@workflow(max_pending=1)
def few(ctx: Context) -> None: ...
